"""The laws of the lane, one example each: time and the device are moved by hand, the graph is a real one."""

from __future__ import annotations

import asyncio
import functools
import gc
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from models.noise import Address, draw
from service.backends import DeviceLost, GraphError, OutOfMemory
from service.batch import Stage
from service.costs import Costs
from service.errors import DeadlinePassed, Draining, EngineDead, QueueFull
from service.lane import RELIEF_S, Lane, Rows, Worker
from service.turns import SHARES, TURN_MS
from tests import graphs
from tests.unit.service.by_hand import POISON, SIZES, Array, Bench, looped, poison, settle, values_of

# Work-conserving ------------------------------------------------------------------------------------------


@looped
async def test_an_idle_device_takes_what_is_there_at_once() -> None:
    bench = Bench()
    task = await bench.ask(1)
    assert bench.handed_over == 1
    await bench.step()
    assert values_of(task) == [2]
    bench.assert_idle()


@looped
async def test_rows_that_arrive_in_one_turn_of_the_loop_go_together() -> None:
    bench = Bench()
    inputs = [graphs.f32([[i]]) for i in range(3)]
    tasks = [asyncio.ensure_future(bench.lane.submit((x,), 1, 1e9)) for x in inputs]
    await settle()
    await bench.finish()
    assert [values_of(task) for task in tasks] == [[0], [2], [4]]
    assert bench.batches == [[0, 1, 2, 2]]


@looped
async def test_while_the_device_is_busy_rows_gather_and_go_when_it_ends() -> None:
    bench = Bench()
    first = await bench.ask(0)
    others = [await bench.ask(i) for i in (1, 2, 3)]
    assert bench.handed_over == 1
    await bench.step()
    assert first.done()
    assert bench.handed_over == 1
    await bench.step()
    assert [values_of(task) for task in others] == [[2], [4], [6]]
    assert bench.batches == [[0], [1, 2, 3, 3]]


class Asker:
    """Is told at once, without the event loop."""

    def __init__(self, bench: Bench, fails: bool = False) -> None:
        self.told: list[tuple[object, int]] = []  # and how many batches the device had then
        self._bench, self._fails = bench, fails

    def done(self) -> bool:
        return bool(self.told)

    def cancelled(self) -> bool:
        return False

    def set_result(self, result: Rows) -> None:
        self.told.append((result.outputs[0].ravel().tolist(), self._bench.handed_over))
        if self._fails:
            raise ZeroDivisionError("a mistake")

    def set_exception(self, exception: BaseException) -> None:
        self.told.append((type(exception), self._bench.handed_over))
        if self._fails:
            raise ZeroDivisionError("a mistake")


def enters(bench: Bench, value: float, fails: bool = False) -> Asker:
    asker = Asker(bench, fails)
    bench.lane.enter(asker, (graphs.f32([[value]]),), 1, 1e9)
    return asker


@looped
async def test_who_is_told_at_once_does_not_keep_the_device_waiting() -> None:
    bench = Bench()
    first = enters(bench, 1)
    await settle()
    second = enters(bench, 2)
    await bench.finish()
    assert (first.told, second.told) == ([([2], 1)], [([4], 0)])
    bench.assert_idle()


@looped
async def test_who_cannot_be_told_does_not_keep_others_from_it(caplog: pytest.LogCaptureFixture) -> None:
    bench = Bench()
    askers = [enters(bench, value, fails=value == 2) for value in (1, 2, 3)]
    await settle()
    await bench.finish()
    assert [asker.told for asker in askers] == [[([2], 0)], [([4], 0)], [([6], 0)]]
    askers = [enters(bench, value, fails=value == 1) for value in (1, 2, 3)]
    bench.lane.kill("gone")
    assert [asker.told for asker in askers] == 3 * [[(EngineDead, 0)]]
    assert [record.exc_text is not None for record in caplog.records] == [True, True]
    await settle()
    bench.assert_idle()


