"""How one request runs an entry point: inputs and outputs by role, failures by row."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Generator, Iterable, Sequence
from itertools import count
from typing import Any, Final, Generic, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from models import noise
from models.manifest import EntryName, Manifest, Role, Tensor
from models.noise import FIXED, Address
from service.batch import Input, Rows, Waiter
from service.engine import Served
from service.errors import RowFailed
from service.facts import facts
from service.latents import LatentStore
from service.visit import Visit

ROWS_NAMED: Final = 100  # of the rows that failed, in an answer
LOST: Final = 1e-2  # of its size, what a number may lose on the way to its code and back
PIECES_IN_FLIGHT: Final = 8

Array = NDArray[Any]
Outputs = dict[Role, Array]
T = TypeVar("T")


class Call(NamedTuple):
    """What a request brings beside its body.

    Attributes:
        manifest: of the model.
        deadline: on the monotonic clock, in seconds.
        max_rows: that one answer may have.
        others: the models beside this one.
        visit: whose rows these are.
        numeric: whether the array of the body was written as lists of numbers.
    """

    served: Served
    manifest: Manifest
    store: LatentStore
    deadline: float
    max_rows: int
    others: Callable[[], Iterable[Served]]
    visit: Visit
    numeric: bool = False

    @property
    def space(self) -> str:
        """Under which the latents of this model lie for this caller, and for nobody else."""
        return self.visit.caller.space(self.served.artifact.digest)

    def named(self) -> dict[str, Any]:
        """The members that begin every answer."""
        return {"model": self.manifest.name, "version": self.manifest.version}

    def takes(self, entry: EntryName, role: Role) -> Tensor:
        """The input of an entry point that plays a role it must have."""
        tensor = self.manifest.entry_points[entry].input(role)
        assert tensor is not None, f"{self.manifest.name}: {entry} takes no {role}"
        return tensor

    def gives(self, entry: EntryName, role: Role) -> Tensor:
        """The output of an entry point that plays a role it must have."""
        tensor = self.manifest.entry_points[entry].output(role)
        assert tensor is not None, f"{self.manifest.name}: {entry} gives no {role}"
        return tensor


class Run(Generic[T]):
    """One run of one entry point: awaited; or entered by somebody who is told when it has run.

    Args:
        then: what the outputs come to.
        admitted: a further part of an answer that has begun, which the queue may not refuse.
    """

    __slots__ = ("_admitted", "_call", "_entry", "_inputs", "_rows", "_then")

    def __init__(
        self,
        call: Call,
        entry: EntryName,
        inputs: tuple[Input, ...],
        rows: int,
        then: Callable[[Rows], T],
        admitted: bool = False,
    ) -> None:
        self._call, self._entry, self._inputs, self._rows = call, entry, inputs, rows
        self._then = then
        self._admitted = admitted

    def __await__(self) -> Generator[Any, Any, T]:
        return self._wait().__await__()

    async def _wait(self) -> T:
        call = self._call
        call.visit.charge(self._rows)
        return self.over(
            await call.served.run(self._entry, self._inputs, self._rows, call.deadline, self._admitted)
        )

    def enter(self, waiter: Waiter) -> Callable[[], None]:
        """Have it run.

        Returns:
            What to call when nobody waits any longer.

        Raises:
            OverLimit: if these are more rows than the caller may ask for.
            ServiceError: why it will not run.
        """
        call = self._call
        call.visit.charge(self._rows)
        return call.served.enter(waiter, self._entry, self._inputs, self._rows, call.deadline)

    def over(self, done: Rows) -> T:
        """It has run.

        Raises:
            ServiceError: why there is no result.
        """
        self._call.visit.ran(self._entry, self._rows, done)
        return self._then(done)


def run(
    call: Call,
    entry: EntryName,
    main: Input,
    rows: int,
    label: Array | None,
    then: Callable[[Outputs], T],
    source: Address = FIXED,
    places: Sequence[int] | None = None,
    admitted: bool = False,
) -> Run[T]:
    """A run of an entry point on all rows.

    Args:
        main: data or codes, or the address of codes.
        then: what its outputs come to.
        source: of the other noise.
        places: the numbers that the rows have in the request, if others.
        admitted: a further part of an answer that has begun, which the queue may not refuse.

    Raises:
        RowFailed: naming the rows for which there is no output, or no finite one; when it is over.
    """
    point = call.manifest.entry_points[entry]
    return run_on(call, entry, _inputs(point.inputs, main, label, source), rows, then, places, admitted)


def run_on(
    call: Call,
    entry: EntryName,
    inputs: tuple[Input, ...],
    rows: int,
    then: Callable[[Outputs], T],
    places: Sequence[int] | None = None,
    admitted: bool = False,
) -> Run[T]:
    """The same, on inputs in the order of the entry point."""
    tensors = call.manifest.entry_points[entry].outputs

    def over(done: Rows) -> T:
        if done.failed or not (done.finite or all(np.isfinite(output).all() for output in done.outputs)):
            raise _failure(call, entry, done, places or range(rows))
        outputs: Outputs = {}
        for tensor, output in zip(tensors, done.outputs, strict=True):
            outputs[tensor.role] = output
        return then(outputs)

    return Run(call, entry, inputs, rows, over, admitted)


def whole(outputs: Outputs) -> Outputs:
    """All of them."""
    return outputs


def data(outputs: Outputs) -> Array:
    """What decode gives."""
    return outputs["data"]


def latent(outputs: Outputs) -> Array:
    """The codes that encode gives."""
    return outputs["latent"]


def _inputs(
    tensors: Sequence[Tensor], main: Input, label: Array | None, source: Address
) -> tuple[Input, ...]:
    """What an entry point takes, in its order; each noise has a stream of its own."""
    if len(tensors) == 1 and tensors[0].role != "noise":
        return (main,)
    streams = count(noise.NOISE)
    given: list[Input] = []
    for tensor in tensors:
        if tensor.role == "noise":
            given.append(source._replace(stream=next(streams)))
        elif tensor.role == "label":
            assert label is not None
            given.append(label)
        else:
            given.append(main)
    return tuple(given)


def check_return(call: Call, x: Array, back: Array) -> None:
    """Refuse rows that a bijection does not give back, as happens far out: their codes had too few digits.

    Each number may lose a part of its size, or of the largest in the probe's rows, if that is larger.

    Args:
        x: data, (B, ...).
        back: the data of their codes.

    Raises:
        RowFailed: naming them.
    """
    if call.manifest.grades.latents != "bijection":
        return
    sent = x.reshape(len(x), -1).astype(np.float64)
    lost = np.abs(back.reshape(sent.shape) - sent) / np.maximum(np.abs(sent), facts(call.served).typical_size)
    failed = np.flatnonzero((lost > LOST).any(axis=1))
    if len(failed):
        raise RowFailed(
            f"{call.manifest.name} does not give back {len(failed)} of {len(x)} rows: a number comes back "
            f"{lost[failed[0]].max():.3g} of its size away; the others can be sent again without them",
            failed[:ROWS_NAMED].tolist(),
        )


def _failure(call: Call, entry: EntryName, done: Rows, places: Sequence[int]) -> RowFailed:
    sound = [np.isfinite(output).reshape(len(output), -1).all(axis=1) for output in done.outputs]
    bad = {int(row) for row in np.flatnonzero(~np.logical_and.reduce(sound))} | done.failed.keys()
    failed = sorted(places[row] for row in bad)
    why = next(iter(done.failed.values()), "a number that is not finite")
    return RowFailed(
        f"{entry} of {call.manifest.name} failed on {len(failed)} of {len(places)} rows ({why}); "
        "the others can be sent again without them",
        failed[:ROWS_NAMED],
    )


def log_weights(
    call: Call, x: Array, label: Array | None, k: int, seed: int, then: Callable[[Array], T]
) -> Awaitable[T]:
    """Draws of log_weight, (B, K), float64, NaN where the graph failed, and what they come to.

    Draw i has the same noise in every row, so that a row is a row.
    """
    if k > 1:
        return _many_log_weights(call, x, label, k, seed, then)

    def over(log_w: Array) -> T:
        return then(log_w.astype(np.float64).reshape(len(x), 1))

    tensors = call.manifest.entry_points["log_weight"].inputs
    inputs = _inputs(tensors, x, label, FIXED._replace(seed=seed))
    return weights(call, inputs, len(x), over)


async def _many_log_weights(
    call: Call, x: Array, label: Array | None, k: int, seed: int, then: Callable[[Array], T]
) -> T:
    """Whichever is fewer is sent: all rows once for each draw, or all draws once for each row."""
    tensors = call.manifest.entry_points["log_weight"].inputs

    async def draw(piece: int, data: Array, classes: Array | None, source: Address) -> Array:
        inputs = _inputs(tensors, data, classes, source)
        log_w = await weights(call, inputs, len(data), np.asarray, admitted=piece > 0)
        return log_w.astype(np.float64).reshape(len(data))

    if k <= len(x):
        draws = [draw(i, x, label, FIXED._replace(seed=seed, offset=i)) for i in range(k)]
        return then(np.ascontiguousarray(np.stack(await in_turns(draws), axis=1)))
    classes = [None] * len(x) if label is None else [_repeat(row, k) for row in label]
    draws = [draw(i, _repeat(row, k), classes[i], Address(seed)) for i, row in enumerate(x)]
    return then(np.stack(await in_turns(draws)))


def weights(
    call: Call,
    inputs: tuple[Input, ...],
    rows: int,
    then: Callable[[Array], T],
    admitted: bool = False,
) -> Run[T]:
    """The output of log_weight for inputs in its order, NaN where the graph failed, (B, ...)."""
    point = call.manifest.entry_points["log_weight"]
    place = next(i for i, tensor in enumerate(point.outputs) if tensor.role == "log_weight")

    def over(done: Rows) -> T:
        log_w = done.outputs[place]
        if done.failed:
            log_w = log_w.copy()
            log_w[list(done.failed)] = np.nan
        return then(log_w)

    return Run(call, "log_weight", inputs, rows, over, admitted)


def _repeat(row: Array, k: int) -> Array:
    """One row, K times, without a copy."""
    return np.broadcast_to(row, (k, *row.shape))


async def in_turns(pieces: Iterable[Coroutine[Any, Any, Array]]) -> list[Array]:
    """The results in order, a few pieces at a time; the first failure ends the others."""
    work = list(pieces)
    if len(work) == 1:
        return [await work[0]]
    turns = asyncio.Semaphore(PIECES_IN_FLIGHT)

    async def one(piece: Coroutine[Any, Any, Array]) -> Array:
        async with turns:
            return await piece

    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(one(piece)) for piece in work]
    except BaseExceptionGroup as failures:
        raise failures.exceptions[0] from None
    finally:
        for piece in work:
            piece.close()  # those that never had their turn
    return [task.result() for task in tasks]
