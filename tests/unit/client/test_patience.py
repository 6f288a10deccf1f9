"""What passes by itself is waited for, as long as there is patience; time is moved by hand."""

from __future__ import annotations

import pytest

from pushforward_client.errors import InvalidInput, PushforwardError, QueueFull, Refused, Unreachable
from pushforward_client.patience import LONGEST_PAUSE_S, Attempts, Patience


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def attempts(timeout_s: float = 60, retries: int = 6, clock: Clock | None = None) -> Attempts:
    return Attempts(Patience(timeout_s, retries), clock or Clock(), jitter=lambda: 1.0)


def full(retry_after_s: float | None = None) -> QueueFull:
    return QueueFull(429, "full", {}, retry_after_s)


def test_pauses_double_and_have_a_limit() -> None:
    trying = attempts(retries=8)
    pauses = [trying.pause_s(Unreachable("gone")) for _ in range(8)]
    assert pauses[:4] == [0.1, 0.2, 0.4, 0.8]
    assert pauses[-1] == LONGEST_PAUSE_S


def test_after_so_many_in_a_row_the_error_is_raised() -> None:
    trying = attempts(retries=2)
    trying.pause_s(Unreachable("first"))
    trying.pause_s(Unreachable("second"))
    with pytest.raises(Unreachable, match="third"):
        trying.pause_s(Unreachable("third"))


def test_what_arrives_begins_the_patience_anew() -> None:
    clock = Clock()
    trying = attempts(timeout_s=10, retries=1, clock=clock)
    for _ in range(5):
        clock.now += 9
        trying.pause_s(Unreachable("gone"))
        trying.progress()
    assert trying.left_s == 10


@pytest.mark.parametrize("error", [InvalidInput(422, "no", {}), Refused(500, "no", {}), PushforwardError()])
def test_what_will_not_pass_is_raised_at_once(error: PushforwardError) -> None:
    with pytest.raises(type(error)):
        attempts().pause_s(error)


@pytest.mark.parametrize("status", [429, 502, 503])
def test_what_may_pass_is_waited_for(status: int) -> None:
    assert attempts().pause_s(Refused(status, "later", {})) == 0.1


def test_retry_after_is_honoured_unless_it_is_beyond_the_deadline() -> None:
    assert attempts().pause_s(full(7)) == 7
    with pytest.raises(QueueFull):
        attempts(timeout_s=5).pause_s(full(7))


def test_no_pause_goes_beyond_the_deadline() -> None:
    clock = Clock()
    trying = attempts(timeout_s=10, clock=clock)
    clock.now += 9.95
    with pytest.raises(Unreachable):
        trying.pause_s(Unreachable("gone"))


@pytest.mark.parametrize(("timeout_s", "retries"), [(0, 1), (-1, 1), (float("inf"), 1), (1, -1)])
def test_patience_that_is_none_is_refused(timeout_s: float, retries: int) -> None:
    with pytest.raises(ValueError, match="allowed"):
        Patience(timeout_s, retries)
