"""Keys, limits and ids, by everything that a caller can see of them."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from service import keys
from tests.e2e.processes import Redis
from tests.integration.conftest import Client, reason, serving

pytestmark = pytest.mark.anyio
KEYS = {"designer": "pf_d", "quality": "pf_q", "hasty": "pf_h", "hungry": "pf_r"}
LIMITS = {"hasty": ", requests_per_s = 2", "hungry": ", rows_per_s = 100"}
ROWS = [[0.5, 0.25, 1.0], [1.0, -0.5, 0.0]]
SAMPLE = {"model": "linear", "n": 1, "seed": 1}


def lines(names: list[str] | None = None) -> str:
    """The key file."""
    return "\n".join(
        keys.line(name, KEYS[name]).replace(" }", f"{LIMITS.get(name, '')} }}") for name in names or KEYS
    )


def bearer(name: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {KEYS[name]}"}


def basic(key: str) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(f"anyone:{key}".encode()).decode()}


@pytest.fixture(scope="module")
async def closed(quick: Path) -> AsyncIterator[Client]:
    """A service that asks for keys."""
    async with serving(quick, keys=lines()) as client:
        yield client


async def encoded(client: Client, name: str, rows: list[list[float]] = ROWS) -> dict[str, Any]:
    body = {"model": "linear", "inputs": rows}
    answer = await client.post("/encode", json=body, headers=bearer(name))
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


async def decoded(client: Client, name: str, ids: list[str]) -> httpx.Response:
    return await client.post("/decode", json={"model": "linear", "ids": ids}, headers=bearer(name))


# Without a key ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/sample"),
        ("POST", "/loglik"),
        ("POST", "/models/reload"),
        ("GET", "/models"),
        ("GET", "/metrics"),
        ("GET", "/docs"),
        ("GET", "/openapi.json"),
        ("GET", "/healthy"),
        ("GET", "/nothing"),
        ("DELETE", "/sample"),
    ],
)
@pytest.mark.parametrize(
    "headers",
    [{}, {"Authorization": "Bearer pf_wrong"}, {"X-API-Key": "pf_wrong"}, {"Authorization": "Digest x"}],
)
async def test_nothing_is_answered_without_a_key(
    closed: Client, method: str, path: str, headers: dict[str, str]
) -> None:
    answer = await closed.http.request(method, path, headers=headers)
    said = reason(answer, 401, "unauthenticated")
    assert answer.headers["www-authenticate"].split()[::2] == ["Basic", "Bearer"]
    assert "pf_wrong" not in said["detail"]


@pytest.mark.parametrize("path", ["/health/live", "/health/ready"])
async def test_probes_need_no_key(closed: Client, path: str) -> None:
    assert (await closed.get(path)).status_code == 200


async def test_the_inference_protocol_is_closed_too_and_says_so_in_its_form(closed: Client) -> None:
    answer = await closed.get("/v2/models/linear.decode")
    assert answer.status_code == 401
    assert "key" in answer.json()["error"]
    assert (await closed.get("/v2/health/ready")).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [bearer("designer"), {"X-API-Key": KEYS["designer"]}, basic(KEYS["designer"])],
)
async def test_a_key_opens_everything_however_it_is_sent(closed: Client, headers: dict[str, str]) -> None:
    assert (await closed.post("/sample", json=SAMPLE, headers=headers)).status_code == 200
    assert (await closed.get("/metrics", headers=headers)).status_code == 200


async def test_a_browser_lends_the_key_to_no_form_of_somebody_else(closed: Client) -> None:
    lent = {**basic(KEYS["designer"]), "Sec-Fetch-Site": "cross-site"}
    reason(await closed.post("/models/reload", headers=lent), 401, "unauthenticated")
    assert (await closed.get("/models", headers=lent)).status_code == 200  # a link that was followed
    ours = {**lent, "Sec-Fetch-Site": "same-origin"}
    assert (await closed.post("/models/reload", headers=ours)).status_code == 200


async def test_without_keys_a_key_is_not_asked_for(quick: Path) -> None:
    async with serving(quick) as client:
        assert (await client.post("/sample", json=SAMPLE)).status_code == 200


async def test_keys_can_be_added_and_taken_away_without_a_restart(quick: Path, tmp_path: Path) -> None:
    file = tmp_path / "keys.toml"
    file.write_text(lines(["designer"]))
    async with serving(quick, keys_file=file) as client:
        file.write_text(lines(["quality"]))
        client.app.state.callers.reread()
        assert (await client.get("/models", headers=bearer("quality"))).status_code == 200
        assert (await client.get("/models", headers=bearer("designer"))).status_code == 401
        file.write_text("")
        with pytest.raises(keys.KeysError):
            client.app.state.callers.reread()
        assert (await client.get("/models")).status_code == 401


# Latents ----------------------------------------------------------------------------------------------------


async def test_the_latents_of_one_key_are_not_readable_by_another(closed: Client) -> None:
    ids = (await encoded(closed, "designer"))["ids"]
    assert (await decoded(closed, "designer", ids)).status_code == 200
    reason(await decoded(closed, "quality", ids), 404, "unknown_latent")
    ends = {"start": {"id": ids[0]}, "end": {"id": ids[1]}}
    walk = await closed.post("/interpolate", json={"model": "linear", **ends}, headers=bearer("quality"))
    reason(walk, 404, "unknown_latent")


async def test_nobody_sees_that_another_has_encoded_the_same_row(closed: Client) -> None:
    rows = [[3.0, 2.0, 1.0], [1.0, 2.0, 3.0]]
    first = await encoded(closed, "designer", rows)
    assert (await encoded(closed, "designer", rows))["cached"] == [True, True]
    other = await encoded(closed, "quality", rows)
    assert other["cached"] == [False, False]
    assert other["latents"] == first["latents"]
    assert not set(other["ids"]) & set(first["ids"])


@pytest.mark.redis
async def test_latents_are_apart_in_redis_too_and_outlive_the_process(
    quick: Path, redis_server: Redis
) -> None:
    async with serving(quick, keys=lines(), redis_url=redis_server.url) as client:
        ids = (await encoded(client, "designer"))["ids"]
    async with serving(quick, keys=lines(), redis_url=redis_server.url) as client:
        reason(await decoded(client, "quality", ids), 404, "unknown_latent")
        assert (await decoded(client, "designer", ids)).status_code == 200
    async with serving(quick, redis_url=redis_server.url) as client:
        answer = await client.post("/decode", json={"model": "linear", "ids": ids})
        reason(answer, 404, "unknown_latent")


# Limits -----------------------------------------------------------------------------------------------------


async def test_too_many_requests_are_told_when_to_come_again(quick: Path) -> None:
    async with serving(quick, keys=lines()) as client:
        answers = [await client.post("/sample", json=SAMPLE, headers=bearer("hasty")) for _ in range(4)]
        assert [answer.status_code for answer in answers[:2]] == [200, 200]
        said = reason(answers[-1], 429, "over_limit")
        assert answers[-1].headers["retry-after"] == "1"
        assert 0 < said["retry_after_s"] <= 0.5
        assert "2 a second" in said["detail"]
        # Whoever waits as told is let in, and nobody else had to.
        assert (await client.post("/sample", json=SAMPLE, headers=bearer("designer"))).status_code == 200
        await asyncio.sleep(said["retry_after_s"])
        assert (await client.post("/sample", json=SAMPLE, headers=bearer("hasty"))).status_code == 200


async def test_too_many_rows_are_refused_and_cost_nothing(quick: Path) -> None:
    async with serving(quick, keys=lines()) as client:
        large = {**SAMPLE, "n": 90}
        assert (await client.post("/sample", json=large, headers=bearer("hungry"))).status_code == 200
        refused = await client.post("/sample", json=large, headers=bearer("hungry"))
        said = reason(refused, 429, "over_limit")
        assert "rows" in said["detail"]
        assert (await client.post("/sample", json=SAMPLE, headers=bearer("hungry"))).status_code == 200


async def test_a_stream_is_slowed_down_to_its_limit_and_complete(quick: Path) -> None:
    began = asyncio.get_running_loop().time()
    async with serving(quick, keys=lines()) as client:
        body = {**SAMPLE, "n": 150}
        headers = {**bearer("hungry"), "Accept": "text/csv"}
        slow = await client.post("/sample", json=body, headers=headers)
        took_s = asyncio.get_running_loop().time() - began
        fast = await client.post("/sample", json=body, headers={**bearer("designer"), "Accept": "text/csv"})
    assert slow.status_code == 200
    assert slow.text == fast.text
    assert len(slow.text.splitlines()) == 151
    assert took_s > 0.4  # 100 rows at once, the other 50 when they have been earned


# What is counted and said -----------------------------------------------------------------------------------


async def test_requests_and_rows_are_counted_by_the_name_of_the_key(quick: Path) -> None:
    async with serving(quick, keys=lines()) as client:
        await client.post("/sample", json={**SAMPLE, "n": 7}, headers=bearer("designer"))
        await client.post("/sample", json={**SAMPLE, "n": 0}, headers=bearer("designer"))
        await client.post("/sample", json=SAMPLE)
        text = (await client.get("/metrics", headers=bearer("quality"))).text
    assert 'pushforward_key_requests_total{key="designer",status="200"} 1.0' in text
    assert 'pushforward_key_requests_total{key="designer",status="422"} 1.0' in text
    assert 'pushforward_key_rows_total{key="designer"} 7.0' in text
    assert 'pushforward_rejections_total{reason="unauthenticated"} 1.0' in text
    assert not any(key in text for key in KEYS.values())


@pytest.mark.parametrize(
    ("method", "path", "more"),
    [
        ("POST", "/sample", {"json": SAMPLE}),
        ("POST", "/sample", {"json": {**SAMPLE, "n": 70_000}, "headers": {"Accept": "application/x-npy"}}),
        ("POST", "/sample", {"json": {}}),
        ("GET", "/models", {}),
        ("GET", "/nothing", {}),
        ("PUT", "/sample", {}),
    ],
)
async def test_every_answer_carries_the_id_of_its_request(
    closed: Client, method: str, path: str, more: dict[str, Any]
) -> None:
    headers = {**bearer("designer"), **more.pop("headers", {})}
    answer = await closed.http.request(
        method, path, headers={**headers, "X-Request-Id": "order-66.7:a/b=+_"}, **more
    )
    assert answer.headers["x-request-id"] == "order-66.7:a/b=+_"
    made = {(await closed.http.request(method, path, headers=headers, **more)).headers["x-request-id"]}
    made |= {(await closed.http.request(method, path, **more)).headers["x-request-id"]}  # a 401
    assert len(made) == 2


@pytest.mark.parametrize("given", ["", "a b", "x" * 129, "é", '{"a"}', "a,b"])
async def test_an_id_that_could_spoil_a_log_is_replaced(closed: Client, given: str) -> None:
    headers = {"X-Request-Id": given.encode("latin1")}
    answer = await closed.get("/health/live", headers=headers)
    assert answer.status_code == 200
    assert answer.headers["x-request-id"] not in ("", given)
