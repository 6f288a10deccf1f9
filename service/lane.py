"""The lane: many callers' rows, one graph.

One queue per model version and entry point. An idle device takes what is there at once; while it is busy
rows gather. There is no timer and no window: what wakes the lane is an arrival or the end of a batch.

The queue's state belongs to the thread of the event loop. Only :meth:`Lane._work` runs elsewhere, on the
lane's worker, and touches a batch that is its own until it hands it back. On a CPU a short batch runs on the
event loop itself: two threads that take the interpreter lock from one another cost more than they save.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from queue import SimpleQueue
from typing import Any, Final, Literal, Protocol

from numpy.typing import NDArray

from service.backends import DeviceLost, OutOfMemory
from service.batch import Input, Job, Outputs, Piece, Rows, Stage, Waiter
from service.costs import SHORT_MS, Costs
from service.errors import DeadlinePassed, Draining, EngineDead, QueueFull, ServiceError
from service.seeds import Seeds
from service.turns import Turns

__all__ = ["Lane", "LaneObserver", "NoObserver", "Observer", "Rows", "ScoreObserver", "Worker"]

TURNS: Final = 3  # of the loop, in which a task reads, begins and queues; fewer make smaller batches
ALONE: Final = 2.0  # times a short batch, which one who is alone may run where others could come
LEEWAY: Final = 3.0  # a queue may take this many times longer than it seems: others come and take turns
RELIEF_S: Final = 60.0  # after which memory that was short may be there again
RECENT_MS: Final = 50.0  # of work, over which the pace is a mean
SLOWEST: Final = 10.0  # times its cost; what took longer was stopped, and says nothing of the next

Reason = Literal["queue_full", "draining", "deadline", "cancelled", "engine_dead", "row_failed"]
Work = Callable[[], None]

_log = logging.getLogger(__name__)


class LaneObserver(Protocol):
    """Counts what one lane does; called on the event loop's thread."""

    def ran(self, rows: int, padding_rows: int, run_s: float, waits_s: Sequence[float]) -> None:
        """A batch has been answered; ``waits_s`` is how long each job that began in it had queued."""

    def dropped(self, reason: Reason, rows: int) -> None:
        """Rows will not be computed, or could not be."""

    def closed(self) -> None:
        """The lane is gone."""


class ScoreObserver(Protocol):
    """Counts the log-likelihoods of one model; called on the event loop's thread."""

    def scored(self, log_p_nats: NDArray[Any], status: Sequence[str], comparable: bool) -> None:
        """Rows have been answered; ``comparable`` ones were scored as the held-out rows were."""

    def closed(self) -> None:
        """The model is gone."""


class Observer(Protocol):
    """Watches all lanes, and what models say of the rows that they are sent."""

    def lane(
        self,
        model: str,
        version: str,
        entry: str,
        provider: str,
        waiting: Callable[[], int],
        fullness: Callable[[], float],
    ) -> LaneObserver:
        """A lane opens; ``waiting()`` rows are in its queue, which is full at ``fullness()`` 1."""

    def scores(self, model: str, version: str, held_out: Sequence[float] | None) -> ScoreObserver:
        """A model that has log-likelihoods is served; ``held_out`` are those of held-out rows, in nats."""


class NoObserver:
    """Watches nothing."""

    def lane(
        self,
        model: str,
        version: str,
        entry: str,
        provider: str,
        waiting: Callable[[], int],
        fullness: Callable[[], float],
    ) -> LaneObserver:
        return self

    def scores(self, model: str, version: str, held_out: Sequence[float] | None) -> ScoreObserver:
        return self

    def scored(self, log_p_nats: NDArray[Any], status: Sequence[str], comparable: bool) -> None: ...

    def ran(self, rows: int, padding_rows: int, run_s: float, waits_s: Sequence[float]) -> None: ...

    def dropped(self, reason: Reason, rows: int) -> None: ...

    def closed(self) -> None: ...


class Worker:
    """A thread that runs what it is given, in order."""

    def __init__(self, name: str) -> None:
        self._queue: SimpleQueue[Work | None] = SimpleQueue()
        # A daemon: a graph that never returns must not keep the process alive.
        threading.Thread(target=_serve, args=(self._queue,), name=name, daemon=True).start()

    def __call__(self, work: Work) -> None:
        self._queue.put(work)

    def close(self) -> None:
        """End after what has been given so far."""
        self._queue.put(None)


