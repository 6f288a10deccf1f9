"""The door: the outermost application, through which every request comes in and every answer goes out.

It gives the request an id, asks who sent it, holds the caller to the limit of its key, and when all is over
counts, logs and traces it. What is behind it sees a :class:`service.visit.Visit` in the scope. Where there
are keys everything needs one, except the probes: whoever restarts a process must not need a secret for it.
"""

from __future__ import annotations

from collections.abc import Callable, MutableMapping
from functools import partial
from ipaddress import ip_address
from typing import Any

from service.callers import Callers
from service.errors import ServiceError
from service.logs import RequestLog
from service.metrics import Metrics
from service.settings import Settings
from service.traces import Traces
from service.verbs import Cycle, Verbs
from service.visit import CURRENT, OPEN, VISIT, Visit, stamped
from service.watch import Receive
from service.wire import Reply, Send, send_reply

Scope = MutableMapping[str, Any]


class Door:
    """Before the verbs and the application behind them.

    Args:
        wording: how a reason is said to whoever asked for a path.
        log: where requests are told, if anywhere.
        traces: likewise.
    """

    def __init__(
        self,
        app: Verbs,
        callers: Callers,
        metrics: Metrics,
        wording: Callable[[str], Callable[[ServiceError], Reply]],
        log: RequestLog | None = None,
        traces: Traces | None = None,
    ) -> None:
        self._app = app
        self._callers = callers
        self._metrics = metrics
        self._wording = wording
        self._log = log
        self._traces = traces

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        visit = self._visit(scope, dict(scope["headers"]))
        CURRENT.set(visit.id)
        try:
            refusal = self._refusal(visit) if self._callers.known else None
            if refusal is None:
                await self._app(scope, receive, stamped(visit, send))
            else:
                await send_reply(refusal, stamped(visit, send))
        finally:
            self._over(visit)

    def short(self, scope: Scope, headers: dict[bytes, bytes], body: bytes, cycle: Cycle) -> None:
        """The same for a call of a verb whose body is there."""
        visit = self._visit(scope, headers)
        refusal = self._refusal(visit) if self._callers.known else None
        if refusal is None:
            self._app.short(scope, body, cycle, self._over)
        else:
            cycle.go_on(partial(self._turn_away, visit, refusal))

    async def _turn_away(
        self, visit: Visit, refusal: Reply, scope: Scope, receive: Receive, send: Send
    ) -> None:
        try:
            await send_reply(refusal, stamped(visit, send))
        finally:
            self._over(visit)

    def _visit(self, scope: Scope, headers: dict[bytes, bytes]) -> Visit:
        visit = scope[VISIT] = Visit(scope["method"], scope["path"], headers)
        if self._traces is not None:
            visit.trace = self._traces.begin(visit.method, visit.path, headers)
        return visit

    def _refusal(self, visit: Visit) -> Reply | None:
        """Find out who it is; why he is not let in, ``None`` if he is."""
        if visit.path.startswith(OPEN):
            return None
        try:
            visit.caller = self._callers.find(visit.method, visit.headers)
            visit.caller.admit()
        except ServiceError as error:
            self._metrics.rejected(error.code)
            return self._wording(visit.path)(error)
        return None

    def _over(self, visit: Visit) -> None:
        if visit.caller.name:
            self._metrics.key_answered(visit.caller.name, visit.status, visit.rows)
        if self._log is not None:
            self._log.answered(visit)
        if visit.trace is not None:
            visit.trace.end(
                visit.status,
                model=visit.model,
                rows=visit.rows,
                key=visit.caller.name,
                request_id=visit.id,
            )


class OpenToAll(Exception):
    """The process would answer strangers, and nobody said that it may."""


def check_host(settings: Settings, callers: Callers) -> None:
    """Refuse to listen where strangers are.

    Raises:
        OpenToAll: if others can reach the address, there are no keys, and the settings do not say open.
    """
    if callers.known or settings.open or _is_loopback(settings.host):
        return
    raise OpenToAll(
        f"host is {settings.host}, where others can reach it, and there are no keys; allowed: a loopback "
        "address such as 127.0.0.1, keys in PUSHFORWARD_KEYS_FILE (python -m service key NAME makes them), "
        "or PUSHFORWARD_OPEN=true where something else keeps strangers out"
    )


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
