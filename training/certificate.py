"""The certificate: laws measured on the exported graphs themselves, before anybody is served by them.

A law takes a :class:`~training.subject.Subject` and yields a :class:`~models.manifest.Check` for each thing
that it measured, or nothing where it does not apply. No law asks what family a model is.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Final

import numpy as np
import torch

from models.base import Model
from models.manifest import Certificate, Check, EntryName, Law, Tensor
from training import Mistake
from training.graphs import Graph, Rows
from training.subject import HOW_MANY, Kind, Subject, bounds, chunks, is_lattice

# Row counts that no graph was traced with (that is two): one row, odd ones, and more than a register holds.
COUNTS: Final = (1, 3, 17, 64)
# How many rows are followed from being alone into crowds.
FOLLOWED: Final = 4
# Neighbours in Fibonacci's sequence: points of a lattice, and the step of the second coordinate.
POINTS: Final = 75_025
STRIDE: Final = 46_368
EAGER32: Final = "eager float32"
EPS32: Final = float(np.finfo(np.float32).eps)


def certify(subject: Subject) -> Certificate:
    """Measure every law that applies.

    Raises:
        Mistake: if a graph gives another shape or dtype than it declares, or something that is no number
            where float64 has one.
    """
    return Certificate(checks=tuple(check for law in LAWS for check in law(subject)))


def demand(certificate: Certificate, name: str) -> None:
    """Raise Mistake unless every law held, naming each that did not, its value and its tolerance."""
    broken = "; ".join(
        f"{check.name} is {check.value:.3g} {check.unit} on {check.rows}, allowed is {check.tolerance:.3g}"
        for check in certificate.failures
    )
    if broken:
        raise Mistake(f"{name} is not exported: {broken}")


def parity_name(entry: EntryName, tensor: Tensor, form: str) -> str:
    """What the check is called that holds an output of a format against the yardstick on typical rows."""
    return f"parity {entry}.{tensor.name} {form}"


# Laws -------------------------------------------------------------------------------------------------


def finite(subject: Subject) -> Iterator[Check]:
    """Every output has the declared dtype and shape, and is a number on rows that people send."""
    for entry, graphs in subject.graphs.items():
        inputs, broken = subject.rows(entry, "typical"), 0
        for form, graph in graphs.items():
            outputs = _crowds(graph, inputs)
            _check_declared(f"{entry} {form}", subject.signatures[entry].outputs, outputs)
            bad = [~np.isfinite(rows).reshape(len(rows), -1).all(1) for rows in outputs]
            broken = max(broken, int(np.any(bad, axis=0).sum()))
        yield _check(f"finite {entry}", broken, 0.0, "rows without an answer", _counted("typical"))


def parity(subject: Subject) -> Iterator[Check]:
    """On typical rows every format equals the eager model in float64, to rounding.

    Without the model, the formats equal each other.
    """
    for entry in subject.graphs:
        inputs = subject.rows(entry, "typical")
        yardstick, others = _compared(subject, entry)
        expected = _crowds(yardstick, inputs)
        for form, graph in others.items():
            outputs = zip(subject.signatures[entry].outputs, _crowds(graph, inputs), expected, strict=True)
            for tensor, found, exact in outputs:
                yield _check(
                    parity_name(entry, tensor, form),
                    _gaps(found, exact).max(),
                    # What float32 alone would do is told, but not served where a graph computes in float64.
                    tolerance(subject, tensor, exact, promised=form != EAGER32),
                    _unit(tensor),
                    _counted("typical"),
                )


def parity_far_out(subject: Subject) -> Iterator[Check]:
    """In the tails and at the boundary the formats still do what the eager model does.

    Logits and exponentials are steep there and amplify rounding, so a hundredth of the value is allowed. What
    is looked for is a branch that tracing fixed: it answers rows of the other branch whole nats wrong.
    """
    for entry in subject.graphs:
        yardstick, others = _compared(subject, entry)
        usual = [_sizes(rows).max() for rows in yardstick(subject.rows(entry, "typical"))]
        for kind in ("tail", "boundary"):
            inputs = subject.rows(entry, kind)
            expected = _crowds(yardstick, inputs)
            for form, graph in others.items():
                pairs = zip(_crowds(graph, inputs), expected, usual, strict=True)
                worst = max(float((_gaps(f, e) / np.maximum(_sizes(e), u)).max()) for f, e, u in pairs)
                yield _check(f"parity {entry} {form}", worst, 1e-2, "of the value", _counted(kind))


def round_trip(subject: Subject) -> Iterator[Check]:
    """A bijection undoes itself: decode∘encode gives back data, and samples.

    Both are compared as data: bounded data forget how far out the latents of a row at the very edge were.
    """
    if subject.grades.latents != "bijection":
        return
    inputs = subject.rows("encode", "typical")
    samples = subject.run("decode", subject.rows("decode", "typical"))[0]
    for what, x in (("typical", inputs[0]), ("samples", samples)):
        for form, encode, decode, lost in _both_ways(subject):
            returned = decode((encode((x, *inputs[1:]))[0], *inputs[1:]))[0]
            allowed = lost * float(np.std(x))
            gap = _gaps(returned, x).max()
            yield _check(f"round trip {form}", gap, allowed, "data units", f"{len(x)} {what}")


def log_det(subject: Subject) -> Iterator[Check]:
    """log p(x) = log p(z) + log|det dz/dx|, the Jacobian taken by autograd in float64.

    Reference: Rezende & Mohamed 2015, arXiv 1505.05770, equation 5.
    """
    grades = subject.grades
    if subject.model is None or (grades.latents, grades.density) != ("bijection", "exact"):
        return
    assert subject.latent is not None
    # A row costs D backward passes: eight rows of a small model, one of a picture.
    count = max(1, min(8, 256 // subject.data.size))
    inputs = _take(subject.rows("encode", "typical"), range(count))
    z = subject.exact("encode")(inputs)[0]
    expected = log_prior(subject.latent.prior, z) + _log_abs_det(subject.double, inputs)
    found = subject.exact("log_weight")(inputs)[0]
    # Seen are 1e-14 of the value; a wrong term shows in the first digits.
    allowed = 1e-8 * max(1.0, float(_sizes(expected).max()))
    yield _check(
        "log|det| against autograd",
        _gaps(found, expected).max(),
        allowed,
        "nats",
        f"{count} typical, float64",
    )


def mass(subject: Subject) -> Iterator[Check]:
    """An exact density over one or two dimensions adds up to one."""
    if subject.grades.density != "exact" or subject.data.size > 2:
        return
    points, cell = _everywhere(subject)
    inputs = tuple(
        points.astype(tensor.dtype) if tensor.role == "data" else np.zeros(len(points), tensor.dtype)
        for tensor in subject.signatures["log_weight"].inputs
    )
    log_p = np.concatenate([subject.run("log_weight", chunk)[0] for chunk in chunks(inputs)])
    total = float(np.exp(log_p.astype(np.float64)).sum() * cell)
    # The promise of the two-dimensional models, which what lies outside the grid has to fit into as well.
    yield _check("mass, from 1", abs(total - 1), 1e-3, "probability", f"{len(points)} points of a lattice")


def batch(subject: Subject) -> Iterator[Check]:
    """A row alone equals the row in any crowd."""
    for entry, graphs in subject.graphs.items():
        inputs, strangers = subject.rows(entry, "typical"), subject.rows(entry, "tail")
        for form, graph in graphs.items():
            alone = _stack([graph(_take(inputs, [i])) for i in range(FOLLOWED)])
            allowed = [tolerance(subject, *pair) for pair in _named(subject, entry, alone)]
            yield _check(
                f"batch {entry} {form}",
                max(_moved(graph, inputs, strangers, alone, count) for count in COUNTS),
                # ONNX Runtime on a CPU gives the same bits at any row count; torch picks kernels by it.
                0.0 if form == "onnx" else max(allowed),
                "between a row alone and in a crowd",
                f"{FOLLOWED} typical, among {_listed(COUNTS)}",
            )


LAWS: Final[tuple[Callable[[Subject], Iterator[Check]], ...]] = (
    finite,
    parity,
    parity_far_out,
    round_trip,
    log_det,
    mass,
    batch,
)


# Tolerances -------------------------------------------------------------------------------------------


def tolerance(subject: Subject, tensor: Tensor, expected: np.ndarray, promised: bool = True) -> float:
    """How far an output may be from its exact value on typical rows, in its unit.

    An exact log-likelihood is promised to 1e-4 nats; beyond 800 nats four roundings of the float32 that
    it is returned in are more, and allowed. Everything else is allowed 1e-4 of the largest value:
    some hundred roundings, as deep nets make, and less than anybody sees in a picture or in a bound.
    """
    size = float(_sizes(expected).max())
    if promised and tensor.role == "log_weight" and subject.grades.density == "exact":
        return max(1e-4, EPS32 * size)
    return 1e-4 * max(size, EPS32)


def log_prior(law: Law, z: np.ndarray) -> np.ndarray:
    """Log-density of latents (B, ...) under the prior, (B,), in nats."""
    flat = z.reshape(len(z), -1).astype(np.float64)
    if law == "standard_normal":
        return -(flat**2 + math.log(2 * math.pi)).sum(1) / 2
    if law == "logistic":
        return -(np.abs(flat) + 2 * np.log1p(np.exp(-np.abs(flat)))).sum(1)
    return np.where(((flat >= 0) & (flat <= 1)).all(1), 0.0, -np.inf)


def _both_ways(subject: Subject) -> Iterator[tuple[str, Graph, Graph, float]]:
    """Both directions in every form, and the part of the data's spread that a round trip may lose.

    Of float32's seven digits a logit and a stack of couplings cost up to four; of float64's sixteen, up to
    seven.
    """
    for form, encode in subject.graphs["encode"].items():
        if form in subject.graphs["decode"]:
            yield form, encode, subject.graphs["decode"][form], 1e-3
    if subject.model is not None:
        yield "eager float64", subject.exact("encode"), subject.exact("decode"), 1e-9


def _compared(subject: Subject, entry: EntryName) -> tuple[Graph, dict[str, Graph]]:
    """The yardstick of an entry point, and everything that is held against it."""
    graphs = subject.graphs[entry]
    if subject.model is not None:
        return subject.exact(entry), {EAGER32: subject.eager(entry), **graphs}
    first, *others = graphs
    return graphs[first], {f"{form} against {first}": graphs[form] for form in others}


# Measuring --------------------------------------------------------------------------------------------


def _check(name: str, value: float, allowed: float, unit: str, rows: str) -> Check:
    if not math.isfinite(value):
        raise Mistake(f"{name} is {value} {unit} on {rows}: a graph gives no number where it has to")
    passed = bool(value <= allowed)
    return Check(name=name, value=float(value), tolerance=allowed, unit=unit, rows=rows, passed=passed)


def _check_declared(what: str, tensors: Sequence[Tensor], outputs: Rows) -> None:
    if len(outputs) != len(tensors):
        raise Mistake(f"{what} gives {len(outputs)} outputs; declared are {len(tensors)}")
    for tensor, rows in zip(tensors, outputs, strict=True):
        if rows.shape[1:] != tensor.row_shape or rows.dtype != tensor.dtype:
            raise Mistake(
                f"{what}: {tensor.name} has rows of {rows.dtype} {list(rows.shape[1:])}; "
                f"declared are {tensor.dtype} {list(tensor.row_shape)}"
            )


def _crowds(graph: Graph, inputs: Rows) -> Rows:
    """The answers for the first 1, 3, 17 and 64 rows, one below the other.

    Raises:
        Mistake: if a graph answers with another number of rows than it was given.
    """
    runs = []
    for count in sorted({min(count, len(inputs[0])) for count in COUNTS}):
        runs.append(graph(_take(inputs, range(count))))
        given = {len(rows) if rows.ndim else 0 for rows in runs[-1]}
        if given != {count}:
            raise Mistake(f"a graph answers {count} rows with {_listed(sorted(given))}; allowed are {count}")
    return _stack(runs)


def _moved(graph: Graph, inputs: Rows, strangers: Rows, alone: Rows, count: int) -> float:
    """How much a row's answer changes when it stands among ``count`` rows."""
    worst = 0.0
    for i in range(FOLLOWED):
        crowd = _take(strangers, np.arange(count) % len(strangers[0]))
        slot = (5 * i + count // 2) % count
        for rows, own in zip(crowd, inputs, strict=True):
            rows[slot] = own[i]
        for rows, own in zip(graph(crowd), alone, strict=True):
            worst = max(worst, float(_gaps(rows[slot][None], own[i][None])[0]))
    return worst


def _gaps(found: np.ndarray, expected: np.ndarray) -> np.ndarray:
    """The largest absolute difference in each row, (B,); what overflows to the same infinity is equal."""
    with np.errstate(invalid="ignore", over="ignore"):
        same = found == expected.astype(found.dtype)
        gaps = np.abs(found.astype(np.float64) - expected.astype(np.float64))
    same &= ~np.isfinite(found)
    return np.where(same, 0.0, gaps).reshape(len(found), -1).max(1, initial=0.0)


def _sizes(rows: np.ndarray) -> np.ndarray:
    """The largest absolute value in each row, (B,)."""
    finite_rows = np.where(np.isfinite(rows), np.abs(rows), 0.0)
    return finite_rows.astype(np.float64).reshape(len(rows), -1).max(1, initial=0.0)


def _log_abs_det(model: Model, inputs: Rows) -> np.ndarray:
    """log|det dz/dx| of encode for each row, (B,), by automatic differentiation in float64."""
    jacobians = (_jacobian(model, _take(inputs, [i])) for i in range(len(inputs[0])))
    return np.array([float(torch.linalg.slogdet(jacobian).logabsdet) for jacobian in jacobians])


def _jacobian(model: Model, row: Rows) -> torch.Tensor:
    """dz/dx of one row, (D, D): the row is encoded once, and the gradients of many z_i go back at once."""
    x, *rest = map(torch.from_numpy, row)
    x = x.double().requires_grad_()
    z = model.encode(x, *rest).flatten()
    # Some at a time, for each holds as much memory as a row on its way through the model.
    parts = [
        torch.autograd.grad(z, x, directions, retain_graph=True, is_grads_batched=True)[0].flatten(1)
        for directions in torch.eye(len(z), dtype=z.dtype).split(64)
    ]
    return torch.cat(parts)


def _everywhere(subject: Subject) -> tuple[np.ndarray, float]:
    """Points all over the support, or the reach of the samples, (N, *shape), and the volume of each."""
    rows = subject.samples(16_384) if "decode" in subject.graphs else subject.typical
    # Half as far again as the farthest of sixteen thousand samples: what is left outside is rare.
    low, high = (edge.ravel() for edge in bounds(subject.data, rows, 0.75 * np.ptp(rows, axis=0)))
    if is_lattice(subject.data):
        axes = [np.arange(a, b + 1) for a, b in zip(low, high, strict=True)]
        points, cell = np.stack([axis.ravel() for axis in np.meshgrid(*axes, indexing="ij")], axis=1), 1.0
    else:
        points, cell = low + (high - low) * _fibonacci(len(low)), float((high - low).prod()) / POINTS
    return points.reshape(-1, *subject.data.shape), cell


def _fibonacci(dimensions: int) -> np.ndarray:
    """Points evenly in the unit interval or square, (N, D).

    On smooth densities they are as good as a square grid, and no straight edge of a density, such as a
    checkerboard has, lies along them: a grid whose lines stand on such edges errs by whole thousandths.

    Reference: Niederreiter & Sloan 1994, Integration of nonperiodic functions of two variables by Fibonacci
    lattice rules.
    """
    i = np.arange(POINTS)
    return (np.stack([i, i * STRIDE % POINTS], axis=1)[:, :dimensions] + 0.5) / POINTS


def _named(subject: Subject, entry: EntryName, rows: Rows) -> list[tuple[Tensor, np.ndarray]]:
    return list(zip(subject.signatures[entry].outputs, rows, strict=True))


def _take(inputs: Rows, chosen: Sequence[int] | range | np.ndarray) -> Rows:
    """Copies of some rows of every input."""
    return tuple(rows[np.asarray(chosen, dtype=int)] for rows in inputs)


def _stack(runs: Sequence[Rows]) -> Rows:
    return tuple(np.concatenate(outputs) for outputs in zip(*runs, strict=True))


def _unit(tensor: Tensor) -> str:
    return tensor.unit or {"data": "data units", "log_weight": "nats"}.get(tensor.role, "latent units")


def _counted(kind: Kind) -> str:
    count = HOW_MANY[kind]
    return f"{count} {kind}, in batches of {_listed([n for n in COUNTS if n < count] + [count])}"


def _listed(numbers: Sequence[int]) -> str:
    return ", ".join(str(number) for number in numbers)
