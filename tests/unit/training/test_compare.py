"""Runs stand side by side with their curves, pictures and numbers; what cannot be compared says so."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from matplotlib.figure import Figure
from PIL import Image

from tests.unit.training.test_fit import recipe
from training import Mistake
from training.cli import main
from training.compare import apart, draw, numbers, open_runs
from training.evaluate import evaluate
from training.fit import fit
from training.recipe import Recipe
from training.run import Run


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two runs of the same moons, one of others, and one that was not evaluated."""
    home = tmp_path_factory.mktemp("runs")
    held = json.loads(recipe("flow", epochs=2).model_dump_json())
    held["data"]["toy"] = "rings"
    trained = {
        "flow": recipe("flow", epochs=11),
        "vae": recipe("vae", epochs=2),
        "gan": recipe("gan", epochs=2),
        "rings": Recipe.model_validate_json(json.dumps(held)),
    }
    for name, of in trained.items():
        fit(of, home / name)
        evaluate(Run.open(home / name))
    shutil.copytree(home / "flow", home / "raw")
    (home / "raw" / "evaluation.json").unlink()
    return home


def texts(figure: Figure) -> set[str]:
    """Everything that is written in a figure."""
    return {text.get_text() for text in figure.findobj(lambda artist: hasattr(artist, "get_text"))}


def test_numbers_have_a_line_for_each_quantity_and_a_column_for_each_run(runs: Path) -> None:
    shown = open_runs([runs / "flow", runs / "vae"])
    head, *lines = numbers(shown)
    assert head == ("what", "unit", "kind", "flow", "vae")
    told = {line[0]: line[1:] for line in lines}
    score = shown[0].metrics["log_likelihood"]
    assert told["log_likelihood"][:2] == ("nats", "exact")
    assert told["log_likelihood"][2].startswith(f"{score.value:.4g} ± ")
    assert told["log_likelihood"][3] == "–"
    assert told["elbo"][1:3] == ("lower bound, k = 1", "–")
    assert apart(shown) is None


def test_runs_of_different_data_are_marked_as_not_comparable(runs: Path) -> None:
    shown = open_runs([runs / "flow", runs / "rings", runs / "vae"])
    assert numbers(shown)[0][3:] == ("flow [A]", "rings [B]", "vae [A]")
    sentence = apart(shown)
    assert sentence == "different data, not comparable across the marks: [A] flow, vae; [B] rings"
    figure = draw(shown)
    assert sentence in texts(figure)
    # One axis of nats for each data.
    assert [ax.get_ylabel() for ax in figure.findobj() if hasattr(ax, "get_ylabel")].count("nats") == 2


def test_the_picture_has_objectives_with_units_and_samples_by_epoch(runs: Path) -> None:
    figure = draw(open_runs([runs / "flow", runs / "gan"]))
    written = texts(figure)
    assert {"nats", "probability", "flow  valid_log_likelihood", "flow  train_log_likelihood"} <= written
    assert {"gan  D(x)", "gan  D(G(z))", "gan  valid_D(x)"} <= written
    assert {"epoch 1", "epoch 10", "epoch 25", "last, epoch 11", "last, epoch 2"} <= written
    assert {"ended at epoch 11", "ended at epoch 2"} <= written
    # Of the flow after epochs 1, 10 and 11; of the GAN after 1 and 2.
    assert sum(len(getattr(axes, "images", ())) for axes in figure.findobj()) == 5


def test_the_command_prints_the_numbers_and_writes_the_picture(
    runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "both.png"
    assert main(["compare", "flow", str(runs / "vae"), "--runs", str(runs), "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    assert "log_likelihood" in printed
    assert f"drawn to {out}" in printed
    with Image.open(out) as image:
        assert image.width == 1430


def test_runs_of_one_name_are_told_apart_by_their_folders(runs: Path, tmp_path: Path) -> None:
    shutil.copytree(runs / "flow", tmp_path / "flow")
    names = [run.name for run in open_runs([runs / "flow", tmp_path / "flow"])]
    assert names == [f"{runs.name}/flow", f"{tmp_path.name}/flow"]


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (("flow", "none"), "none holds no run; make one with"),
        (("flow", "raw"), r"evaluation\.json is missing; run `python -m training evaluate"),
        (("flow", "flow"), "a run is named twice; allowed is once"),
    ],
)
def test_what_cannot_be_compared_is_refused(names: tuple[str, ...], words: str, runs: Path) -> None:
    with pytest.raises(Mistake, match=words):
        open_runs([runs / name for name in names])


def test_a_run_that_has_not_finished_is_refused(runs: Path, tmp_path: Path) -> None:
    shutil.copytree(runs / "flow", tmp_path / "half")
    (tmp_path / "half" / "run.json").write_text('{"data_root": null, "finished": false}')
    with pytest.raises(Mistake, match="has not finished; go on with"):
        open_runs([tmp_path / "half"])
