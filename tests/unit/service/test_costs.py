"""Batches are as large as pays, and no larger."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from service.backends import GraphError, OutOfMemory
from service.costs import HANDOVER_MS, LONG_MS, LONGEST_BATCH_MS, RUNS, Costs, measure


class Device:
    """Takes as long as a formula says, on a clock of its own; the first runs of a size take longer."""

    def __init__(self, ms: Callable[[int], float], memory_rows: int = 10**9) -> None:
        self.now, self._ms, self._memory_rows = 0.0, ms, memory_rows
        self.runs: list[int] = []

    def run(self, size: int) -> None:
        if size > self._memory_rows:
            raise OutOfMemory("no room")
        cold = 10.0 if size not in self.runs else 0.0
        self.runs.append(size)
        self.now += (self._ms(size) + cold) / 1000

    def costs(self, max_rows: int = 256) -> Costs:
        return measure(self.run, max_rows, lambda: self.now)


def test_every_size_is_run_until_it_is_warm_and_timed_after() -> None:
    device = Device(lambda size: 1 + 0.001 * size)
    costs = device.costs()
    assert costs.sizes == (1, 2, 4, 8, 16, 32, 64, 128, 256)
    assert costs.ms == pytest.approx([1 + 0.001 * size + HANDOVER_MS for size in costs.sizes])
    assert all(device.runs.count(size) == 1 + RUNS for size in costs.sizes)


@pytest.mark.parametrize(
    ("max_rows", "sizes"), [(1, (1,)), (2, (1, 2)), (6, (1, 2, 4, 6)), (8, (1, 2, 4, 8))]
)
def test_the_largest_size_is_the_one_that_was_set(max_rows: int, sizes: tuple[int, ...]) -> None:
    assert Device(lambda size: 1.0).costs(max_rows).sizes == sizes


def test_where_a_row_costs_the_same_in_any_crowd_batches_stay_shorter_than_long() -> None:
    device = Device(lambda size: 5.0 * size)
    assert device.costs().max_rows == 8
    assert max(device.runs) <= 16
    assert Device(lambda size: LONG_MS * size).costs().max_rows == 1


def test_a_batch_that_takes_long_is_not_doubled() -> None:
    device = Device(lambda size: 200 + 0.1 * size**2)
    assert device.costs().max_rows == 32
    assert device._ms(32) > LONGEST_BATCH_MS


@pytest.mark.parametrize("during", [4, 64, 256])
def test_a_processor_that_others_use_for_a_moment_does_not_make_batches_small(during: int) -> None:
    def ms(size: int) -> float:
        return 30.0 if size == during and device.runs.count(size) <= 1 + RUNS else 1 + 0.001 * size

    device = Device(ms)
    costs = device.costs()
    assert costs.max_rows == 256
    assert costs.ms_of(during) == pytest.approx(1 + 0.001 * during + HANDOVER_MS)


def test_what_does_not_fit_into_memory_is_not_offered() -> None:
    assert Device(lambda size: 1.0, memory_rows=20).costs().sizes == (1, 2, 4, 8, 16)
    with pytest.raises(OutOfMemory):
        Device(lambda size: 1.0, memory_rows=0).costs()


def test_a_graph_that_fails_at_one_size_is_not_warm() -> None:
    def run(size: int) -> None:
        if size == 8:
            raise GraphError("eight is too many")

    with pytest.raises(GraphError, match="eight"):
        measure(run, 256)


def test_rows_wait_where_padding_them_would_cost_more() -> None:
    flat = Costs((1, 2, 4, 8), (1.0, 1.0, 1.0, 1.0))
    assert [flat.worth(rows) for rows in range(1, 10)] == [1, 2, 3, 4, 5, 6, 7, 8, 8]
    linear = Costs((1, 2, 4, 8), (1.0, 2.0, 4.0, 8.0))
    assert [linear.worth(rows) for rows in range(1, 10)] == [1, 2, 2, 4, 4, 4, 4, 8, 8]
    assert [flat.size_of(rows) for rows in range(1, 9)] == [1, 2, 4, 4, 8, 8, 8, 8]


def test_halving_stops_at_one_row() -> None:
    costs = Costs((1, 2, 4, 6), (1.0, 1.0, 1.0, 1.0))
    assert [costs.halved(size).sizes for size in (6, 4, 2, 1)] == [(1, 2), (1, 2), (1,), (1,)]
