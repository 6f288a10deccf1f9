"""Answers of any length, in constant memory: the head first, then rows as they come, as npy, NDJSON or CSV.

A line is one row, its numbers as JSON prints them, which read back to the bit. Text is made in slices that
give way to the event loop, because the encoder holds the interpreter lock.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncGenerator, Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import orjson
from numpy.typing import NDArray

from models.manifest import DataSpace
from service.wire import CSV, NDJSON, NPY, SLICE_BYTES, Send, member_headers, npy_header

Array = NDArray[Any]


@dataclass(frozen=True, slots=True)
class Stream:
    """An answer too large to hold: the main array comes in pieces, in order.

    Attributes:
        shape: of the whole array.
        columns: the names of the dimensions, ``None`` where rows are no lines of a table.
    """

    fields: dict[str, Any]
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    pieces: AsyncGenerator[Array, None]
    columns: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class Form:
    """How a stream is written.

    Attributes:
        head: what comes before the rows.
        rows: the bytes of a piece, in parts that each take about half a millisecond.
        row_bytes: of each row, ``None`` where that depends on its numbers.
    """

    content_type: str
    head: Callable[[Stream], bytes]
    rows: Callable[[Array], Iterator[bytes]]
    row_bytes: Callable[[Stream], int] | None = None


def is_table(space: DataSpace) -> bool:
    """Whether rows are a table's."""
    return len(space.shape) == 1


def columns(space: DataSpace) -> tuple[str, ...] | None:
    """The names of a table's columns, ``None`` for data that are no table."""
    if not is_table(space):
        return None
    return space.columns or tuple(f"x{i}" for i in range(space.size))


async def send_stream(stream: Stream, first: Array, media: str, send: Send, stall_s: float) -> None:
    """Send a large array: the head, then the pieces as they come.

    The end goes with the last bytes: who has them all may hang up, and has not left before the end.

    Args:
        first: the first piece, made before there is no way back from a status of 200.
        media: one of :data:`FORMS`.

    Raises:
        TimeoutError: if the caller takes no more bytes for ``stall_s``.
    """
    form = FORMS[media]
    head = form.head(stream)
    headers = [(b"content-type", form.content_type.encode()), *member_headers(stream.fields, "")]
    if form.row_bytes is not None:
        headers.append((b"content-length", b"%d" % (len(head) + stream.shape[0] * form.row_bytes(stream))))
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    left = stream.shape[0] - len(first)
    await _send_piece(form, head, first, send, stall_s, last=not left)
    while left:
        piece = await anext(stream.pieces)
        left -= len(piece)
        await _send_piece(form, b"", piece, send, stall_s, last=not left)


async def _send_piece(form: Form, head: bytes, piece: Array, send: Send, stall_s: float, last: bool) -> None:
    """Some rows; nothing is waited for once the last bytes are out."""
    parts = form.rows(piece)
    part: bytes | None = head + next(parts)
    while part is not None:
        following = next(parts, None)
        more = following is not None or not last
        async with asyncio.timeout(stall_s):
            await send({"type": "http.response.body", "body": part, "more_body": more})
        if more:
            await asyncio.sleep(0)  # a socket that takes everything at once would never give way
        part = following


def _npy_head(stream: Stream) -> bytes:
    return npy_header(stream.shape, stream.dtype.str)


def _npy_row_bytes(stream: Stream) -> int:
    return math.prod(stream.shape[1:]) * stream.dtype.itemsize


def _npy_rows(piece: Array) -> Iterator[bytes]:
    yield piece.tobytes()


def _ndjson_rows(piece: Array) -> Iterator[bytes]:
    opening, closing = b"[" * (piece.ndim - 1), b"]" * (piece.ndim - 1)
    for text in _json_slices(piece):
        # Inside a row fewer brackets meet.
        yield text.replace(closing + b"," + opening, closing + b"\n" + opening) + b"\n"


def _csv_head(stream: Stream) -> bytes:
    assert stream.columns is not None
    return ",".join(map(_quoted, stream.columns)).encode() + b"\n"


def _quoted(name: str) -> str:
    """A name as RFC 4180 writes it."""
    return '"' + name.replace('"', '""') + '"' if any(c in name for c in ',"\r\n') else name


def _csv_rows(piece: Array) -> Iterator[bytes]:
    for text in _json_slices(piece):
        yield text[1:-1].replace(b"],[", b"\n") + b"\n"


def _json_slices(piece: Array) -> Iterator[bytes]:
    """The rows as JSON, with commas between them, some at a time."""
    step = max(1, SLICE_BYTES * len(piece) // piece.nbytes)
    for start in range(0, len(piece), step):
        rows = np.ascontiguousarray(piece[start : start + step])
        yield orjson.dumps(rows, option=orjson.OPT_SERIALIZE_NUMPY)[1:-1]


FORMS: Final[dict[str, Form]] = {
    NPY: Form(NPY, _npy_head, _npy_rows, _npy_row_bytes),
    NDJSON: Form(NDJSON, lambda _: b"", _ndjson_rows),
    CSV: Form(f"{CSV}; charset=utf-8; header=present", _csv_head, _csv_rows),
}
