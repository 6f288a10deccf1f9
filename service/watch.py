"""Ends a request whose deadline has passed or whose caller hung up, by cancelling its task.

Most requests are answered before this begins: until then it costs one timer.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Final, Literal

BEGIN_AFTER_S: Final = 0.005

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]


class Watch:
    """Over the current task, until :meth:`stop`.

    Attributes:
        ended: why the task was cancelled, ``None`` if this did not do it.
    """

    __slots__ = ("_begun", "_deadline", "_listener", "_loop", "_read", "_receive", "_task", "_timer", "ended")

    def __init__(self, receive: Receive, deadline: float) -> None:
        task = asyncio.current_task()
        assert task is not None
        self.ended: Literal["late", "hung up"] | None = None
        self._task = task
        self._loop = task.get_loop()
        self._receive = receive
        self._deadline = deadline
        self._read = self._begun = False
        self._listener: asyncio.Task[None] | None = None
        self._timer = self._loop.call_later(min(BEGIN_AFTER_S, self._left_s()), self._begin)

    def _left_s(self) -> float:
        return max(0.0, self._deadline - time.monotonic())

    def body_read(self) -> None:
        """From now on the next message can only be that the caller left."""
        self._read = True
        if self._begun:
            self._listen()

    def forget_deadline(self) -> None:
        """The answer has begun; only a caller who leaves ends it."""
        self._timer.cancel()
        self._begun = True
        self._listen()

    def stop(self) -> None:
        """The answer is there."""
        self._timer.cancel()
        if self._listener is not None:
            self._listener.cancel()

    def _begin(self) -> None:
        self._begun = True
        self._timer = self._loop.call_later(self._left_s(), self._end, "late")
        if self._read:
            self._listen()

    def _listen(self) -> None:
        if self._listener is None:
            self._listener = self._loop.create_task(self._until_gone())

    async def _until_gone(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self._end("hung up")

    def _end(self, reason: Literal["late", "hung up"]) -> None:
        if self.ended is None:
            self.ended = reason
            self._task.cancel()
