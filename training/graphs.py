"""Exported graphs: how an entry point becomes a file, and how a file is run.

Both formats come out as the same thing, a :data:`Graph`: arrays in, arrays out, batch axis first. Whether a
graph is *right* is measured by ``certificate``; here it is only well formed.
"""

from __future__ import annotations

import contextlib
import gc
import io
import logging
import warnings
import zipfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final

import numpy as np
import onnx
import onnxruntime
import torch
from onnx import numpy_helper
from torch import nn

from models.base import Entry, Model, Signature
from models.layers import fold_batch_norm
from models.manifest import EntryName, Format
from training import Mistake

Rows = tuple[np.ndarray, ...]
Graph = Callable[[Sequence[np.ndarray]], Rows]

SUFFIX: Final[dict[Format, str]] = {"onnx": ".onnx", "torchscript": ".ts"}
# The newest opset whose every operator ONNX Runtime 1.31 runs on both CPU and CUDA.
OPSET: Final = 20


# Writing ----------------------------------------------------------------------------------------------


def to_onnx(model: Model, name: EntryName, example: Rows, path: Path) -> None:
    """Write one entry point as a self-contained ONNX file whose batch axis is called ``batch``.

    Args:
        model: in eval mode, float32.
        example: one array per input, of two rows or more; their values do not reach the file.

    Raises:
        Mistake: if the model is in training mode, holds a number that is not finite, or the exporter
            cannot follow it.
    """
    _check_ready(model)
    signature = model.signatures()[name]
    try:
        with _silence():
            program = torch.onnx.export(
                _traceable(model, name),
                tuple(torch.from_numpy(rows) for rows in example),
                dynamo=True,
                opset_version=OPSET,
                external_data=False,
                input_names=[tensor.name for tensor in signature.inputs],
                output_names=[tensor.name for tensor in signature.outputs],
                dynamic_shapes=(tuple({0: torch.export.Dim("batch")} for _ in example),),
                verbose=False,
            )
    except (torch.onnx.errors.OnnxExporterError, RuntimeError) as error:
        raise Mistake(f"{name} cannot be exported to ONNX: {_cause(error)}") from error
    assert program is not None
    proto = _without_traces(program.model_proto)
    check_onnx(proto, name)
    path.write_bytes(proto.SerializeToString(deterministic=True))


def to_torchscript(model: Model, name: EntryName, example: Rows, path: Path) -> None:
    """Write one entry point as a frozen TorchScript file, traced with the example rows.

    Inputs keep their names, but TorchScript is called by position.

    Raises:
        Mistake: as :func:`to_onnx`, and if tracing would fix a value that depends on the example.
    """
    _check_ready(model)
    tensors = tuple(torch.from_numpy(rows) for rows in example)
    try:
        with _torchscript() as warned, torch.no_grad():
            frozen = torch.jit.freeze(torch.jit.trace(_traceable(model, name), tensors, check_trace=False))
            _name_inputs(frozen, model.signatures()[name])
            archive = io.BytesIO()
            torch.jit.save(frozen, archive)
    except RuntimeError as error:
        raise Mistake(f"{name} cannot be exported to TorchScript: {_cause(error)}") from error
    for warning in warned:
        if issubclass(warning.category, torch.jit.TracerWarning):
            raise Mistake(f"{name} cannot be exported to TorchScript: {_cause(warning.message)}")
    _write_without_paths(archive, path)


def _name_inputs(module: torch.jit.ScriptModule, signature: Signature) -> None:
    for value, tensor in zip(list(module.graph.inputs())[1:], signature.inputs, strict=True):
        value.setDebugName(tensor.name)


class _Served(nn.Module):
    """An entry point as it is served: float32 in and out, and its own precision in between."""

    def __init__(self, entry: Entry, signature: Signature) -> None:
        super().__init__()
        wide = signature.precision == "float64"
        self.dtype = torch.float64 if wide else torch.float32
        # Otherwise as it is: buffers are float64, and rounded where they are used.
        self.entry = entry.double() if wide else entry
        self.roles = tuple(tensor.role for tensor in signature.outputs)

    def forward(self, *inputs: torch.Tensor) -> tuple[torch.Tensor, ...]:
        outputs = self.entry(*(t.to(self.dtype) if t.is_floating_point() else t for t in inputs))
        narrow = (t.float() if t.is_floating_point() else t for t in outputs)
        weights = (role == "log_weight" for role in self.roles)
        return tuple(_number(t) if weight else t for t, weight in zip(narrow, weights, strict=True))


def _number(log_w: torch.Tensor) -> torch.Tensor:
    """The same, NaN where it overflowed: a log-weight of -inf would say that the row is impossible."""
    return log_w + (log_w - log_w)  # infinity less infinity is NaN, and everything else adds 0


def _traceable(model: Model, name: EntryName) -> nn.Module:
    entry = fold_batch_norm(Entry(model, name))
    assert isinstance(entry, Entry)
    return _Served(entry, model.signatures()[name]).eval()


