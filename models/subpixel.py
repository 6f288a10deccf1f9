"""Transposed convolutions as plain ones, for a CPU.

ONNX Runtime computes a transposed convolution of stride s picture by picture, and adds up where windows
overlap. The same sums are s x s plain convolutions, one for each phase of the pixels, which run near the
processor's peak; pixels are put in their places when something needs them there. So is a convolution to a
few channels, for which the runtime computes a whole register of them: a pointwise convolution to the products
of all taps, whose shifted maps are added. Sums of the same terms in another order, and nothing else.

Reference: Shi et al. 2016, Is the deconvolution layer the same as a convolutional layer?, arXiv 1609.07009.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from typing import Any, Final, NamedTuple

import numpy as np
import onnx
from google.protobuf.message import DecodeError
from numpy.typing import NDArray
from onnx import helper, numpy_helper, shape_inference

_ONNX: Final = ("", "ai.onnx")  # names of the standard operators
_OPSET: Final = 13  # since when shapes and axes are inputs
_POINTWISE: Final = {"BatchNormalization", "Elu", "LeakyRelu", "Relu", "Selu", "Sigmoid", "Softplus", "Tanh"}
_FEW: Final = 4  # channels of a register of sixteen
_MANY: Final = 16  # channels, of which a sum is worth the additions

Array = NDArray[Any]


def rewritten(content: bytes) -> bytes:
    """The file of a graph that computes the same, to rounding, and sooner on a CPU.

    Args:
        content: an ONNX file; one without convolutions that gain, or that is none, comes back as it is.
    """
    try:
        model = shape_inference.infer_shapes(onnx.load_from_string(content))
    except (DecodeError, shape_inference.InferenceError):
        return content  # the runtime will say what is wrong with it
    opset = min((known.version for known in model.opset_import if known.domain in _ONNX), default=0)
    nested = any(attribute.HasField("g") for node in model.graph.node for attribute in node.attribute)
    if opset < _OPSET or nested or model.functions:
        return content
    rewriting = _Rewriting(model.graph)
    rewriting.run()
    return model.SerializeToString() if rewriting.worth else content


class _Window(NamedTuple):
    """What a convolution says of its window, by axis: height, width."""

    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    before: tuple[int, ...]
    after: tuple[int, ...]


class _Phases(NamedTuple):
    """A value (B, C, s H, s W) as its phases (B, C, H, W), line by line."""

    names: list[str]
    stride: int


class _Rewriting:
    """One graph, node by node.

    Attributes:
        worth: whether anything has changed.
    """

    def __init__(self, graph: Any) -> None:
        self._graph = graph
        self._constants = {tensor.name: tensor for tensor in graph.initializer}
        self._shapes = {
            value.name: [dim.dim_value for dim in value.type.tensor_type.shape.dim]
            for value in (*graph.input, *graph.value_info, *graph.output)
        }
        self._phases: dict[str, _Phases] = {}
        self._nodes: list[Any] = []
        self._number = itertools.count()
        self.worth = False

    def run(self) -> None:
        """Rewrite it, in place."""
        for node in self._graph.node:
            rule = self._rule(node)
            if rule is None:
                self._join(node.input)
                self._nodes.append(node)
        self._join(value.name for value in self._graph.output)
        used = {name for node in self._nodes for name in node.input}
        kept = [tensor for name, tensor in self._constants.items() if name in used]
        for old, new in ((self._graph.node, self._nodes), (self._graph.initializer, kept)):
            del old[:]
            old.extend(new)
        del self._graph.value_info[:]

    def _rule(self, node: Any) -> bool | None:
        """Whether a rule has written what the node computes; ``None`` if none has."""
        if node.domain not in _ONNX:
            return None
        match node.op_type:
            case "ConvTranspose":
                return self._transposed(node)
            case "Conv":
                return self._narrow(node)
            case kind if kind in _POINTWISE:
                return self._each(node)
        return None

    def _transposed(self, node: Any) -> bool | None:
        """A transposed convolution: one for each phase."""
        weight, window = self._weight(node), self._window(node)
        size = self._size(node.input[0])
        if weight is None or window is None or size is None:
            return None
        stride = window.stride[0]
        if self._size(node.output[0]) != [stride * length for length in size]:
            return None
        lines, columns = (_taps(window, axis) for axis in (0, 1))
        if lines is None or columns is None or stride == 1 or window.stride[1] != stride:
            return None
        self._join(node.input[:1])
        names: list[str] = []
        for (y, top, bottom), (x, left, right) in itertools.product(lines, columns):
            kernel = weight[:, :, y][:, :, :, x].transpose(1, 0, 2, 3)
            pads = [top, left, bottom, right]
            names.append(self._convolve(node.input[0], kernel, list(node.input[2:]), pads, size))
        self._phases[node.output[0]] = _Phases(names, stride)
        self._shapes |= {name: [0, weight.shape[1], *size] for name in names}
        self.worth = True
        return True

    def _each(self, node: Any) -> bool | None:
        """What is done to each pixel alone is done to each phase."""
        phases = self._phases.get(node.input[0])
        if phases is None or len(node.output) > 1:
            return None
        names = []
        for name in phases.names:
            same = type(node)()
            same.CopyFrom(node)
            same.input[0], same.output[0] = name, self._new()
            same.name = same.output[0]
            self._shapes[same.output[0]] = self._shapes[name]
            self._nodes.append(same)
            names.append(same.output[0])
        self._phases[node.output[0]] = _Phases(names, phases.stride)
        return True

    def _narrow(self, node: Any) -> bool | None:
        """A convolution to a few channels: the taps of each pixel, before pixels are put in their places."""
        weight, window, given = self._weight(node), self._window(node), node.input[0]
        if weight is None or window is None or window.stride != (1, 1) or not _is_narrow(weight):
            return None
        size = self._size(given)
        if size is None:
            return None
        pads = [*window.before, *window.after]
        phases = self._phases.get(given)
        taps = self._new()
        if phases is None:
            self._tap(given, weight, taps)
        else:
            names = [self._tap(name, weight, self._new()) for name in phases.names]
            self._shapes |= dict.fromkeys(names, self._shapes[phases.names[0]])
            self._phases[taps] = _Phases(names, phases.stride)
            self._join([taps])
        self._gather(taps, weight, list(node.input[2:]), pads, size, node.output[0])
        self.worth = True
        return True

    def _convolve(
        self, given: str, kernel: Array, bias: list[str], pads: list[int], size: Sequence[int]
    ) -> str:
        """A convolution of stride 1, (out, in, height, width); the name of its output."""
        if _is_narrow(kernel):
            taps = self._tap(given, kernel, self._new())
            return self._gather(taps, kernel, bias, pads, size, self._new())
        inputs = [given, self._constant(kernel), *bias]
        return self._node("Conv", inputs, kernel_shape=kernel.shape[2:], pads=pads)

    def _tap(self, given: str, kernel: Array, output: str) -> str:
        """The products of every tap, (B, taps out, H, W)."""
        taps = kernel.transpose(2, 3, 0, 1).reshape(-1, kernel.shape[1], 1, 1)
        return self._node("Conv", [given, self._constant(taps)], output, kernel_shape=[1, 1])

    def _gather(
        self, taps: str, kernel: Array, bias: list[str], pads: list[int], size: Sequence[int], output: str
    ) -> str:
        """The sums of the taps, each moved to its pixel."""
        count, _, height, width = kernel.shape
        padded = self._node("Pad", [taps, self._constant([0, 0, *pads[:2], 0, 0, *pads[2:]])])
        lines, columns = size[0] + pads[0] + pads[2], size[1] + pads[1] + pads[3]
        axes = self._constant([1, 2, 3])
        moved = []
        for tap, (y, x) in enumerate(itertools.product(range(height), range(width))):
            first = [tap * count, y, x]
            last = [(tap + 1) * count, lines - height + 1 + y, columns - width + 1 + x]
            moved.append(self._node("Slice", [padded, self._constant(first), self._constant(last), axes]))
        if not any(bias):
            return self._node("Sum", moved, output)
        by_channel = self._node("Reshape", [*bias, self._constant([1, count, 1, 1])])
        return self._node("Add", [self._node("Sum", moved), by_channel], output)

    def _join(self, names: Iterable[str]) -> None:
        """Put the pixels of these values in their places, if they are not there yet."""
        for name in names:
            phases = self._phases.pop(name, None)
            if phases is not None:
                self._interleave(phases, name)

    def _interleave(self, phases: _Phases, output: str) -> None:
        stride, size = phases.stride, self._shapes[phases.names[0]][2:]
        alone = self._constant([0, 0, 0, 0, 1])
        line = self._constant([0, 0, 0, stride * size[1]])
        lines = []
        for start in range(0, len(phases.names), stride):
            columns = [self._node("Reshape", [n, alone]) for n in phases.names[start : start + stride]]
            lines.append(self._node("Reshape", [self._node("Concat", columns, axis=4), line]))
        whole = self._constant([0, 0, stride * size[0], stride * size[1]])
        self._node("Reshape", [self._node("Concat", lines, axis=3), whole], output)

    def _weight(self, node: Any) -> Array | None:
        """What a convolution multiplies with, if it is known and plain."""
        tensor = self._constants.get(node.input[1])
        if tensor is None or tensor.data_type != onnx.TensorProto.FLOAT or len(tensor.dims) != 4:
            return None
        return None if tensor.external_data else numpy_helper.to_array(tensor)

    def _size(self, name: str) -> list[int] | None:
        """Height and width of a value (B, C, H, W), if they are known."""
        size = self._shapes.get(name, [])[2:]
        return size if len(size) == 2 and all(size) else None

    def _window(self, node: Any) -> _Window | None:
        said = {a.name: helper.get_attribute_value(a) for a in node.attribute}
        plain = said.get("group", 1) == 1 and set(said.get("dilations", [1])) == {1}
        if not plain or said.get("auto_pad", b"NOTSET") != b"NOTSET":
            return None
        pads = said.get("pads", [0, 0, 0, 0])
        kernel = tuple(self._constants[node.input[1]].dims[2:])
        return _Window(kernel, tuple(said.get("strides", (1, 1))), tuple(pads[:2]), tuple(pads[2:]))

    def _node(self, kind: str, inputs: Sequence[str], output: str = "", **attributes: Any) -> str:
        output = output or self._new()
        self._nodes.append(helper.make_node(kind, inputs, [output], name=output, **attributes))
        return output

    def _constant(self, value: Any) -> str:
        name = self._new()
        array = np.ascontiguousarray(value)
        self._constants[name] = numpy_helper.from_array(array, name)
        return name

    def _new(self) -> str:
        return f"subpixel/{next(self._number)}"


def _is_narrow(kernel: Array) -> bool:
    """Whether a kernel, (out, in, height, width), is better taken tap by tap."""
    count, into, height, width = kernel.shape
    return bool(count <= _FEW and into >= _MANY and height * width > 1)


def _taps(window: _Window, axis: int) -> list[tuple[list[int], int, int]] | None:
    """For each phase along an axis: its taps of the kernel, and the padding before and after.

    Pixel ``s y + r`` sums the inputs ``y + (r + p - k) / s`` over the taps ``k`` for which that is whole.
    ``None`` if a phase has no tap, or none beside its own pixel.
    """
    stride, before = window.stride[axis], window.before[axis]
    phases = []
    for phase in range(stride):
        taps = [k for k in reversed(range(window.kernel[axis])) if (phase + before - k) % stride == 0]
        steps = [(phase + before - k) // stride for k in taps]
        if not steps or steps[0] > 0 or steps[-1] < 0:
            return None
        phases.append((taps, -steps[0], steps[-1]))
    return phases
