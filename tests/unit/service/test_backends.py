"""A graph is what its manifest says, computes where it says, and gives a row the same bits in any crowd."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from models.manifest import EntryPoint, GraphFile, Tensor
from service.artifact import open_artifact
from service.backends import (
    DeviceLost,
    DeviceMissing,
    GraphError,
    OnnxGraph,
    OutOfMemory,
    TorchScriptGraph,
    _sorted,
    open_graph,
)
from service.batch import Stage
from tests import graphs

Array = NDArray[Any]


def opened(folder: Path, entry: str = "decode") -> tuple[EntryPoint, OnnxGraph]:
    artifact = open_artifact(folder)
    point = artifact.manifest.entry_points[entry]  # type: ignore[index]
    return point, OnnxGraph(artifact.read(point.files["onnx"]), point, "cpu", 1)


def test_onnx_runs_on_the_cpu_and_says_so(tmp_path: Path) -> None:
    _, graph = opened(graphs.linear_flow(tmp_path))
    assert graph.provider == "CPUExecutionProvider"
    matrix, shift = graphs.linear_map(3)
    z = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)
    np.testing.assert_allclose(graph([z])[0], z @ matrix.T + shift, rtol=1e-6)


def test_a_device_that_is_not_there_is_not_replaced_in_silence(tmp_path: Path) -> None:
    artifact = open_artifact(graphs.linear_flow(tmp_path))
    entry = artifact.manifest.entry_points["decode"]
    content = artifact.read(entry.files["onnx"])
    assert open_graph(content, entry, "onnx", "auto", 1).provider
    if "CUDA" not in open_graph(content, entry, "onnx", "auto", 1).provider:
        with pytest.raises(DeviceMissing, match="device is cuda, but ONNX Runtime offers CPU"):
            open_graph(content, entry, "onnx", "cuda", 1)


def test_a_graph_with_other_inputs_than_its_manifest_is_refused(tmp_path: Path) -> None:
    artifact = open_artifact(graphs.linear_flow(tmp_path))
    decode, encode = (artifact.manifest.entry_points[name] for name in ("decode", "encode"))
    content = artifact.read(decode.files["onnx"])
    with pytest.raises(GraphError, match=r"inputs are \{'z': .*\}, the manifest says \{'x': "):
        OnnxGraph(content, encode, "cpu", 1)
    with pytest.raises(GraphError, match="ONNX Runtime cannot load the graph"):
        OnnxGraph(content[:100], decode, "cpu", 1)


def test_a_failing_run_is_one_sentence(tmp_path: Path) -> None:
    _, graph = opened(graphs.poison(tmp_path))
    with pytest.raises(GraphError, match="out of data bounds"):
        graph([graphs.f32([[1], [-1]])])
    assert graph([graphs.f32([[1]])])[0].tolist() == [[2]]


@pytest.mark.parametrize(
    ("message", "kind"),
    [
        (
            "BFCArena::AllocateRawInternal Failed to allocate memory for requested buffer of size 9",
            OutOfMemory,
        ),
        ("CUDA out of memory. Tried to allocate 2.00 GiB", OutOfMemory),
        ("std::bad_alloc", OutOfMemory),
        ("CUDA failure 2: out of memory ; GPU=0", OutOfMemory),
        ("CUDA failure 700: an illegal memory access was encountered ; GPU=0", DeviceLost),
        ("CUDA failure 719: unspecified launch failure", DeviceLost),
        ("CUDA error: device-side assert triggered", DeviceLost),
        ("CUDA failure 999: unknown error", DeviceLost),
        ("indices element out of data bounds, idx=700", GraphError),
        ("CUDA failure 1: invalid argument", GraphError),
    ],
)
def test_failures_are_sorted_by_what_can_be_done(message: str, kind: type[GraphError]) -> None:
    assert type(_sorted(RuntimeError(f"\n{message}\nmore"))) is kind


# A row is a row -------------------------------------------------------------------------------------------

WIDTH = 784


@pytest.fixture(scope="module")
def deep(tmp_path_factory: pytest.TempPathFactory) -> OnnxGraph:
    """784 → 200 → 784: wide enough for every kernel that the runtime chooses between."""
    dice = np.random.default_rng(0)
    z, x = graphs._tensor("z", "latent", WIDTH), graphs._tensor("x", "data", WIDTH)
    constants = {
        "a": dice.normal(size=(WIDTH, 200)).astype(np.float32) / 28,
        "b": dice.normal(size=(200, WIDTH)).astype(np.float32) / 14,
    }
    nodes = "h = MatMul(z, a) t = Tanh(h) y = MatMul(t, b) x = Sigmoid(y)"
    decode = graphs.Graph((z,), (x,), nodes, constants, (graphs.f32(np.ones((2, WIDTH)) / 9),))
    described = graphs._generator("deep", WIDTH, decode)
    return opened(graphs.write(tmp_path_factory.mktemp("deep"), "1", described))[1]


ROWS = np.random.default_rng(1).normal(size=(64, WIDTH)).astype(np.float32)


@settings(deadline=None, max_examples=60)
@given(picks=st.lists(st.integers(0, 63), min_size=1, max_size=70))
def test_on_a_cpu_a_row_has_the_same_bits_in_any_crowd(deep: OnnxGraph, picks: list[int]) -> None:
    alone = {i: deep([ROWS[i : i + 1]])[0].tobytes() for i in set(picks)}
    crowd = deep([ROWS[picks]])[0]
    assert [row.tobytes() for row in crowd] == [alone[i] for i in picks]


@pytest.mark.parametrize(
    ("build", "steady"), [(graphs.heavy, True), (graphs.slow, False), (graphs.endless, False)]
)
def test_a_graph_with_a_loop_may_take_for_ever(
    tmp_path: Path, build: Callable[[Path], Path], steady: bool
) -> None:
    assert opened(build(tmp_path))[1].steady is steady


# TorchScript ----------------------------------------------------------------------------------------------


def traced(function: Callable[[Any], Any]) -> bytes:
    torch = pytest.importorskip("torch")

    class Module(torch.nn.Module):  # type: ignore[name-defined,misc]
        def forward(self, x: Any) -> Any:
            return function(x)

    archive = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.jit.save(torch.jit.trace(Module(), torch.zeros(2, 3), check_trace=False), archive)
    return archive.getvalue()


def entry_of(shape: int, *outputs: str) -> EntryPoint:
    x = Tensor.model_validate({"name": "x", "role": "data", "shape": ("B", shape)})
    outs = tuple(Tensor.model_validate({"name": n, "role": "data", "shape": ("B", shape)}) for n in outputs)
    file = GraphFile(path="graph.ts", sha256="0" * 64, size_bytes=1)
    return EntryPoint(inputs=(x,), outputs=outs, files={"torchscript": file})


def test_torchscript_runs_also_on_rows_that_may_not_be_written_to() -> None:
    graph = open_graph(traced(lambda x: x * 2 + 1), entry_of(3, "y"), "torchscript", "cpu", 1)
    assert graph.provider == "TorchScript:cpu"
    rows = np.arange(15, dtype=np.float32).reshape(5, 3)
    rows.flags.writeable = False
    np.testing.assert_array_equal(graph([rows])[0], rows * 2 + 1)


def test_a_torchscript_graph_with_a_loop_may_take_for_ever() -> None:
    torch = pytest.importorskip("torch")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        turning = torch.jit.script(_turned)  # where what has no type is a tensor
    assert TorchScriptGraph(traced(lambda x: x * 2), "cpu", 1).steady
    assert not TorchScriptGraph(traced(turning), "cpu", 1).steady


def _turned(x):  # type: ignore[no-untyped-def]
    while bool(x.max() > 1):
        x = x / 2
    return x


def test_an_output_never_shares_the_memory_of_an_input() -> None:
    graph = TorchScriptGraph(traced(lambda x: x), "cpu", 1)
    rows = np.ones((2, 3), np.float32)
    (output,) = graph([rows])
    rows[:] = 7
    assert output.tolist() == [[1, 1, 1], [1, 1, 1]]


def test_a_torchscript_file_that_cannot_be_read_or_run_is_one_sentence() -> None:
    with pytest.raises(GraphError, match="TorchScript cannot load the graph"):
        TorchScriptGraph(b"not an archive", "cpu", 1)
    graph = TorchScriptGraph(traced(lambda x: x.view(-1, 3)), "cpu", 1)
    with pytest.raises(GraphError):
        graph([np.zeros((1, 4), np.float32)])


@pytest.mark.parametrize(
    ("function", "sentence"), [(lambda x: (x, x + 1), "2 outputs"), (lambda x: x[:1], r"\[1, 3\]")]
)
def test_outputs_are_counted_and_measured(
    tmp_path: Path, function: Callable[[Any], Any], sentence: str
) -> None:
    manifest = open_artifact(graphs.linear_flow(tmp_path)).manifest
    stage = Stage(TorchScriptGraph(traced(function), "cpu", 1), manifest, entry_of(3, "y"), 4)
    with pytest.raises(GraphError, match=sentence):
        stage([np.zeros((2, 3), np.float32)])