@looped
async def test_a_full_batch_is_ready_when_the_device_ends_and_a_partial_one_still_grows() -> None:
    bench = Bench()
    await bench.ask(0)
    await bench.ask(*range(7))
    assert bench.handed_over == 1
    await bench.ask(7)
    assert bench.handed_over == 2
    await bench.ask(*range(20))
    assert bench.handed_over == 2
    await bench.finish()
    bench.assert_idle()


@looped
async def test_before_long_batches_nothing_is_committed_ahead() -> None:
    bench = Bench(ms=(10.0, 20.0, 40.0, 80.0))
    await bench.ask(0)
    await bench.ask(*range(20))
    assert bench.handed_over == 1
    await bench.finish()


# Sizes ----------------------------------------------------------------------------------------------------


@looped
async def test_batches_are_padded_to_a_size_that_was_warmed() -> None:
    bench = Bench()
    for count in range(1, 9):
        task = await bench.ask(*range(count))
        await bench.finish()
        assert values_of(task) == [2.0 * i for i in range(count)]
    assert [len(batch) for batch in bench.batches] == [1, 2, 4, 4, 8, 8, 8, 8]
    assert bench.ran_rows[2] == (3, 1)


@looped
async def test_rows_stay_behind_where_padding_would_cost_more() -> None:
    bench = Bench(ms=(1.0, 2.0, 4.0, 8.0))
    task = await bench.ask(*range(7))
    await bench.finish()
    assert [len(batch) for batch in bench.batches] == [4, 2, 1]
    assert values_of(task) == [0, 2, 4, 6, 8, 10, 12]


@looped
async def test_a_large_job_is_cut_and_comes_back_in_order() -> None:
    bench = Bench()
    task = await bench.ask(*range(1000))
    await bench.finish()
    assert values_of(task) == [2.0 * i for i in range(1000)]
    assert [len(batch) for batch in bench.batches] == [8] * 125
    bench.assert_idle()


# Fairness -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ms", [1.0, 10.0])
@looped
async def test_a_single_row_behind_a_hundred_thousand_is_in_the_very_next_batch(ms: float) -> None:
    bench = Bench(ms=(ms,) * 4)
    large = await bench.ask(*range(100_000))
    single = await bench.ask(7)
    await bench.step()
    assert not single.done()
    await bench.step()
    assert values_of(single) == [14]
    assert not large.done()
    large.cancel()
    await settle()
    await bench.finish()
    bench.assert_idle()


@looped
async def test_large_jobs_share_the_device_evenly() -> None:
    bench = Bench()
    turn = int(TURN_MS / (1 / 8))  # rows
    tasks = [await bench.ask(*range(start, start + 4 * turn)) for start in (0, 1000, 2000)]
    for _ in range(turn):  # batches
        await bench.step()
    taken = [job.taken for job in bench.lane._queue]
    assert len(taken) == 3
    assert max(taken) - min(taken) <= turn + 8  # the first had a batch before the others came
    await bench.finish()
    assert [values_of(task)[-1] for task in tasks] == [
        2 * (start + 4 * turn - 1) for start in (0, 1000, 2000)
    ]


@looped
async def test_long_jobs_that_are_done_in_a_turn_are_answered_in_the_order_of_their_arrival() -> None:
    bench = Bench()
    tasks = [await bench.ask(*range(16)) for _ in range(5)]
    done = []
    for _ in range(10):
        await bench.step()
        done.append(sum(task.done() for task in tasks))
    assert done == [0, 1, 1, 2, 2, 3, 3, 4, 4, 5]


@pytest.mark.parametrize("sizes", [(1,), SIZES])
@looped
async def test_a_long_job_goes_on_behind_any_number_of_single_rows(sizes: tuple[int, ...]) -> None:
    bench = Bench(sizes)
    large = await bench.ask(*range(100))
    for _ in range(100 * SHARES):
        for _ in range(sizes[-1] + 1):
            await bench.ask(1)
        await bench.step()
    assert values_of(large) == [2.0 * i for i in range(100)]


@looped
async def test_small_jobs_are_answered_in_the_order_of_their_arrival() -> None:
    bench = Bench()
    order: list[int] = []
    tasks = [await bench.ask(i) for i in range(30)]
    for i, task in enumerate(tasks):
        task.add_done_callback(functools.partial(lambda number, _: order.append(number), i))
    await bench.finish()
    assert order == list(range(30))


