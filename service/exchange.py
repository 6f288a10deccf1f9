"""One request and its answer, whatever the words: read once, watched while it waits, answered once.

The deadline is fixed before the body is read. A request that waits is watched: a caller who hung up, or a
deadline that passed, cancels the work. What the body means, and how a refusal is worded, is left to those
who know.
"""

from __future__ import annotations

import asyncio
import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, MutableMapping
from dataclasses import dataclass
from typing import Any, Final, Protocol

from service import schemas
from service.calls import Call
from service.engine import Engine, Served
from service.errors import BodyTooLarge, DeadlinePassed, Internal, ServiceError
from service.lifecycle import Lifecycle
from service.streams import Stream, send_stream
from service.visit import HUNG_UP, VISIT, Visit
from service.watch import Receive, Server, Watch
from service.wire import Array, Reply, Send, send_reply

TIMEOUT_HEADER: Final = b"x-request-timeout-ms"
WHOLE: Final = "pushforward.whole"  # where the scope has it
LOG: Final = logging.getLogger("pushforward")

Scope = MutableMapping[str, Any]
Headers = dict[bytes, bytes]


class Whole(Server, Protocol):
    """A server that gives whole bodies and takes whole answers, beside the messages of ASGI.

    Attributes:
        gone: whether the answer that was taken is on its way.
    """

    gone: bool

    async def until_gone(self) -> None:
        """Wait until it is."""

    def break_off(self) -> None:
        """Forget what is left of it, and the caller."""

    def whole_body(self) -> bytes | None:
        """The body, ``None`` if some of it is still to come."""

    def take(self, reply: Reply) -> bool:
        """Send an answer; whether that was done."""


class HungUp(Exception):
    """The caller left while the body was read."""


@dataclass(frozen=True, slots=True)
class Begun:
    """A stream whose first piece is there."""

    stream: Stream
    first: Array
    media: str


