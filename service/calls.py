"""How one request runs an entry point: inputs and outputs by role, failures by row."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Sequence
from itertools import count
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from models import noise
from models.manifest import EntryName, Manifest, Role, Tensor
from models.noise import FIXED, Address
from service.batch import Input, Rows
from service.engine import Served
from service.errors import RowFailed
from service.facts import facts
from service.latents import LatentStore
from service.visit import Visit

ROWS_NAMED: Final = 100  # of the rows that failed, in an answer
LOST: Final = 1e-2  # of its size, what a number may lose on the way to its code and back
PIECES_IN_FLIGHT: Final = 8

Array = NDArray[Any]


class Call(NamedTuple):
    """What a request brings beside its body.

    Attributes:
        deadline: on the monotonic clock, in seconds.
        max_rows: that one answer may have.
        others: the models beside this one.
        visit: whose rows these are.
        numeric: whether the array of the body was written as lists of numbers.
    """

    served: Served
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

    @property
    def manifest(self) -> Manifest:
        return self.served.manifest

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

    def submit(
        self, entry: EntryName, inputs: tuple[Input, ...], rows: int, admitted: bool = False
    ) -> Coroutine[Any, Any, Rows]:
        """Run an entry point; the rows are the caller's, who has to be told when they have run.

        Raises:
            OverLimit: if they are more than the caller may ask for.
        """
        self.visit.charge(rows)
        return self.served.run(entry, inputs, rows, self.deadline, admitted)


def run(
    call: Call,
    entry: EntryName,
    main: Input,
    rows: int,
    label: Array | None,
    source: Address = FIXED,
    places: Sequence[int] | None = None,
    admitted: bool = False,
) -> Coroutine[Any, Any, dict[Role, Array]]:
    """The outputs of an entry point for all rows, by role.

    Args:
        main: data or codes, or the address of codes.
        source: of the other noise.
        places: the numbers that the rows have in the request, if others.
        admitted: a further part of an answer that has begun, which the queue may not refuse.

    Raises:
        RowFailed: naming the rows for which there is no output, or no finite one.
    """
    inputs = _inputs(call.manifest.entry_points[entry].inputs, main, label, source)
    return run_on(call, entry, inputs, rows, places, admitted)


async def run_on(
    call: Call,
    entry: EntryName,
    inputs: tuple[Input, ...],
    rows: int,
    places: Sequence[int] | None = None,
    admitted: bool = False,
) -> dict[Role, Array]:
    """The same, on inputs in the order of the entry point."""
    point = call.manifest.entry_points[entry]
    done = await call.submit(entry, inputs, rows, admitted)
    call.visit.ran(entry, rows, done)
    if done.failed or not (done.finite or all(np.isfinite(output).all() for output in done.outputs)):
        raise _failure(call, entry, done, places or range(rows))
    return {tensor.role: output for tensor, output in zip(point.outputs, done.outputs, strict=True)}


def _inputs(
    tensors: Sequence[Tensor], main: Input, label: Array | None, source: Address
) -> tuple[Input, ...]:
    """What an entry point takes, in its order; each noise has a stream of its own."""
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


async def log_weights(call: Call, x: Array, label: Array | None, k: int, seed: int) -> Array:
    """Draws of log_weight, (B, K), float64, NaN where the graph failed.

    Draw i has the same noise in every row, so that a row is a row. Whichever is fewer is sent: all rows
    once for each draw, or all draws once for each row.
    """
    tensors = call.manifest.entry_points["log_weight"].inputs

    async def draw(piece: int, data: Array, classes: Array | None, source: Address) -> Array:
        inputs = _inputs(tensors, data, classes, source)
        log_w = await weights(call, inputs, len(data), admitted=piece > 0)
        return log_w.astype(np.float64).reshape(len(data))

    if k == 1:
        return (await draw(0, x, label, FIXED._replace(seed=seed)))[:, None]
    if k <= len(x):
        draws = [draw(i, x, label, FIXED._replace(seed=seed, offset=i)) for i in range(k)]
        return np.ascontiguousarray(np.stack(await in_turns(draws), axis=1))
    classes = [None] * len(x) if label is None else [_repeat(row, k) for row in label]
    draws = [draw(i, _repeat(row, k), classes[i], Address(seed)) for i, row in enumerate(x)]
    return np.stack(await in_turns(draws))


async def weights(call: Call, inputs: tuple[Input, ...], rows: int, admitted: bool = False) -> Array:
    """The output of log_weight for inputs in its order, NaN where the graph failed, (B, ...)."""
    point = call.manifest.entry_points["log_weight"]
    place = next(i for i, tensor in enumerate(point.outputs) if tensor.role == "log_weight")
    done = await call.submit("log_weight", inputs, rows, admitted)
    call.visit.ran("log_weight", rows, done)
    if not done.failed:
        return done.outputs[place]
    log_w = done.outputs[place].copy()
    log_w[list(done.failed)] = np.nan
    return log_w


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
