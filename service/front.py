"""The short way in: uvicorn's protocol, with a leaner cycle for the hot verbs.

uvicorn writes the head and the body of an answer apart, after looking at each header with two regular
expressions: a system call and some microseconds that a batch of one-row requests notices. Here a hot verb's
answer is one write. Everything else (parsing, keep-alive, pipelining, flow control, shutdown) stays uvicorn's,
and so do answers in pieces; any other path does not come by here at all.
"""

from __future__ import annotations

import asyncio
from http import HTTPStatus
from typing import Any, Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from service.routes import ROUTES

HOT: Final = {route.path.encode(): route.path for route in ROUTES}
STATUS_LINES: Final = {
    status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode() for status in HTTPStatus
}


class Front(HttpToolsProtocol):
    """One connection."""

    def on_headers_complete(self) -> None:
        """Begin to answer: a hot verb the short way, unless something is unusual about the request."""
        raw_path, _, query = self.url.partition(b"?")
        path = HOT.get(raw_path)
        busy = self.cycle is not None and not self.cycle.response_complete
        if path is None or busy or not self._is_plain():
            super().on_headers_complete()
            return
        self.scope.update(method="POST", path=path, raw_path=raw_path, query_string=query)
        self.cycle = OneWrite(
            scope=self.scope,
            transport=self.transport,
            flow=self.flow,
            logger=self.logger,
            access_logger=self.access_logger,
            access_log=False,
            default_headers=self.server_state.default_headers,
            message_event=asyncio.Event(),
            expect_100_continue=self.expect_100_continue,
            keep_alive=self.parser.should_keep_alive(),
            on_response=self.on_response_complete,
        )
        self._start_asgi_task(self.cycle, self.app)

    def _is_plain(self) -> bool:
        parser = self.parser
        return (
            parser.get_method() == b"POST"
            and parser.get_http_version() == "1.1"
            and not parser.should_upgrade()
        )


class OneWrite(RequestResponseCycle):
    """A cycle whose answer leaves in one piece, if it comes in one."""

    _start: Any = None

    async def send(self, message: Any) -> None:
        """Hold the head back until the body is there."""
        if self.response_started:
            await super().send(message)
        elif message["type"] == "http.response.start":
            self._start = message
        elif message.get("more_body"):
            await super().send(self._start)
            await super().send(message)
        else:
            if self.flow.write_paused:
                await self.flow.drain()
            self._finish(self._start, message["body"])

    def _finish(self, start: Any, body: bytes) -> None:
        if self.disconnected:
            return
        parts = [STATUS_LINES[start["status"]]]
        for name, value in (*self.default_headers, *start["headers"]):
            parts += (name, b": ", value, b"\r\n")
        parts.append(b"\r\n" if self.keep_alive else b"connection: close\r\n\r\n")
        parts.append(body)
        self.transport.write(b"".join(parts))
        self.response_started = self.response_complete = True
        self.message_event.set()
        if not self.keep_alive:
            self.transport.close()
        self.on_response()
