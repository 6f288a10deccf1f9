"""The short way in: uvicorn's protocol, with a leaner cycle for the verbs.

uvicorn writes the head and the body of an answer apart, after looking at each header with two regular
expressions, and starts a timer at the end: that takes longer than a small graph runs. Here the answer of a
hot verb is one write, and the timer is one a connection. All else stays uvicorn's: parsing, pipelining, flow
control, shutdown, answers in pieces. No other path comes by here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import cached_property, lru_cache
from http import HTTPStatus
from typing import Any, Final, NamedTuple

from starlette.applications import Starlette
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from service.access import Door
from service.exchange import WHOLE
from service.routes import ROUTES
from service.visit import VISIT, Visit
from service.wire import Reply

HOT: Final = {route.path.encode(): route.path for route in ROUTES}


MAX_WAITING: Final = 128  # requests that one connection sends without waiting for their answers
MAX_HEADS: Final = 256  # that are remembered
MAX_HEAD_BYTES: Final = 1024
END: Final = b"\r\n\r\n"


OF_THE_HEAD: Final = ("method", "path", "query_string")
OF_THE_BODY: Final = {b"transfer-encoding", b"expect"}  # what else a head may say of it


class Head(NamedTuple):
    """What the parser once found in a head.

    Attributes:
        said: members of the scope.
        headers: among them, by name.
        length: of the body, in bytes.
    """

    said: dict[str, Any]
    headers: dict[bytes, bytes]
    length: int


HEADS: Final[dict[bytes, Head]] = {}  # callers send the same ones again and again


class Front(HttpToolsProtocol):
    """One connection."""

    _idle_since = 0.0
    _inside = False  # a request, of which some is still to come
    _plain: OneWrite | None = None  # the last request, if it went the short way

    @cached_property
    def _door(self) -> Any:
        """What an application adds on the outside is of no use to a verb."""
        app: Any = self.app
        if isinstance(app, Starlette):
            app.middleware_stack = app.middleware_stack or app.build_middleware_stack()
            return app.middleware_stack
        return app

    def data_received(self, data: bytes) -> None:
        """Begin to answer; the parser need not see a head twice, if the whole body came with it."""
        busy = self.cycle is not None and not self.cycle.response_complete
        if busy or self._inside:
            super().data_received(data)
            return
        start = data.find(END, 0, MAX_HEAD_BYTES) + len(END)
        head = HEADS.get(data[:start])
        if head is not None and len(data) - start == head.length:
            self._repeat(head, data[start:])
            return
        super().data_received(data)
        plain, self._plain = self._plain, None
        if plain is not None and start >= len(END) and not self._inside:
            self._remember(data[:start], len(data) - start, plain)

    def _repeat(self, head: Head, body: bytes) -> None:
        """Another request with the same head."""
        cycle = self._cycle_of(head.said.copy(), False, True)
        cycle.more_body = False
        self._door.short(cycle.scope, head.headers, body, cycle)

    def _remember(self, head: bytes, length: int, cycle: OneWrite) -> None:
        """Know a head from now on, if it says how long the body is, and no more of it."""
        scope: Any = cycle.scope
        headers = dict(scope["headers"])
        measured = headers.get(b"content-length") == b"%d" % length and len(headers) == len(scope["headers"])
        known = isinstance(self._door, Door)
        if known and measured and cycle.keep_alive and OF_THE_BODY.isdisjoint(headers):
            if len(HEADS) >= MAX_HEADS:
                HEADS.clear()
            HEADS[head] = Head({name: scope[name] for name in OF_THE_HEAD}, headers, length)

    def on_message_begin(self) -> None:
        """Some of a request has come."""
        self._inside = True
        super().on_message_begin()

    def on_body(self, body: bytes) -> None:
        """A part of a body has come; the first one is not copied."""
        cycle = self.cycle
        if isinstance(cycle, OneWrite) and not cycle.body and not cycle.response_complete:
            cycle.body, body = body, b""
        super().on_body(body)

    def on_message_complete(self) -> None:
        """All of it has."""
        self._inside = False
        super().on_message_complete()

    def on_headers_complete(self) -> None:
        """Begin to answer: a hot verb the short way, unless something is unusual about the request."""
        raw_path, _, query = self.url.partition(b"?")
        path = HOT.get(raw_path)
        busy = self.cycle is not None and not self.cycle.response_complete
        if len(self.pipeline) >= MAX_WAITING:
            self.transport.abort()  # whoever sends so many reads none of the answers
            return
        if path is None or busy or not self._is_plain():
            super().on_headers_complete()
            return
        scope: Any = self.scope
        scope["method"], scope["path"], scope["raw_path"] = "POST", path, raw_path
        scope["query_string"] = query
        self._plain = self._cycle_of(scope, self.expect_100_continue, self.parser.should_keep_alive())
        self._plain.go_on(self._door)

    def _cycle_of(self, scope: Any, expect_100_continue: bool, keep_alive: bool) -> OneWrite:
        cycle = self.cycle = OneWrite(
            scope,
            self.transport,
            self.flow,
            self.logger,
            self.access_logger,
            False,
            self.server_state.default_headers,
            asyncio.Event(),
            expect_100_continue,
            keep_alive,
            self.on_response_complete,
        )
        scope[WHOLE] = cycle
        return cycle

    def on_response_complete(self) -> None:
        """Wait for the next request: one timer a connection, which looks when it ends."""
        if self.pipeline or self.transport.is_closing():
            super().on_response_complete()
            return
        self.server_state.total_requests += 1
        if self.flow.read_paused:
            self.flow.resume_reading()
        self._idle_since = self.loop.time()
        if self.timeout_keep_alive_task is None:
            self._look_in(self.timeout_keep_alive)

    def _look_in(self, seconds: float) -> None:
        self.timeout_keep_alive_task = self.loop.call_later(seconds, self.timeout_keep_alive_handler)

    def timeout_keep_alive_handler(self) -> None:
        """Close the connection, if nothing has come for so long."""
        self.timeout_keep_alive_task = None
        idle = self.cycle is None or self.cycle.response_complete
        left = (
            self._idle_since + self.timeout_keep_alive - self.loop.time() if idle else self.timeout_keep_alive
        )
        if left > 0:
            self._look_in(left)
        else:
            super().timeout_keep_alive_handler()

    def _unset_keepalive_if_required(self) -> None:
        """The timer goes on; it sees for itself that there is a request."""

    def connection_lost(self, exc: Exception | None) -> None:
        """Nobody waits any more."""
        if self.timeout_keep_alive_task is not None:
            self.timeout_keep_alive_task.cancel()
        super().connection_lost(exc)
        if isinstance(self.cycle, OneWrite):
            self.cycle.tell()

    def _is_plain(self) -> bool:
        parser = self.parser
        return (
            parser.get_method() == b"POST"
            and parser.get_http_version() == "1.1"
            and not parser.should_upgrade()
        )


class OneWrite(RequestResponseCycle):
    """A cycle that takes a whole answer and writes it at once."""

    body: Any  # bytes, or an array of them
    task: asyncio.Task[None]  # kept from being collected; a drain waits for requests, not for tasks
    taken = gone = False
    left: Callable[[], None] | None = None  # who is told that the caller left

    def whole_body(self) -> bytes | None:
        """The body, ``None`` if some of it is still to come."""
        if self.more_body or self.waiting_for_100_continue or self.disconnected:
            return None
        body, self.body = bytes(self.body), bytearray()
        self.message_event.clear()  # what it is set for from here on is that the caller left
        self.flow.resume_reading()
        return body

    def go_on(self, app: Any) -> None:
        """Have an application answer, in a task."""
        self.task = asyncio.get_running_loop().create_task(self.run_asgi(app))

    def take(self, reply: Reply) -> bool:
        """Write an answer, unless the caller is slow to read; whether that was done, now or before."""
        if self.taken:
            return True
        if self.flow.write_paused or self.response_started:
            return False
        self.taken = True
        if self.disconnected:
            self.gone = True
        else:
            self._write(reply)
        return True

    def when_left(self, call: Callable[[], None] | None) -> None:
        """Whom to tell, from now on, that the caller has left."""
        self.left = call
        if call is not None:
            if self.flow.read_paused:
                self.flow.resume_reading()  # who is not read from cannot be seen to leave
            if self.disconnected:
                self.tell()

    def tell(self) -> None:
        """The caller has left."""
        self._let_go()
        if self.left is not None:
            self.left()

    async def until_gone(self) -> None:
        """Wait until the caller has read so much that little is left."""
        await self.flow.drain()
        self._complete()

    def break_off(self) -> None:
        """Let go of a caller who does not read."""
        self.response_complete = True
        self.transport.abort()

    def _write(self, reply: Reply) -> None:
        visit: Visit = self.scope[VISIT]  # type: ignore[typeddict-item]
        visit.status = reply.status
        head = _head(reply.status, reply.media, self.keep_alive, tuple(self.default_headers))
        length = len(reply.body) + len(reply.rest)
        own = b"content-length: %d\r\nx-request-id: %b\r\n" % (length, visit.id.encode())
        more = b"".join(b"%b: %b\r\n" % header for header in reply.headers) if reply.headers else b""
        self.transport.write(b"".join((head, own, more, b"\r\n", reply.body)))
        if reply.rest:
            self.transport.write(reply.rest)
        self.response_started = True
        if not self.flow.write_paused:
            self._complete()

    def _complete(self) -> None:
        on_response = self.on_response
        self._let_go()
        self.gone = self.response_complete = True
        self.message_event.set()
        if not self.keep_alive:
            self.transport.close()
        on_response()

    def _let_go(self) -> None:
        """What leads back here is a circle: much work for the garbage collector, and until then memory."""
        scope: Any = self.scope
        scope.pop(WHOLE, None)
        self.on_response = _nobody


def _nobody() -> None:
    """Waits for the end of an answer."""


@lru_cache(maxsize=64)
def _head(status: int, media: str, keep_alive: bool, headers: tuple[tuple[bytes, bytes], ...]) -> bytes:
    """What the answers of one second have in common."""
    lines = [f"HTTP/1.1 {status} {HTTPStatus(status).phrase}".encode(), b"content-type: " + media.encode()]
    lines += [name + b": " + value for name, value in headers]
    return b"\r\n".join([*lines, *([] if keep_alive else [b"connection: close"]), b""])
