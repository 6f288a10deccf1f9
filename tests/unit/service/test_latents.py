"""What is remembered comes back as it was, or not at all, and never late."""

from __future__ import annotations

import asyncio
import socket
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from functools import partial
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service import latents
from service.latents import (
    SLICE_KEYS,
    LatentStore,
    concatenated,
    id_key,
    latent_ids,
    paced,
    recalled,
    row_keys,
    separated,
    split_id,
)
from service.seat import Seat
from service.siblings import Message, Siblings
from tests.e2e.processes import Redis

MB = 1 << 20


class Tally:
    """Counts by tier and result."""

    def __init__(self) -> None:
        self.counts: Counter[tuple[str, str]] = Counter()

    def cache(self, tier: str, result: str, count: int) -> None:
        self.counts[tier, result] += count


@asynccontextmanager
async def opened(
    url: str | None = None, ttl_s: float = 60, max_bytes: int = MB
) -> AsyncIterator[LatentStore]:
    store = LatentStore(ttl_s, max_bytes, url, Tally())
    try:
        yield store
    finally:
        await store.close()


def counts(store: LatentStore) -> Counter[tuple[str, str]]:
    tally = store._observer
    assert isinstance(tally, Tally)
    return tally.counts


# Ids and keys


def test_an_id_names_its_model_and_version_and_its_content() -> None:
    z = np.arange(6, dtype=np.float32).reshape(3, 2)
    ids = latent_ids("flow-digits", "3", "digest", z)
    assert [split_id(i)[:2] for i in ids] == [("flow-digits", "3")] * 3
    assert len(set(ids)) == 3
    assert latent_ids("flow-digits", "3", "digest", z[1:2]) == ids[1:2]
    assert latent_ids("flow-digits", "3", "another", z) != ids
    assert recalled("digest", ids, [z[0].tobytes(), z[2].tobytes(), None]) == [z[0].tobytes(), None, None]


def test_a_row_is_found_only_under_all_that_its_answer_depends_on() -> None:
    x = np.arange(6, dtype=np.float32).reshape(3, 2)
    label = np.array([0, 1, 1])
    keys = [
        *row_keys("digest", "encode", x),
        *row_keys("other", "encode", x),
        *row_keys("digest", "decode", x),
        *row_keys("digest", "encode", x.astype(np.float64)),
        *row_keys("digest", "encode", x.reshape(3, 2, 1)),
        *row_keys("digest", "encode", x, label),
        *row_keys("digest", "encode", x, 1 - label),
    ]
    assert len(set(keys)) == len(keys)
    assert row_keys("digest", "encode", x[2:], label[2:])[0] in keys


@given(st.integers(1, 5), st.lists(st.sampled_from([((2,), "float32"), ((), "int64"), ((3, 1), "float64")])))
def test_rows_of_several_arrays_are_put_together_and_apart(rows: int, layout: list[Any]) -> None:
    layout = [((4,), "float32"), *layout]
    arrays = [np.random.default_rng(0).normal(size=(rows, *shape)).astype(dtype) for shape, dtype in layout]
    for found, array in zip(separated(concatenated(*arrays), layout), arrays, strict=True):
        assert (found.dtype, found.shape) == (array.dtype, array.shape)
        assert found.tobytes() == array.tobytes()


def test_work_in_slices_gives_the_same_and_lets_others_in() -> None:
    x = np.arange(3 * SLICE_KEYS).reshape(-1, 1)
    turns = 0

    async def others() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    async def both() -> list[int]:
        rival = asyncio.create_task(others())
        made = await paced(lambda part: part[:, 0].tolist(), [x])
        rival.cancel()
        return made

    assert asyncio.run(both()) == x[:, 0].tolist()
    assert turns == 2


# The near tier


def test_a_value_is_forgotten_after_its_time_to_live() -> None:
    now = 0.0

    async def scenario() -> None:
        nonlocal now
        store = LatentStore(60, MB, None, Tally(), timer=lambda: now)
        await store.put({b"k": b"v"})
        now = 59.0
        assert await store.get([b"k"]) == [b"v"]
        now = 61.0
        assert await store.get([b"k"]) == [None]

    asyncio.run(scenario())


