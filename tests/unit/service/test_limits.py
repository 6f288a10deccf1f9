"""A bucket gives no more than its rate, and no less."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from service.limits import Bucket

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
