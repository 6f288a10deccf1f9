"""What a certificate is about: a description, the graphs that claim it, and the rows to try them on.

Rows come in three kinds. *Typical* rows are held-out data, or draws of the prior. *Tail* rows are three times
as far from the mean, but in the support. *Boundary* rows sit at the edges of the support. They are the same
whenever they are made.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final, Literal

import numpy as np
import torch

from models.base import Model, Signature
from models.manifest import DataSpace, EntryName, Format, Grades, LatentSpace, Law, Tensor
from training.graphs import Graph, Rows, run_eager

Kind = Literal["typical", "tail", "boundary"]

HOW_MANY: Final[dict[Kind, int]] = {"typical": 64, "tail": 17, "boundary": 3}
# Three standard deviations are rare yet reached: an outlier, or a sample at a high temperature.
TAIL: Final = 3.0
# Continuous supports are entered by this part of their width: at the very edge a logit is infinite.
MARGIN: Final = 1e-3


@dataclass(frozen=True)
class Subject:
    """An exported model before it has a manifest.

    Attributes:
        graphs: per entry point, each way to run it, by format.
        examples: rows of data, (N, *shape); ``None`` lets the model's own samples stand in.
        model: the eager model that the graphs were exported from, ``None`` for somebody else's graphs.
    """

    data: DataSpace
    latent: LatentSpace | None
    grades: Grades
    signatures: dict[EntryName, Signature]
    graphs: dict[EntryName, dict[Format, Graph]]
    examples: np.ndarray | None = None
    model: Model | None = None

    def rows(self, entry: EntryName, kind: Kind) -> Rows:
        """Inputs of an entry point: 64 typical rows, 17 in the tails or 3 at the boundary."""
        return inputs(self.data, self.latent, self.signatures[entry], kind, lambda: self.typical)

    @cached_property
    def typical(self) -> np.ndarray:
        """64 rows of data, (64, *shape), spread evenly over the examples."""
        rows = self.samples(HOW_MANY["typical"]) if self.examples is None else self.examples
        return rows[np.linspace(0, len(rows) - 1, HOW_MANY["typical"]).astype(int)]

    def samples(self, count: int) -> np.ndarray:
        """Rows that the model itself generates, of all classes in turn, (count, *shape)."""
        drawn = draws(self.data, self.latent, self.signatures["decode"], count)
        return np.concatenate([self.run("decode", chunk)[0] for chunk in chunks(drawn)])

    def run(self, entry: EntryName, rows: Rows) -> Rows:
        """Run the first format of an entry point."""
        return next(iter(self.graphs[entry].values()))(rows)

    def eager(self, entry: EntryName) -> Graph:
        """An entry point of the model as it was trained."""
        assert self.model is not None
        return run_eager(self.model, entry, torch.float32)

    def exact(self, entry: EntryName) -> Graph:
        """An entry point in float64, the yardstick of every other number."""
        return run_eager(self.double, entry, torch.float64)

    @cached_property
    def double(self) -> Model:
        """The eager model in float64; its parameters stay, so that a gradient to a row is half the work."""
        assert self.model is not None
        return copy.deepcopy(self.model).double().requires_grad_(False)


def draws(
    data: DataSpace, latent: LatentSpace | None, signature: Signature, count: int, seed: int = 0
) -> Rows:
    """Latents and noise by their laws, labels in turn, and zeros where data belong."""
    zeros = np.zeros((count, *data.shape))
    return _fill(data, latent, signature, "typical", count, lambda: zeros, seed)


def inputs(
    data: DataSpace,
    latent: LatentSpace | None,
    signature: Signature,
    kind: Kind,
    typical: Callable[[], np.ndarray],
) -> Rows:
    """Rows of one kind for each input of an entry point; ``typical`` gives rows of data."""
    return _fill(data, latent, signature, kind, HOW_MANY[kind], lambda: _data_rows(data, typical(), kind))


def chunks(rows: Rows, size: int = 4096) -> list[Rows]:
    """The same rows in pieces that fit into memory."""
    starts = range(0, len(rows[0]), size)
    return [tuple(array[start : start + size] for array in rows) for start in starts]


def bounds(data: DataSpace, rows: np.ndarray, reach: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Lowest and highest row, (*shape) each: the ends of the support, or ``reach`` around their middle."""
    middle = (rows.min(0) + rows.max(0)) / 2
    low, high = middle - reach, middle + reach
    supports = np.resize(np.array(data.support, dtype=object), data.size).reshape(data.shape)
    for at, support in np.ndenumerate(supports):
        low[at] = low[at] if support.low is None else support.low
        high[at] = high[at] if support.high is None else support.high
    return low, high


def is_lattice(data: DataSpace) -> bool:
    """Whether rows are whole numbers."""
    return all(support.lattice for support in data.support)


def _fill(
    data: DataSpace,
    latent: LatentSpace | None,
    signature: Signature,
    kind: Kind,
    count: int,
    rows: Callable[[], np.ndarray],
    seed: int = 0,
) -> Rows:
    rng = np.random.default_rng(seed)

    def fill(tensor: Tensor) -> np.ndarray:
        if tensor.role == "label":
            return np.arange(count) % len(data.labels or ("only",))
        if tensor.role == "data":
            return rows()
        law = tensor.law or (latent.prior if latent else "standard_normal")
        return _NOISE[law](rng, kind, (count, *tensor.row_shape))

    return tuple(np.ascontiguousarray(fill(tensor), tensor.dtype) for tensor in signature.inputs)


def _data_rows(data: DataSpace, typical: np.ndarray, kind: Kind) -> np.ndarray:
    if kind == "typical":
        return typical
    rows = typical.astype(np.float64)
    away = TAIL * (rows - rows.mean(0))
    low, high = bounds(data, rows, np.abs(away).max(0))
    margin = 0.0 if is_lattice(data) else MARGIN * (high - low)
    low, high = low + margin, high - margin
    if kind == "boundary":
        return np.stack([low, high, np.where(np.indices(data.shape).sum(0) % 2, high, low)])
    far = np.clip(rows.mean(0) + away[: HOW_MANY["tail"]], low, high)
    return np.round(far) if is_lattice(data) else far


def _normal(rng: np.random.Generator, kind: Kind, shape: tuple[int, ...]) -> np.ndarray:
    return _stretched(rng.standard_normal(shape), kind)


def _logistic(rng: np.random.Generator, kind: Kind, shape: tuple[int, ...]) -> np.ndarray:
    return _stretched(rng.logistic(size=shape), kind)


def _uniform(rng: np.random.Generator, kind: Kind, shape: tuple[int, ...]) -> np.ndarray:
    return _rows_of((MARGIN, 0.5, 1 - MARGIN), shape) if kind == "boundary" else rng.random(shape)


def _stretched(drawn: np.ndarray, kind: Kind) -> np.ndarray:
    if kind == "boundary":
        return _rows_of((0.0, TAIL, -TAIL), drawn.shape)
    return drawn * TAIL if kind == "tail" else drawn


def _rows_of(values: Sequence[float], shape: tuple[int, ...]) -> np.ndarray:
    """Rows whose numbers are all alike."""
    return np.broadcast_to(np.reshape(values, (-1, *[1] * (len(shape) - 1))), shape)


_NOISE: Final[dict[Law, Callable[[np.random.Generator, Kind, tuple[int, ...]], np.ndarray]]] = {
    "standard_normal": _normal,
    "logistic": _logistic,
    "uniform": _uniform,
}