def test_memory_is_bounded_and_the_oldest_leave_first() -> None:
    async def scenario() -> None:
        async with opened(max_bytes=100_000) as store:
            for i in range(1000):
                await store.put({b"%d" % i: b"x" * 800})
            held = [value is not None for value in await store.get([b"%d" % i for i in range(1000)])]
            assert sum(held) == 100
            assert all(held[-100:])
            await store.put({b"huge": b"x" * 200_000})
            assert await store.get([b"huge"]) == [None]

    asyncio.run(scenario())


# Redis


@pytest.mark.redis
def test_redis_remembers_what_the_process_has_forgotten(redis_server: Redis) -> None:
    items = {b"key %d" % i: b"value %d" % i for i in range(2 * SLICE_KEYS + 5)}

    async def scenario() -> None:
        async with opened(redis_server.url) as store:
            await store.put(items)
        async with opened(redis_server.url) as store:
            assert await store.get([*items, b"never"]) == [*items.values(), None]
            assert counts(store)["redis", "hit"] == len(items)
            assert counts(store)["redis", "miss"] == 1
            assert await store.get(list(items)) == list(items.values())
            assert counts(store)["process", "hit"] == len(items)

    asyncio.run(scenario())
    ttl_ms = int(redis_server.ask('PTTL "key 0"').removeprefix(":"))
    assert 55_000 < ttl_ms <= 66_000


@pytest.mark.redis
@pytest.mark.parametrize(
    "lie",
    [
        'SET k "nonsense"',
        'SET k ""',
        'SET k "PF1\\x00\\x00\\x00\\x00\\x00value"',
        "COPY other k REPLACE",
        "LPUSH k 1",
    ],
)
def test_what_redis_has_made_up_is_a_miss(redis_server: Redis, lie: str) -> None:
    async def scenario() -> None:
        async with opened(redis_server.url) as store:
            await store.put({b"k": b"v", b"other": b"w"})
        redis_server.ask("DEL k")
        assert not redis_server.ask(lie).startswith("-")
        async with opened(redis_server.url) as store:
            assert await store.get([b"k", b"other"]) == [None, b"w"]

    asyncio.run(scenario())


@pytest.mark.redis
def test_a_full_redis_is_still_read(redis_server: Redis) -> None:
    async def scenario() -> None:
        async with opened(redis_server.url) as store:
            await store.put({b"k": b"v"})
            redis_server.ask("CONFIG SET maxmemory 1")
            await store.put({b"new": b"w"})
            assert await store.get([b"new"]) == [b"w"]
        async with opened(redis_server.url) as store:
            assert await store.get([b"k", b"new"]) == [b"v", None]

    asyncio.run(scenario())


async def timed(work: Callable[[], Awaitable[object]]) -> float:
    began = time.perf_counter()
    await work()
    return time.perf_counter() - began