class Exchange(ABC):
    """One request and its answer.

    Args:
        verb: under which the exchange is counted.
        wording: how a reason becomes an answer.
    """

    __slots__ = (
        "_headers",
        "_life",
        "_patience_s",
        "_receive",
        "_scope",
        "_started",
        "_verb",
        "_visit",
        "_whole",
        "_wording",
    )

    def __init__(
        self,
        verb: str,
        wording: Callable[[ServiceError], Reply],
        life: Lifecycle,
        scope: Scope,
        receive: Receive,
    ) -> None:
        self._visit: Visit = scope[VISIT]
        self._started = self._visit.started
        self._verb = verb
        self._wording = wording
        self._life = life
        self._scope = scope
        self._receive = receive
        self._patience_s = 0.0
        self._headers: Headers = self._visit.headers
        self._whole: Whole | None = scope.get(WHOLE)

    async def exchange(self, send: Send) -> None:
        """Answer, whatever happens, unless nobody is there to be answered; and be counted."""
        self._life.enter()
        watch = Watch(self._receive, self._whole)
        try:
            try:
                self._patience_s = self._patience()
                watch.until(self._started + self._patience_s, self._life.watches)
                outcome: Reply | Begun | None = await self._work(watch)
            except (Exception, asyncio.CancelledError) as error:
                outcome = self._failed(error, watch)
            if isinstance(outcome, Begun):
                await self._send_stream(outcome, watch, send)
            elif outcome is not None:
                watch.stop()
                await self._send(outcome, send)
        finally:
            watch.stop()
            self._life.leave()
            visit = self._visit
            self._life.metrics.answered(self._verb, visit.model, visit.status, visit.started)

    async def _send(self, reply: Reply, send: Send) -> None:
        """Answer at once, where the server and the caller take that."""
        if self._whole is None or not self._whole.take(reply):
            await send_reply(reply, send)
        elif not self._whole.gone:
            await self._until_gone(self._whole)

    async def _until_gone(self, whole: Whole) -> None:
        """A caller who reads nothing may keep an answer in memory as long as another waits for one."""
        try:
            async with asyncio.timeout(self._patience_s):
                await whole.until_gone()
        except TimeoutError:
            self._visit.status = HUNG_UP
            LOG.warning("%s broken off: the caller takes no more bytes", self._verb)
            whole.break_off()

    @abstractmethod
    async def _work(self, watch: Watch) -> Reply | Begun:
        """Read the body and make the answer.

        Raises:
            ServiceError: the reason why there is none.
        """

    def _failed(self, error: BaseException, watch: Watch) -> Reply | None:
        """The answer in place of a result, ``None`` if nobody waits for one."""
        match error:
            case ServiceError():
                return self._refusal(error)
            case HungUp():
                return None
            case asyncio.CancelledError():
                if watch.ended is None:
                    raise error
                return None if watch.ended == "hung up" else self._refusal(self._late())
        return self._mistake(error)

    def _late(self) -> DeadlinePassed:
        return DeadlinePassed(f"no answer within {self._patience_s * 1000:g} ms")

    def _mistake(self, error: BaseException) -> Reply:
        LOG.error("%s failed", self._verb, exc_info=error)
        return self._refusal(Internal("the service made a mistake; its log says which"))

    def _call(self, engine: Engine, served: Served, max_rows: int, numeric: bool = False) -> Call:
        """What an operation needs of this request beside its body."""
        deadline = self._started + self._patience_s
        return Call(
            served,
            served.manifest,
            self._life.store,
            deadline,
            max_rows,
            engine.models,
            self._visit,
            numeric,
        )

    def _patience(self) -> float:
        """How long this caller waits, in seconds; the service's own bound is the longest."""
        longest = self._life.settings.deadline_ms
        asked = self._headers.get(TIMEOUT_HEADER)
        if asked is None:
            return longest / 1000
        try:
            ms = float(asked)
        except ValueError:
            ms = 0.0
        if not 0 < ms < float("inf"):
            raise schemas.refuse(
                "header X-Request-Timeout-Ms", schemas.show(asked.decode("latin1")), "ms > 0"
            )
        return min(ms, longest) / 1000

    async def _body(self) -> bytes:
        """The whole body, as long as it fits."""
        limit = int(self._life.settings.max_body_mb * 1e6)
        announced = self._headers.get(b"content-length", b"0")
        self._check_size(int(announced) if announced.isdigit() else 0)
        body = self._whole.whole_body() if self._whole else None
        if body is not None:
            return body
        message = await self._receive()
        body = message.get("body", b"")
        if message.get("more_body"):
            body = await self._rest(body, limit)
        elif message["type"] == "http.disconnect":
            raise HungUp
        self._check_size(len(body))
        return body

    def _check_size(self, size: int) -> None:
        """Refuse a body of so many bytes, if it is too large."""
        limit = self._life.settings.max_body_mb * 1e6
        if size > limit:
            raise _too_large(f"{size} bytes", int(limit))

    async def _rest(self, first: bytes, limit: int) -> bytes:
        parts, size = [first], len(first)
        while True:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                raise HungUp
            parts.append(message.get("body", b""))
            size += len(parts[-1])
            if size > limit:
                raise _too_large(f"more than {limit} bytes", limit)
            if not message.get("more_body"):
                return b"".join(parts)

    def _refusal(self, error: ServiceError) -> Reply:
        self._life.metrics.rejected(error.code)
        return self._wording(error)

    async def _send_stream(self, begun: Begun, watch: Watch, send: Send) -> None:
        """From here on the only way to say that something failed is to break the connection off."""
        watch.forget_deadline()
        try:
            await send_stream(begun.stream, begun.first, begun.media, send, self._patience_s)
            watch.stop()
        except asyncio.CancelledError:
            self._visit.status = HUNG_UP
            if watch.ended is None:
                raise
        except (ServiceError, TimeoutError) as error:
            self._visit.status = HUNG_UP if isinstance(error, TimeoutError) else error.status
            LOG.warning("%s broken off: %s", self._verb, error or "the caller takes no more bytes")
        finally:
            await begun.stream.pieces.aclose()


def _too_large(seen: str, limit: int) -> BodyTooLarge:
    return BodyTooLarge(f"the body has {seen}; allowed: {limit}", limit=limit)
