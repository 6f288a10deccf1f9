"""Somebody else's ONNX file: what it says of its inputs and outputs, and how it is made to fit."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import onnx
from google.protobuf.message import DecodeError

from models.manifest import DType
from training import Mistake
from training.graphs import check_onnx
from training.spec import EntrySpec, Port, listed

DTYPES: Final[dict[int, DType]] = {
    onnx.TensorProto.FLOAT: "float32",
    onnx.TensorProto.DOUBLE: "float64",
    onnx.TensorProto.INT64: "int64",
}


@dataclass(frozen=True)
class Value:
    """An input or output as the file has it.

    Attributes:
        row_shape: without the batch axis, ``None`` where a size is left open; ``None`` if nothing is said.
    """

    dtype: DType
    row_shape: tuple[int | None, ...] | None


def adopt(source: Path, target: Path, described: EntrySpec, what: str) -> dict[str, Value]:
    """Copy an ONNX file with its inputs and outputs chosen, ordered and named as described.

    Outputs that nobody described are left out; inputs have to be described, all of them.

    Returns:
        What the file says of each, by its new name.

    Raises:
        Mistake: if it is no sound ONNX file in one piece, lacks something, or fixes the number of rows.
    """
    proto = _load(source, what)
    graph = proto.graph
    weights = {tensor.name for tensor in graph.initializer}  # files of old list them as inputs, too
    inputs = {value.name: value for value in graph.input if value.name not in weights}
    outputs = {value.name: value for value in graph.output}
    names = _names(described.inputs) | _names(described.outputs)
    if set(_names(described.inputs)) != set(inputs):
        raise Mistake(f"{what} takes {listed(inputs)}; described are {listed(_names(described.inputs))}")
    for name in _names(described.outputs):
        if name not in outputs:
            raise Mistake(f"{what} gives no {name}; it gives {listed(outputs)}")
    taken = [_copy(inputs[name]) for name in _names(described.inputs)]
    given = [_copy(outputs[name]) for name in _names(described.outputs)]
    del graph.input[:], graph.output[:]
    graph.input.extend(taken)
    graph.output.extend(given)
    _rename(graph, names | _out_of_the_way(graph, names))
    target.write_bytes(proto.SerializeToString(deterministic=True))
    return {value.name: _value(value, what) for value in (*graph.input, *graph.output)}


def _load(path: Path, what: str) -> onnx.ModelProto:
    try:
        proto = onnx.load(path, load_external_data=False)
    except DecodeError as error:
        raise Mistake(f"{what} is not an ONNX file: {error}") from error
    check_onnx(proto, what)
    return proto


def _names(ports: Mapping[str, Port]) -> dict[str, str]:
    """New names by old ones."""
    return {port.source or name: name for name, port in ports.items()}


def _copy(value: onnx.ValueInfoProto) -> onnx.ValueInfoProto:
    return onnx.ValueInfoProto.FromString(value.SerializeToString())


def _out_of_the_way(graph: onnx.GraphProto, names: Mapping[str, str]) -> dict[str, str]:
    """Other names for what is called inside the graph as an input or output shall be."""
    wanted = set(names.values()) - set(names)
    return {used: f"{used}_inner" for used in _used(graph) if used in wanted}


def _used(graph: onnx.GraphProto) -> Iterator[str]:
    yield from (tensor.name for tensor in graph.initializer)
    for node in graph.node:
        yield from (*node.input, *node.output)
        for body in _bodies(node):
            yield from _used(body)


def _rename(graph: onnx.GraphProto, names: Mapping[str, str]) -> None:
    for value in (*graph.input, *graph.output, *graph.value_info, *graph.initializer):
        value.name = names.get(value.name, value.name)
    for node in graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names.get(name, name) for name in node.output]
        for body in _bodies(node):
            _rename(body, names)


def _bodies(node: onnx.NodeProto) -> Iterator[onnx.GraphProto]:
    """The graphs inside a loop or a branch."""
    for attribute in node.attribute:
        yield from (attribute.g, *attribute.graphs)


def _value(value: onnx.ValueInfoProto, what: str) -> Value:
    kind = value.type.tensor_type
    if kind.elem_type not in DTYPES:
        found = onnx.TensorProto.DataType.Name(kind.elem_type).lower()
        raise Mistake(f"{what}: {value.name} is {found}; allowed are {listed(DTYPES.values())}")
    if not kind.HasField("shape"):
        return Value(DTYPES[kind.elem_type], None)
    sizes = [dim.dim_value if dim.HasField("dim_value") else None for dim in kind.shape.dim]
    if not sizes or sizes[0] is not None:
        raise Mistake(
            f"{what}: {value.name} has shape {sizes}; allowed is an open number of rows as the first axis "
            "(torch.onnx.export takes dynamic_shapes, and dynamic_axes without dynamo)"
        )
    return Value(DTYPES[kind.elem_type], tuple(sizes[1:]))
