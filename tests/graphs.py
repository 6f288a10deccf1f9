"""Tiny real artifacts, made by hand: ONNX graphs of a few nodes whose answers arithmetic can check.

Each maker writes ``<root>/<name>/<version>/`` as an export would, manifest last, and gives that folder.
"""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import numpy_helper

from models.manifest import (
    FILE_NAME,
    Calibration,
    Certificate,
    Check,
    DataSpace,
    Direction,
    EntryName,
    EntryPoint,
    Grades,
    GraphFile,
    LatentSpace,
    Manifest,
    Probe,
    Provenance,
    Support,
    Tensor,
)

Array = NDArray[Any]
HALF_LOG_2PI: Final = 0.5 * math.log(2 * math.pi)


def f32(values: Any) -> Array:
    """An array of float32."""
    return np.asarray(values, np.float32)


def i64(values: Any) -> Array:
    """An array of int64."""
    return np.asarray(values, np.int64)


@dataclass(frozen=True)
class Graph:
    """One entry point: its nodes in ONNX's text form, its constants, and the rows of its probe."""

    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    nodes: str
    constants: dict[str, Array]
    probe: tuple[Array, ...]
    cost: float = 1.0


@dataclass(frozen=True)
class Description:
    """What a manifest says beside its entry points."""

    name: str
    family: str
    data: DataSpace
    latent: LatentSpace
    grades: Grades
    calibration: Calibration | None = None
    directions: dict[str, Direction] = field(default_factory=dict)
    graphs: dict[EntryName, Graph] = field(default_factory=dict)


def linear_flow(root: Path, name: str = "linear", dim: int = 3, version: str = "1") -> Path:
    """x = A z + b with a triangular A: a bijection whose density is known in closed form."""
    matrix, shift = linear_map(dim)
    z, x, log_w = _tensor("z", "latent", dim), _tensor("x", "data", dim), _log_weight()
    inverse = np.linalg.inv(matrix.astype(np.float64)).astype(np.float32)
    constants = {"b": shift, "inverse": inverse.T, "half": f32([0.5]), "axis": i64([1])}
    constants["offset"] = f32([dim * HALF_LOG_2PI + np.log(np.diag(matrix)).sum()])
    probe = np.linspace(-1, 1, 2 * dim, dtype=np.float32).reshape(2, dim)
    back = "c = Sub(x, b) z = MatMul(c, inverse)"
    density = f"{back} s = Mul(z, z) r = ReduceSum<keepdims=0>(s, axis) h = Mul(r, half)"
    forward = {"a": matrix.T, "b": shift}
    return write(
        root,
        version,
        Description(
            name,
            "flow",
            DataSpace(shape=(dim,)),
            LatentSpace(shape=(dim,)),
            Grades(density="exact", latents="bijection", generator="one_shot"),
            Calibration(scores=tuple(sorted(linear_scores(dim)))),
            linear_directions(dim),
            {
                "decode": Graph((z,), (x,), "m = MatMul(z, a) x = Add(m, b)", forward, (probe,)),
                "encode": Graph((x,), (z,), back, constants, (probe,)),
                "log_weight": Graph(
                    (x,), (log_w,), f"{density} n = Neg(h) log_w = Sub(n, offset)", constants, (probe,)
                ),
            },
        ),
    )


def linear_map(dim: int) -> tuple[Array, Array]:
    """A (D, D) and b (D,) of the linear flow."""
    matrix = np.tril(np.full((dim, dim), 0.25)) + np.diag(np.linspace(0.5, 2.0, dim))
    return matrix.astype(np.float32), np.linspace(-1, 1, dim).astype(np.float32)


def linear_directions(dim: int) -> dict[str, Direction]:
    """Two directions of the linear flow: along its first latent, and along all of them."""
    axis = [1.0] + [0.0] * (dim - 1)
    return {"first": _direction(axis), "all": _direction([0.1] * dim)}


def _direction(vector: Sequence[float]) -> Direction:
    return Direction(
        vector=tuple(vector),
        attribute="the first number of a row",
        unit="one standard deviation of it",
        source="made by hand",
        correlation=1.0,
        effect=((-1.0, -1.0), (1.0, 1.0)),
        judge="the row itself",
    )


