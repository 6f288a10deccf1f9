"""What a batch costs: measured when a graph is warmed, and used to size batches and to bound the queue."""

from __future__ import annotations

import time
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Final, Self

import numpy as np

from service.backends import OutOfMemory

HANDOVER_MS: Final = 0.1  # what a batch costs beside its graph: two threads, gathering, waking its callers
LONGEST_BATCH_MS: Final = 250.0  # nobody's single row should wait longer behind somebody's thousand
SHORT_MS: Final = 5.0  # a batch below this keeps nobody waiting who would notice
LONG_MS: Final = 60.0  # one below this hardly does, and has its callers answered together, which is cheaper
NEAR: Final = 1.1  # longer batches must save more than a tenth per row to be worth the wait
CACHE_BYTES: Final = 1 << 23  # more than what a core keeps of a graph while others run
RUNS: Final = 3  # TorchScript specialises in its second and third run of a shape


@dataclass(frozen=True, slots=True)
class Costs:
    """The sizes of batch that were measured, ascending, and what each takes.

    Attributes:
        exact: whether batches of any size up to the largest are run, so that none has to be padded.
        max_rows: the largest batch.
        row_ms: what a row costs when there are many.
    """

    sizes: tuple[int, ...]
    ms: tuple[float, ...]
    exact: bool = False
    max_rows: int = field(init=False)
    row_ms: float = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "max_rows", self.sizes[-1])
        object.__setattr__(self, "row_ms", self.ms[-1] / self.sizes[-1])

    @property
    def short_rows(self) -> int:
        """The largest batch that is short, at least one row."""
        return self.sizes[max(0, bisect_right(self.ms, SHORT_MS) - 1)]

    def size_of(self, rows: int) -> int:
        """The size that rows are padded to."""
        return rows if self.exact else self.sizes[bisect_left(self.sizes, rows)]

    def ms_of(self, size: int) -> float:
        """What a batch of some size takes, or of the next larger one that was measured."""
        return self.ms[bisect_left(self.sizes, size)]

    def worth(self, rows: int) -> int:
        """How many of the rows that wait to run now: all, padded, or fewer where padding would cost more."""
        rows = min(rows, self.max_rows)
        if self.exact:
            return rows
        below, above = bisect_right(self.sizes, rows) - 1, bisect_left(self.sizes, rows)
        if rows / self.ms[above] >= self.sizes[below] / self.ms[below]:
            return rows
        return self.sizes[below]

    def halved(self, size: int) -> Self:
        """Without the sizes above half of ``size``, which was too large for the memory."""
        keep = max(1, bisect_right(self.sizes, size // 2))
        return replace(self, sizes=self.sizes[:keep], ms=self.ms[:keep])

    @classmethod
    def pruned(cls, sizes: list[int], ms: list[float]) -> Self:
        """Without the long sizes that save next to nothing per row."""
        per_row = [cost / size for size, cost in zip(sizes, ms, strict=True)]
        best = min(per_row)
        last = next(i for i, cost in enumerate(per_row) if cost <= NEAR * best)
        last = max(last, bisect_right(ms, LONG_MS) - 1)
        return cls(tuple(sizes[: last + 1]), tuple(ms[: last + 1]))


def measure(
    run: Callable[[int], object], max_rows: int, timer: Callable[[], float] = time.perf_counter
) -> Costs:
    """Run every size of batch until it is warm, and time it.

    Args:
        run: runs the graph on that many rows.
        max_rows: the largest size that may be used; less is, where memory, time or gain say so.

    Raises:
        GraphError: if the graph fails, or one row alone does not fit into memory.
    """
    sizes: list[int] = []
    ms: list[float] = []
    for size in _doubling(max_rows):
        try:
            ms.append(_cost_ms(run, size, timer))
        except OutOfMemory:
            if not sizes:
                raise
            break
        sizes.append(size)
        if _odd(sizes, ms):
            ms[-2:] = map(min, ms[-2:], [_cost_ms(run, size, timer) for size in sizes[-2:]])
        if ms[-1] > LONGEST_BATCH_MS or (ms[-1] > LONG_MS and _saturated(sizes, ms)):
            break
    return Costs.pruned(sizes, ms)


def _doubling(last: int) -> Iterator[int]:
    size = 1
    while size < last:
        yield size
        size *= 2
    yield last


def _cost_ms(run: Callable[[int], object], size: int, timer: Callable[[], float]) -> float:
    run(size)
    shortest, others = float("inf"), np.empty(CACHE_BYTES, np.uint8)
    for _ in range(RUNS):
        others.fill(0)  # in service a graph hardly finds its weights in the cache that it left them in
        began = timer()
        run(size)
        shortest = min(shortest, 1000 * (timer() - began))
    return shortest + HANDOVER_MS


def _odd(sizes: list[int], ms: list[float]) -> bool:
    """Whether a crowd costs more by the row than half of it, or less in all: somebody else was at work."""
    return len(sizes) > 1 and (ms[-1] / sizes[-1] > ms[-2] / sizes[-2] or ms[-1] < ms[-2])


def _saturated(sizes: list[int], ms: list[float]) -> bool:
    """Whether two doublings in a row have saved next to nothing per row."""
    if len(sizes) < 3:
        return False
    before, _, now = (cost / size for size, cost in zip(sizes[-3:], ms[-3:], strict=True))
    return before <= NEAR * now
