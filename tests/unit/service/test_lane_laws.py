"""The laws of the lane, whatever comes in whatever order: callers, failures, time, the end."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from service.backends import DeviceLost
from service.batch import Job
from service.errors import DeadlinePassed, Draining, EngineDead, QueueFull
from service.lane import Batch, Rows
from service.turns import SHARES
from tests.unit.service.by_hand import POISON, SIZES, Array, Bench, settle

T = TypeVar("T")

COSTS = [(1.0,) * 4, (1.0, 2.0, 4.0, 8.0), (10.0, 11.0, 12.0, 13.0), (1.0, 1.5, 3.0, 40.0)]


class Caller:
    """Who asked for some rows.

    Attributes:
        patience: how many batches of fresh rows may be formed before he is in one.
        overtaken: how many were.
        busy: whether others had rows here while he waited; for them he gives way when he would be late.
    """

    def __init__(self, values: list[float], deadline: float, patience: float, busy: bool) -> None:
        self.column: Array = np.array(values, np.float32).reshape(-1, 1)
        self.deadline, self.patience, self.busy = deadline, patience, busy
        self.overtaken, self.begun = 0, False
        self.task: asyncio.Task[Rows]

    @property
    def waits(self) -> bool:
        return not self.begun and not self.task.done()

    def check_answer(self) -> None:
        """His own rows, in order, and nobody else's failure."""
        values = self.column.ravel()
        rows = self.task.result()
        assert sorted(rows.failed) == np.flatnonzero(values == POISON).tolist()
        assert rows.outputs[0].ravel().tolist() == np.where(values == POISON, 0, 2 * values).tolist()
        assert rows.waited_s >= 0