def linear_scores(dim: int, rows: int = 200) -> list[float]:
    """Log densities of rows that the linear flow itself would draw, in nats."""
    matrix, _ = linear_map(dim)
    z = np.random.default_rng(0).normal(size=(rows, dim))
    return list(-0.5 * (z**2).sum(1) - dim * HALF_LOG_2PI - np.log(np.diag(matrix).astype(float)).sum())


def gaussian_vae(root: Path, name: str = "gaussian-vae", version: str = "1") -> Path:
    """p(x) = N(0, W W' + s² I) in three dimensions through two latents.

    The posterior that it encodes is exact but for its width, 1.25 times too wide, so that importance
    weights vary and their mean is still p(x).
    """
    w = f32([[1, 0], [0, 2], [0, 0]])
    s = 0.5
    variance = 1 / (1 + (w**2).sum(0) / s**2)
    gain = (w * variance / s**2).astype(np.float32)
    std = (1.25 * np.sqrt(variance)).astype(np.float32)
    log_c = -3 * (HALF_LOG_2PI + math.log(s)) + float(np.log(std).sum())
    constants: dict[str, Array] = {"w": w.T.copy(), "gain": gain, "spread": std, "axis": i64([1])}
    constants |= {"precision": f32([0.5 / s**2]), "half": f32([0.5])}
    constants |= {"log_c": f32([log_c]), "zero": f32([0])}
    z, x, log_w = _tensor("z", "latent", 2), _tensor("x", "data", 3), _log_weight()
    noise = Tensor(name="eps", role="noise", shape=("B", 2), law="standard_normal")
    width = _tensor("std", "std", 2)
    rows = f32([[0, 0, 0], [1, -1, 0.5]])
    codes = f32([[0, 0], [1, -1]])
    weight = """
        mean = MatMul(x, gain) wide = Mul(eps, spread) z = Add(mean, wide) y = MatMul(z, w) d = Sub(x, y)
        dd = Mul(d, d) ds = ReduceSum<keepdims=0>(dd, axis) miss = Mul(ds, precision)
        zz = Mul(z, z) zs = ReduceSum<keepdims=0>(zz, axis) ee = Mul(eps, eps)
        es = ReduceSum<keepdims=0>(ee, axis) gap = Sub(es, zs) prior = Mul(gap, half)
        fit = Sub(prior, miss) log_w = Add(fit, log_c)
    """
    return write(
        root,
        version,
        Description(
            name,
            "vae",
            DataSpace(shape=(3,)),
            LatentSpace(shape=(2,)),
            Grades(density="lower_bound", latents="posterior", generator="one_shot"),
            graphs={
                "decode": Graph((z,), (x,), "x = MatMul(z, w)", constants, (codes,)),
                "encode": Graph(
                    (x,),
                    (z, width),
                    "z = MatMul(x, gain) flat = Mul(z, zero) std = Add(flat, spread)",
                    constants,
                    (rows,),
                ),
                "log_weight": Graph((x, noise), (log_w,), weight, constants, (rows, codes)),
            },
        ),
    )


def conditional(root: Path, name: str = "conditional", version: str = "1") -> Path:
    """x = z + the centre of the row's class, in two dimensions; every entry point takes a label."""
    z, x, log_w = _tensor("z", "latent", 2), _tensor("x", "data", 2), _log_weight()
    label = Tensor(name="label", role="label", dtype="int64", shape=("B",))
    constants: dict[str, Array] = {"centres": f32([[0, 0], [4, 0], [0, 4]]), "axis": i64([1])}
    constants |= {"half": f32([0.5]), "offset": f32([2 * HALF_LOG_2PI])}
    probe = (f32([[0, 0], [1, -1], [2, 3]]), i64([0, 1, 2]))
    back = "c = Gather(centres, label) z = Sub(x, c)"
    density = f"{back} s = Mul(z, z) r = ReduceSum<keepdims=0>(s, axis) h = Mul(r, half) n = Neg(h)"
    return write(
        root,
        version,
        Description(
            name,
            "flow",
            DataSpace(shape=(2,), labels=("origin", "east", "north")),
            LatentSpace(shape=(2,)),
            Grades(density="exact", latents="bijection", generator="one_shot"),
            graphs={
                "decode": Graph(
                    (z, label), (x,), "c = Gather(centres, label) x = Add(z, c)", constants, probe
                ),
                "encode": Graph((x, label), (z,), back, constants, probe),
                "log_weight": Graph(
                    (x, label), (log_w,), f"{density} log_w = Sub(n, offset)", constants, probe
                ),
            },
        ),
    )


