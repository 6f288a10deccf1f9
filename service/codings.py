"""HTTP content codings of the protocol's bodies: gzip and deflate, the inflated size bounded."""

from __future__ import annotations

import asyncio
import zlib
from typing import Final

from service.errors import BodyTooLarge, InvalidInput, UnsupportedMediaType
from service.wire import Reply, preferred

# What zlib calls them: a gzip member, and its own format, which HTTP calls deflate (RFC 9110, section 8.4.1).
WINDOW_BITS: Final = {"gzip": 31, "deflate": 15}
WORTH_IT_BYTES: Final = 1024
THREAD_BYTES: Final = 64 * 1024  # from here on zlib works on a thread, without the interpreter's lock
LEVEL: Final = 1  # floats hardly shrink, so the cheapest


async def inflated(body: bytes, coding: str, limit: int) -> bytes:
    """The body as it was before it was compressed.

    Args:
        coding: of the header Content-Encoding.
        limit: of the result, in bytes; more is never held.

    Raises:
        UnsupportedMediaType, InvalidInput, BodyTooLarge
    """
    if coding in ("", "identity"):
        return body
    if coding not in WINDOW_BITS:
        raise UnsupportedMediaType(f"Content-Encoding is {coding[:80]!r}; allowed: gzip, deflate, identity")
    if len(body) < THREAD_BYTES:
        return _inflated(body, coding, limit)
    return await asyncio.to_thread(_inflated, body, coding, limit)


def _inflated(body: bytes, coding: str, limit: int) -> bytes:
    work = zlib.decompressobj(WINDOW_BITS[coding])
    try:
        plain = work.decompress(body, limit + 1)
    except zlib.error as error:
        raise InvalidInput(f"the body is not {coding} as Content-Encoding says: {error}") from None
    if len(plain) > limit:
        raise BodyTooLarge(f"the body has more than {limit} bytes inflated; allowed: {limit}", limit=limit)
    if not work.eof or work.unused_data:
        what = "more than one part" if work.eof else "no end"
        raise InvalidInput(f"the body has {what}; allowed: one whole {coding} stream")
    return plain


async def compressed(reply: Reply, accepted: str) -> Reply:
    """The reply in the coding that the caller likes best, as it is if there is none or it is small.

    Args:
        accepted: the header Accept-Encoding.
    """
    coding = preferred(accepted, tuple(WINDOW_BITS)) if accepted else None
    if coding is None or len(reply.body) < WORTH_IT_BYTES:
        return reply
    if len(reply.body) < THREAD_BYTES:
        body = _compressed(reply.body, coding)
    else:
        body = await asyncio.to_thread(_compressed, reply.body, coding)
    headers = [*reply.headers, (b"content-encoding", coding.encode())]
    return Reply(reply.status, reply.media, body, headers)


def _compressed(body: bytes, coding: str) -> bytes:
    work = zlib.compressobj(LEVEL, wbits=WINDOW_BITS[coding])
    return work.compress(body) + work.flush()
