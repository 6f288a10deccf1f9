"""The verbs before an application, and the short way through the house.

Most calls of a verb wait for one run of one graph and for nothing else. Where the whole body is there, they
need no task: they are begun where they arrive, told by the lane when their rows have run, and answered in the
same breath. What waits for more goes on in a task, and so does what is slow to write or to be read.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

from service.batch import Rows
from service.calls import Run
from service.errors import ServiceError
from service.exchange import Begun, Scope, Whole
from service.lifecycle import Lifecycle
from service.operations import Step
from service.routes import ROUTES, Application, Endpoint, Route, VerbExchange
from service.streams import Stream
from service.visit import CURRENT, Visit, stamped
from service.watch import Receive, Watch
from service.wire import Answer, Reply, Send, encode_at_once


class Cycle(Whole, Protocol):
    """A request of a server, whose body is there."""

    def go_on(self, app: Application) -> None:
        """Have an application answer it, in a task."""


class Verbs:
    """The verbs before an application: they need none of what it wraps around its other routes."""

    def __init__(self, app: Application, life: Lifecycle) -> None:
        self._app = app
        self._life = life
        self._routes = {route.path: route for route in ROUTES}
        self._endpoints = {path: Endpoint(route, life) for path, route in self._routes.items()}

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        endpoint = self._endpoints.get(scope.get("path", "")) if scope.get("method") == "POST" else None
        return (endpoint or self._app)(scope, receive, send)

    def short(self, scope: Scope, body: bytes, cycle: Cycle, tell: Callable[[Visit], None]) -> None:
        """Answer a call of a verb the short way.

        Args:
            tell: whom to tell when it is answered.
        """
        Short(self._routes[scope["path"]], self._life, scope, cycle, tell).start(body)


class Short(VerbExchange):
    """One call of a verb, which waits in a lane by itself.

    Attributes:
        over: whether it is answered, or nobody waits for that.
    """

    __slots__ = ("_cycle", "_forget", "_step", "_tell", "_timer", "over")

    def __init__(
        self, route: Route, life: Lifecycle, scope: Scope, cycle: Cycle, tell: Callable[[Visit], None]
    ) -> None:
        super().__init__(route, life, scope, _nothing)
        self._cycle = cycle
        self._tell = tell
        self.over = False
        self._forget: Callable[[], None] = _nobody
        self._timer: asyncio.TimerHandle | None = None

    def start(self, body: bytes) -> None:
        """Begin to answer."""
        self._life.enter()
        try:
            self._patience_s = self._patience()
            self._check_size(len(body))
            self._step: Step | Stream | Reply = self._begin(body)
            if isinstance(self._step, Run):
                self._forget = self._step.enter(self)
                self._life.watches.add(self, self._started + self._patience_s)
                self._cycle.when_left(self._left)
                return
        except Exception as error:
            self._step = self._reason(error)
        self._answer()

    # The lane tells how it went -------------------------------------------------------------------------

    def done(self) -> bool:
        """Whether the request is answered, or nobody waits for that."""
        return self.over

    def cancelled(self) -> bool:
        """Who leaves is taken out of the queue at once."""
        return False

    def set_result(self, result: Rows) -> None:
        """Its rows have run."""
        assert isinstance(self._step, Run)
        try:
            self._step = self._step.over(result)
        except Exception as error:
            self._step = self._reason(error)
        self._answer()

    def set_exception(self, exception: BaseException) -> None:
        """They will not."""
        self._step = self._reason(exception)
        self._answer()

    # Or it takes too long -------------------------------------------------------------------------------

    def begin(self) -> None:
        """It takes a while; nobody waits for ever."""
        left_s = max(0.0, self._started + self._patience_s - time.monotonic())
        self._timer = asyncio.get_running_loop().call_later(left_s, self._too_late)

    def _too_late(self) -> None:
        self._forget()
        self._step = self._reason(self._late())
        self._answer()

    def _left(self) -> None:
        self._forget()
        self._stop()
        self._leave()

    # The answer -----------------------------------------------------------------------------------------

    def _answer(self) -> None:
        """Answer at once, if that can be."""
        self._stop()
        if isinstance(self._step, Answer):
            self._write(self._step)
        if isinstance(self._step, Reply) and self._cycle.take(self._step) and self._cycle.gone:
            self._leave()
        else:
            self._cycle.go_on(self._go_on)

    def _write(self, answer: Answer) -> None:
        try:
            self._step = encode_at_once(answer, self._media) or answer
        except Exception as error:
            self._step = self._reason(error)

    async def _go_on(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The rest takes a while."""
        CURRENT.set(self._visit.id)
        self._receive = receive
        self._life.leave()  # it comes once more
        try:
            await self.exchange(stamped(self._visit, send))
        finally:
            self._tell(self._visit)

    async def _work(self, watch: Watch) -> Reply | Begun:
        watch.body_read()
        return self._step if isinstance(self._step, Reply) else await self._finish(self._step)

    def _reason(self, error: BaseException) -> Reply:
        """The answer in place of a result."""
        if isinstance(error, ServiceError):
            return self._refusal(error)
        token = CURRENT.set(self._visit.id)
        try:
            return self._mistake(error)
        finally:
            CURRENT.reset(token)

    def _stop(self) -> None:
        """Nothing is waited for any more."""
        self.over = True
        self._forget = _nobody  # it leads to the job, which leads here
        self._cycle.when_left(None)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _leave(self) -> None:
        """Be counted, and keep nothing: the watches may hold this for a moment."""
        self._life.leave()
        visit = self._visit
        self._life.metrics.answered(self._verb, visit.model, visit.status, visit.started)
        self._tell(visit)
        del self._step, self._cycle, self._scope, self._whole, self._tell


def _nobody() -> None:
    """Waits."""


async def _nothing() -> dict[str, Any]:
    """The messages of a request whose body is there."""
    raise AssertionError("all of it is there")
