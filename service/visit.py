"""One request as an operator sees it: its id, who sent it, and what it turned out to be."""

from __future__ import annotations

import itertools
import re
import secrets
import time
from collections.abc import Awaitable, MutableMapping
from contextvars import ContextVar
from typing import Any, Final

from service.batch import Rows
from service.callers import ANYONE, Caller
from service.metrics import NO_MODEL
from service.traces import Trace
from service.wire import Send

ID_HEADER: Final = b"x-request-id"
ALLOWED_ID: Final = re.compile(rb"[A-Za-z0-9._:/+=-]{1,128}")
VISIT: Final = "pushforward.visit"  # where the scope has it
OPEN: Final = ("/health/", "/v2/health/")  # the probes: they need no key
HUNG_UP: Final = 499  # the status under which callers who left are counted
CURRENT: Final[ContextVar[str]] = ContextVar("request id")

_PROCESS: Final = secrets.token_hex(6)
_NUMBERS: Final = itertools.count(1)


class Visit:
    """What is known of a request, more and more of it.

    Attributes:
        id: the caller's own, where it may stand in a header and a log; else a new one.
        started: on the monotonic clock, in seconds.
        model: that was found.
        rows: that graphs ran for it.
        waited_s: in queues.
        trace: where its steps are told, ``None`` unless traces are made.
    """

    __slots__ = (
        "caller",
        "headers",
        "id",
        "method",
        "model",
        "path",
        "rows",
        "started",
        "status",
        "trace",
        "waited_s",
    )

    def __init__(self, method: str, path: str, headers: dict[bytes, bytes]) -> None:
        self.started = time.monotonic()
        self.headers = headers
        self.method = method
        self.path = path
        given = headers.get(ID_HEADER)
        allowed = given is not None and ALLOWED_ID.fullmatch(given)
        self.id = given.decode() if given and allowed else f"{_PROCESS}-{next(_NUMBERS):x}"
        self.caller: Caller = ANYONE
        self.model = NO_MODEL
        self.status = HUNG_UP
        self.rows = 0
        self.waited_s = 0.0
        self.trace: Trace | None = None

    def charge(self, rows: int) -> None:
        """Graphs are about to run rows for it.

        Raises:
            OverLimit: if these are the first, and more than its caller may ask for.
        """
        self.caller.charge(rows, begun=self.rows > 0)
        self.rows += rows

    def ran(self, entry: str, rows: int, done: Rows) -> None:
        """They have run."""
        self.waited_s += done.waited_s
        if self.trace is not None:
            self.trace.ran(entry, rows, done.since, done.waited_s)


def stamped(visit: Visit, send: Send) -> Send:
    """The same, with the request's id in the head of the answer."""

    def stamped(message: MutableMapping[str, Any]) -> Awaitable[None]:
        if message["type"] == "http.response.start":
            visit.status = message["status"]
            message["headers"] = [*message["headers"], (b"x-request-id", visit.id.encode())]
        return send(message)

    return stamped
