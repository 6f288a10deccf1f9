"""How much one key may ask for: a bucket that fills at a steady rate, and from which every request takes.

Several processes of one service take from the same buckets, whose levels then lie in a file that all of them
have open. It is memory to all of them: nobody waits for a disk.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import struct
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final, Protocol

ROUNDING: Final = 1e-9
TRIES: Final = 1000  # for a lock that is held for microseconds: a millisecond, then its holder is not running
ENTRY: Final = struct.Struct("<16sdd")  # whose level, the level, since when
LEVEL: Final = struct.Struct("<dd")
LEVEL_AT: Final = ENTRY.size - LEVEL.size

Change = Callable[[float, float], tuple[float, float]]


class Level(Protocol):
    """What was in a bucket, and when, on the monotonic clock, which all processes of a machine share."""

    def read(self) -> tuple[float, float]: ...

    def change(self, change: Change) -> None: ...


class OwnLevel:
    """That of a process which has the bucket alone."""

    __slots__ = ("_value",)

    def __init__(self, level: float, since: float) -> None:
        self._value = level, since

    def read(self) -> tuple[float, float]:
        return self._value

    def change(self, change: Change) -> None:
        self._value = change(*self._value)


class Bucket:
    """Holds what one second brings, at least one; whoever finds enough takes it.

    More than it holds can be taken when it is full; it then owes, and the average stays the rate. So no
    request is too large for ever, and none has to be cut. Processes that find the same enough at the same
    moment take it twice, and owe it too.

    Attributes:
        rate: per second.
        room: what it holds when it is full.
    """

    __slots__ = ("_clock", "_level", "rate", "room")

    def __init__(
        self,
        rate: float,
        clock: Callable[[], float] = time.monotonic,
        level: Callable[[float, float], Level] = OwnLevel,
    ) -> None:
        self.rate = rate
        self.room = max(1, int(rate))
        self._clock = clock
        self._level = level(self.room, clock())

    def short_s(self, amount: float) -> float:
        """In how many seconds the amount can be taken; 0 means now."""
        missing = min(amount, self.room) - self._filled(*self._level.read(), self._clock())
        return missing / self.rate if missing > ROUNDING else 0.0

    def take(self, amount: float) -> None:
        """Take it, and owe what is not there."""
        now = self._clock()
        self._level.change(lambda level, since: (self._filled(level, since, now) - amount, max(since, now)))

    def _filled(self, level: float, since: float, now: float) -> float:
        return min(self.room, level + max(0.0, now - since) * self.rate)


class Ledger:
    """The levels of all buckets, in one file; whoever opens it has the same ones."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def level(self, whose: str, level: float, since: float) -> SharedLevel:
        """That of a bucket, by its name; a new one begins as it is given here."""
        mark = hashlib.blake2b(whose.encode(), digest_size=16).digest()
        place = self._find(mark)
        if place is None:
            # Whoever does it at the same moment appends another, and all take the first.
            with self._path.open("ab", buffering=0) as end:
                end.write(ENTRY.pack(mark, level, since))
            place = self._find(mark)
        assert place is not None
        return SharedLevel(self._file, place + LEVEL_AT)

    def close(self) -> None:
        """Nobody takes from its buckets any more."""
        os.close(self._file)

    def _find(self, mark: bytes) -> int | None:
        entries = os.pread(self._file, os.fstat(self._file).st_size, 0)
        places = range(0, len(entries) - ENTRY.size + 1, ENTRY.size)
        return next((place for place in places if entries.startswith(mark, place)), None)


class SharedLevel:
    """One level of a ledger."""

    __slots__ = ("_file", "_place")

    def __init__(self, file: int, place: int) -> None:
        self._file = file
        self._place = place

    def read(self) -> tuple[float, float]:
        level, since = LEVEL.unpack(os.pread(self._file, LEVEL.size, self._place))
        return level, since

    def change(self, change: Change) -> None:
        """Change it, and nobody else meanwhile; nobody waits long for one who was stopped while he did."""
        locked = self._lock()
        try:
            os.pwrite(self._file, LEVEL.pack(*change(*self.read())), self._place)
        finally:
            if locked:
                fcntl.lockf(self._file, fcntl.LOCK_UN, LEVEL.size, self._place)

    def _lock(self) -> bool:
        for _ in range(TRIES):
            try:
                fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB, LEVEL.size, self._place)
            except OSError:  # another has it
                os.sched_yield()
            else:
                return True
        return False
