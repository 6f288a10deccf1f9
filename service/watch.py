"""Ends a request whose deadline has passed or whose caller hung up, by cancelling its task.

Most requests are answered before this begins: until then they lie together under one timer.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Final, Literal

BEGIN_AFTER_S: Final = 0.005

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]


class Watches:
    """Requests that have just come, and may be answered before anyone has to look after them."""

    def __init__(self) -> None:
        self._young: dict[Watch, None] = {}
        self._ripe: dict[Watch, None] = {}  # since the last round
        self._timer: asyncio.TimerHandle | None = None

    def add(self, watch: Watch) -> None:
        """Begin to watch within one to two rounds, unless it has been discarded."""
        self._young[watch] = None
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(BEGIN_AFTER_S, self._round)

    def discard(self, watch: Watch) -> None:
        """It is over."""
        self._young.pop(watch, None)
        self._ripe.pop(watch, None)

    def _round(self) -> None:
        self._timer = None
        old, self._ripe, self._young = self._ripe, self._young, {}
        if self._ripe:
            self._timer = asyncio.get_running_loop().call_later(BEGIN_AFTER_S, self._round)
        for watch in old:
            watch.begin()


class Watch:
    """Over the current task, until :meth:`stop`.

    Attributes:
        ended: why the task was cancelled, ``None`` if this did not do it.
    """

    __slots__ = ("_deadline", "_listener", "_read", "_receive", "_task", "_timer", "_watches", "ended")

    def __init__(self, watches: Watches, receive: Receive) -> None:
        task = asyncio.current_task()
        assert task is not None
        self.ended: Literal["late", "hung up"] | None = None
        self._watches = watches
        self._task = task
        self._receive = receive
        self._deadline = 0.0
        self._read = False
        self._timer: asyncio.TimerHandle | None = None
        self._listener: asyncio.Task[None] | None = None

    def until(self, deadline: float) -> None:
        """The task may go on so long, on the monotonic clock."""
        self._deadline = deadline
        if self._left_s() > 2 * BEGIN_AFTER_S:
            self._watches.add(self)
        else:
            self.begin()

    def _left_s(self) -> float:
        return max(0.0, self._deadline - time.monotonic())

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

    def begin(self) -> None:
        """It takes a while."""
        self._timer = self._task.get_loop().call_later(self._left_s(), self._end, "late")
        if self._read:
            self._listen()

    def _rest(self) -> None:
        if self._timer is None:
            self._watches.discard(self)
        else:
            self._timer.cancel()

    def _listen(self) -> None:
        if self._listener is None:
            self._listener = self._task.get_loop().create_task(self._until_gone())

    async def _until_gone(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self._end("hung up")

    def _end(self, reason: Literal["late", "hung up"]) -> None:
        if self.ended is None:
            self.ended = reason
            self._task.cancel()
