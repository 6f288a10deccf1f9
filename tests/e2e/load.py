"""Callers that go on calling while a test does something to the service."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Self

import httpx


@dataclass(frozen=True)
class Call:
    """One request: when it began and ended, in monotonic seconds, and how it was answered."""

    number: int
    began: float
    ended: float
    status: int
    body: dict[str, Any] = field(default_factory=dict)

    @property
    def seconds(self) -> float:
        return self.ended - self.began


class Load:
    """Closed-loop callers, one thread and one connection each; ``request(i)`` gives verb and fields.

    A call without any answer has status 0.
    """

    def __init__(
        self,
        url: str,
        request: Callable[[int], tuple[str, dict[str, Any]]],
        callers: int = 8,
        key: str | None = None,
    ):
        self.url, self.request = url, request
        self.headers = {"Authorization": f"Bearer {key}"} if key else {}
        self.calls: list[Call] = []
        self._stop = threading.Event()
        self._numbers = iter(range(10**9))
        self._threads = [threading.Thread(target=self._go, daemon=True) for _ in range(callers)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.finish()

    def finish(self) -> list[Call]:
        """Let every caller end its call, and give all calls."""
        self._stop.set()
        for thread in self._threads:
            thread.join(60)
        return self.calls

    def _go(self) -> None:
        with httpx.Client(base_url=self.url, headers=self.headers, timeout=60, verify=False) as client:
            while not self._stop.is_set():
                self.calls.append(self._call(client, next(self._numbers)))

    def _call(self, client: httpx.Client, number: int) -> Call:
        verb, fields = self.request(number)
        began = time.monotonic()
        try:
            answer = client.post(f"/{verb}", json=fields)
        except httpx.TransportError:
            time.sleep(0.01)
            return Call(number, began, time.monotonic(), 0)
        return Call(number, began, time.monotonic(), answer.status_code, answer.json())
