"""One batch: rows of many callers gathered into the arrays of one run, and its outputs cut apart again.

All of this happens on the thread that runs the graph. Who is in a batch, and when, is the lane's business.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from models.manifest import EntryPoint, Law, Manifest, Tensor
from models.noise import Address, draw
from service.backends import Graph, GraphError
from service.seeds import Seeds

Array = NDArray[Any]
Input = Array | Address
Outputs = tuple[Array, ...]

# A slice of a batch keeps the whole batch in memory; a smaller one than this part of it is copied out.
_WORTH_KEEPING: Final = 4


class Rows(NamedTuple):
    """What a caller gets.

    Attributes:
        outputs: in the manifest's order, each (rows, ...); not to be written to.
        failed: the rows that the graph cannot answer, and why; their outputs are zeros.
        since: when they were put into the queue, on the lane's clock, in seconds.
        waited_s: until the first of them ran.
        finite: whether every number of every output is known to be.
    """

    outputs: Outputs
    failed: dict[int, str]
    since: float
    waited_s: float
    finite: bool = False


class Waiter(Protocol):
    """Who is told how it went: a future, or something that takes less time than one."""

    def done(self) -> bool:
        """Whether he has been told, or does not want to know any more."""

    def cancelled(self) -> bool:
        """Whether he left, and nobody has noticed yet."""

    def set_result(self, result: Rows, /) -> None:
        """The rows are there."""

    def set_exception(self, exception: BaseException, /) -> None:
        """They will never be."""


class Job:
    """The rows that one caller waits for.

    Attributes:
        taken: rows that have been put into batches.
        turn: those of them since the job had to wait for its turn.
        left: rows that have not been answered.
        outputs: where the answers of a cut job are put together, ``None`` while it is whole.
        waited_s: until its first batch began.
        finite: whether every number that it got so far is known to be.
    """

    __slots__ = (
        "deadline",
        "failed",
        "finite",
        "inputs",
        "left",
        "outputs",
        "rows",
        "since",
        "taken",
        "turn",
        "waited_s",
        "waiter",
    )

    def __init__(
        self,
        inputs: tuple[Input, ...],
        rows: int,
        deadline: float,
        since: float,
        waiter: Waiter,
    ) -> None:
        self.inputs = inputs
        self.rows = rows
        self.deadline = deadline
        self.since = since
        self.waiter = waiter
        self.taken = self.turn = 0
        self.left = rows
        self.outputs: Outputs | None = None
        self.failed: dict[int, str] = {}
        self.waited_s = 0.0
        self.finite = True


class Piece:
    """The rows of a job that are in one batch: ``start`` to ``start + rows``."""

    __slots__ = ("job", "rows", "start")

    def __init__(self, job: Job, start: int, rows: int) -> None:
        self.job = job
        self.start = start
        self.rows = rows

    def input(self, place: int) -> Input:
        """The piece's part of an input."""
        whole = self.job.inputs[place]
        if self.rows == self.job.rows:
            return whole
        if isinstance(whole, Address):
            return whole.skip(self.start)
        return whole[self.start : self.start + self.rows]