# The bounded queue ----------------------------------------------------------------------------------------


@looped
async def test_a_full_queue_refuses_and_says_when_to_come_again() -> None:
    bench = Bench(ms=(8.0,) * 4, queue_ms=10)  # a row costs a millisecond: ten rows
    await bench.ask(0)
    waiting = [await bench.ask(*range(5)), await bench.ask(*range(5))]
    assert bench.lane.fullness == 1
    refused = await bench.ask(1)
    assert isinstance(refused.exception(), QueueFull)
    assert refused.exception().extra["retry_after_s"] == pytest.approx(0.010)  # type: ignore[union-attr]
    assert bench.losses == [("queue_full", 1)]
    more = await bench.ask(1, admitted=True)
    assert bench.lane.fullness == 1
    await bench.finish()
    assert bench.lane.fullness == 0
    assert [len(values_of(task)) for task in (*waiting, more)] == [5, 5, 1]
    assert values_of(await finished(bench, await bench.ask(3))) == [6]
    bench.assert_idle()


async def finished(bench: Bench, task: asyncio.Task[Rows]) -> asyncio.Task[Rows]:
    await bench.finish()
    return task


@looped
async def test_a_job_larger_than_the_queue_is_taken_and_leaves_room_for_small_ones() -> None:
    bench = Bench(ms=(8.0,) * 4, queue_ms=10)
    await bench.ask(0)
    large, small = await bench.ask(*range(100)), await bench.ask(1)
    also_large, third = await bench.ask(*range(100)), await bench.ask(*range(100))
    assert isinstance(also_large.exception(), QueueFull)
    assert isinstance(third.exception(), QueueFull)
    await bench.finish()
    assert len(values_of(large)) == 100
    assert values_of(small) == [2]
    bench.assert_idle()


@looped
async def test_who_would_wait_past_the_deadline_is_refused_at_once() -> None:
    bench = Bench(ms=(8.0,) * 4)  # a row costs a millisecond
    await bench.ask(0)
    await bench.ask(*range(100))
    hasty, patient = await bench.ask(*range(100), deadline=0.2), await bench.ask(*range(100), deadline=1)
    assert isinstance(hasty.exception(), QueueFull)
    assert "may take 403 ms; the deadline is in 200 ms" in str(hasty.exception())
    assert hasty.exception().extra["retry_after_s"] == pytest.approx(0.203)  # type: ignore[union-attr]
    assert bench.losses == [("queue_full", 100)]
    await bench.finish()
    assert len(values_of(patient)) == 100
    bench.assert_idle()


@looped
async def test_a_single_row_does_not_wait_for_all_of_a_large_job_and_is_not_refused_for_it() -> None:
    bench = Bench(ms=(8.0,) * 4)
    await bench.ask(0)
    await bench.ask(*range(100_000))
    single = await bench.ask(1, deadline=0.01)
    await bench.step()
    await bench.step()
    assert values_of(single) == [2]


@looped
async def test_whoever_is_refused_leaves_no_circle_for_the_garbage_collector() -> None:
    async def refused(deadline: float) -> type[Exception] | None:
        try:
            await bench.lane.submit((column,), len(column), deadline)
        except (QueueFull, DeadlinePassed) as error:
            return type(error)
        return None

    bench, column = Bench(ms=(8.0,) * 4), np.zeros((4, 1), np.float32)
    await bench.ask(0)
    await bench.ask(*range(100))
    gc.collect()
    gc.disable()
    try:
        at_once = [await refused(deadline=0.001) for _ in range(100)]
        late = [asyncio.ensure_future(refused(deadline=5)) for _ in range(100)]
        await settle()
        bench.now = 5.0
        await bench.finish()
        in_the_queue = [task.result() for task in late]
        circular = gc.collect()
    finally:
        gc.enable()
    assert set(at_once) == {QueueFull}
    assert set(in_the_queue) == {DeadlinePassed}
    assert circular < 50


