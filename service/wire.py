"""Bytes to arrays and arrays to bytes: JSON, npy, npz and PNG, each read once and written once.

Large JSON is written in slices that give way to the event loop, because the encoder holds the interpreter
lock; pictures are drawn in a thread, because compression does not.
"""

from __future__ import annotations

import ast
import asyncio
import io
import math
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from functools import lru_cache
from typing import Any, Final, NamedTuple

import numpy as np
import orjson
import simdjson
from numpy.typing import NDArray
from PIL import Image

from models.manifest import DataSpace
from service.errors import PROBLEM_JSON, InvalidInput, ServiceError

JSON: Final = "application/json"
NPY: Final = "application/x-npy"
NPZ: Final = "application/x-npz"
PNG: Final = "image/png"
NDJSON: Final = "application/x-ndjson"
CSV: Final = "text/csv"

SLICE_BYTES: Final = 128 * 1024  # of one array; about half a millisecond of JSON
HEADER_ROWS: Final = 64  # per-row members fit into headers up to here
MAX_NPY_HEADER: Final = 512  # NumPy writes 128 for any shape we know
PICTURE_PX: Final = 64  # small pictures are magnified to this
GAP_PX: Final = 2

Array = NDArray[Any]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Headers = list[tuple[bytes, bytes]]


class Answer(NamedTuple):
    """What a verb found: members in the order of the contract, arrays still arrays.

    Attributes:
        fields: per-row members have the batch axis first; NaN in a float member is JSON's null.
        main: the member that npy and PNG carry.
        display: the values drawn as black and white, where the main array is rows of pictures.
        columns: of the grid of pictures; as square as possible if absent.
    """

    fields: dict[str, Any]
    main: str
    display: tuple[float, float] | None = None
    columns: int | None = None


NOTHING: Final = memoryview(b"")


class Reply(NamedTuple):
    """A response ready to be sent.

    Attributes:
        rest: of the body, where it lies already: what is large is not put together to be sent.
    """

    status: int
    media: str
    body: bytes
    headers: Sequence[tuple[bytes, bytes]] = ()
    rest: memoryview = NOTHING


def problem(error: ServiceError) -> Reply:
    """The answer that is a reason (RFC 9457)."""
    headers = [(name.lower().encode(), value.encode()) for name, value in error.headers().items()]
    return Reply(error.status, PROBLEM_JSON, orjson.dumps(error.problem()), headers)


async def send_reply(reply: Reply, send: Send) -> None:
    """Hand a reply to the server."""
    headers = [
        (b"content-type", reply.media.encode()),
        (b"content-length", b"%d" % (len(reply.body) + len(reply.rest))),
        *reply.headers,
    ]
    await send({"type": "http.response.start", "status": reply.status, "headers": headers})
    await send({"type": "http.response.body", "body": b"".join((reply.body, reply.rest))})


def is_pictures(space: DataSpace) -> bool:
    """Whether rows can be drawn: grey or colour planes with a black and a white."""
    return len(space.shape) == 3 and space.shape[0] in (1, 3) and space.display is not None


@lru_cache(maxsize=256)
def preferred(accept: str, offered: tuple[str, ...]) -> str | None:
    """The media type that the caller likes best, ``None`` if there is none (RFC 9110, section 12.5.1)."""
    ranges = [_media_range(part) for part in accept.split(",") if part.strip()]
    if not ranges:
        return offered[0]
    scored = [(_liking(offer, ranges), -place, offer) for place, offer in enumerate(offered)]
    (quality, _), _, best = max(scored)
    return best if quality > 0 else None


def _media_range(part: str) -> tuple[str, float]:
    name, *parameters = (piece.strip().lower() for piece in part.split(";"))
    weights = [piece[2:] for piece in parameters if piece.startswith("q=")]
    try:
        return name, float(weights[0]) if weights else 1.0
    except ValueError:
        return name, 0.0


def _liking(offer: str, ranges: Sequence[tuple[str, float]]) -> tuple[float, int]:
    """The quality that the most specific matching range gives, and how specific it is."""
    matches = {offer: 2, f"{offer.split('/')[0]}/*": 1, "*/*": 0}
    found = [(matches[name], quality) for name, quality in ranges if name in matches]
    specific, quality = max(found, default=(0, 0.0))
    return quality, specific