def check_onnx(proto: onnx.ModelProto, name: str) -> None:
    """Raise Mistake unless the model is valid ONNX, all in one piece, with sound constants."""
    for constant, tensor in _constants(proto.graph):
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            raise Mistake(
                f"{name}: tensor {constant!r} lies in another file; allowed is a graph that holds its "
                "weights (onnx.save(onnx.load(path), new_path) puts them together)"
            )
        _check_finite(f"{name}: constant {constant!r}", numpy_helper.to_array(tensor))
    try:
        onnx.checker.check_model(proto, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise Mistake(f"{name} is not a valid ONNX model: {_cause(error)}") from error


def _check_ready(model: Model) -> None:
    if any(module.training for module in model.modules()):
        raise Mistake("the model is in training mode; export needs model.eval(), or batch norm mixes rows")
    for key, tensor in model.state_dict().items():
        _check_finite(f"weight {key!r}", tensor.detach().cpu().numpy())


def _check_finite(what: str, values: np.ndarray) -> None:
    if values.dtype.kind != "f":
        return
    # One lone infinity is how a graph writes log 0 or a clamp without a bound; NaN never means anything.
    broken = np.isnan(values) if values.size == 1 else ~np.isfinite(values)
    if broken.any():
        raise Mistake(
            f"{what} holds {broken.sum()} numbers out of {values.size} that are not finite; allowed are none"
        )


def _constants(graph: onnx.GraphProto) -> Iterator[tuple[str, onnx.TensorProto]]:
    """Every tensor stored in the graph and in the bodies of its loops and branches."""
    for part in _graphs(graph):
        yield from ((tensor.name, tensor) for tensor in part.initializer)
        for node in part.node:
            yield from ((node.name, a.t) for a in node.attribute if a.HasField("t"))


def _without_traces(proto: onnx.ModelProto) -> onnx.ModelProto:
    """Drop the exporter's stack traces: they name folders of this machine and change with every edit."""
    del proto.metadata_props[:]
    for graph in _graphs(proto.graph):
        for group in (graph.node, graph.input, graph.output, graph.value_info, graph.initializer):
            for holder in group:
                del holder.metadata_props[:]
        del graph.metadata_props[:]
    for function in proto.functions:
        del function.metadata_props[:]
        for node in function.node:
            del node.metadata_props[:]
    return proto


def _graphs(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    """A graph and the bodies of its loops and branches."""
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            bodies = (attribute.g, *attribute.graphs) if attribute.HasField("g") else attribute.graphs
            for body in bodies:
                yield from _graphs(body)


def _write_without_paths(archive: io.BytesIO, path: Path) -> None:
    """Copy a TorchScript archive but for its debug tables, which name the source folders of this machine."""
    with zipfile.ZipFile(archive) as source, zipfile.ZipFile(path, "w") as target:
        for item in source.infolist():
            if not item.filename.endswith(".debug_pkl"):
                target.writestr(zipfile.ZipInfo(item.filename), source.read(item))


def _cause(error: BaseException) -> str:
    """The first sentence of the innermost reason, without the exporter's advice and colours."""
    while error.__cause__ is not None:
        error = error.__cause__
    return next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """Keep the exporter's chatter out of the terminal; what it made is measured afterwards."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    gc.disable()  # which spends a sixth of the time looking through the exporter's million small objects
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        gc.enable()
        logger.setLevel(level)


@contextlib.contextmanager
def _torchscript() -> Iterator[list[warnings.WarningMessage]]:
    """Catch warnings: TorchScript announces its end at every call, and says where a trace fixes a value."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield caught


# Running ----------------------------------------------------------------------------------------------


def run_onnx(path: Path) -> Graph:
    """An ONNX file as a function of arrays, on one CPU thread as the service runs it."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    names = [value.name for value in session.get_inputs()]

    def run(inputs: Sequence[np.ndarray]) -> Rows:
        return tuple(session.run(None, dict(zip(names, inputs, strict=True))))

    return run


def run_torchscript(path: Path) -> Graph:
    """A TorchScript file as a function of arrays. Loading one can run code: open only your own."""
    with _torchscript():
        module = torch.jit.load(str(path), map_location="cpu").eval()

    def run(inputs: Sequence[np.ndarray]) -> Rows:
        with torch.no_grad():
            outputs = module(*(torch.from_numpy(rows) for rows in inputs))
        return tuple(t.numpy() for t in (outputs if isinstance(outputs, tuple) else (outputs,)))

    return run


def run_eager(model: Model, name: EntryName, dtype: torch.dtype) -> Graph:
    """The model itself as a function of arrays, called at the precision of ``dtype``."""
    entry = Entry(model, name)

    def run(inputs: Sequence[np.ndarray]) -> Rows:
        tensors = (torch.from_numpy(rows) for rows in inputs)
        with torch.no_grad():
            outputs = entry(*(t.to(dtype) if t.is_floating_point() else t for t in tensors))
        return tuple(t.numpy() for t in outputs)

    return run


WRITE: Final[dict[Format, Callable[[Model, EntryName, Rows, Path], None]]] = {
    "onnx": to_onnx,
    "torchscript": to_torchscript,
}
RUN: Final[dict[Format, Callable[[Path], Graph]]] = {"onnx": run_onnx, "torchscript": run_torchscript}