@looped
async def test_an_idle_lane_tries_whatever_the_deadline() -> None:
    bench = Bench(ms=(8.0,) * 4)
    for _ in range(50):
        task = await bench.ask(*range(8), deadline=bench.now + 0.001)
        bench.now += 0.5  # the device takes far longer than it should, so it is thought to be slow
        await bench.finish()
        assert len(values_of(task)) == 8


@looped
async def test_a_device_that_has_become_slower_admits_less() -> None:
    bench = Bench(ms=(8.0,) * 4)

    async def admits() -> bool:
        await bench.ask(0)
        task = await bench.ask(*range(40), deadline=bench.now + 0.1)
        admitted = not task.done()
        task.cancel()
        await bench.finish()
        return admitted

    assert await admits()
    for took_s in [0.024] * 20:
        await bench.ask(*range(8))
        bench.now += took_s
        await bench.step()
    assert not await admits()
    for took_s in [0.008] * 40:
        await bench.ask(*range(8))
        bench.now += took_s
        await bench.step()
    assert await admits()


@looped
async def test_who_cannot_be_answered_in_time_gives_way_to_who_can() -> None:
    bench = Bench(ms=(100.0,) * 4)
    await bench.ask(0)
    doomed, patient = await bench.ask(1, deadline=0.15), await bench.ask(2, deadline=1)
    bench.now = 0.1
    await bench.finish()
    assert isinstance(doomed.exception(), DeadlinePassed)
    assert values_of(patient) == [4]
    assert bench.batches == [[0], [2]]


# Deadlines and callers who leave --------------------------------------------------------------------------


@looped
async def test_a_deadline_counts_the_time_in_the_queue_and_late_rows_cost_the_device_nothing() -> None:
    bench = Bench()
    await bench.ask(0)
    late, timely = await bench.ask(1, deadline=5), await bench.ask(2, deadline=50)
    bench.now = 5.0
    await bench.finish()
    assert isinstance(late.exception(), DeadlinePassed)
    assert "after 5000 ms" in str(late.exception())
    assert values_of(timely) == [4]
    assert bench.batches == [[0], [2]]
    assert bench.losses == [("deadline", 1)]
    assert bench.waits_s == [5.0, 5.0]  # until the device took them


@looped
async def test_the_rest_of_a_cut_job_is_dropped_when_its_deadline_passes() -> None:
    bench = Bench(ms=(10.0,) * 4)
    task = await bench.ask(*range(100), deadline=5)
    await bench.step()
    bench.now = 6.0
    await bench.finish()
    assert isinstance(task.exception(), DeadlinePassed)
    assert len(bench.batches) == 2
    bench.assert_idle()


@looped
async def test_a_caller_who_leaves_frees_the_queue_at_once() -> None:
    bench = Bench(ms=(8.0,) * 4, queue_ms=10)
    await bench.ask(0)
    leaving = [await bench.ask(*range(5)), await bench.ask(*range(5))]
    for task in leaving:
        task.cancel()
    await settle()
    assert bench.lane.waiting == 0
    staying = await bench.ask(*range(10))
    await bench.finish()
    assert len(values_of(staying)) == 10
    assert bench.losses == [("cancelled", 5), ("cancelled", 5)]
    bench.assert_idle()


@looped
async def test_a_caller_who_leaves_while_the_device_works_disturbs_nobody() -> None:
    bench = Bench()
    await bench.ask(0)
    leaving, staying = await bench.ask(1), await bench.ask(2)
    await bench.step()
    leaving.cancel()
    await bench.finish()
    assert leaving.cancelled()
    assert values_of(staying) == [4]
    bench.assert_idle()


# Failures -------------------------------------------------------------------------------------------------


@looped
async def test_a_poisoned_row_costs_one_row() -> None:
    bench = Bench()
    await bench.ask(0)
    callers = [await bench.ask(*v) for v in ([1, 2], [3, POISON, 4], [5])]
    await bench.finish()
    assert [values_of(task) for task in callers] == [[2, 4], [6, 0, 8], [10]]
    assert [list(task.result().failed) for task in callers] == [[], [1], []]
    assert "out of data bounds" in callers[1].result().failed[1]
    assert bench.losses == [("row_failed", 1)]
    bench.assert_idle()