async def encode(answer: Answer, media: str) -> Reply:
    """Write an answer in the form that was asked for."""
    reply = encode_at_once(answer, media)
    if reply is not None:
        return reply
    if media == JSON:
        return Reply(200, JSON, await _large_json(answer.fields))
    if media == NPZ:
        return Reply(200, NPZ, await asyncio.to_thread(npz, answer.fields))
    array = answer.fields[answer.main]
    headers = member_headers(answer.fields, answer.main)
    assert answer.display is not None
    body = await asyncio.to_thread(grid, array, answer.display, answer.columns)
    return Reply(200, PNG, body, headers)


def encode_at_once(answer: Answer, media: str) -> Reply | None:
    """The same, ``None`` if it takes so long that others should have their turn meanwhile."""
    array: Array = answer.fields[answer.main]
    if media == JSON and array.nbytes <= SLICE_BYTES:  # no other member is larger
        return Reply(200, JSON, orjson.dumps(answer.fields, option=orjson.OPT_SERIALIZE_NUMPY))
    if media != NPY:
        return None
    array = np.ascontiguousarray(array)
    headers = member_headers(answer.fields, answer.main)
    return Reply(200, NPY, npy_header(array.shape, array.dtype.str), headers, array.data.cast("B"))


def npz(fields: dict[str, Any]) -> bytes:
    """Every member as an array of its own, to the bit; no pickle, no compression."""
    buffer = io.BytesIO()
    members = {name: np.asarray(value) for name, value in fields.items() if value is not None}
    np.savez(buffer, allow_pickle=False, **members)
    return buffer.getvalue()


async def _large_json(fields: dict[str, Any]) -> bytes:
    fields = dict(fields)
    for name, value in fields.items():
        if isinstance(value, np.ndarray) and value.nbytes > SLICE_BYTES:
            fields[name] = orjson.Fragment(await json_array(value))
    return orjson.dumps(fields, option=orjson.OPT_SERIALIZE_NUMPY)


async def json_array(array: Array) -> bytes:
    """The same bytes as in one go, with pauses in which others are served."""
    step = max(1, SLICE_BYTES * len(array) // array.nbytes)
    parts: list[bytes] = []
    for start in range(0, len(array), step):
        piece = np.ascontiguousarray(array[start : start + step])
        parts.append(orjson.dumps(piece, option=orjson.OPT_SERIALIZE_NUMPY)[1:-1])
        await asyncio.sleep(0)
    return b"[" + b",".join(parts) + b"]"


def member_headers(fields: dict[str, Any], main: str) -> Headers:
    """``X-Pushforward-Log-Likelihood`` and the like: what JSON would say beside the main array."""
    said = {name: _header_value(value) for name, value in fields.items() if name != main}
    return [
        (f"x-pushforward-{name.replace('_', '-')}".encode(), value.encode("ascii"))
        for name, value in said.items()
        if value is not None
    ]


def _header_value(value: Any) -> str | None:
    """A scalar, or a short list of scalars; ``None`` for what headers cannot hold."""
    if isinstance(value, np.ndarray):
        if value.ndim != 1 or len(value) > HEADER_ROWS:
            return None
        written = orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY)
        if b"null" not in written:
            return written[1:-1].decode()
        value = value.tolist()  # JSON has no word for what is not finite
    if isinstance(value, list):
        return _joined(value) if len(value) <= HEADER_ROWS else None
    return None if value is None else _joined([value])


def _joined(values: list[Any]) -> str:
    """Scalars, all of one type."""
    words = ",".join(map(str, values))
    return words.lower() if values and isinstance(values[0], bool) else words


