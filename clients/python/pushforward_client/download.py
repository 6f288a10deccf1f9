"""A download, without a network: which rows are still missing, and what bytes that arrive are worth.

The rows of an address are the same whenever they are asked for, so that a broken connection costs the rows
that were on their way, and nothing else.
"""

from __future__ import annotations

import ast
import math
import secrets
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from pushforward_client.calls import NPY, Ask
from pushforward_client.errors import UnexpectedAnswer, Unreachable

CHUNK_BYTES: Final = 1 << 20
LAST_SEED: Final = 2**53 - 1

Array = NDArray[Any]


def drawn_seed() -> int:
    """A seed for a caller who names none; drawn here, so that a download knows its address from the start."""
    return secrets.randbelow(LAST_SEED + 1)


@dataclass(frozen=True, slots=True)
class Wanted:
    """Rows ``offset`` to ``offset + n`` of a seed.

    Attributes:
        version: the newest when the download begins, if absent; from then on it is that one.
    """

    model: str
    n: int
    seed: int
    offset: int = 0
    temperature: float = 1.0
    truncation: float | None = None
    label: int | str | Sequence[int | str] | None = None
    version: str | None = None

    def __post_init__(self) -> None:
        if self.n < 1:
            raise ValueError(f"n is {self.n}; allowed: 1 or more")

    def beyond(self, rows: int) -> dict[str, Any]:
        """The fields of a request for what follows the first rows."""
        fields = asdict(replace(self, n=self.n - rows, offset=self.offset + rows))
        if self.label is not None and not isinstance(self.label, int | str):
            fields["label"] = np.asarray(self.label)[rows:].tolist()
        return fields


class Download:
    """What has arrived of the rows that are wanted.

    Attributes:
        wanted: with the version, once that is known.
        rows: that have been handed on.
    """

    def __init__(self, wanted: Wanted, rows: int = 0) -> None:
        self.wanted = wanted
        self.rows = rows
        self._buffer = bytearray()
        self._shape: tuple[int, ...] | None = None  # of a row
        self._dtype = np.dtype(np.float32)

    @property
    def left(self) -> int:
        """Rows that are still missing."""
        return self.wanted.n - self.rows

    def ask(self) -> Ask:
        """The request for them."""
        return Ask("/sample", NPY, self.wanted.beyond(self.rows))

    def begin(self, headers: Mapping[str, str]) -> None:
        """An answer to the request begins."""
        self.wanted = replace(self.wanted, version=headers.get("X-Pushforward-Version", self.wanted.version))
        self._buffer.clear()
        self._shape = None

    def feed(self, data: bytes) -> Iterator[Array]:
        """Take bytes of the answer, and give whole rows, some thousands at a time.

        Raises:
            UnexpectedAnswer: if they are not the rows that were asked for.
        """
        self._buffer += data
        if self._shape is None:
            self._read_head()
        if self._shape is not None and len(self._buffer) >= CHUNK_BYTES:
            yield from self.take()

    def take(self) -> Iterator[Array]:
        """The whole rows that are there, if any."""
        count = 0 if self._shape is None else min(self.left, len(self._buffer) // self._row_bytes)
        if not count:
            return
        size = count * self._row_bytes
        rows = np.frombuffer(bytes(self._buffer[:size]), self._dtype).reshape(count, *self._shape or ())
        del self._buffer[:size]
        self.rows += count
        yield rows

    def end(self) -> None:
        """The answer has ended.

        Raises:
            Unreachable: if it ended too early, as happens where a proxy hides that a connection broke.
        """
        if self.left:
            raise Unreachable(f"the answer ended after {self.rows} of {self.wanted.n} rows")

    @property
    def _row_bytes(self) -> int:
        return math.prod(self._shape or ()) * self._dtype.itemsize

    def _read_head(self) -> None:
        """The header of an npy file, when all of it is there."""
        if len(self._buffer) < 10 and b"\x93NUMPY".startswith(self._buffer[:6]):
            return
        if self._buffer[:7] != b"\x93NUMPY\x01":
            raise UnexpectedAnswer(f"/sample answered no npy file: {bytes(self._buffer[:40])!r}")
        end = 10 + int.from_bytes(self._buffer[8:10], "little")
        if len(self._buffer) < end:
            return
        described = ast.literal_eval(self._buffer[10:end].decode("latin1"))
        count, *shape = described["shape"]
        if count != self.left or described["fortran_order"]:
            raise UnexpectedAnswer(f"/sample answered {count} rows; asked for were {self.left}")
        self._shape, self._dtype = tuple(shape), np.dtype(described["descr"])
        del self._buffer[:end]
