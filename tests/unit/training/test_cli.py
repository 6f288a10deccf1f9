"""The command line: what it prints, and the one sentence it ends with where the caller went wrong."""

from pathlib import Path

import numpy as np
import pytest

from training.cli import main
from training.recipe import published

TINY = """\
name = "tiny"
title = "Small"
seed = 1
expected = { minutes = 0.1, result = "nothing much" }
data = { source = "arrays", path = "rows.npy" }
model = { family = "flow", layers = 1, hidden = [4] }
objective = { kind = "likelihood" }
fit = { epochs = 1, batch_size = 8, learning_rate = 1e-3, threads = 1 }
"""


def test_the_list_names_every_recipe_with_its_time_and_result(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list"]) == 0
    header, *lines = capsys.readouterr().out.splitlines()
    assert header.split("  ")[0] == "RECIPE"
    assert [line.split()[0] for line in lines] == [path.stem for path in published()]
    assert all("s  " in line or "min  " in line for line in lines)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["run", "vae-digit"], "there is no recipe vae-digit; known are"),
        (["run", "vae-mnist"], "give its path with --data"),
        (["run", "vae-mnist", "--data", "/nowhere"], "/nowhere does not exist"),
        (["evaluate", "nothing"], "nothing holds no run"),
        (["export", "nothing"], "nothing holds no run"),
        (["pack", "nothing.toml"], "nothing.toml"),
        (["table", "--artifacts", "nothing"], "nothing holds no artifacts"),
    ],
)
def test_a_mistake_is_one_sentence_and_exit_2(
    arguments: list[str],
    words: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith("training: ")
    assert words in error
    assert error.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("arguments", [[], ["fly"], ["run"], ["run", "x", "--fast"]])
def test_a_wrong_command_line_shows_the_usage(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert stop.value.code == 2
    assert "usage: python -m training" in capsys.readouterr().err


def test_a_slip_in_the_last_recipe_shows_before_the_first_is_trained(tmp_path: Path) -> None:
    (tmp_path / "bad.toml").write_text(TINY + "colour = 1\n")
    arguments = ["run", "vae-digits", str(tmp_path / "bad.toml"), "--runs", str(tmp_path / "runs")]
    assert main(arguments) == 2
    assert not (tmp_path / "runs").exists()


def test_a_recipe_of_ones_own_reads_its_data_beside_itself(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "tiny.toml").write_text(TINY)
    np.save(tmp_path / "rows.npy", np.random.default_rng(0).standard_normal((60, 2)))
    arguments = ["run", str(tmp_path / "tiny.toml"), "--runs", str(tmp_path / "runs")]
    assert main(arguments) == 0
    assert "tiny: trained in" in capsys.readouterr().out
    folder = tmp_path / "runs" / "tiny"
    assert (folder / "recipe.toml").read_text() == TINY
    assert {"recipe.json", "log.csv", "evaluation.json", "samples.png"} <= {
        path.name for path in folder.iterdir()
    }
    assert main(["evaluate", "tiny", "--runs", str(tmp_path / "runs")]) == 0
    assert "log_likelihood" in capsys.readouterr().out
    assert main(["evaluate", str(folder)]) == 0