def _serve(queue: SimpleQueue[Work | None]) -> None:
    while (work := queue.get()) is not None:
        work()
        del work  # it holds a batch, and through it a model, while this thread waits for the next


class Batch:
    """Pieces that run together."""

    __slots__ = ("answers", "began", "error", "finite", "pieces", "rows", "run_s", "size")

    def __init__(self, pieces: list[Piece]) -> None:
        self.pieces = pieces
        self.rows = 0
        for piece in pieces:
            self.rows += piece.rows
        self.size = self.rows
        self.began = 0.0
        self.run_s = 0.0
        self.answers: list[Outputs | None] = []
        self.finite = False
        self.error: BaseException | None = None


class Lane:
    """Gathers the rows of concurrent callers into batches, and gives each caller its own back.

    Args:
        stage: runs a batch.
        costs: of each size of batch.
        queue_ms: how much work may wait.
        start: runs work on the lane's worker, in order.
        observer: counts.
        clock: in seconds, the same that deadlines are on.
        lost: told once, when the device is lost.
        inline: whether short batches run where they are formed, on the event loop.
    """

    def __init__(
        self,
        stage: Stage,
        costs: Costs,
        queue_ms: float,
        start: Callable[[Work], None],
        observer: LaneObserver | None = None,
        clock: Callable[[], float] = time.monotonic,
        lost: Callable[[str], None] = lambda reason: None,
        inline: bool = False,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._stage, self._costs, self._start = stage, costs, start
        self._measured = costs  # with the sizes that there is no memory for now
        self._relief = 0.0
        self._observer: LaneObserver = observer or NoObserver()
        self._clock, self._lost = clock, lost
        self._inline_ms = SHORT_MS if inline else 0.0
        self._in_flight = 2 if costs.ms[-1] < SHORT_MS else 1
        self._limit = max(1, int(queue_ms / costs.row_ms))
        self._queue = Turns(costs, heaviest=max(1, self._limit // 2))
        self._broken: deque[Batch] = deque()  # the parts of batches that failed
        self._flying: set[Batch] = set()
        self._pace = 1.0  # how long batches take, in units of their cost
        self._busy_since = 0.0  # or since the last batch has ended
        self._awake = False
        self._mended = False  # whether the last batch was a part of a broken one
        self._end: tuple[Reason, Callable[[], ServiceError]] | None = None
        self._quiet = asyncio.Event()

    @property
    def seeds(self) -> Seeds | None:
        """Of the codes that the entry point takes, if it takes codes."""
        return self._stage.seeds

    @property
    def waiting(self) -> int:
        """Rows in the queue."""
        return self._queue.rows

    @property
    def fullness(self) -> float:
        """How much of the queue's bound is taken, 0 to 1; at 1 callers are refused."""
        return min(1.0, self._queue.weight / self._limit)

    def busy_s(self) -> float:
        """How long the oldest batch has been with the device, 0 if there is none."""
        return max((self._clock() - batch.began for batch in self._flying), default=0.0)

    # Arrival ------------------------------------------------------------------------------------------

    async def submit(
        self, inputs: tuple[Input, ...], rows: int, deadline: float, admitted: bool = False
    ) -> Rows:
        """Wait for the outputs of some rows.

        Args:
            inputs: one for each of the entry point, in the manifest's order: (rows, ...) of its dtype, or
                where its noise is found. They are read until the answer is there.
            rows: how many; any number, a job larger than a batch is cut and put together again.
            deadline: on the lane's clock; whoever still queues then is dropped.
            admitted: a further part of an answer that has begun, which the queue may not refuse.

        Raises:
            QueueFull, Draining, EngineDead, DeadlinePassed: and no work is done.
            ValueError: if an input does not fit the entry point.
        """
        future: asyncio.Future[Rows] = self._loop.create_future()
        job = self.enter(future, inputs, rows, deadline, admitted)
        try:
            return await future
        except asyncio.CancelledError:
            self.forget(job)
            raise
        finally:
            del future, job  # it may have an error, whose traceback has this frame

    def enter(
        self,
        waiter: Waiter,
        inputs: tuple[Input, ...],
        rows: int,
        deadline: float,
        admitted: bool = False,
    ) -> Job:
        """The same, for somebody who is told the outputs, or an error.

        Raises:
            QueueFull, Draining, EngineDead, ValueError: and nobody is told anything.
        """
        if self._end is not None:
            reason, refusal = self._end
            self._observer.dropped(reason, rows)
            raise refusal()
        self._check(inputs, rows)
        now = self._clock()
        full = None if admitted or self._roomy(rows, deadline - now) else self._refused(rows, deadline - now)
        if full is not None:
            self._observer.dropped("queue_full", rows)
            try:
                raise full
            finally:
                del full  # its traceback has this frame: a circle, which only the garbage collector finds
        job = Job(inputs, rows, deadline, now, waiter)
        self._queue.join(job)
        self._wake()
        return job

    def _check(self, inputs: tuple[Input, ...], rows: int) -> None:
        if rows < 1 or len(inputs) != len(self._stage.inputs):
            raise ValueError(f"{rows} rows of {len(inputs)} inputs; needed are {len(self._stage.inputs)}")
        for place, value in enumerate(inputs):
            if not self._stage.accepts(place, value, rows):
                seen = getattr(value, "shape", None), getattr(value, "dtype", value)
                raise ValueError(f"input {self._stage.inputs[place]} of {rows} rows got {seen}")

    def _roomy(self, rows: int, patience_s: float) -> bool:
        """Whether there is so little to do that nobody needs to look closer: there mostly is."""
        if self._flying or self._broken or self._queue.weight + rows > self._limit:
            return False
        return (LEEWAY * self._queue.rows + rows) * self._costs.row_ms * self._pace < 1000 * patience_s

    def _refused(self, rows: int, patience_s: float) -> QueueFull | None:
        return self._full(rows) or self._too_late(rows, patience_s)

    def _full(self, rows: int) -> QueueFull | None:
        queue = self._queue
        if not queue.rows or queue.weight + queue.weigh(rows) <= self._limit:
            return None
        wait_ms = queue.weight * self._costs.row_ms * self._pace
        return QueueFull(
            f"{queue.rows} rows are queued, about {wait_ms:.0f} ms of work; {rows} more do not fit into "
            f"{self._limit * self._costs.row_ms:.0f} ms",
            retry_after_s=wait_ms / 1000,
        )

    def _too_late(self, rows: int, patience_s: float) -> QueueFull | None:
        """Who would wait past the deadline is told so now: late, he would have cost others their time."""
        if not self._queue.rows and not self._flying:
            return None
        wait_s = self._wait_s(rows)
        if wait_s <= patience_s:
            return None
        return QueueFull(
            f"{self._queue.rows} rows are queued, and an answer may take {1000 * wait_s:.0f} ms; "
            f"the deadline is in {1000 * patience_s:.0f} ms",
            retry_after_s=wait_s - patience_s,
        )

    def _wait_s(self, rows: int) -> float:
        """How long an answer may take: others have their turns first, and the device has its batches."""
        others = self._queue.ahead(rows)
        for batch in (*self._flying, *self._broken):
            others += batch.rows
        return (LEEWAY * others + rows) * self._costs.row_ms * self._pace / 1000

    def forget(self, job: Job) -> None:
        """Its caller has left, or waits no longer."""
        if rows := self._queue.leave(job):
            self._observer.dropped("cancelled", rows)
            self._settle()

    # Departure ----------------------------------------------------------------------------------------

    def _wake(self) -> None:
        """Form batches when this turn of the loop ends, so that all who arrive in it go together."""
        if not self._awake and self._may_start():
            self._awake = True
            self._loop.call_soon(self._pump)

    def _after(self, turns: int) -> None:
        """Form batches when the loop has turned for others, nobody of whom moves while one runs here."""
        self._awake = True
        if turns:
            self._loop.call_soon(self._after, turns - 1)
        else:
            self._pump()

    def _may_start(self) -> bool:
        if not self._flying:
            return bool(self._queue.rows or self._broken)
        # A batch that is not full can still grow while another runs; and behind one caller's thousands, alone
        # here, whoever comes next would wait for two of their batches instead of one.
        full = self._queue.rows >= self._costs.max_rows
        return len(self._flying) < self._in_flight and full and len(self._queue) > 1

    def _pump(self) -> None:
        self._awake = False
        while self._may_start() and not self._awake:
            pieces = self._next()
            if pieces:
                self._launch(Batch(pieces))
        self._settle()

    def _next(self) -> list[Piece]:
        """The next batch, a part of a broken one and fresh rows by turns."""
        self._mended = bool(self._broken) and not (self._mended and self._queue.rows)
        return self._mend(self._broken.popleft()) if self._mended else self._gather()

    def _gather(self) -> list[Piece]:
        """Rows from the queue, until the batch is full."""
        now, queue = self._clock(), self._queue
        if now >= self._relief:
            self._costs = self._measured
        room = self._costs.worth(queue.rows)
        answered = now + self._costs.ms_of(room) * self._pace / 1000

        def wanted(job: Job) -> bool:
            if answered < job.deadline and not job.waiter.done():
                return True
            # Who would be late gives way to others; alone he may try, for the estimate may be wrong.
            return not self._late(job, answered if len(queue) > 1 else now)

        pieces = queue.take(room, wanted)
        for piece in pieces:
            if piece.rows < piece.job.rows and piece.job.outputs is None:
                piece.job.outputs = self._stage.blank(piece.job.rows)
        return pieces

    def _mend(self, broken: Batch) -> list[Piece]:
        """What is still wanted of a part of a batch that failed, and now fits."""
        now = self._clock()
        pieces = [p for p in broken.pieces if not p.job.waiter.done() and not self._late(p.job, now)]
        part = Batch(pieces)
        if part.rows > self._costs.max_rows:
            self._broken.extendleft(reversed(self._halves(part)))
            return []
        return pieces

    def _late(self, job: Job, answered: float) -> bool:
        """Whether nobody waits any more; whoever cannot be answered by the deadline is told so."""
        if job.waiter.done():
            if job.waiter.cancelled():
                self._observer.dropped("cancelled", job.left)
            return True
        if answered < job.deadline:
            return False
        waited_ms = 1000 * (self._clock() - job.since)
        _tell(job, DeadlinePassed(f"the deadline passed in the queue, after {waited_ms:.0f} ms"))
        self._observer.dropped("deadline", job.left)
        return True

    def _launch(self, batch: Batch) -> None:
        batch.size = self._costs.size_of(batch.rows)
        batch.began = self._clock()
        if not self._flying:
            self._busy_since = batch.began
        here = not self._flying and self._costs.ms_of(batch.size) <= self._patience_ms(batch)
        self._flying.add(batch)
        if here:
            self._run(batch)
            self._land(batch)
            self._deliver(batch)
            if self._may_start():
                self._after(TURNS)
        else:
            self._start(partial(self._work, batch))

    def _patience_ms(self, batch: Batch) -> float:
        """How long the event loop may be held up; longer by somebody who is alone here."""
        alone = len(batch.pieces) == 1 and not self._queue.rows
        return self._inline_ms * (ALONE if alone else 1.0)

    def _work(self, batch: Batch) -> None:
        """Run a batch; on the worker's thread."""
        self._run(batch)
        with suppress(RuntimeError):  # the loop has been closed, and nobody waits
            self._loop.call_soon_threadsafe(self._landed, batch)

    def _run(self, batch: Batch) -> None:
        batch.began, began = self._clock(), time.perf_counter()
        try:
            batch.answers, batch.finite = self._stage.run(batch.pieces, batch.size)
        except BaseException as error:  # whatever it is, callers wait for it, and so do the next batches
            batch.error = error
        batch.run_s = time.perf_counter() - began

    # Return -------------------------------------------------------------------------------------------

    def _landed(self, batch: Batch) -> None:
        """The next batch runs while the callers of this one are told, which takes them a while."""
        try:
            self._land(batch)
            self._pump()
        finally:
            self._deliver(batch)

    def _land(self, batch: Batch) -> None:
        try:
            if batch.error is None:
                self._time(batch)
            else:
                self._break(batch, batch.error)
        finally:
            self._flying.discard(batch)

    def _deliver(self, batch: Batch) -> None:
        if batch.error is not None:
            return
        waits_s = []
        for piece, answer in zip(batch.pieces, batch.answers, strict=True):
            if piece.start == 0:
                piece.job.waited_s = batch.began - piece.job.since
                waits_s.append(piece.job.waited_s)
            self._answer(piece, answer, batch.finite)
        self._observer.ran(batch.rows, batch.size - batch.rows, batch.run_s, waits_s)

    def _time(self, batch: Batch) -> None:
        """Who else has the device, or the processor, makes batches take longer than they cost."""
        now, cost_ms = self._clock(), self._costs.ms_of(batch.size)
        took_ms = 1000 * (now - self._busy_since)
        weight = cost_ms / (cost_ms + RECENT_MS)
        self._pace += weight * (min(took_ms / cost_ms, SLOWEST) - self._pace)
        self._busy_since = now

    def _answer(self, piece: Piece, whole: Outputs | None, finite: bool) -> None:
        job = piece.job
        job.left -= piece.rows
        job.finite = job.finite and finite
        if job.left == 0 and not job.waiter.done():
            outputs = whole if job.outputs is None else job.outputs
            assert outputs is not None
            _tell(job, Rows(outputs, job.failed, job.since, job.waited_s, job.finite))

    def _break(self, batch: Batch, error: BaseException) -> None:
        """Find the row that a batch failed on by halving; everybody else is answered."""
        if isinstance(error, DeviceLost):
            self.kill(f"the device is lost: {error}")
            return
        if isinstance(error, OutOfMemory | MemoryError):
            self._shrink(batch.size)
        if batch.rows > 1:
            self._broken.extend(self._halves(batch))
            return
        (piece,) = batch.pieces
        piece.job.failed[piece.start] = f"{type(error).__name__}: {error}"
        self._observer.dropped("row_failed", 1)
        self._answer(piece, self._stage.blank(1), finite=True)

    def _shrink(self, size: int) -> None:
        """Batches of a size do not fit into memory, at least not now; one row says nothing of crowds."""
        self._costs = self._costs.halved(size) if size > 1 else self._measured
        self._relief = self._clock() + RELIEF_S
        _log.warning("%d rows do not fit into memory; batches are now %d", size, self._costs.max_rows)

    def _halves(self, batch: Batch) -> list[Batch]:
        middle, start = batch.rows // 2, 0
        halves: tuple[list[Piece], list[Piece]] = [], []
        for piece in batch.pieces:
            cut = min(max(middle - start, 0), piece.rows)
            for half, part in zip(halves, _split(piece, cut), strict=True):
                half += part
            if 0 < cut < piece.rows and piece.job.outputs is None:
                piece.job.outputs = self._stage.blank(piece.job.rows)
            start += piece.rows
        return [Batch(half) for half in halves]

    # The end ------------------------------------------------------------------------------------------

    def kill(self, reason: str) -> None:
        """Fail everyone who waits, and whoever comes: the device answers nothing any more."""
        if self._end and self._end[0] == "engine_dead":
            return
        self._end = "engine_dead", lambda: EngineDead(reason)
        self._fail_all()
        self._lost(reason)

    async def close(self, drain_s: float) -> None:
        """Refuse who comes, answer who waits until ``drain_s`` have passed, and fail who is left."""
        self._end = self._end or ("draining", lambda: Draining("the service is stopping"))
        self._settle()
        with suppress(TimeoutError):
            async with asyncio.timeout(drain_s):
                await self._quiet.wait()
        self._fail_all()

    def _settle(self) -> None:
        if self._end and not (self._queue.rows or self._broken or self._flying):
            self._quiet.set()

    def _fail_all(self) -> None:
        assert self._end is not None
        reason, refusal = self._end
        for job in self._jobs():
            if not job.waiter.done():
                _tell(job, refusal())
                self._observer.dropped(reason, job.left)
        self._queue.clear()
        self._broken.clear()

    def _jobs(self) -> Iterator[Job]:
        yield from self._queue
        for batch in (*self._broken, *self._flying):
            yield from (piece.job for piece in batch.pieces)


def _split(piece: Piece, cut: int) -> tuple[list[Piece], list[Piece]]:
    """The first ``cut`` rows of a piece, and the rest; a side without rows has no piece."""
    if cut == 0:
        return [], [piece]
    if cut == piece.rows:
        return [piece], []
    rest = Piece(piece.job, piece.start + cut, piece.rows - cut)
    return [Piece(piece.job, piece.start, cut)], [rest]


def _tell(job: Job, outcome: Rows | ServiceError) -> None:
    """What one of them makes of it must not keep the others from being told."""
    try:
        if isinstance(outcome, Rows):
            job.waiter.set_result(outcome)
        else:
            job.waiter.set_exception(outcome)
    except Exception:
        _log.exception("who waited for %d rows could not be told", job.rows)