def image_gan(root: Path, name: str = "image-gan", version: str = "1") -> Path:
    """Pictures of 8×8 grey levels from four latents, by a transposed convolution; it can only generate."""
    z, x = _tensor("z", "latent", 4), _tensor("x", "data", 1, 8, 8)
    dice = np.random.default_rng(0)
    weights, kernel = (dice.normal(size=shape).astype(np.float32) for shape in ((4, 320), (20, 1, 4, 4)))
    constants = {"w": weights, "k": kernel / 4, "shape": i64([-1, 20, 4, 4]), "white": f32([16])}
    nodes = (
        "y = MatMul(z, w) t = Tanh(y) r = Reshape(t, shape) "
        "u = ConvTranspose <kernel_shape = [4, 4], strides = [2, 2], pads = [1, 1, 1, 1]> (r, k) "
        "s = Sigmoid(u) x = Mul(s, white)"
    )
    probe = np.linspace(-1, 1, 8, dtype=np.float32).reshape(2, 4)
    return write(
        root,
        version,
        Description(
            name,
            "gan",
            DataSpace(shape=(1, 8, 8), support=(Support(low=0, high=16),), display=(0.0, 16.0)),
            LatentSpace(shape=(4,)),
            Grades(density="none", latents="none", generator="one_shot"),
            graphs={"decode": Graph((z,), (x,), nodes, constants, (probe,))},
        ),
    )


def coded(root: Path, name: str = "coded", version: str = "1") -> Path:
    """Three numbers from two latents, and a way back that says how much of a row it loses: its third."""
    z, x = _tensor("z", "latent", 2), _tensor("x", "data", 3)
    residual = Tensor(name="residual", role="residual", shape=("B",), unit="data units, mean absolute")
    constants: dict[str, Array] = {"w": f32([[1, 0, 0], [0, 1, 0]]), "v": f32([[1, 0], [0, 1], [0, 0]])}
    constants |= {"axis": i64([1])}
    back = """
        z = MatMul(x, v) y = MatMul(z, w) d = Sub(x, y) a = Abs(d)
        residual = ReduceMean<keepdims=0>(a, axis)
    """
    return write(
        root,
        version,
        Description(
            name,
            "gan",
            DataSpace(shape=(3,)),
            LatentSpace(shape=(2,)),
            Grades(density="none", latents="code", generator="one_shot"),
            graphs={
                "decode": Graph((z,), (x,), "x = MatMul(z, w)", constants, (f32([[0, 0], [1, -1]]),)),
                "encode": Graph((x,), (z, residual), back, constants, (f32([[0, 0, 0], [1, -1, 3]]),)),
            },
        ),
    )


def poison(root: Path, name: str = "poison", version: str = "1") -> Path:
    """x = 2 z in one dimension; a row of -1 or less makes ONNX Runtime fail the whole batch."""
    constants: dict[str, Array] = {"edge": f32([-1]), "table": f32([2])}
    nodes = "bad = LessOrEqual(z, edge) i = Cast<to=7>(bad) t = Gather(table, i) x = Mul(z, t)"
    return write(root, version, _in_one_dimension(name, nodes, constants))


