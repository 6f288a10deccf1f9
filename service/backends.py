"""Exported graphs, run: the only room that knows a framework.

A graph is a function of arrays whose first axis is the batch. It runs where it says it runs: a runtime that
falls back to another device without being told to is refused. What goes wrong is sorted into three kinds,
because the lane treats them differently: memory (try smaller), the device (give up), anything else (a row).
"""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Sequence
from typing import Any, Final, Literal, Protocol, final

import numpy as np
from numpy.typing import NDArray

from models.manifest import DType, EntryPoint, Format

Array = NDArray[Any]
Device = Literal["auto", "cpu", "cuda"]

_CUDA: Final = "CUDAExecutionProvider"
_CPU: Final = "CPUExecutionProvider"
_CUDA_OPTIONS: Final = {
    "use_tf32": "0",  # ten bits of mantissa are too few for a log-density
    "cudnn_conv_algo_search": "HEURISTIC",  # the default searches for seconds at every new shape
    "arena_extend_strategy": "kSameAsRequested",  # the default may take twice what it needs
}
_ONNX_LOOP: Final = b"\x22\x04Loop"  # field 4 of a node: its type
_ONNX_CONV: Final = b"\x22\x04Conv", b"\x22\x0dConvTranspose"
_ONNX_TYPES: Final[dict[DType, str]] = {
    "float32": "tensor(float)",
    "float64": "tensor(double)",
    "int64": "tensor(int64)",
}
_MEMORY: Final = re.compile(r"out of memory|failed to allocate|bad_?alloc|CUDA failure 2\b", re.IGNORECASE)
# Errors after which a CUDA context answers every call with the same error.
_LOST: Final = re.compile(
    r"CUDA failure (46|100|214|70\d|71\d|999)\b|illegal (memory access|address|instruction)|launch failure"
    r"|misaligned address|device-side assert|ECC error|device (is|was) lost|no CUDA-capable device",
    re.IGNORECASE,
)


class GraphError(Exception):
    """A graph that is not what its manifest says, or that failed on what it was given."""


class OutOfMemory(GraphError):
    """A run needed more memory than the device has; a smaller one may fit."""


class DeviceLost(GraphError):
    """The device answers nothing any more; only a new process can use it."""


class DeviceMissing(Exception):
    """The device that the operator asked for is not there."""


class Graph(Protocol):
    """Arrays in, arrays out, in the manifest's order.

    Attributes:
        provider: what computes.
        steady: whether a run takes about as long whatever the numbers are; a loop may go on for ever.
    """

    @property
    def provider(self) -> str: ...

    @property
    def steady(self) -> bool: ...

    def __call__(self, inputs: Sequence[Array]) -> Sequence[Array]: ...


def open_graph(content: bytes, entry: EntryPoint, runtime: Format, device: Device, threads: int) -> Graph:
    """Make an exported graph callable.

    Args:
        content: the file.
        entry: the inputs and outputs that the graph must have.
        threads: of one run on a CPU.

    Raises:
        GraphError: if the runtime cannot read the file, or finds other inputs or outputs.
        DeviceMissing: if ``device`` is ``cuda`` and the runtime would compute elsewhere.
    """
    if runtime == "torchscript":
        return TorchScriptGraph(content, device, threads)
    return OnnxGraph(content, entry, device, threads)


@final
class OnnxGraph:
    """A graph in ONNX Runtime."""

    def __init__(self, content: bytes, entry: EntryPoint, device: Device, threads: int) -> None:
        self._session = _session(content, device, threads)
        self.provider: str = self._session.get_providers()[0]
        if device == "cuda" and self.provider != _CUDA:
            raise DeviceMissing(f"device is cuda, but ONNX Runtime offers {self.provider} only")
        _check_signature(self._session, entry)
        self.steady = _ONNX_LOOP not in content
        self._inputs = [tensor.name for tensor in entry.inputs]
        self._outputs = [tensor.name for tensor in entry.outputs]

    def __call__(self, inputs: Sequence[Array]) -> Sequence[Array]:
        feed = dict(zip(self._inputs, inputs, strict=True))
        try:
            outputs: Sequence[Array] = self._session.run(self._outputs, feed)
        except Exception as error:  # ONNX Runtime's errors have no common base
            raise _sorted(error) from error
        return outputs


