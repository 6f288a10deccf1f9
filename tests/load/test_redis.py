"""A Redis that is slow, full, or lies: every answer has the bits that it has without Redis."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import pytest
import redis

from tests.e2e.conftest import Start
from tests.e2e.load import Call, Load
from tests.e2e.processes import Redis, Service, until
from tests.load.between import Between, Change, honest
from tests.load.conftest import Models

pytestmark = [pytest.mark.redis, pytest.mark.chaos]

ROWS = [[float(i), 1.0, 2.0] for i in range(300)]


@pytest.fixture
def between(redis_server: Redis) -> Iterator[Between]:
    """A wire to Redis."""
    with Between(redis_server.port) as wire:
        yield wire


def _url(wire: Between) -> str:
    return f"redis://127.0.0.1:{wire.port}/0"


def _encode(i: int) -> tuple[str, dict[str, Any]]:
    return "encode", {"model": "linear", "inputs": [ROWS[i % len(ROWS)]]}


def _codes(service: Service) -> dict[str, Any]:
    return service.post("encode", model="linear", inputs=ROWS)


def _are_right(calls: list[Call], right: dict[str, Any]) -> None:
    for call in calls:
        place = call.number % len(ROWS)
        assert call.status == 200, call.body
        assert call.body["latents"] == right["latents"][place : place + 1]
        assert call.body["ids"] == right["ids"][place : place + 1]


@pytest.mark.long
def test_a_redis_whose_answers_come_late_or_after_nobody_waits_mixes_up_none(
    start: Start, models: Models, redis_server: Redis, between: Between
) -> None:
    """Answers later than the patience for them come while the next question is asked."""
    right = _codes(start(models("linear_flow"), redis_url=redis_server.url).ready())
    service = start(models(), redis_url=_url(between)).ready()
    between.delay_s = 0.08
    with Load(service.url, _encode, callers=8) as load:
        until(lambda: len(load.calls) > 2 * len(ROWS), "load")
        between.delay_s = 0.0
        until(lambda: service.metric("pushforward_redis_breaker_open") == 0, "Redis is used again")
        seen = len(load.calls)
        until(lambda: len(load.calls) > seen + 100, "load goes on")
    _are_right(load.calls, right)


def test_a_full_redis_costs_no_request_and_what_it_has_is_still_used(
    start: Start, models: Models, redis_server: Redis
) -> None:
    service = start(models("linear_flow"), redis_url=redis_server.url).ready()
    right = _codes(service)
    kept = redis_server.keys
    assert kept
    redis_server.ask("CONFIG SET maxmemory 1")
    again = start(models(), redis_url=redis_server.url).ready()
    with Load(again.url, _encode, callers=4) as load:
        until(lambda: len(load.calls) > len(ROWS), "load")
    _are_right(load.calls, right)
    assert again.metric("pushforward_cache_lookups_total", tier="redis", result="hit") > 0
    new = again.post("encode", model="linear", inputs=[[-1.0, -1.0, -1.0]])
    assert again.post("decode", model="linear", ids=new["ids"])["samples"]
    assert again.metric("pushforward_redis_breaker_open") == 0
    assert redis_server.keys == kept


def _rot(values: list[bytes]) -> list[bytes]:
    """A bit of each is another."""
    dice = random.Random(0)
    return [_flipped(value, dice.randrange(8 * len(value))) for value in values]


def _flipped(value: bytes, bit: int) -> bytes:
    changed = bytearray(value)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


def _swap(values: list[bytes]) -> list[bytes]:
    """Each under the key of another."""
    return values[1:] + values[:1]


def _cut(values: list[bytes]) -> list[bytes]:
    return [value[:-1] for value in values]


@pytest.mark.parametrize("lie", [_rot, *(pytest.param(lie, marks=pytest.mark.long) for lie in (_swap, _cut))])
def test_values_that_are_not_what_was_stored_are_not_believed(
    start: Start, models: Models, redis_server: Redis, lie: Any
) -> None:
    right = _codes(start(models("linear_flow"), redis_url=redis_server.url).ready())
    with redis.Redis(port=redis_server.port) as client:
        keys = sorted(client.keys())
        for key, value in zip(keys, lie([client.get(key) for key in keys]), strict=True):
            client.set(key, value)
    service = start(models(), redis_url=redis_server.url).ready()
    answer = service.client.post("/decode", json={"model": "linear", "ids": right["ids"][:3]})
    assert (answer.status_code, answer.json()["code"]) == (404, "unknown_latent")
    again = _codes(service)
    assert (again["latents"], again["ids"]) == (right["latents"], right["ids"])
    assert not any(again["cached"])
    lies = service.metric("pushforward_cache_lookups_total", tier="redis", result="error")
    assert lies >= len(ROWS)


def _noise(said: bytes) -> bytes:
    return random.Random(len(said)).randbytes(len(said))


def _error(said: bytes) -> bytes:
    return b"-ERR out of my mind\r\n"


def _too_much(said: bytes) -> bytes:
    return b"$1000000000\r\n" + said


def _too_little(said: bytes) -> bytes:
    return b"*0\r\n"


def _another_type(said: bytes) -> bytes:
    return b":7\r\n"


OTHERS = (_error, _too_much, _too_little, _another_type)


@pytest.mark.parametrize(
    "change", [_noise, *(pytest.param(change, marks=pytest.mark.long) for change in OTHERS)]
)
def test_a_server_that_does_not_speak_as_redis_does_is_a_miss(
    start: Start, models: Models, redis_server: Redis, between: Between, change: Change
) -> None:
    right = _codes(start(models("linear_flow"), redis_url=redis_server.url).ready())
    service = start(models(), redis_url=_url(between)).ready()
    between.change = change
    with Load(service.url, _encode, callers=4) as load:
        until(lambda: len(load.calls) > 100, "load")
        between.change = honest
        until(lambda: service.metric("pushforward_redis_breaker_open") == 0, "Redis is used again")
        seen = len(load.calls)
        until(lambda: len(load.calls) > seen + len(ROWS), "load goes on")
    _are_right(load.calls, right)