@looped
async def test_fresh_rows_take_turns_with_the_parts_of_a_broken_batch() -> None:
    bench = Bench(ms=(10.0,) * 4)
    broken = await bench.ask(*[POISON] * 8)
    await bench.step()
    fresh = await bench.ask(1)
    await bench.step()
    await bench.step()
    assert fresh.done()
    assert not broken.done()
    await bench.finish()
    assert list(broken.result().failed) == list(range(8))


@looped
async def test_a_graph_with_a_wrong_row_count_fails_and_is_never_cut_wrongly() -> None:
    bench = Bench()
    bench._graph = lambda inputs: [np.zeros((3, 1), np.float32)]  # type: ignore[assignment]
    task = await bench.ask(1, 2)
    await bench.finish()
    assert set(task.result().failed) == {0, 1}
    assert "gave x as float32[3, 1], the manifest says float32[1, 1]" in task.result().failed[0]


@pytest.mark.parametrize("error", [GraphError("no"), ValueError(), SystemExit(1), KeyboardInterrupt()])
@looped
async def test_whatever_a_graph_raises_the_lane_goes_on(error: BaseException) -> None:
    bench = Bench()
    bench.broken = error
    task = await bench.ask(1, 2, 3)
    await bench.finish()
    assert sorted(task.result().failed) == [0, 1, 2]
    bench.broken = None
    assert values_of(await finished(bench, await bench.ask(4))) == [8]
    bench.assert_idle()


@looped
async def test_out_of_memory_halves_the_batches_from_then_on_and_nobody_is_failed() -> None:
    bench = Bench()
    bench.memory_rows = 3
    task = await bench.ask(*range(20))
    await bench.finish()
    assert values_of(task) == [2.0 * i for i in range(20)]
    assert not task.result().failed
    seen = len(bench.batches)
    await bench.ask(*range(20))
    await bench.finish()
    assert max(len(batch) for batch in bench.batches[seen:]) == 2
    bench.assert_idle()


@looped
async def test_memory_that_is_there_again_is_used_again() -> None:
    bench = Bench()
    bench.memory_rows = 3
    await bench.ask(*range(8))
    await bench.finish()
    bench.memory_rows = 8
    for now, largest in ((RELIEF_S - 1, 2), (RELIEF_S + 1, 8)):
        bench.now = now
        await bench.ask(*range(8))
        await bench.finish()
        assert len(bench.batches[-1]) == largest
    bench.assert_idle()


@looped
async def test_a_row_that_takes_all_memory_costs_one_row_and_leaves_batches_as_they_were() -> None:
    bench = Bench()
    graph = bench._graph

    def greedy(inputs: Sequence[Array]) -> Sequence[Array]:
        if 7 in inputs[0]:
            raise OutOfMemory("no room")
        return graph(inputs)

    bench._graph = greedy  # type: ignore[assignment]
    task = await bench.ask(*range(8))
    await bench.finish()
    assert list(task.result().failed) == [7]
    await bench.ask(*range(10, 18))
    await bench.finish()
    assert len(bench.batches[-1]) == 8
    bench.assert_idle()


@looped
async def test_a_lost_device_fails_everyone_and_says_so_once() -> None:
    bench = Bench()
    running, waiting = await bench.ask(*range(30)), await bench.ask(1)
    bench.broken = DeviceLost("CUDA failure 700")
    await bench.finish()
    late = await bench.ask(2)
    for task in (running, waiting, late):
        assert isinstance(task.exception(), EngineDead)
        assert "CUDA failure 700" in str(task.exception())
    assert bench.lost == ["the device is lost: CUDA failure 700"]
    bench.assert_idle()


@looped
async def test_an_input_that_does_not_fit_is_refused_before_it_meets_others() -> None:
    bench = Bench()
    for misfit in (np.zeros((1, 2), np.float32), np.zeros((1, 1)), np.zeros((2, 1), np.float32)):
        with pytest.raises(ValueError, match="of 1 rows got"):
            await bench.lane.submit((misfit,), 1, 1e9)
    with pytest.raises(ValueError, match="needed are 1"):
        await bench.lane.submit((), 1, 1e9)
    bench.assert_idle()