@lru_cache(maxsize=256)
def npy_header(shape: tuple[int, ...], descr: str) -> bytes:
    """The header of an npy file, version 1.0."""
    buffer = io.BytesIO()
    described = {"descr": descr, "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(buffer, described)
    return buffer.getvalue()


def with_numbers(body: bytes, field: str) -> dict[str, Any]:
    """The members of a JSON object, one of which is nested lists of numbers and becomes an array of float64.

    Raises:
        ValueError, TypeError, KeyError: if it is anything else, or names a member twice.
    """
    try:
        document = simdjson.Parser().parse(body)
    except RuntimeError as error:  # a whole number of more than 64 bits
        raise ValueError(str(error)) from None
    if not isinstance(document, simdjson.Object):
        raise TypeError("not an object")
    names = list(document.keys())
    members = {name: _plain(document[name]) for name in names if name != field}
    if len(members) + 1 < len(names):
        raise ValueError("a member twice")
    members[field] = _numbers(document[field], body.count(b"["))
    return members


def _plain(value: Any) -> Any:
    """A value that outlives its document."""
    if isinstance(value, simdjson.Array):
        return value.as_list()
    return value.as_dict() if isinstance(value, simdjson.Object) else value


def _numbers(rows: Any, brackets: int) -> Array:
    """Nested lists as an array, without an object for each number where there are rows and nothing else.

    Args:
        brackets: that open, in the whole document.
    """
    if not isinstance(rows, simdjson.Array) or not len(rows):
        raise TypeError("not rows")
    lists: Any = rows
    numbers = np.frombuffer(lists.as_buffer(of_type="d"))  # which raises for words, that NumPy would take
    lengths = {len(row) if isinstance(row, simdjson.Array) else 0 for row in lists}
    if brackets == 1 + len(lists) and len(lengths) == 1 and lengths != {0}:
        return numbers.reshape(len(lists), -1)
    return np.array(lists.as_list(), np.float64)


def read_npy(body: bytes) -> Array:
    """The array of an npy file, without a copy; never a pickle.

    Raises:
        InvalidInput: for anything but one whole array of numbers, of at least one row.
    """
    start = _npy_start(body)
    try:
        shape, order, dtype = _npy_description(body[:start])
    except (ValueError, SyntaxError, TypeError, KeyError, MemoryError, RecursionError) as error:
        raise InvalidInput(
            f"the body is no npy file ({error}); allowed: one array as np.save writes it"
        ) from None
    if not shape or 0 in shape:
        raise InvalidInput(f"the npy body has the shape {list(shape)}; allowed: rows, at least one")
    expected = math.prod(shape) * dtype.itemsize
    if len(body) - start != expected:
        raise InvalidInput(
            f"the npy body has {len(body) - start} bytes of numbers; "
            f"its header promises {expected}, shape {list(shape)} of {dtype}"
        )
    return np.frombuffer(body, dtype, offset=start).reshape(shape, order=order)


def _npy_start(body: bytes) -> int:
    """Where the numbers begin."""
    if body[:6] != b"\x93NUMPY" or len(body) < 12:
        raise InvalidInput("the body is no npy file; allowed: one array as np.save writes it")
    width = 2 if body[6] == 1 else 4
    return 8 + width + int.from_bytes(body[8 : 8 + width], "little")


@lru_cache(maxsize=256)
def _npy_description(head: bytes) -> tuple[tuple[int, ...], Any, np.dtype[Any]]:
    if len(head) > MAX_NPY_HEADER or head[6] not in (1, 2):
        raise ValueError(f"version {head[6]} with a header of {len(head)} bytes")
    described = ast.literal_eval(head[10 if head[6] == 1 else 12 :].decode("latin1"))
    shape, dtype = described["shape"], np.dtype(described["descr"])
    if not isinstance(shape, tuple) or not all(type(n) is int and 0 <= n < 2**53 for n in shape):
        raise ValueError(f"shape {shape!r}"[:80])
    if dtype.kind not in "fiu" or dtype.itemsize > 8:
        raise ValueError(f"dtype {dtype}"[:80])
    return shape, "F" if described["fortran_order"] else "C", dtype


def grid(pictures: Array, display: tuple[float, float], columns: int | None = None) -> bytes:
    """Pictures (B, C, H, W) side by side as one PNG, small ones magnified by a whole number.

    Args:
        display: the values drawn as black and white.
        columns: pictures in one line; as square as possible if absent.
    """
    count, channels, height, width = pictures.shape
    scale = max(1, PICTURE_PX // max(height, width))
    columns = columns or math.ceil(math.sqrt(count))
    lines = math.ceil(count / columns)
    low, high = display
    grey = (
        np.clip((pictures.astype(np.float64) - low) * (255 / (high - low)), 0, 255).round().astype(np.uint8)
    )
    cell_h, cell_w = height * scale + GAP_PX, width * scale + GAP_PX
    sheet = np.zeros((lines * cell_h + GAP_PX, columns * cell_w + GAP_PX, channels), np.uint8)
    for index, picture in enumerate(grey.transpose(0, 2, 3, 1).repeat(scale, 1).repeat(scale, 2)):
        top, left = GAP_PX + index // columns * cell_h, GAP_PX + index % columns * cell_w
        sheet[top : top + height * scale, left : left + width * scale] = picture
    buffer = io.BytesIO()
    Image.fromarray(sheet.squeeze(2) if channels == 1 else sheet).save(buffer, "png", compress_level=1)
    return buffer.getvalue()
