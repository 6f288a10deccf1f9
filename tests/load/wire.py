"""Requests as bytes, and connections that send and read them, or do not."""

from __future__ import annotations

import asyncio
import json
import socket
import struct
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit


def request(verb: str, fields: dict[str, Any], **headers: str) -> bytes:
    """A whole request; ``_`` in the name of a header is a hyphen."""
    body = json.dumps(fields).encode()
    lines = [f"POST /{verb} HTTP/1.1", "Host: x", "Content-Type: application/json"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, f"Content-Length: {len(body)}", "", ""]).encode() + body


def address(url: str) -> tuple[str, int]:
    """Where a service listens."""
    parts = urlsplit(url)
    assert parts.hostname is not None
    assert parts.port is not None
    return parts.hostname, parts.port


def connect(url: str, receive_bytes: int | None = None) -> socket.socket:
    """A connection; with ``receive_bytes`` its window is so small that the sender soon has to wait."""
    wire = socket.socket()
    if receive_bytes is not None:
        wire.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
    wire.settimeout(60)
    wire.connect(address(url))
    return wire


def reset(wire: socket.socket) -> None:
    """Close a connection as a process does that is killed: without a farewell."""
    wire.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    wire.close()


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back; status 0 means that the connection was closed before."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def code(self) -> str:
        """Of a problem, else nothing."""
        return "" if self.status == 200 else json.loads(self.body or "{}").get("code", "")


GONE = Answer(0, {}, b"")


class Connection(asyncio.Protocol):
    """One connection with one request at a time; cheap, because it shares the cores with what it measures."""

    def __init__(self) -> None:
        self._got = bytearray()
        self._waiting: asyncio.Future[Answer] | None = None
        self._transport: asyncio.Transport | None = None

    @classmethod
    async def open(cls, url: str) -> Connection:
        _, connection = await asyncio.get_running_loop().create_connection(cls, *address(url))
        return connection

    @property
    def usable(self) -> bool:
        return self._transport is not None and not self._transport.is_closing()

    def ask(self, sent: bytes) -> asyncio.Future[Answer]:
        """Send a request; the answer, or :data:`GONE`."""
        assert self._transport is not None
        self._waiting = asyncio.get_running_loop().create_future()
        if self.usable:
            self._transport.write(sent)
        else:
            self._done(GONE)
        return self._waiting

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._got += data
        end = self._got.find(b"\r\n\r\n")
        if end < 0:
            return
        status, headers = _head(bytes(self._got[:end]))
        body = _body(memoryview(self._got)[end + 4 :], headers)
        if body is not None:
            self._got = bytearray()
            self._done(Answer(status, headers, body))

    def connection_lost(self, error: Exception | None) -> None:
        self._done(GONE)

    def _done(self, answer: Answer) -> None:
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(answer)


def _head(head: bytes) -> tuple[int, dict[str, str]]:
    first, *lines = head.decode("latin1").split("\r\n")
    pairs = (line.split(":", 1) for line in lines)
    return int(first.split(" ")[1]), {name.strip().lower(): value.strip() for name, value in pairs}


def _body(got: memoryview, headers: dict[str, str]) -> bytes | None:
    """The whole body, ``None`` while some of it has not come."""
    if headers.get("transfer-encoding") == "chunked":
        return _chunks(bytes(got)) if got[-7:] == b"\r\n0\r\n\r\n" else None
    size = int(headers["content-length"])
    return bytes(got[:size]) if len(got) >= size else None


def _chunks(said: bytes) -> bytes | None:
    """What the chunks carry, ``None`` if the last is not the end of all."""
    place, parts = 0, list[bytes]()
    while place < len(said):
        end = said.index(b"\r\n", place)
        size = int(said[place:end], 16)
        if size == 0:
            return b"".join(parts)
        parts.append(said[end + 2 : end + 2 + size])
        place = end + 2 + size + 2
    return None
