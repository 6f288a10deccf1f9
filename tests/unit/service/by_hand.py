"""A lane whose time and device are moved by hand; the graph is a real one."""

from __future__ import annotations

import asyncio
import functools
import tempfile
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, ParamSpec

import numpy as np
from numpy.typing import NDArray

from service.artifact import open_artifact
from service.backends import OnnxGraph, OutOfMemory
from service.batch import Stage
from service.costs import Costs
from service.lane import Lane, Rows
from tests import graphs

Array = NDArray[Any]
P = ParamSpec("P")

POISON = -1.0
SIZES = (1, 2, 4, 8)


def looped(test: Callable[P, Awaitable[None]]) -> Callable[P, None]:
    """Run a test on an event loop of its own."""

    @functools.wraps(test)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        asyncio.run(test(*args, **kwargs))  # type: ignore[arg-type]

    return run


@functools.cache
def poison() -> tuple[Any, Any, OnnxGraph]:
    """The graph x = 2 z in ONNX Runtime, which fails on a batch with a row of -1 or less."""
    with tempfile.TemporaryDirectory() as root:
        artifact = open_artifact(graphs.poison(Path(root)))
        entry = artifact.manifest.entry_points["decode"]
        return artifact.manifest, entry, OnnxGraph(artifact.read(entry.files["onnx"]), entry, "cpu", 1)


async def settle() -> None:
    """Let the event loop do what it has to do now."""
    for _ in range(8):
        await asyncio.sleep(0)


class Bench:
    """A lane on a device that runs a batch when it is told to."""

    provider = "by hand"

    def __init__(
        self,
        sizes: tuple[int, ...] = SIZES,
        ms: tuple[float, ...] | None = None,
        queue_ms: float = 1e9,
        inline: bool = False,
    ) -> None:
        manifest, entry, self._graph = poison()
        self.now = 0.0
        self.memory_rows = sizes[-1]
        self.broken: BaseException | None = None
        self.batches: list[list[float]] = []
        self.ran_rows: list[tuple[int, int]] = []
        self.waits_s: list[float] = []
        self.losses: list[tuple[str, int]] = []
        self.lost: list[str] = []
        self._works: deque[Callable[[], None]] = deque()
        self.lane = Lane(
            Stage(self, manifest, entry, sizes[-1]),
            Costs(sizes, ms or (1.0,) * len(sizes)),
            queue_ms,
            self._works.append,
            self,
            lambda: self.now,
            self.lost.append,
            inline,
        )

    # The graph

    def __call__(self, inputs: Sequence[Array]) -> Sequence[Array]:
        self.batches.append(inputs[0].ravel().tolist())
        if self.broken is not None:
            raise self.broken
        if len(inputs[0]) > self.memory_rows:
            raise OutOfMemory("no room")
        return self._graph(inputs)

    # The observer

    def ran(self, rows: int, padding_rows: int, run_s: float, waits_s: Sequence[float]) -> None:
        assert run_s >= 0
        self.ran_rows.append((rows, padding_rows))
        self.waits_s += waits_s

    def dropped(self, reason: str, rows: int) -> None:
        self.losses.append((reason, rows))

    def closed(self) -> None: ...

    # The callers and the device

    async def ask(self, *values: float, deadline: float = 1e9, admitted: bool = False) -> asyncio.Task[Rows]:
        """A caller, who has arrived when this returns."""
        column = np.array(values, np.float32).reshape(-1, 1)
        task = asyncio.ensure_future(self.lane.submit((column,), len(column), deadline, admitted))
        await settle()
        return task

    async def step(self) -> None:
        """Let the device end one batch."""
        self._works.popleft()()
        await settle()

    async def finish(self) -> None:
        while self._works:
            await self.step()

    @property
    def handed_over(self) -> int:
        """Batches that the device has and has not ended."""
        return len(self._works)

    def assert_idle(self) -> None:
        lane = self.lane
        assert not list(lane._queue)
        assert not lane._broken
        assert not lane._flying
        assert not self._works
        assert (lane.waiting, lane._queue.weight) == (0, 0)
        assert (lane._queue.ahead(1), lane._queue.ahead(10**6)) == (0, 0)
        assert lane.busy_s() == 0


def values_of(task: asyncio.Task[Rows]) -> list[float]:
    return [float(v) for v in task.result().outputs[0].ravel()]
