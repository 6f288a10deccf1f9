"""Bytes by key in process: for a time, within a bound, the least recently used leave first.

Two dictionaries of plain values and nothing else, because a request that encodes puts two entries here: the
nodes that cache libraries keep for each are what the garbage collector then spends its time on.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Final

ENTRY_OVERHEAD: Final = 200  # bytes of bookkeeping that one entry costs


class Near:
    """The first tier of what is remembered.

    Args:
        ttl_s: how long after it was put a value can be had.
        max_bytes: of all entries.
    """

    def __init__(self, max_bytes: int, ttl_s: float, timer: Callable[[], float]) -> None:
        self._max_bytes, self._ttl_s, self._timer = max_bytes, ttl_s, timer
        self._values: OrderedDict[bytes, bytes] = OrderedDict()
        self._until: dict[bytes, float] = {}
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._values)

    def get(self, key: bytes) -> bytes | None:
        """The value, ``None`` if there is none, or none any more."""
        value = self._values.get(key)
        if value is None:
            return None
        if self._until[key] <= self._timer():
            self._drop(key)
            return None
        self._values.move_to_end(key)
        return value

    def put(self, key: bytes, value: bytes) -> None:
        """Remember a value, if there can be room for it."""
        size = len(value) + ENTRY_OVERHEAD
        if size > self._max_bytes:
            return
        if key in self._values:
            self._drop(key)
        while self._bytes + size > self._max_bytes:
            self._drop(next(iter(self._values)))
        self._values[key] = value
        self._until[key] = self._timer() + self._ttl_s
        self._bytes += size

    def _drop(self, key: bytes) -> None:
        self._bytes -= len(self._values.pop(key)) + ENTRY_OVERHEAD
        del self._until[key]