class Stage:
    """An entry point on one thread: its graph, and the buffers that its batches are gathered in."""

    def __init__(self, graph: Graph, manifest: Manifest, entry: EntryPoint, max_rows: int) -> None:
        self._graph = graph
        self.inputs = entry.inputs
        self.outputs = entry.outputs
        # What a request is held against, looked up once.
        self._laws = [_law(tensor, manifest) for tensor in entry.inputs]
        self._in = [(tensor.row_shape, np.dtype(tensor.dtype)) for tensor in entry.inputs]
        self._out = [(tensor.row_shape, np.dtype(tensor.dtype)) for tensor in entry.outputs]
        self.seeds = self._seeds(manifest)
        self._buffers = [np.empty((max_rows, *shape), dtype) for shape, dtype in self._in]

    def _seeds(self, manifest: Manifest) -> Seeds | None:
        """Those of the codes that it takes, if it takes codes."""
        for place, tensor in enumerate(self.inputs):
            if tensor.role == "latent" and manifest.latent is not None:
                return Seeds(manifest.latent.prior, *self._in[place])
        return None

    def __call__(self, inputs: Sequence[Array]) -> Sequence[Array]:
        """Run the graph, and make sure that its outputs are what the manifest says.

        Raises:
            GraphError: if one has another shape or dtype: it could only be cut wrongly.
        """
        outputs = self._graph(inputs)
        if len(outputs) != len(self.outputs):
            raise GraphError(f"the graph gave {len(outputs)} outputs, the manifest says {len(self.outputs)}")
        for tensor, array, (shape, dtype) in zip(self.outputs, outputs, self._out, strict=True):
            if array.shape != (len(inputs[0]), *shape) or array.dtype != dtype:
                raise GraphError(
                    f"the graph gave {tensor.name} as {array.dtype}{list(array.shape)}, "
                    f"the manifest says {dtype}{[len(inputs[0]), *shape]}"
                )
        return outputs

    def run(self, pieces: Sequence[Piece], size: int) -> tuple[list[Outputs | None], bool]:
        """Run one batch of ``size`` rows, padded where the pieces have fewer.

        Returns:
            The outputs of each piece that is a whole job; those of the others are put into their job's. And
            whether all numbers are known to be finite: asked once for many, it costs each of them nothing.
        """
        outputs = self([self._gather(place, pieces, size) for place in range(len(self.inputs))])
        answers, start = [], 0
        for piece in pieces:
            answers.append(_cut(outputs, piece, start))
            start += piece.rows
        return answers, _is_finite(outputs)

    def _gather(self, place: int, pieces: Sequence[Piece], size: int) -> Array:
        parts = self._drawn(place, [(piece.input(place), piece.rows) for piece in pieces])
        if len(parts) == 1 and len(parts[0]) == size and parts[0].flags.c_contiguous:
            return parts[0]
        rows = sum(map(len, parts))
        buffer = self._buffers[place][:size]
        np.concatenate(parts, out=buffer[:rows])
        buffer[rows:] = buffer[rows - 1]  # a row that is there anyway cannot add a failure
        return buffer

    def _drawn(self, place: int, parts: list[tuple[Input, int]]) -> list[Array]:
        """The parts with noise in place of addresses, all of it drawn at once."""
        parts = [(self._known(place, part, rows), rows) for part, rows in parts]
        addresses = [(part, rows) for part, rows in parts if isinstance(part, Address)]
        if not addresses:
            return [part for part, _ in parts if not isinstance(part, Address)]
        law = self._laws[place]
        assert law is not None
        noise = draw(addresses, law, *self._in[place])
        if len(addresses) == len(parts):
            return [noise]
        cuts = iter(np.split(noise, np.cumsum([rows for _, rows in addresses])))
        return [next(cuts) if isinstance(part, Address) else part for part, _ in parts]

    def _known(self, place: int, part: Input, rows: int) -> Input:
        """The rows at an address, if they were drawn beforehand."""
        if self.seeds is None or self.inputs[place].role != "latent":
            return part
        drawn = self.seeds.noise(part, rows) if isinstance(part, Address) else None
        return part if drawn is None else drawn

    def blank(self, rows: int) -> Outputs:
        """Outputs of zeros."""
        return tuple(np.zeros((rows, *shape), dtype) for shape, dtype in self._out)

    def accepts(self, place: int, value: Input, rows: int) -> bool:
        """Whether a value fits an input: one misfit in a batch would spoil it for everyone."""
        if isinstance(value, Address):
            return self._laws[place] is not None
        shape, dtype = self._in[place]
        return value.shape == (rows, *shape) and value.dtype == dtype


def _law(tensor: Tensor, manifest: Manifest) -> Law | None:
    """What an address means for this input."""
    if tensor.role == "latent" and manifest.latent:
        return manifest.latent.prior
    return tensor.law


def _is_finite(outputs: Sequence[Array]) -> bool:
    """Whether the sums of squares are finite: then so is every number, and no mask of them has to be made."""
    return all(math.isfinite(np.vdot(output, output)) for output in outputs)


def _cut(outputs: Sequence[Array], piece: Piece, start: int) -> Outputs | None:
    end = start + piece.rows
    if piece.job.outputs is None:
        if piece.rows * _WORTH_KEEPING < len(outputs[0]):
            return tuple([array[start:end].copy() for array in outputs])
        return tuple([array[start:end] for array in outputs])
    for whole, array in zip(piece.job.outputs, outputs, strict=True):
        whole[piece.start : piece.start + piece.rows] = array[start:end]
    return None
