"""The table of certificates has a line for every graph and a number in every cell."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from models.manifest import Format, Manifest
from tests.unit.training.linear import LinearFlow, subject
from training import Mistake
from training.artifact import entry_points, probes, provenance, publish, staged
from training.certificate import certify, parity_name
from training.recipe import published as recipes
from training.table import HEAD, page

SECONDS: dict[Format, float] = {"onnx": 1.25}
PRINTED = Path(__file__).parents[3] / "docs" / "certificates.md"
Publish = Callable[..., Manifest]


@pytest.fixture
def artifacts(tmp_path: Path) -> Publish:
    """Puts the next version of a linear flow, of one epoch, into a folder of artifacts."""

    def published(name: str = "linear", timed: bool = True, epochs: int = 1) -> Manifest:
        measured = subject(LinearFlow().eval())
        certificate = certify(measured)
        recipe = {"title": "A line", "fit": {"epochs": epochs}}
        seconds = dict.fromkeys(measured.graphs, SECONDS) if timed else None
        with staged(tmp_path / name) as folder:
            for entry in measured.graphs:
                (folder / f"{entry}.onnx").write_bytes(bytes(4200))
            held = Manifest(
                name=name,
                version="1",
                family="linear",
                paper="Gauss 1809",
                data=measured.data,
                latent=measured.latent,
                grades=measured.grades,
                entry_points=entry_points(measured, folder, certificate, seconds),
                probes=probes(measured),
                certificate=certificate,
                provenance=provenance(recipe, 0, {}),
            )
            publish(folder, lambda version: held.model_copy(update={"version": version}))
        return held

    return published


def cells(text: str) -> list[list[str]]:
    lines = [line for line in text.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_every_graph_has_a_line_and_no_cell_is_empty(artifacts: Publish, tmp_path: Path) -> None:
    manifest = artifacts()
    head, _, *rows = cells(page(tmp_path))
    assert tuple(head) == HEAD
    assert [row[3].split(":")[0] for row in rows] == list(manifest.entry_points)
    assert all(cell for row in rows for cell in row)
    told = dict(zip(HEAD, rows[-1], strict=True))
    log_w = manifest.entry_points["log_weight"].outputs[0]
    (check,) = (c for c in manifest.certificate.checks if c.name == parity_name("log_weight", log_w, "onnx"))
    assert float(told["deviation"]) == pytest.approx(check.value, rel=0.1)
    assert (told["unit"], told["size, kB"], told["export, s"]) == ("nats", "4", "1.2")


def test_of_several_versions_the_newest_counts(artifacts: Publish, tmp_path: Path) -> None:
    for epochs in range(1, 11):
        artifacts(epochs=epochs)
    _, _, *rows = cells(page(tmp_path))
    assert {row[2] for row in rows} == {"10"}
    assert len(rows) == 3


def test_a_shorter_training_than_the_recipe_asks_for_is_told(artifacts: Publish, tmp_path: Path) -> None:
    artifacts(name="vae-digits", epochs=2)
    assert cells(page(tmp_path))[2][2] == "2 of 150"


def test_what_is_not_known_of_a_graph_is_asked_for(artifacts: Publish, tmp_path: Path) -> None:
    artifacts(timed=False)
    with pytest.raises(Mistake, match=r"does not say how long decode\.onnx took; export it again"):
        page(tmp_path)


def test_a_manifest_of_another_version_is_refused(tmp_path: Path) -> None:
    (tmp_path / "old" / "1").mkdir(parents=True)
    (tmp_path / "old" / "1" / "manifest.json").write_text("{}")
    with pytest.raises(Mistake, match="of another version of Pushforward"):
        page(tmp_path)


def test_the_table_in_the_docs_is_of_every_published_recipe_in_both_formats_without_gaps() -> None:
    head, _, *rows = cells(PRINTED.read_text())
    assert tuple(head) == HEAD
    assert all(cell for row in rows for cell in row)
    assert {row[1] for row in rows} == {path.stem for path in recipes()}
    graphs = [(row[1], row[3], row[4]) for row in rows]
    assert set(graphs) == {(*graph[:2], form) for graph in graphs for form in ("onnx", "torchscript")}
    assert all(float(row[5]) <= float(row[6]) for row in rows)
