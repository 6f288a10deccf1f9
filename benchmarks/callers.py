"""Closed-loop callers on one event loop, for machines without wrk; they cost more: ratios come out nearer 1.

A process of its own: ``python -m benchmarks.callers URL CONNECTIONS SECONDS < body`` prints requests per
second.
"""

from __future__ import annotations

import asyncio
import sys
import time
from urllib.parse import urlsplit


async def _call(host: str, port: int, request: bytes, end: float) -> int:
    """Requests answered with 200 on one connection until the end."""
    reader, writer = await asyncio.open_connection(host, port)
    done = 0
    while time.monotonic() < end:
        writer.write(request)
        head = await reader.readuntil(b"\r\n\r\n")
        lengths = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
        await reader.readexactly(int(lengths[0].split(b":")[1]))
        assert head.split(b" ", 2)[1] == b"200", head
        done += 1
    writer.close()
    return done


async def rate(url: str, body: bytes, connections: int, seconds: float) -> float:
    """Requests per second."""
    to = urlsplit(url)
    assert to.hostname is not None
    assert to.port is not None
    head = f"POST {to.path} HTTP/1.1\r\nHost: {to.netloc}\r\nContent-Type: application/json\r\n"
    request = f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body
    end = time.monotonic() + seconds
    calls = (_call(to.hostname, to.port, request, end) for _ in range(connections))
    return sum(await asyncio.gather(*calls)) / seconds


if __name__ == "__main__":
    _, url, connections, seconds = sys.argv
    print(asyncio.run(rate(url, sys.stdin.buffer.read(), int(connections), float(seconds))))