class Lane(RuleBasedStateMachine):
    """A lane, its callers and its device."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.callers: list[Caller] = []
        self.closing: asyncio.Task[None] | None = None
        self.lost = False

    def do(self, what: Coroutine[Any, Any, T]) -> T:
        return self.loop.run_until_complete(what)

    @initialize(ms=st.sampled_from(COSTS), queue_ms=st.sampled_from([5.0, 30.0, 1e9]), inline=st.booleans())
    def open(self, ms: tuple[float, ...], queue_ms: float, inline: bool) -> None:
        async def make() -> Bench:
            return Bench(ms=ms, queue_ms=queue_ms, inline=inline)

        self.bench = self.do(make())
        self.lane = self.bench.lane
        self.launch, self.lane._launch = self.lane._launch, self.formed  # type: ignore[method-assign]

    # What may happen ----------------------------------------------------------------------------------

    @rule(
        marks=st.lists(st.sampled_from([POISON, 0, 0, 0, 0, 0]), min_size=1, max_size=20),
        within=st.sampled_from([0.0, 0.02, 1.0, 3.0, 1e9]),
        admitted=st.booleans(),
    )
    def arrive(self, marks: list[float], within: float, admitted: bool) -> None:
        lane, number = self.lane, len(self.callers)
        values = [mark or 100.0 * number + i for i, mark in enumerate(marks)]
        busy = bool(lane.waiting or lane._flying)
        for earlier in self.callers:
            earlier.busy = earlier.busy or not earlier.task.done()
        caller = Caller(values, self.bench.now + within, self.patience(len(values)), busy)
        asked = lane.submit((caller.column,), len(values), caller.deadline, admitted)
        caller.task = self.loop.create_task(asked)
        self.callers.append(caller)
        self.do(settle())
        if caller.task.done() and isinstance(self.reason(caller), QueueFull):
            assert busy, "an idle lane refuses nobody"
            assert not admitted

    @precondition(lambda self: self.callers)
    @rule(number=st.integers(0, 50))
    def leave(self, number: int) -> None:
        self.callers[number % len(self.callers)].task.cancel()
        self.do(settle())

    @rule(seconds=st.sampled_from([0.001, 0.01, 0.5, 2.0, 70.0]))
    def time_passes(self, seconds: float) -> None:
        self.bench.now += seconds

    @precondition(lambda self: self.bench.handed_over)
    @rule()
    def a_batch_ends(self) -> None:
        self.do(self.bench.step())

    @rule(rows=st.integers(1, SIZES[-1]))
    def memory_is_for(self, rows: int) -> None:
        self.bench.memory_rows = rows

    @precondition(lambda self: self.closing is None)
    @rule(drain_s=st.sampled_from([0.0, 60.0]))
    def close(self, drain_s: float) -> None:
        self.closing = self.loop.create_task(self.lane.close(drain_s))
        self.do(settle())

    @precondition(lambda self: len(self.callers) > 2)
    @rule()
    def lose_the_device(self) -> None:
        self.bench.broken, self.lost = DeviceLost("gone"), True

    # What must hold -----------------------------------------------------------------------------------

    def formed(self, batch: Batch) -> None:
        """A batch is handed to the device."""
        now, here = self.bench.now, {id(piece.job.inputs[0]) for piece in batch.pieces}
        assert 0 < batch.rows <= SIZES[-1]
        for caller in self.callers:
            if id(caller.column) in here:
                caller.begun = True
                assert not caller.task.done(), "who has an answer, or has left, costs the device nothing"
                assert now < caller.deadline, "nor does who is late"
            elif caller.waits and not self.lane._mended:
                caller.overtaken += 1
                assert caller.overtaken <= caller.patience, "who comes later does not go first"
        self.launch(batch)

    def is_brief(self, job: Job) -> bool:
        return job.rows <= self.lane._measured.short_rows

    def patience(self, rows: int) -> float:
        """In batches: each that is not the other kind's takes a row of those ahead."""
        brief = rows <= self.lane._measured.short_rows
        ahead = [job for job in self.lane._queue if self.is_brief(job) == brief]
        part = 1 - 1 / SHARES if brief else 1 / SHARES
        return sum(job.rows - job.taken for job in ahead) / part + SHARES

    @invariant()
    def the_device_is_never_idle_while_rows_wait(self) -> None:
        lane = self.lane
        if lane.waiting or lane._broken:
            assert lane._flying or lane._awake
        assert len(lane._flying) <= 2

    @invariant()
    def rows_are_counted(self) -> None:
        lane = self.lane
        left = [job.rows - job.taken for job in lane._queue]
        assert lane.waiting == sum(left)
        assert lane._queue.weight == sum(map(lane._queue.weigh, left))
        assert lane._queue.ahead(1) == sum(job.rows - job.taken for job in lane._queue if self.is_brief(job))
        assert 0 <= lane.fullness <= 1
        assert all(rows > 0 for rows in left)

    @invariant()
    def whoever_was_answered_has_his_own_rows_or_a_reason(self) -> None:
        for caller in self.callers:
            if caller.task.done() and not caller.task.cancelled():
                self.check(caller)

    def check(self, caller: Caller) -> None:
        match self.reason(caller):
            case None:
                caller.check_answer()
            case DeadlinePassed():
                assert caller.deadline <= self.bench.now or caller.busy
            case Draining():
                assert self.closing is not None
            case EngineDead():
                assert self.lost
            case error:
                assert isinstance(error, QueueFull), repr(error)

    def reason(self, caller: Caller) -> BaseException | None:
        return asyncio.CancelledError() if caller.task.cancelled() else caller.task.exception()

    def teardown(self) -> None:
        """In the end everybody has an answer, and the lane is as it was in the beginning."""
        if hasattr(self, "lane"):
            while self.bench.handed_over or self.lane._awake:
                self.do(self.bench.finish())
                self.do(settle())
            self.do(settle())
            assert all(caller.task.done() for caller in self.callers)
            self.whoever_was_answered_has_his_own_rows_or_a_reason()
            assert self.closing is None or self.closing.done()
            self.bench.assert_idle()
        self.loop.close()


TestLane = Lane.TestCase
TestLane.settings = settings(max_examples=200, stateful_step_count=40, deadline=None)