def slow(root: Path, ms: float = 20.0, name: str = "slow", version: str = "1") -> Path:
    """x = z in two dimensions, after a loop that takes about ``ms`` whatever the number of rows."""
    z, x = _tensor("z", "latent", 2), _tensor("x", "data", 2)

    def turning(times: int) -> Graph:
        state = np.random.default_rng(0).normal(size=(128, 128)).astype(np.float32) / 12
        constants: dict[str, Array] = {"w": state, "times": i64(times), "go": np.array(True)}
        constants |= {"zero": f32(0), "axes": i64([0, 1]), "i0": i64(0)}
        nodes = """
            seed = Mul(z, zero) sum = ReduceSum<keepdims=0>(seed, axes) start = Add(w, sum)
            end = Loop(times, go, start) <body = turn (int64 n, bool more, float[128,128] s)
                => (bool again, float[128,128] t) { again = Identity(more) m = MatMul(s, w) t = Tanh(m) }>
            row = Gather(end, i0) one = Gather(row, i0) nought = Mul(one, zero) x = Add(z, nought)
        """
        return Graph((z,), (x,), nodes, constants, (f32([[0, 0], [1, -1]]),))

    trial = 20
    times = max(1, round(trial * ms / 1000 / _seconds(turning(trial))))
    return write(root, version, _generator(name, 2, turning(times)))


def crooked(root: Path, name: str = "crooked", version: str = "1") -> Path:
    """x = z in one dimension, but rows of -1 or less are not in the output: its shape is wrong."""
    constants: dict[str, Array] = {"edge": f32([-1]), "axis": i64([1])}
    nodes = """
        fine = Greater(z, edge) flags = Squeeze(fine, axis) x = Compress<axis=0>(z, flags)
    """
    return write(root, version, _in_one_dimension(name, nodes, constants))


def endless(root: Path, name: str = "endless", version: str = "1") -> Path:
    """x = z in one dimension, once a loop has ended; with a row of -1 or less it has 10^15 turns."""
    constants: dict[str, Array] = {"edge": f32([-1]), "many": i64(10**15), "go": np.array(True)}
    constants |= {"start": f32([0])}
    nodes = """
        bad = LessOrEqual(z, edge) flags = Cast<to=7>(bad) worst = ReduceMax<keepdims=0>(flags)
        times = Mul(worst, many) end = Loop(times, go, start) <body = turn (int64 n, bool more, float[1] s)
            => (bool again, float[1] t) { again = Identity(more) t = Sin(s) }>
        x = Add(z, end)
    """
    return write(root, version, _in_one_dimension(name, nodes, constants))


def hungry(root: Path, name: str = "hungry", version: str = "1") -> Path:
    """x = z in one dimension, while every row of a run takes as many megabytes as the largest z is."""
    constants: dict[str, Array] = {"none": f32(0), "floats": f32(1 << 18), "first": i64([0])}
    constants |= {"one": i64([1]), "nought": f32([0])}
    nodes = """
        largest = ReduceMax<keepdims=0>(z) taken = Max(largest, none) each = Mul(taken, floats)
        whole = Cast<to=7>(each) shape = Shape(z) rows = Gather(shape, first) room = Mul(rows, whole)
        size = Add(room, one) space = ConstantOfShape(size) top = ReduceMax(space) x = Add(z, top)
    """
    return write(root, version, _in_one_dimension(name, nodes, constants, probe=(0, 0)))


def _in_one_dimension(
    name: str, nodes: str, constants: dict[str, Array], probe: tuple[float, float] = (0, 1)
) -> Description:
    z, x = _tensor("z", "latent", 1), _tensor("x", "data", 1)
    return _generator(name, 1, Graph((z,), (x,), nodes, constants, (f32(probe).reshape(2, 1),)))


def heavy(root: Path, width: int = 2048, name: str = "heavy", version: str = "1") -> Path:
    """Two dimensions from two latents through a wide layer: every row costs the same, alone or in a crowd."""
    z, x = _tensor("z", "latent", 2), _tensor("x", "data", 2)
    dice = np.random.default_rng(0)
    shapes = {"first": (2, width), "second": (width, width), "third": (width, 2)}
    constants: dict[str, Array] = {
        key: (dice.normal(size=shape) / shape[0] ** 0.5).astype(np.float32) for key, shape in shapes.items()
    }
    nodes = "a = MatMul(z, first) b = Tanh(a) c = MatMul(b, second) d = Tanh(c) x = MatMul(d, third)"
    graph = Graph((z,), (x,), nodes, constants, (f32([[0, 0], [1, -1]]),))
    return write(root, version, _generator(name, 2, graph))


