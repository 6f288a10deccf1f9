"""A rewritten graph computes what the runtime computes of the graph as it came."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from models.subpixel import rewritten

Array = NDArray[Any]
ROWS = (1, 3, 8)


def file(
    nodes: list[Any], weights: dict[str, Array], into: list[Any], out: list[str], opset: int = 20
) -> bytes:
    """A graph of ``x``, (B, *into)."""
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["B", *into])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in out],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])
    model.ir_version = 10
    return model.SerializeToString()


def run(content: bytes, x: Array) -> list[Array]:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    outputs: list[Array] = session.run(None, {"x": x})
    return outputs


def kinds(content: bytes) -> list[str]:
    return [node.op_type for node in onnx.load_from_string(content).graph.node]


def assert_same(before: bytes, after: bytes, into: list[int]) -> None:
    """To rounding, at several numbers of rows; and a row has its bits in each of them."""
    x = np.random.default_rng(1).normal(size=(max(ROWS), *into)).astype(np.float32)
    whole = run(after, x)
    for rows in ROWS:
        for old, new, row in zip(run(before, x[:rows]), run(after, x[:rows]), whole, strict=True):
            np.testing.assert_allclose(new, old, rtol=1e-4, atol=1e-4)
            assert np.array_equal(new, row[:rows])


def weights(*shape: int) -> Array:
    return np.random.default_rng(sum(shape)).normal(size=shape).astype(np.float32) / np.float32(
        shape[1] ** 0.5
    )


@st.composite
def upsamplings(draw: st.DrawFn) -> dict[str, Any]:
    """Windows after which a picture is as many times as large as the stride says."""
    stride = draw(st.integers(2, 3))
    kernel = draw(st.integers(stride, 2 * stride + 1))
    more = draw(st.integers(0, stride - 1))
    before = draw(st.integers(0, kernel))
    after = kernel - stride + more - before
    if after < 0 or before >= kernel:
        before, after, more = 0, 0, 0
        kernel = stride
    return {
        "kernel_shape": [kernel, kernel],
        "strides": [stride, stride],
        "pads": [before, before, after, after],
        "output_padding": [more, more],
    }


@given(
    upsamplings(),
    st.sampled_from([1, 3, 7, 20]),
    st.sampled_from([2, 16]),
    st.tuples(st.integers(2, 5), st.integers(2, 5)),
    st.booleans(),
)
@settings(max_examples=60, deadline=None)
def test_whatever_becomes_of_a_transposed_convolution_it_computes_the_same(
    window: dict[str, Any], out: int, into: int, size: tuple[int, int], bias: bool
) -> None:
    kernel = weights(into, out, *window["kernel_shape"])
    given_ = {"w": kernel, **({"b": weights(out, 1)[:, 0]} if bias else {})}
    node = helper.make_node("ConvTranspose", ["x", *given_], ["up"], **window)
    before = file([node, helper.make_node("Relu", ["up"], ["y"])], given_, [into, *size], ["y"])
    after = rewritten(before)
    assert_same(before, after, [into, *size])


@pytest.mark.parametrize(
    ("kernel", "stride", "pad", "more"),
    [(2, 2, 0, 0), (4, 2, 1, 0), (3, 2, 1, 1), (5, 2, 2, 1), (5, 3, 1, 0)],
)
def test_a_transposed_convolution_is_one_for_each_phase(
    kernel: int, stride: int, pad: int, more: int
) -> None:
    window = {"strides": [stride] * 2, "pads": [pad] * 4, "output_padding": [more] * 2}
    node = helper.make_node("ConvTranspose", ["x", "w"], ["y"], **window)
    before = file([node], {"w": weights(6, 8, kernel, kernel)}, [6, 3, 4], ["y"])
    after = rewritten(before)
    assert kinds(after).count("Conv") == stride**2
    assert "ConvTranspose" not in kinds(after)
    assert_same(before, after, [6, 3, 4])


def dcgan() -> bytes:
    nodes = [
        helper.make_node(
            "ConvTranspose", ["x", "w1", "b1"], ["a"], kernel_shape=[4, 4], strides=[2, 2], pads=[1] * 4
        ),
        helper.make_node("BatchNormalization", ["a", "scale", "b1", "b1", "var"], ["n"]),
        helper.make_node("LeakyRelu", ["n"], ["r"], alpha=0.2),
        helper.make_node(
            "ConvTranspose", ["r", "w2"], ["c"], kernel_shape=[4, 4], strides=[2, 2], pads=[1] * 4
        ),
        helper.make_node("Relu", ["c"], ["s"]),
        helper.make_node("Conv", ["s", "w3", "b3"], ["d"], kernel_shape=[3, 3], pads=[1] * 4),
        helper.make_node("Tanh", ["d"], ["y"]),
    ]
    known = {
        "w1": weights(32, 24, 4, 4),
        "b1": weights(24, 1)[:, 0],
        "scale": np.full(24, 1.5, np.float32),
        "var": np.full(24, 0.7, np.float32),
        "w2": weights(24, 16, 4, 4),
        "w3": weights(1, 16, 3, 3),
        "b3": weights(1, 1)[:, 0],
    }
    return file(nodes, known, [32, 4, 3], ["y"])


def test_a_dcgan_has_no_transposed_convolution_any_more() -> None:
    before = dcgan()
    after = rewritten(before)
    assert_same(before, after, [32, 4, 3])
    after_kinds = kinds(after)
    assert "ConvTranspose" not in after_kinds
    # 4 phases twice, and the taps of the last one in each phase of the second
    assert after_kinds.count("Conv") == 12
    assert after_kinds.count("BatchNormalization") == after_kinds.count("LeakyRelu") == 4


def test_pixels_that_several_need_are_put_in_their_places_once() -> None:
    nodes = [
        helper.make_node("ConvTranspose", ["x", "w"], ["up"], strides=[2, 2]),
        helper.make_node("Relu", ["up"], ["r"]),
        helper.make_node("Mul", ["r", "up"], ["m"]),
        helper.make_node("Add", ["m", "r"], ["y"]),
    ]
    before = file(nodes, {"w": weights(5, 6, 2, 2)}, [5, 3, 4], ["y", "up"])
    after = rewritten(before)
    assert_same(before, after, [5, 3, 4])
    assert kinds(after).count("Concat") == 6  # two values, three times two


def test_a_convolution_to_few_channels_is_taken_tap_by_tap() -> None:
    node = helper.make_node("Conv", ["x", "w", "b"], ["y"], pads=[2, 0, 1, 1], kernel_shape=[3, 2])
    before = file([node], {"w": weights(3, 20, 3, 2), "b": weights(3, 1)[:, 0]}, [20, 6, 5], ["y"])
    after = rewritten(before)
    assert "Slice" in kinds(after)
    assert_same(before, after, [20, 6, 5])


LIKE = {"kernel_shape": [4, 4], "strides": [2, 2], "pads": [1, 1, 1, 1]}


@pytest.mark.parametrize(
    "attributes",
    [
        {**LIKE, "group": 2},
        {**LIKE, "dilations": [2, 2], "pads": [2, 2, 2, 2]},
        {**LIKE, "auto_pad": "SAME_UPPER"},
        {**LIKE, "strides": [2, 1]},
        {**LIKE, "strides": [1, 1]},
        {**LIKE, "pads": [0, 0, 0, 0]},
    ],
    ids=["groups", "dilated", "padded by name", "two strides", "no stride", "another size"],
)
def test_what_no_rule_covers_comes_back_as_it_was(attributes: dict[str, Any]) -> None:
    if "auto_pad" in attributes:
        attributes = {name: value for name, value in attributes.items() if name != "pads"}
    node = helper.make_node("ConvTranspose", ["x", "w"], ["y"], **attributes)
    groups = attributes.get("group", 1)
    content = file([node], {"w": weights(16, 8 // groups, 4, 4)}, [16, 5, 5], ["y"])
    assert rewritten(content) == content


def test_a_size_that_is_not_known_before_is_left_alone() -> None:
    node = helper.make_node("ConvTranspose", ["x", "w"], ["y"], **LIKE)
    content = file([node], {"w": weights(8, 8, 4, 4)}, [8, "H", "W"], ["y"])
    assert rewritten(content) == content


@pytest.mark.parametrize(("kind", "kernel"), [("ConvTranspose", (20, 8, 4, 4)), ("Conv", (1, 20, 4, 4))])
def test_a_shape_that_nobody_knows_is_left_alone(kind: str, kernel: tuple[int, ...]) -> None:
    nodes = [
        helper.make_node("Squeeze", ["x"], ["r"]),  # of whichever axes are 1
        helper.make_node(kind, ["r", "w"], ["y"], **(LIKE if kind == "ConvTranspose" else {})),
    ]
    content = file(nodes, {"w": weights(*kernel)}, [20, 5, 5], ["y"])
    assert rewritten(content) == content


def test_a_graph_within_a_graph_is_left_alone() -> None:
    inner = helper.make_graph(
        [helper.make_node("Relu", ["up"], ["i"])],
        "inner",
        [],
        [helper.make_tensor_value_info("i", TensorProto.FLOAT, None)],
    )
    nodes = [
        helper.make_node("ConvTranspose", ["x", "w"], ["up"], **LIKE),
        helper.make_node("If", ["yes"], ["y"], then_branch=inner, else_branch=inner),
    ]
    content = file(nodes, {"w": weights(8, 8, 4, 4), "yes": np.array(True)}, [8, 3, 3], ["y"])
    assert rewritten(content) == content


@pytest.mark.parametrize("content", [b"", b"no graph", dcgan()[:-200]], ids=["empty", "text", "cut off"])
def test_what_is_no_graph_comes_back_as_it_was(content: bytes) -> None:
    assert rewritten(content) == content


def test_an_old_graph_is_left_alone() -> None:
    node = helper.make_node("ConvTranspose", ["x", "w"], ["y"], **LIKE)
    content = file([node], {"w": weights(8, 8, 4, 4)}, [8, 3, 3], ["y"], opset=11)
    assert rewritten(content) == content
