"""Callers who come when they come, whether or not the ones before them have been answered."""

from __future__ import annotations

import asyncio
import itertools
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tests.load.wire import Answer, Connection

MOST_CONNECTIONS = 900  # of the 1024 descriptors that a process usually may have


@dataclass(frozen=True, slots=True)
class Visit:
    """One request: when it was due, in seconds since the start, how long its answer took, and its status."""

    number: int
    due: float
    seconds: float
    status: int


class Crowd:
    """Keeps connections, and opens another one whenever none is free.

    Args:
        request: what a visitor sends.
        check: looks at the answer.
    """

    def __init__(
        self, url: str, request: Callable[[int], bytes], check: Callable[[int, Answer], None]
    ) -> None:
        self._url, self._request, self._check = url, request, check
        self._free: list[Connection] = []
        self._open = 0
        self._numbers = itertools.count()

    async def at(self, rate: float, seconds: float, seed: int = 0) -> list[Visit]:
        """Let visitors come at random times, ``rate`` a second in the mean."""
        dice, since, due = random.Random(seed), time.monotonic(), 0.0
        tasks: list[asyncio.Task[Visit]] = []
        while (due := due + dice.expovariate(rate)) < seconds:
            if (ahead := since + due - time.monotonic()) > 0:
                await asyncio.sleep(ahead)
            assert self._open < MOST_CONNECTIONS, "visitors pile up: they are neither answered nor refused"
            tasks.append(asyncio.ensure_future(self._visit(since, due)))
        return await asyncio.gather(*tasks)

    async def steadily(self, callers: int, seconds: float) -> list[Visit]:
        """Let callers come who each wait for an answer before they ask again."""
        since, visits = time.monotonic(), list[Visit]()

        async def one() -> None:
            while (now := time.monotonic() - since) < seconds:
                visits.append(await self._visit(since, now))

        await asyncio.gather(*(one() for _ in range(callers)))
        return visits

    async def _visit(self, since: float, due: float) -> Visit:
        number = next(self._numbers)
        connection = await self._connection()
        answer = await connection.ask(self._request(number))
        seconds = time.monotonic() - since - due
        if connection.usable:
            self._free.append(connection)
        else:
            self._open -= 1
        self._check(number, answer)
        return Visit(number, due, seconds, answer.status)

    async def _connection(self) -> Connection:
        while self._free:
            connection = self._free.pop()
            if connection.usable:
                return connection
            self._open -= 1
        self._open += 1
        return await Connection.open(self._url)

    def leave(self) -> None:
        """Close what is open."""
        for connection in self._free:
            connection.close()


def quantile(values: Sequence[float], part: float) -> float:
    """The value below which that part of the values lies."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(part * len(ordered)))]
