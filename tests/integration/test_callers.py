"""Callers who leave, dawdle or never read cost nobody anything."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from service.exchange import HUNG_UP
from tests.integration.conftest import NPY, Client, serving

pytestmark = pytest.mark.anyio

Message = dict[str, Any]


class Caller:
    """One connection, message by message."""

    def __init__(self, client: Client, path: str, fields: Message | None = None, **headers: str) -> None:
        raw = {"content-type": "application/json", **{k.replace("_", "-"): v for k, v in headers.items()}}
        self._scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": "POST",
            "scheme": "http",
            "path": path,
            "raw_path": path.encode(),
            "root_path": "",
            "query_string": b"",
            "headers": [(k.encode(), v.encode()) for k, v in raw.items()],
            "client": ("127.0.0.1", 1),
            "server": ("service", 80),
        }
        self.inbox: asyncio.Queue[Message] = asyncio.Queue()
        self.sent: list[Message] = []
        self.reads = asyncio.Event()
        self.reads.set()
        self._got = asyncio.Event()
        if fields is not None:
            self.say({"type": "http.request", "body": orjson.dumps(fields)})
        self.task = asyncio.ensure_future(client.app(self._scope, self.inbox.get, self._send))

    def say(self, message: Message) -> None:
        self.inbox.put_nowait(message)

    def leave(self) -> None:
        self.say({"type": "http.disconnect"})

    async def _send(self, message: Any) -> None:
        await self.reads.wait()
        self.sent.append(message)
        self._got.set()

    async def has_received(self, count: float) -> None:
        while self.received < count:
            self._got.clear()
            await self._got.wait()

    @property
    def status(self) -> int | None:
        return self.sent[0]["status"] if self.sent else None

    @property
    def received(self) -> int:
        return sum(len(message.get("body", b"")) for message in self.sent)


def requests(client: Client, verb: str, status: int) -> float:
    metrics = client.app.state.life.metrics
    samples = next(iter(metrics.requests.collect())).samples
    wanted = {"verb": verb, "status": str(status)}
    return sum(
        float(s.value) for s in samples if s.name.endswith("_total") and wanted.items() <= s.labels.items()
    )


def waiting(client: Client) -> int:
    served = client.app.state.life.engine().find("slow")
    return sum(lane.waiting for lane in served.lanes)


async def test_a_caller_who_hangs_up_takes_the_work_along(client: Client) -> None:
    before = requests(client, "sample", HUNG_UP)
    callers = [Caller(client, "/sample", {"model": "slow", "n": 100, "seed": i}) for i in range(20)]
    await asyncio.sleep(0.015)
    assert waiting(client) > 1000
    for caller in callers:
        caller.leave()
    await asyncio.gather(*(caller.task for caller in callers))
    assert waiting(client) == 0
    unanswered = sum(caller.status is None for caller in callers)
    assert unanswered >= 10  # the first may have had their turn already
    assert requests(client, "sample", HUNG_UP) == before + unanswered
    await client.ask("sample", model="slow")


async def test_a_caller_who_leaves_while_the_body_comes_is_forgotten(client: Client) -> None:
    caller = Caller(client, "/sample")
    caller.say({"type": "http.request", "body": b'{"model":', "more_body": True})
    await asyncio.sleep(0.01)
    caller.leave()
    await caller.task
    assert caller.status is None


async def test_a_body_that_never_ends_is_504(quick: Path) -> None:
    async with serving(quick, deadline_ms=50) as client:
        for first in (None, {"type": "http.request", "body": b'{"model":', "more_body": True}):
            caller = Caller(client, "/sample")
            if first:
                caller.say(first)
            async with asyncio.timeout(2):
                await caller.task
            assert caller.status == 504


async def test_a_body_in_crumbs_is_a_body(client: Client) -> None:
    caller = Caller(client, "/sample")
    body = orjson.dumps({"model": "linear", "seed": 3})
    for i in range(len(body)):
        caller.say({"type": "http.request", "body": body[i : i + 1], "more_body": i < len(body) - 1})
        await asyncio.sleep(0.001)
    await caller.task
    assert caller.status == 200


@pytest.fixture
async def impatient(quick: Path) -> AsyncIterator[Client]:
    async with serving(quick, deadline_ms=1000) as client:
        yield client


async def test_a_stream_goes_on_past_the_deadline_as_long_as_it_is_read(impatient: Client) -> None:
    caller = Caller(impatient, "/sample", {"model": "linear", "n": 2_000_000}, accept=NPY)
    await caller.task
    assert caller.status == 200
    assert caller.received == 2_000_000 * 12 + 128


async def test_a_caller_who_never_reads_is_dropped(impatient: Client) -> None:
    caller = Caller(impatient, "/sample", {"model": "linear", "n": 10**12}, accept=NPY)
    await caller.has_received(3e6)
    caller.reads.clear()
    async with asyncio.timeout(3):
        await caller.task
    assert caller.sent[-1]["more_body"]
    assert requests(impatient, "sample", HUNG_UP) == 1


async def test_a_caller_who_leaves_a_stream_ends_it(client: Client) -> None:
    caller = Caller(client, "/sample", {"model": "linear", "n": 10**15}, accept=NPY)
    await caller.has_received(3e6)
    caller.leave()
    async with asyncio.timeout(3):
        await caller.task
    assert client.app.state.life._in_flight == 0


async def test_a_stream_leaves_the_device_to_others(client: Client) -> None:
    caller = Caller(client, "/sample", {"model": "linear", "n": 10**15}, accept=NPY)
    await caller.has_received(1e6)
    async with asyncio.timeout(10):
        for i in range(50):
            await client.ask("sample", model="linear", seed=i)
    caller.leave()
    await caller.task