@pytest.fixture
def black_hole() -> Iterator[str]:
    """Something that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as hole:
        yield f"redis://127.0.0.1:{hole.getsockname()[1]}/0"


def test_a_black_hole_delays_one_request_by_less_than_60_ms(black_hole: str) -> None:
    async def request(store: LatentStore, i: int) -> None:
        assert await store.get([b"%d" % i]) == [None]
        await store.put({b"%d" % i: b"v"})
        assert await store.get([b"%d" % i]) == [b"v"]

    async def scenario() -> list[float]:
        async with opened(black_hole) as store:
            times = [await timed(partial(request, store, i)) for i in range(50)]
            assert counts(store)["redis", "skipped"] > 0
            assert store.redis_out
            return sorted(times)

    times = asyncio.run(scenario())
    assert times[-1] < 0.060
    assert times[-2] < 0.010


def test_nobody_at_the_address_costs_nothing() -> None:
    async def scenario() -> None:
        async with opened("redis://127.0.0.1:1/0") as store:
            assert await timed(lambda: store.put({b"k": b"v"})) < 0.06
            assert await store.get([b"k", b"other"]) == [b"v", None]

    asyncio.run(scenario())


def test_gibberish_for_an_answer_is_a_miss() -> None:
    async def gibber(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    async def scenario() -> None:
        server = await asyncio.start_server(gibber, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        async with server, opened(f"redis://127.0.0.1:{port}/0") as store:
            await store.put({b"k": b"v"})
            assert await store.get([b"k", b"other"]) == [b"v", None]

    asyncio.run(scenario())


@pytest.mark.redis
def test_a_redis_that_comes_back_is_used_again(redis_server: Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(latents, "COOL_DOWN_S", 0.05)

    async def scenario() -> None:
        async with opened(redis_server.url) as store:
            await store.put({b"k": b"v"})
            redis_server.kill()
            for i in range(20):
                await store.put({b"%d" % i: b"v"})
                assert await store.get([b"%d" % i, b"?"]) == [b"v", None]
            redis_server.start()
            for _ in range(100):
                await asyncio.sleep(0.05)
                await store.put({b"again": b"v"})
                if redis_server.keys:
                    return
            pytest.fail("Redis is back and not used")

    asyncio.run(scenario())


def test_keys_of_ids_name_the_artifact() -> None:
    (first,) = latent_ids("m", "1", "a" * 64, np.zeros((1, 2), np.float32))
    assert id_key("a" * 64, first) != id_key("b" * 64, first)


def beside(
    talk: Callable[[LatentStore, LatentStore], Awaitable[None]],
    lie: Callable[[Message], Message] | None = None,
) -> None:
    """Talk to the stores of two processes; the second may lie to the first."""

    async def run(folder: str) -> None:
        stores: list[LatentStore] = []
        processes = []

        async def tell(asked: Message) -> Message:
            answer = await stores[1].tell(asked)
            return lie(answer) if lie else answer

        for index in range(2):
            process = Siblings(Seat(index, 2, folder, {}), {"latents": tell})
            stores.append(LatentStore(60, MB, None, Tally(), siblings=process))
            processes.append(process)
        await processes[1].listen()
        try:
            await talk(*stores)
        finally:
            await processes[1].close()

    with TemporaryDirectory() as folder:
        asyncio.run(run(folder))


def test_what_another_process_knows_is_found_there_and_then_here() -> None:
    known = {b"key%d" % number: b"value%d" % number for number in range(2 * SLICE_KEYS + 3)}

    async def talk(here: LatentStore, there: LatentStore) -> None:
        await there.put(known)
        await here.put({b"own": b"mine"})
        keys = [b"own", *known, b"nobody's"]
        assert await here.get(keys) == [b"mine", *[None] * (len(known) + 1)]
        right = [b"mine", *known.values(), None]
        assert await here.find(keys) == right
        assert await here.get(keys) == right
        assert counts(here)["sibling", "hit"] == len(known)
        assert counts(here)["sibling", "miss"] == 1
        assert not any(tier == "sibling" for tier, _ in counts(there))

    beside(talk)


@pytest.mark.parametrize(
    "lie",
    [
        lambda told: Message(told.value, told.content[:-1] + b"?"),
        lambda told: Message(told.value, told.content[:-1]),
        lambda told: Message([-1 for _ in told.value], told.content),
    ],
)
def test_what_another_process_makes_up_is_not_believed_nor_kept(lie: Callable[[Message], Message]) -> None:
    async def talk(here: LatentStore, there: LatentStore) -> None:
        await there.put({b"key": b"value"})
        assert await here.find([b"key"]) == [None]
        assert await here.get([b"key"]) == [None]

    beside(talk, lie)


def test_a_process_that_keeps_one_waiting_is_not_asked_for_the_rest() -> None:
    async def talk(here: LatentStore, there: LatentStore) -> None:
        tell = there.tell

        async def late(asked: Message) -> Message:
            await asyncio.sleep(60)
            return await tell(asked)

        there.tell = late  # type: ignore[method-assign]
        began = time.monotonic()
        keys = [b"key%d" % number for number in range(40 * SLICE_KEYS)]
        assert await here.find(keys) == [None] * len(keys)
        assert time.monotonic() - began < 10 * latents.SIBLING_TIMEOUT_S

    beside(talk)
