"""Ends a request whose deadline has passed or whose caller hung up, by cancelling its task.

Most requests are answered before this begins: until then they lie together under one timer.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, MutableMapping
from functools import partial
from typing import Any, Final, Literal, Protocol

BEGIN_AFTER_S: Final = 0.025


class Server(Protocol):
    """A server that tells when a caller leaves."""

    def when_left(self, call: Callable[[], None] | None) -> None:
        """Whom to tell, from now on, that the caller has left."""


class Begins(Protocol):
    """A request that takes a while begins to be looked after.

    Attributes:
        over: whether it is answered.
    """

    over: bool

    def begin(self) -> None:
        """It does."""


Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]


class Watches:
    """Requests that have just come, and are mostly answered before anyone has to look after them."""

    def __init__(self) -> None:
        self._young: list[Begins] = []
        self._ripe: list[Begins] = []  # since the last round
        self._timer: asyncio.TimerHandle | None = None

    def add(self, watch: Begins, deadline: float) -> None:
        """Begin to watch within one to two rounds, unless it is over by then; at once, if that were late."""
        if deadline - time.monotonic() <= 2 * BEGIN_AFTER_S:
            watch.begin()
            return
        self._young.append(watch)
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(BEGIN_AFTER_S, self._round)

    def _round(self) -> None:
        self._timer = None
        old, self._ripe, self._young = self._ripe, self._young, []
        if self._ripe:
            self._timer = asyncio.get_running_loop().call_later(BEGIN_AFTER_S, self._round)
        for watch in old:
            if not watch.over:
                watch.begin()


class Watch:
    """Over the current task, until :meth:`stop`.

    Args:
        receive: the messages of the request, by which a caller is known to have left.
        server: says so itself, where it can: a task for each request that waits costs more.

    Attributes:
        ended: why the task was cancelled, ``None`` if this did not do it.
        over: whether no deadline is watched any more.
    """

    __slots__ = (
        "_deadline",
        "_listener",
        "_read",
        "_receive",
        "_server",
        "_task",
        "_timer",
        "ended",
        "over",
    )

    def __init__(self, receive: Receive, server: Server | None = None) -> None:
        self.ended: Literal["late", "hung up"] | None = None
        self._task = asyncio.current_task()
        self._receive: Receive | None = receive
        self._server = server
        self._read = self.over = False
        self._timer: asyncio.TimerHandle | None = None
        self._listener: asyncio.Task[None] | None = None

    def until(self, deadline: float, watches: Watches) -> None:
        """The task may go on so long, on the monotonic clock."""
        self._deadline = deadline
        watches.add(self, deadline)

    def body_read(self) -> None:
        """From now on the next message can only be that the caller left."""
        self._read = True
        if self._timer is not None:
            self._listen()

    def forget_deadline(self) -> None:
        """The answer has begun; only a caller who leaves ends it."""
        self._rest()
        self._listen()

    def stop(self) -> None:
        """The answer is there."""
        self._rest()
        if self._listener is not None:
            self._listener.cancel()
        if self._server is not None:
            self._server.when_left(None)
            self._server = None
        # It may lie among the young for a moment; all of its request with it would be much garbage.
        self._task = self._receive = None

    def begin(self) -> None:
        """It takes a while."""
        left_s = max(0.0, self._deadline - time.monotonic())
        self._timer = asyncio.get_running_loop().call_later(left_s, self._end, "late")
        if self._read:
            self._listen()

    def _rest(self) -> None:
        """No deadline any more."""
        self.over = True
        if self._timer is not None:
            self._timer.cancel()

    def _listen(self) -> None:
        if self._server is not None:
            self._server.when_left(partial(self._end, "hung up"))
        elif self._listener is None and self._receive is not None:
            self._listener = asyncio.get_running_loop().create_task(self._until_gone(self._receive))

    async def _until_gone(self, receive: Receive) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        self._end("hung up")

    def _end(self, reason: Literal["late", "hung up"]) -> None:
        if self.ended is None and self._task is not None:
            self.ended = reason
            self._task.cancel()
