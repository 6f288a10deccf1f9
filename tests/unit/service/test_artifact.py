"""An artifact is what its manifest says, or is refused with a sentence that names it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from service.artifact import ArtifactError, discover, fingerprint, open_artifact
from tests import graphs


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return graphs.linear_flow(tmp_path)


def change(folder: Path, edit: Callable[[dict[str, Any]], None]) -> None:
    path = folder / "manifest.json"
    manifest = json.loads(path.read_text())
    edit(manifest)
    path.write_text(json.dumps(manifest))


def test_a_sound_artifact_opens_and_its_digest_names_the_content(folder: Path, tmp_path: Path) -> None:
    artifact = open_artifact(folder)
    assert artifact.manifest.name == "linear"
    assert artifact.digest == fingerprint(folder) == open_artifact(folder).digest
    again = graphs.linear_flow(tmp_path, version="2")
    assert open_artifact(again).digest != artifact.digest


def test_what_is_read_is_what_was_exported(folder: Path) -> None:
    artifact = open_artifact(folder)
    file = artifact.manifest.entry_points["decode"].files["onnx"]
    assert artifact.read(file) == (folder / "decode.onnx").read_bytes()
    (folder / "decode.onnx").write_bytes(b"changed after it was opened")
    with pytest.raises(ArtifactError, match=r"decode\.onnx \(27 bytes\) has checksum"):
        artifact.read(file)


def flip_a_byte(folder: Path) -> None:
    content = bytearray((folder / "encode.onnx").read_bytes())
    content[len(content) // 2] ^= 1
    (folder / "encode.onnx").write_bytes(content)


def lose_a_file(folder: Path) -> None:
    (folder / "log_weight.onnx").unlink()


def put_a_folder_in_place_of_a_file(folder: Path) -> None:
    (folder / "decode.onnx").unlink()
    (folder / "decode.onnx").mkdir()


def fail_a_law(folder: Path) -> None:
    change(folder, lambda m: m["certificate"]["checks"][0].update(passed=False, value=0.5))


def cut_the_manifest(folder: Path) -> None:
    (folder / "manifest.json").write_bytes((folder / "manifest.json").read_bytes()[:-20])


def promise_too_much(folder: Path) -> None:
    change(folder, lambda m: m["grades"].update(density="none"))


def climb_out_of_the_folder(folder: Path) -> None:
    change(folder, lambda m: m["entry_points"]["decode"]["files"]["onnx"].update(path="../../decode.onnx"))


def pretend_to_be_another(folder: Path) -> None:
    change(folder, lambda m: m.update(name="another"))


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (flip_a_byte, r"encode\.onnx .* has checksum \w{12}…, the manifest says"),
        (lose_a_file, r"log_weight\.onnx is missing"),
        (put_a_folder_in_place_of_a_file, r"decode\.onnx cannot be read: Is a directory"),
        (fail_a_law, r"its certificate failed: parity is 0\.5 1 on typical rows, allowed is 1e-06"),
        (cut_the_manifest, r"manifest\.json is not valid: the whole: Invalid JSON"),
        (promise_too_much, r"manifest\.json is not valid: .*grades are"),
        (climb_out_of_the_folder, r"manifest\.json is not valid: entry_points\.decode\.files\.onnx\.path"),
        (pretend_to_be_another, r"manifest\.json describes another/1"),
    ],
)
def test_a_spoilt_artifact_is_refused_by_name(
    folder: Path, spoil: Callable[[Path], None], sentence: str
) -> None:
    spoil(folder)
    with pytest.raises(ArtifactError, match=rf"^linear/1: {sentence}"):
        open_artifact(folder)


def test_only_finished_versions_are_found(folder: Path, tmp_path: Path) -> None:
    graphs.linear_flow(tmp_path, version="10")
    (tmp_path / "linear" / "11").mkdir()  # an export that has not ended
    graphs.linear_flow(tmp_path / ".trash")
    (tmp_path / "linear" / ".12.tmp").mkdir()
    (tmp_path / "linear" / ".12.tmp" / "manifest.json").write_text("{}")
    (tmp_path / "README").write_text("not a model")
    assert discover(tmp_path) == {("linear", "1"): folder, ("linear", "10"): tmp_path / "linear" / "10"}


def test_a_folder_that_does_not_exist_holds_nothing(tmp_path: Path) -> None:
    assert discover(tmp_path / "nowhere") == {}
