"""A model that is not what its manifest says is refused at start, by name; the others serve."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests import graphs
from tests.e2e.conftest import Start

pytestmark = pytest.mark.chaos


def _flip_a_byte(folder: Path) -> None:
    graph = folder / "decode.onnx"
    content = bytearray(graph.read_bytes())
    content[len(content) // 2] ^= 1
    graph.write_bytes(content)


def _remove_a_graph(folder: Path) -> None:
    (folder / "decode.onnx").unlink()


def _manifest(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    path = folder / "manifest.json"
    manifest = json.loads(path.read_text())
    change(manifest)
    path.write_text(json.dumps(manifest))


def _expect_another_output(folder: Path) -> None:
    def change(manifest: dict[str, Any]) -> None:
        (expected,) = manifest["probes"]["decode"]["outputs"].values()
        expected[0][0] += 1.0

    _manifest(folder, change)


def _fail_the_certificate(folder: Path) -> None:
    def change(manifest: dict[str, Any]) -> None:
        manifest["certificate"]["checks"][0]["passed"] = False

    _manifest(folder, change)


def _cut_the_manifest(folder: Path) -> None:
    path = folder / "manifest.json"
    path.write_text(path.read_text()[:-20])


@pytest.mark.parametrize(
    ("spoil", "named"),
    [
        (_flip_a_byte, "decode.onnx"),
        (_remove_a_graph, "decode.onnx"),
        (_expect_another_output, "probe"),
        (_fail_the_certificate, "certificate"),
        (_cut_the_manifest, "manifest.json"),
    ],
)
def test_a_spoilt_model_is_refused_by_name_and_the_others_serve(
    start: Start, artifacts: Path, spoil: Callable[[Path], None], named: str
) -> None:
    spoil(artifacts / "linear" / "1")
    service = start(artifacts).ready()
    sentences = [line for line in service.running.log.splitlines() if "linear" in line and named in line]
    assert sentences, f"no line of the log names linear and {named}:\n{service.running.log}"
    answer = service.client.post("/sample", json={"model": "linear"})
    assert (answer.status_code, answer.json()["code"]) == (404, "unknown_model")
    assert service.post("sample", model="gaussian-vae", n=1)["samples"]


def test_a_new_version_that_is_spoilt_leaves_the_old_one_serving(start: Start, artifacts: Path) -> None:
    service = start(artifacts).ready()
    _flip_a_byte(graphs.linear_flow(artifacts, version="2"))
    service.client.post("/models/reload")
    assert service.post("sample", model="linear")["version"] == "1"
    assert "decode.onnx" in service.running.log
