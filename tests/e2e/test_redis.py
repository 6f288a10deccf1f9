"""A real Redis: latents outlive the process, and nothing that happens to Redis costs a request."""

from __future__ import annotations

import signal
import time
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import Start
from tests.e2e.load import Load
from tests.e2e.processes import Redis, Service, until

pytestmark = [pytest.mark.redis, pytest.mark.chaos]


def _encode(service: Service, value: float) -> dict[str, Any]:
    return service.post("encode", model="linear", inputs=[[value, 1.0, 2.0]])


def test_a_latent_encoded_before_a_restart_is_decoded_by_its_id_after_it(
    start: Start, artifacts: Path, redis_server: Redis
) -> None:
    service = start(artifacts, redis_url=redis_server.url).ready()
    encoded = service.post("encode", model="linear", inputs=[[0.5, 1.0, 2.0], [3.0, 4.0, 5.0]])
    decoded = service.post("decode", model="linear", ids=encoded["ids"])["samples"]
    until(lambda: redis_server.keys >= 2, "Redis has both")
    assert service.stop() == 0

    again = start(artifacts, redis_url=redis_server.url).ready()
    assert again.post("decode", model="linear", ids=encoded["ids"])["samples"] == decoded
    repeated = again.post("encode", model="linear", inputs=[[0.5, 1.0, 2.0]])
    assert repeated["cached"] == [True]
    assert repeated["latents"] == encoded["latents"][:1]


def test_without_redis_an_id_does_not_outlive_the_process(start: Start, artifacts: Path) -> None:
    (known,) = _encode(start(artifacts).ready(), 0.5)["ids"]
    answer = start(artifacts).ready().client.post("/decode", json={"model": "linear", "ids": [known]})
    assert (answer.status_code, answer.json()["code"]) == (404, "unknown_latent")


def test_a_redis_killed_under_load_costs_no_request_and_is_used_again_when_it_is_back(
    start: Start, artifacts: Path, redis_server: Redis
) -> None:
    service = start(artifacts, redis_url=redis_server.url).ready()

    def new_row(i: int) -> tuple[str, dict[str, object]]:
        return "encode", {"model": "linear", "inputs": [[float(i), 1.0, 2.0]]}

    with Load(service.url, new_row, callers=8) as load:
        until(lambda: len(load.calls) > 100 and redis_server.keys > 0, "load")
        redis_server.kill()
        seen = len(load.calls)
        until(lambda: len(load.calls) > seen + 200, "load goes on without Redis")
        assert service.metric("pushforward_redis_breaker_open") == 1
        redis_server.start()
        until(lambda: redis_server.keys > 0, "Redis is used again", timeout_s=45)
        assert service.metric("pushforward_redis_breaker_open") == 0
    assert {call.status for call in load.calls} == {200}


def test_a_service_starts_without_its_redis_and_finds_it_later(
    start: Start, artifacts: Path, redis_server: Redis
) -> None:
    redis_server.kill()
    service = start(artifacts, redis_url=redis_server.url).ready()
    known = _encode(service, 1.0)
    assert service.post("decode", model="linear", ids=known["ids"])["samples"]
    redis_server.start()
    rows = iter(range(10**6))

    def used() -> bool:
        _encode(service, float(next(rows)))
        return redis_server.keys > 0

    until(used, "Redis is used", timeout_s=45)


def test_a_black_hole_instead_of_redis_delays_one_request_by_less_than_60_ms(
    start: Start, artifacts: Path, redis_server: Redis
) -> None:
    service = start(artifacts, redis_url=redis_server.url).ready()
    usual = sorted(_seconds(service, float(i)) for i in range(40))
    redis_server.running.signal(signal.SIGSTOP)
    frozen = sorted(_seconds(service, 1000.0 + i) for i in range(40))
    assert frozen[-1] < usual[-1] + 0.060
    assert frozen[-2] < usual[-1] + 0.030, "Redis was waited for more than once"


def _seconds(service: Service, value: float) -> float:
    began = time.perf_counter()
    _encode(service, value)
    return time.perf_counter() - began
