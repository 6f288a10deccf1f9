"""How much one key may ask for: a bucket that fills at a steady rate, and from which every request takes."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

ROUNDING: Final = 1e-9


class Bucket:
    """Holds what one second brings, at least one; whoever finds enough takes it.

    More than it holds can be taken when it is full; it then owes, and the average stays the rate. So no
    request is too large for ever, and none has to be cut.

    Attributes:
        rate: per second.
        room: what it holds when it is full.
    """

    __slots__ = ("_clock", "_level", "_since", "rate", "room")

    def __init__(self, rate: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.rate = rate
        self.room = max(1, int(rate))
        self._clock = clock
        self._level: float = self.room
        self._since = clock()

    def short_s(self, amount: float) -> float:
        """In how many seconds the amount can be taken; 0 means now."""
        self._fill()
        missing = min(amount, self.room) - self._level
        return missing / self.rate if missing > ROUNDING else 0.0

    def take(self, amount: float) -> None:
        """Take it, and owe what is not there."""
        self._fill()
        self._level -= amount

    def _fill(self) -> None:
        now = self._clock()
        self._level = min(self.room, self._level + (now - self._since) * self.rate)
        self._since = now
