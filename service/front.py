"""The short way in: uvicorn's protocol, with a leaner cycle for the hot verbs.

uvicorn writes the head and the body of an answer apart, after looking at each header with two regular
expressions, and starts a timer at the end: that takes longer than a small graph runs. Here the answer of a
hot verb is one write, and the timer is one a connection. All else stays uvicorn's: parsing, pipelining, flow
control, shutdown, answers in pieces. No other path comes by here.
"""

from __future__ import annotations

import asyncio
from http import HTTPStatus
from typing import Any, Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from service.exchange import AT_ONCE
from service.routes import ROUTES
from service.visit import VISIT, Visit
from service.wire import Reply

HOT: Final = {route.path.encode(): route.path for route in ROUTES}
STATUS_LINES: Final = {
    status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode() for status in HTTPStatus
}


class Front(HttpToolsProtocol):
    """One connection."""

    _idle_since = 0.0

    def on_headers_complete(self) -> None:
        """Begin to answer: a hot verb the short way, unless something is unusual about the request."""
        raw_path, _, query = self.url.partition(b"?")
        path = HOT.get(raw_path)
        busy = self.cycle is not None and not self.cycle.response_complete
        if path is None or busy or not self._is_plain():
            super().on_headers_complete()
            return
        scope: Any = self.scope
        scope["method"], scope["path"], scope["raw_path"] = "POST", path, raw_path
        scope["query_string"] = query
        cycle = self.cycle = OneWrite(
            scope,
            self.transport,
            self.flow,
            self.logger,
            self.access_logger,
            False,
            self.server_state.default_headers,
            asyncio.Event(),
            self.expect_100_continue,
            self.parser.should_keep_alive(),
            self.on_response_complete,
        )
        scope[AT_ONCE] = cycle.take
        # Not the whole application: what it adds on the outside is of no use to a verb.
        app = self.app.middleware_stack
        cycle.task = self.loop.create_task(cycle.run_asgi(app))

    def on_response_complete(self) -> None:
        """Wait for the next request: one timer a connection, which looks when it ends."""
        if self.pipeline or self.transport.is_closing():
            super().on_response_complete()
            return
        self.server_state.total_requests += 1
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

    def _is_plain(self) -> bool:
        parser = self.parser
        return (
            parser.get_method() == b"POST"
            and parser.get_http_version() == "1.1"
            and not parser.should_upgrade()
        )


class OneWrite(RequestResponseCycle):
    """A cycle that takes a whole answer and writes it at once."""

    task: asyncio.Task[None]  # kept from being collected; a drain waits for requests, not for tasks

    def take(self, reply: Reply) -> bool:
        """Write it, unless the caller is slow to read; whether that was done."""
        if self.flow.write_paused or self.response_started:
            return False
        if not self.disconnected:
            self._write(reply)
        return True

    def _write(self, reply: Reply) -> None:
        visit: Visit = self.scope[VISIT]  # type: ignore[typeddict-item]
        visit.status = reply.status
        parts = [STATUS_LINES[reply.status]]
        for name, value in (*self.default_headers, *reply.headers):
            parts += (name, b": ", value, b"\r\n")
        if not self.keep_alive:
            parts.append(b"connection: close\r\n")
        parts.append(
            b"content-type: %b\r\ncontent-length: %d\r\nx-request-id: %b\r\n\r\n"
            % (reply.media.encode(), len(reply.body), visit.id.encode())
        )
        parts.append(reply.body)
        self.transport.write(b"".join(parts))
        self._complete()

    def _complete(self) -> None:
        scope: Any = self.scope
        del scope[AT_ONCE]  # a circle, and much work for the garbage collector
        self.response_started = self.response_complete = True
        self.message_event.set()
        if not self.keep_alive:
            self.transport.close()
        self.on_response()
