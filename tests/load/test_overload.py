"""More is asked for than can be answered: what is answered is right and in time, the rest is refused."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import pytest

from tests.e2e.conftest import Start
from tests.e2e.processes import Service
from tests.load.conftest import Models
from tests.load.open_loop import Crowd, Visit, quantile
from tests.load.vitals import vitals
from tests.load.wire import Answer, request

pytestmark = pytest.mark.chaos

DEADLINE_S = 1.0
SEEDS = 50
CALLERS = 32


@dataclass(frozen=True)
class Storm:
    """What was seen: requests a second that can be answered; visits before, during and after; memory."""

    capacity: float
    before: Sequence[Visit]
    during: Sequence[Visit]
    after: Sequence[Visit]
    grown_bytes: int


def test_in_a_storm_whoever_is_not_answered_is_told_why_and_the_service_goes_on(
    start: Start, models: Models
) -> None:
    storm = asyncio.run(_storm(start(models("heavy"), device="cpu").ready(), seconds=1.5))
    assert _seconds(storm.during, 200)
    assert quantile(_seconds(storm.after, 200), 0.5) < DEADLINE_S
    assert storm.grown_bytes < 32 << 20


@pytest.mark.long
@pytest.mark.timeout(300)
def test_at_twice_its_capacity_for_two_minutes_the_service_does_its_work_and_refuses_the_rest_at_once(
    start: Start, models: Models
) -> None:
    storm = asyncio.run(_storm(start(models("heavy"), device="cpu").ready(), seconds=120))
    _say(storm)
    answered, late, refused = (_seconds(storm.during, status) for status in (200, 504, 429))
    assert len(answered) > 0.9 * storm.capacity * 120
    assert len(late) < 0.01 * (len(answered) + len(late))
    assert quantile(answered, 0.99) < DEADLINE_S
    assert quantile(refused, 0.99) < 0.010
    assert storm.grown_bytes < 32 << 20
    before, after = (quantile(_seconds(visits, 200), 0.99) for visits in (storm.before, storm.after))
    assert after < 1.5 * before + 0.005


async def _storm(service: Service, seconds: float) -> Storm:
    right = [service.client.post("/sample", json=_fields(seed)).content for seed in range(SEEDS)]

    def check(number: int, answer: Answer) -> None:
        """Nothing but right answers, and reasons; a refusal says when to come again."""
        assert answer.status in (200, 429, 504)
        if answer.status == 200:
            assert answer.body == right[number % SEEDS]
        elif answer.status == 429:
            assert int(answer.headers["retry-after"]) >= 1

    crowd, pid = Crowd(service.url, _request, check), service.running.process.pid
    span = min(seconds / 2, 10.0)
    capacity = len(_seconds(await crowd.steadily(CALLERS, span), 200)) / span
    before = await crowd.at(0.5 * capacity, span)
    held = vitals(pid).resident_bytes
    during = await crowd.at(2 * capacity, seconds)
    grown = vitals(pid).resident_bytes - held
    await asyncio.sleep(span / 2)
    after = await crowd.at(0.5 * capacity, span, seed=1)
    crowd.leave()
    return Storm(capacity, before, during, after, grown)


def _fields(seed: int) -> dict[str, object]:
    return {"model": "heavy", "n": 64, "seed": seed}


def _request(number: int) -> bytes:
    return request("sample", _fields(number % SEEDS), X_Request_Timeout_Ms=f"{1000 * DEADLINE_S:g}")


def _seconds(visits: Sequence[Visit], status: int) -> list[float]:
    return [visit.seconds for visit in visits if visit.status == status]


def _say(storm: Storm) -> None:
    print(f"capacity {storm.capacity:.0f}/s; memory grew by {storm.grown_bytes / (1 << 20):.1f} MiB")
    for name in ("before", "during", "after"):
        visits: Sequence[Visit] = getattr(storm, name)
        for status, count in sorted(Counter(visit.status for visit in visits).items()):
            p50, p99 = (1000 * quantile(_seconds(visits, status), part) for part in (0.5, 0.99))
            print(f"{name}: {count} with {status}, p50 {p50:.1f} ms, p99 {p99:.1f} ms")