def _seconds(graph: Graph) -> float:
    """The shortest of a few runs."""
    session = _session(_serialise(graph))
    feed = _feed(graph)
    laps = []
    for _ in range(5):
        began = time.perf_counter()
        session.run(None, feed)
        laps.append(time.perf_counter() - began)
    return min(laps)


def _generator(name: str, dim: int, decode: Graph) -> Description:
    grades = Grades(density="none", latents="none", generator="one_shot")
    latent = LatentSpace(shape=(dim,))
    return Description(name, "gan", DataSpace(shape=(dim,)), latent, grades, graphs={"decode": decode})


def write(root: Path, version: str, described: Description) -> Path:
    """Write an artifact, the manifest last."""
    folder = root / described.name / version
    folder.mkdir(parents=True)
    entries, probes = {}, {}
    for entry, graph in described.graphs.items():
        content = _serialise(graph)
        (folder / f"{entry}.onnx").write_bytes(content)
        entries[entry] = _entry_point(entry, graph, content)
        probes[entry] = _probe(graph, content)
    manifest = Manifest(
        name=described.name,
        version=version,
        family=described.family,
        paper="none: made by hand for tests",
        data=described.data,
        latent=described.latent,
        grades=described.grades,
        entry_points=entries,
        probes=probes,
        certificate=Certificate(checks=(_check(),)),
        calibration=described.calibration,
        directions=described.directions,
        provenance=Provenance(recipe={}, seed=None, tools={}, created_at="2026-01-01T00:00:00Z"),
    )
    (folder / FILE_NAME).write_text(manifest.model_dump_json(indent=1))
    return folder


def _entry_point(entry: EntryName, graph: Graph, content: bytes) -> EntryPoint:
    sha256 = hashlib.sha256(content).hexdigest()
    file = GraphFile(path=f"{entry}.onnx", sha256=sha256, size_bytes=len(content))
    return EntryPoint(inputs=graph.inputs, outputs=graph.outputs, files={"onnx": file}, cost=graph.cost)


def _probe(graph: Graph, content: bytes) -> Probe:
    outputs = _session(content).run(None, _feed(graph))
    return Probe(
        inputs={tensor.name: rows.tolist() for tensor, rows in zip(graph.inputs, graph.probe, strict=True)},
        outputs={tensor.name: rows.tolist() for tensor, rows in zip(graph.outputs, outputs, strict=True)},
        tolerance=1e-5,
    )


def _check() -> Check:
    return Check(name="parity", value=0.0, tolerance=1e-6, unit="1", rows="typical", passed=True)


def _serialise(graph: Graph) -> bytes:
    ins, outs = (", ".join(map(_declare, tensors)) for tensors in (graph.inputs, graph.outputs))
    head = '<ir_version: 10, opset_import: ["" : 20]>'
    model = onnx.parser.parse_model(f"{head} graph ({ins}) => ({outs}) {{ {graph.nodes} }}")
    used = {name for node in model.graph.node for name in _names(node)}
    constants = {name: value for name, value in graph.constants.items() if name in used}
    model.graph.initializer.extend(numpy_helper.from_array(v, name) for name, v in constants.items())
    onnx.checker.check_model(model, full_check=True)
    return bytes(model.SerializeToString(deterministic=True))


def _names(node: onnx.NodeProto) -> Sequence[str]:
    """What a node reads, and the nodes of its body."""
    bodies = (attribute.g.node for attribute in node.attribute)
    return [*node.input, *(name for body in bodies for inner in body for name in _names(inner))]


def _declare(tensor: Tensor) -> str:
    kind = {"float32": "float", "float64": "double", "int64": "int64"}[tensor.dtype]
    return f"{kind}[{','.join(map(str, tensor.shape))}] {tensor.name}"


def _session(content: bytes) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])


def _feed(graph: Graph) -> dict[str, Array]:
    return {tensor.name: rows for tensor, rows in zip(graph.inputs, graph.probe, strict=True)}


def _tensor(name: str, role: str, *shape: int) -> Tensor:
    return Tensor.model_validate({"name": name, "role": role, "shape": ("B", *shape)})


def _log_weight() -> Tensor:
    return Tensor(name="log_w", role="log_weight", shape=("B",), unit="nats")
