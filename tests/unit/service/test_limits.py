"""A bucket gives no more than its rate, and no less."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.limits import ENTRY, Bucket, Ledger

ROOT = Path(__file__).parents[3]
rates = st.floats(0.01, 1e6)
amounts = st.lists(st.integers(1, 10_000), min_size=1, max_size=50)


class Clock:
    """Moved by hand."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@given(rates, amounts)
def test_who_waits_as_told_may_take_and_the_average_is_the_rate(rate: float, amounts: list[int]) -> None:
    clock = Clock()
    bucket = Bucket(rate, clock)
    for amount in amounts:
        clock.now += bucket.short_s(amount)
        assert bucket.short_s(amount) <= 1e-6 * (1 + clock.now)
        bucket.take(amount)
    # At the end it may owe what the last one took, and at the beginning it was full.
    assert sum(amounts) <= (bucket.room + clock.now * rate + amounts[-1]) * (1 + 1e-6)


@given(rates)
def test_a_second_s_worth_may_come_at_once_and_then_no_more(rate: float) -> None:
    bucket = Bucket(rate, Clock())
    for _ in range(min(bucket.room, 1000)):
        assert bucket.short_s(1) == 0
        bucket.take(1)
    if bucket.room <= 1000:
        assert bucket.short_s(1) > 0


def test_rest_fills_it_to_the_brim_and_no_further() -> None:
    clock = Clock()
    bucket = Bucket(10, clock)
    bucket.take(10)
    clock.now = 3600
    bucket.take(10)
    assert bucket.short_s(1) == 0.1


def test_more_than_it_holds_is_taken_when_it_is_full_and_owed() -> None:
    clock = Clock()
    bucket = Bucket(10, clock)
    assert bucket.short_s(100) == 0
    bucket.take(100)
    assert bucket.short_s(1) == 9.1


@contextmanager
def opened(path: Path) -> Iterator[Ledger]:
    ledger = Ledger(path)
    try:
        yield ledger
    finally:
        ledger.close()


def shared(ledger: Ledger, rate: float, clock: Callable[[], float], whose: str = "designer") -> Bucket:
    return Bucket(rate, clock, lambda level, since: ledger.level(whose, level, since))


@given(rates, st.lists(st.tuples(st.floats(0, 5), st.integers(1, 1000), st.booleans()), max_size=30))
def test_two_processes_take_from_one_bucket_as_one_would(
    tmp_path_factory: pytest.TempPathFactory, rate: float, steps: list[tuple[float, int, bool]]
) -> None:
    path, clock = tmp_path_factory.mktemp("ledger") / "limits", Clock()
    alone = Bucket(rate, clock)
    with opened(path) as one, opened(path) as other:
        pair = [shared(ledger, rate, clock) for ledger in (one, other)]
        for wait_s, amount, first in steps:
            clock.now += wait_s
            assert {bucket.short_s(amount) for bucket in pair} == {alone.short_s(amount)}
            pair[first].take(amount)
            alone.take(amount)


def test_every_key_has_a_level_of_its_own_and_a_new_process_finds_it(tmp_path: Path) -> None:
    path, clock = tmp_path / "limits", Clock()
    for number in range(50):
        with opened(path) as ledger:
            shared(ledger, 10, clock, f"key{number}").take(number)
    with opened(path) as again:
        found = [shared(again, 10, clock, f"key{number}").short_s(1) for number in range(50)]
    assert found == [max(0, number - 9) / 10 for number in range(50)]
    assert path.stat().st_size == 50 * ENTRY.size


TAKE = """
import sys
from pathlib import Path
from service.limits import Bucket, Ledger
ledger = Ledger(Path(sys.argv[1]))
bucket = Bucket(5000.0, lambda: 0.0, lambda level, since: ledger.level("designer", level, since))
print("ready", flush=True)
sys.stdin.readline()
for _ in range(5000):
    bucket.take(1)
"""
HOLD = """
import fcntl, os, sys, time
file = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT)
fcntl.lockf(file, fcntl.LOCK_EX)
print("ready", flush=True)
time.sleep(60)
"""


@contextmanager
def process(program: str, path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """One that has said that it is ready."""
    command, pipe = [sys.executable, "-c", program, str(path)], subprocess.PIPE
    with subprocess.Popen(command, cwd=ROOT, stdin=pipe, stdout=pipe) as begun:
        assert begun.stdout is not None
        assert begun.stdout.readline() == b"ready\n"
        yield begun


def test_processes_that_take_at_the_same_time_lose_next_to_nothing(tmp_path: Path) -> None:
    path = tmp_path / "limits"
    with process(TAKE, path) as one, process(TAKE, path) as two, process(TAKE, path) as three:
        for taker in (one, two, three):
            assert taker.stdin is not None
            taker.stdin.write(b"\n")
            taker.stdin.flush()
    with opened(path) as ledger:
        owed = shared(ledger, 5000, Clock()).short_s(1) * 5000 - 1
    # Where a holder loses its core for longer than the others try, they go on without the lock.
    assert 0.9 <= (owed + 5000) / (3 * 5000) <= 1


def test_who_is_stopped_while_he_has_the_lock_holds_nobody_up(tmp_path: Path) -> None:
    path = tmp_path / "limits"
    with opened(path) as ledger, process(HOLD, path) as holder:
        bucket = shared(ledger, 10, Clock())
        bucket.take(12)
        assert bucket.short_s(1) == pytest.approx(0.3)
        holder.kill()