@looped
async def test_an_observer_that_fails_wedges_nothing() -> None:
    bench = Bench()
    complaints: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))

    def fail(*_: object) -> None:
        raise RuntimeError("no space left on the metrics device")

    bench.ran = fail  # type: ignore[method-assign, assignment]
    tasks = [await bench.ask(i) for i in range(3)]
    await bench.finish()
    assert [values_of(task) for task in tasks] == [[0], [2], [4]]
    assert complaints
    bench.assert_idle()


# The end --------------------------------------------------------------------------------------------------


@looped
async def test_closing_answers_who_is_queued_and_refuses_who_comes() -> None:
    bench = Bench()
    queued = [await bench.ask(i) for i in range(3)]
    closing = asyncio.ensure_future(bench.lane.close(60))
    await settle()
    refused = await bench.ask(9)
    assert isinstance(refused.exception(), Draining)
    assert not closing.done()
    await bench.finish()
    assert closing.done()
    assert [values_of(task) for task in queued] == [[0], [2], [4]]
    bench.assert_idle()


@looped
async def test_when_the_drain_ends_whoever_is_left_gets_a_reason() -> None:
    bench = Bench()
    left = [await bench.ask(i) for i in range(3)]
    await bench.lane.close(0)
    await settle()
    assert all(isinstance(task.exception(), Draining) for task in left)
    await bench.finish()  # the device comes back too late, and that is no harm
    bench.assert_idle()


@looped
async def test_an_idle_lane_closes_at_once() -> None:
    bench = Bench()
    await asyncio.wait_for(bench.lane.close(60), 1)


# Noise ----------------------------------------------------------------------------------------------------


@looped
async def test_noise_is_drawn_where_it_was_asked_for_whatever_shares_the_batch() -> None:
    bench = Bench(sizes=(1, 2, 4, 8, 16))
    first, second = Address(3, offset=7, scale=0.1), Address(4, scale=0.1)
    await bench.ask(0)
    column = graphs.f32([[0.5], [0.25]])
    tasks = [
        asyncio.ensure_future(bench.lane.submit((value,), rows, 1e9))
        for value, rows in ((first, 3), (column, 2), (second, 21))
    ]
    await settle()
    await bench.finish()
    outputs = [task.result().outputs[0] for task in tasks]
    for output, address in ((outputs[0], first), (outputs[2], second)):
        noise = draw([(address, len(output))], "standard_normal", (1,))
        assert output.tobytes() == (2 * noise).tobytes()
    assert outputs[1].ravel().tolist() == [1, 0.5]


# On real threads ------------------------------------------------------------------------------------------


@looped
async def test_on_a_real_thread_hundreds_of_callers_get_their_own_rows() -> None:
    manifest, entry, graph = poison()
    worker = Worker("test")
    costs = Costs((1, 2, 4, 8, 16, 32), (0.1,) * 6)
    lane = Lane(Stage(graph, manifest, entry, 32), costs, 1e9, worker)
    dice = np.random.default_rng(0)

    async def call(number: int) -> None:
        values = dice.integers(0, 1000, dice.integers(1, 90)).astype(np.float32)
        values[dice.random(len(values)) < 0.01] = POISON
        task = asyncio.ensure_future(lane.submit((values[:, None],), len(values), 1e9))
        if number % 7 == 0:
            await asyncio.sleep(dice.random() / 100)
            task.cancel()
        try:
            rows = await task
        except asyncio.CancelledError:
            return
        assert sorted(rows.failed) == np.flatnonzero(values == POISON).tolist()
        right = np.where(values == POISON, 0, 2 * values)
        assert rows.outputs[0].ravel().tolist() == right.tolist()

    await asyncio.wait_for(asyncio.gather(*(call(i) for i in range(400))), 30)
    await lane.close(5)
    worker.close()
    assert lane.waiting == 0
    assert not lane._flying
