"""Ids outlive the process in Redis, and nothing that happens to Redis costs a request."""

from __future__ import annotations

import shutil
import socket
import time
from pathlib import Path

import pytest

from tests import graphs
from tests.e2e.processes import Redis
from tests.integration.conftest import Client, serving

pytestmark = pytest.mark.anyio

X = [[0.5, 1.0, 2.0], [3.0, 4.0, 5.0]]


@pytest.mark.redis
async def test_an_id_outlives_the_process(quick: Path, redis_server: Redis) -> None:
    async with serving(quick, redis_url=redis_server.url) as client:
        encoded = await client.ask("encode", model="linear", inputs=X)
        decoded = await client.ask("decode", model="linear", ids=encoded["ids"])
    async with serving(quick, redis_url=redis_server.url) as client:
        assert await client.ask("decode", model="linear", ids=encoded["ids"]) == decoded
        again = await client.ask("encode", model="linear", inputs=X)
        assert again == {**encoded, "cached": [True, True]}


@pytest.mark.redis
async def test_a_replica_knows_an_id_as_soon_as_it_is_answered(quick: Path, redis_server: Redis) -> None:
    url = redis_server.url
    async with serving(quick, redis_url=url) as one, serving(quick, redis_url=url) as other:
        for i in range(20):
            encoded = await one.ask("encode", model="linear", inputs=[[float(i), 0, 0]])
            await other.ask("decode", model="linear", ids=encoded["ids"])


@pytest.mark.redis
async def test_an_id_of_an_artifact_that_was_exported_again_is_unknown(
    tmp_path: Path, redis_server: Redis
) -> None:
    root = tmp_path / "artifacts"
    graphs.linear_flow(root)
    async with serving(root, redis_url=redis_server.url) as client:
        ids = (await client.ask("encode", model="linear", inputs=X))["ids"]
    shutil.rmtree(root)
    manifest = graphs.linear_flow(root) / "manifest.json"
    manifest.write_text(manifest.read_text().replace("2026-01-01", "2026-01-02"))
    async with serving(root, redis_url=redis_server.url) as client:
        await client.refused("decode", 404, "unknown_latent", model="linear", ids=ids)


@pytest.mark.redis
async def test_what_redis_makes_up_is_never_believed(quick: Path, redis_server: Redis) -> None:
    async with serving(quick, redis_url=redis_server.url) as client:
        encoded = await client.ask("encode", model="linear", inputs=X)
    lie = "for _, key in ipairs(redis.call('KEYS', '*')) do redis.call('SETRANGE', key, 10, 'lies') end"
    assert not redis_server.ask(f'EVAL "{lie} return 1" 0').startswith("-")
    async with serving(quick, redis_url=redis_server.url) as client:
        await client.refused("decode", 404, "unknown_latent", model="linear", ids=encoded["ids"])
        again = await client.ask("encode", model="linear", inputs=X)
        assert again == encoded


@pytest.mark.redis
async def test_a_redis_that_is_killed_costs_no_request(quick: Path, redis_server: Redis) -> None:
    async with serving(quick, redis_url=redis_server.url) as client:
        await client.ask("encode", model="linear", inputs=X)
        redis_server.kill()
        for i in range(50):
            encoded = await client.ask("encode", model="linear", inputs=[[float(i), 1, 1]])
            await client.ask("decode", model="linear", ids=encoded["ids"])


async def test_a_black_hole_instead_of_redis_delays_one_request_by_less_than_60_ms(quick: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as hole:
        url = f"redis://127.0.0.1:{hole.getsockname()[1]}/0"
        async with serving(quick) as usual, serving(quick, redis_url=url) as holed:
            expected = sorted([await _seconds(usual, i) for i in range(40)])
            found = sorted([await _seconds(holed, i) for i in range(40)])
    assert found[-1] < expected[-1] + 0.060
    assert found[-2] < expected[-1] + 0.030


async def _seconds(client: Client, i: int) -> float:
    began = time.perf_counter()
    encoded = await client.ask("encode", model="linear", inputs=[[float(i), 0.5, 0.5]])
    await client.ask("decode", model="linear", ids=encoded["ids"])
    return time.perf_counter() - began