def _session(content: bytes, device: Device, threads: int) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    for pool in ("intra_op", "inter_op"):  # waiting threads would starve the event loop
        options.add_session_config_entry(f"session.{pool}.allow_spinning", "0")
    options.log_severity_level = 4  # every error is also an exception, and ends in our log
    providers = _providers(onnxruntime, device)
    if providers == [_CPU] and any(node in content for node in _ONNX_CONV):
        from models.subpixel import rewritten

        content = rewritten(content)
    try:
        session = onnxruntime.InferenceSession(content, options, providers=providers)
    except Exception as error:
        raise GraphError(f"ONNX Runtime cannot load the graph: {error}") from error
    session.disable_fallback()  # a GPU that fails must not become a CPU in mid-flight
    return session


def _providers(onnxruntime: Any, device: Device) -> list[Any]:
    if device == "cpu" or _CUDA not in onnxruntime.get_available_providers():
        return [_CPU]
    onnxruntime.preload_dlls()
    return [(_CUDA, _CUDA_OPTIONS), _CPU]


def _check_signature(session: Any, entry: EntryPoint) -> None:
    for kind, found, declared in (
        ("inputs", session.get_inputs(), entry.inputs),
        ("outputs", session.get_outputs(), entry.outputs),
    ):
        has = {value.name: value.type for value in found}
        needs = {tensor.name: _ONNX_TYPES[tensor.dtype] for tensor in declared}
        if has != needs:
            raise GraphError(f"the graph's {kind} are {has}, the manifest says {needs}")


@final
class TorchScriptGraph:
    """A frozen TorchScript module. Such a file can carry code: operators switch this runtime on."""

    def __init__(self, content: bytes, device: Device, threads: int) -> None:
        import torch

        self._torch = torch
        self._device = _torch_device(torch, device)
        torch.set_num_threads(threads)
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
        self.provider: str = f"TorchScript:{self._device}"
        try:
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", r"`torch\.jit", DeprecationWarning)
                self._module = torch.jit.load(io.BytesIO(content), map_location=self._device).eval()
        except RuntimeError as error:
            raise GraphError(f"TorchScript cannot load the graph: {_first_line(error)}") from error
        self.steady = "prim::Loop" not in str(self._module.inlined_graph)

    def __call__(self, inputs: Sequence[Array]) -> Sequence[Array]:
        torch = self._torch
        try:
            with torch.inference_mode():
                outputs = self._module(*(self._tensor(array) for array in inputs))
        except RuntimeError as error:  # what a graph raises; MemoryError and the rest pass
            raise _sorted(error) from error
        tensors = outputs if isinstance(outputs, tuple | list) else (outputs,)
        return [_apart(tensor.cpu().numpy(), inputs) for tensor in tensors]

    def _tensor(self, array: Array) -> Any:
        owned = array if array.flags.writeable else array.copy()  # torch has no read-only tensors
        return self._torch.from_numpy(owned).to(self._device)


def _torch_device(torch: Any, device: Device) -> str:
    if device == "cuda" and not torch.cuda.is_available():
        raise DeviceMissing("device is cuda, but torch finds none")
    return "cuda" if device != "cpu" and torch.cuda.is_available() else "cpu"


def _apart(output: Array, inputs: Sequence[Array]) -> Array:
    """The output in memory of its own: the inputs are buffers, filled again for the next batch."""
    shared = any(np.may_share_memory(output, array) for array in inputs)
    return output.copy() if shared else output


def _sorted(error: Exception) -> GraphError:
    """The error as one of the three kinds."""
    text = str(error)
    kind = OutOfMemory if _MEMORY.search(text) else DeviceLost if _LOST.search(text) else GraphError
    return kind(_first_line(error))


def _first_line(error: Exception) -> str:
    lines = (line.strip() for line in str(error).splitlines())
    return next((line for line in lines if line), type(error).__name__)
