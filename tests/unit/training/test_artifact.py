"""An artifact's folder is put in place whole or not at all."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from models.manifest import FILE_NAME, Manifest
from tests.unit.training.linear import LinearFlow, subject
from training.artifact import calibration, entry_points, probes, provenance, publish, staged, step
from training.card import CARD
from training.certificate import certify


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    """Of a linear flow, whose graph files hold nothing of interest here."""
    folder = tmp_path_factory.mktemp("files")
    measured = subject(LinearFlow().eval())
    for entry in measured.graphs:
        (folder / f"{entry}.onnx").write_bytes(entry.encode())
    certificate = certify(measured)
    return Manifest(
        name="linear",
        version="1",
        family="linear",
        paper="Gauss 1809",
        data=measured.data,
        latent=measured.latent,
        grades=measured.grades,
        entry_points=entry_points(measured, folder, certificate),
        probes=probes(measured),
        certificate=certificate,
        provenance=provenance({"title": "A line"}, 0, {}),
    )


def stop(path: Path) -> None:
    path.write_bytes(b"half a graph")
    raise RuntimeError


def test_what_fails_leaves_nothing_behind(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), staged(tmp_path / "artifacts" / "flow") as folder:
        stop(folder / "decode.onnx")
    assert not list((tmp_path / "artifacts").iterdir())


def test_what_fails_leaves_other_versions_alone(tmp_path: Path, manifest: Manifest) -> None:
    with staged(tmp_path / "flow") as folder:
        publish(folder, lambda version: manifest.model_copy(update={"version": version}))
    with pytest.raises(RuntimeError), staged(tmp_path / "flow"):
        raise RuntimeError
    assert [path.name for path in (tmp_path / "flow").iterdir()] == ["1"]


def test_a_staged_folder_is_hidden_and_beside_its_place(tmp_path: Path) -> None:
    with staged(tmp_path / "flow") as folder:
        assert folder.parent == tmp_path / "flow"
        assert folder.name.startswith(".")


def test_versions_are_the_next_whole_numbers(tmp_path: Path, manifest: Manifest) -> None:
    (tmp_path / "flow" / "9").mkdir(parents=True)
    (tmp_path / "flow" / "9" / "anything").touch()
    (tmp_path / "flow" / "notes").mkdir()
    for expected in ("10", "11"):
        with staged(tmp_path / "flow") as folder:
            place = publish(folder, lambda version: manifest.model_copy(update={"version": version}))
        assert place == tmp_path / "flow" / expected
        assert Manifest.model_validate_json((place / FILE_NAME).read_bytes()).version == expected
        assert f"version {expected}" in (place / CARD).read_text()


def test_of_two_exports_at_once_the_slower_takes_the_version_after(
    tmp_path: Path, manifest: Manifest
) -> None:
    home, asked = tmp_path / "flow", []

    def describe(version: str) -> Manifest:
        if not asked:  # in the meantime another export is ready
            (home / version).mkdir()
            (home / version / FILE_NAME).touch()
        asked.append(version)
        return manifest.model_copy(update={"version": version})

    with staged(home) as folder:
        assert publish(folder, describe) == home / "2"
    assert asked == ["1", "2"]


def test_a_manifest_reads_back_as_it_was(tmp_path: Path, manifest: Manifest) -> None:
    with staged(tmp_path / "flow") as folder:
        place = publish(folder, lambda _: manifest)
    assert Manifest.model_validate_json((place / FILE_NAME).read_bytes()) == manifest


def test_a_probe_holds_exact_numbers_and_the_answers_to_them(manifest: Manifest) -> None:
    model = subject(LinearFlow().eval())
    for entry, probe in manifest.probes.items():
        (rows,) = (np.asarray(values, np.float32) for values in probe.inputs.values())
        (answer,) = (np.asarray(values, np.float32) for values in probe.outputs.values())
        assert len(rows) == 2
        np.testing.assert_array_equal(model.run(entry, (rows,))[0], answer)


def test_every_graph_file_carries_its_deviation(manifest: Manifest) -> None:
    for entry in manifest.entry_points.values():
        assert entry.files["onnx"].max_deviation is not None
        assert entry.files["onnx"].max_deviation < 1e-5


def test_without_the_model_a_deviation_is_not_known(tmp_path: Path) -> None:
    measured = replace(subject(LinearFlow().eval()), model=None)
    for entry in measured.graphs:
        (tmp_path / f"{entry}.onnx").write_bytes(entry.encode())
    described = entry_points(measured, tmp_path, certify(measured))
    assert described["decode"].files["onnx"].max_deviation is None
    assert described["decode"].files["onnx"].export_s is None


def test_calibration_is_ascending_finite_and_no_longer_than_it_needs_to_be() -> None:
    scores = np.random.default_rng(0).normal(size=5000)
    scores[7] = -np.inf
    held = calibration(scores, k=64).scores
    assert len(held) == 1000
    assert list(held) == sorted(held)
    assert held[-1] == scores.max()
    assert calibration(np.array([2.0, 1.0]), k=1).scores == (1.0, 2.0)


def test_a_step_tells_what_it_did_and_that_it_failed(capsys: pytest.CaptureFixture[str]) -> None:
    with step("write decode"):
        pass
    with pytest.raises(RuntimeError), step("write encode"):
        raise RuntimeError
    first, second = capsys.readouterr().out.splitlines()
    assert first.split() == ["write", "decode", "0.0", "s"]
    assert second.split() == ["write", "encode", "failed"]
