"""How long to wait for an answer, and when to ask again.

Every call of the service is a pure function of what is sent, sampling with a seed too, so that asking twice
is safe.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from pushforward_client.errors import ASK_AGAIN, PushforwardError, Refused, Unreachable

FIRST_PAUSE_S: Final = 0.1
LONGEST_PAUSE_S: Final = 5.0


@dataclass(frozen=True, slots=True)
class Patience:
    """What a caller grants.

    Attributes:
        timeout_s: for one answer with all its retries; of a download, without a row.
        retries: in a row, before the error is raised.
    """

    timeout_s: float = 60.0
    retries: int = 6

    def __post_init__(self) -> None:
        if not 0 < self.timeout_s < float("inf"):
            raise ValueError(f"timeout_s is {self.timeout_s}; allowed: seconds above 0")
        if self.retries < 0:
            raise ValueError(f"retries is {self.retries}; allowed: 0 or more")


class Attempts:
    """The attempts at one answer.

    Args:
        clock: in seconds.
        jitter: a number from 0 to 1, which keeps callers apart that failed together.
    """

    def __init__(
        self,
        patience: Patience,
        clock: Callable[[], float] = time.monotonic,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._patience, self._clock, self._jitter = patience, clock, jitter
        self.progress()

    def progress(self) -> None:
        """Something arrived: the patience begins anew."""
        self._failed = 0
        self._deadline = self._clock() + self._patience.timeout_s

    @property
    def left_s(self) -> float:
        """Until the deadline; a moment at least, so that an attempt can fail by itself."""
        return max(0.001, self._deadline - self._clock())

    def pause_s(self, error: PushforwardError) -> float:
        """How long to wait before the next attempt.

        Raises:
            PushforwardError: the error itself, where asking again is of no use, or patience has ended.
        """
        pause_s = self._backoff_s() if _may_pass(error) else float("inf")
        if isinstance(error, Refused) and error.retry_after_s is not None:
            pause_s = max(pause_s, error.retry_after_s)
        self._failed += 1
        if self._failed > self._patience.retries or self._clock() + pause_s >= self._deadline:
            raise error
        return pause_s

    def _backoff_s(self) -> float:
        longest_s = min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2.0**self._failed)
        return longest_s * (0.5 + self._jitter() / 2)


def _may_pass(error: PushforwardError) -> bool:
    if isinstance(error, Refused):
        return error.status in ASK_AGAIN
    return isinstance(error, Unreachable)
