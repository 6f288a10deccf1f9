"""Each row of the table of bad input, by name: the status, the stable code, and a sentence that helps."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from tests.integration.conftest import NPY, PNG, Client, dump, reason, serving

pytestmark = pytest.mark.anyio

JSON_TYPE = {"Content-Type": "application/json"}
ROW = [0.0, 0.0, 0.0]
ID = f"linear.1.{'a' * 32}"


@pytest.mark.parametrize("body", ["", "{", "[]", "null", '{"model": "linear"', '{"model": NaN}', "\ufeff{}"])
async def test_a_body_that_cannot_be_parsed_is_422(client: Client, body: str) -> None:
    reason(await client.post("/sample", content=body, headers=JSON_TYPE), 422, "invalid_input")


async def test_a_body_that_is_no_utf8_is_422(client: Client) -> None:
    reason(
        await client.post("/sample", content=b'{"model": "\xff"}', headers=JSON_TYPE), 422, "invalid_input"
    )


@pytest.mark.parametrize(
    ("verb", "fields", "field", "value"),
    [
        # wrong shape
        ("encode", {"model": "linear", "inputs": [[1.0, 2.0]]}, "/inputs/0", "an array of 2"),
        ("encode", {"model": "linear", "inputs": [1.0, 2.0, 3.0]}, "/inputs/0", "1.0"),
        ("encode", {"model": "linear", "inputs": [ROW, [0.0]]}, "/inputs/1", "an array of 1"),
        ("encode", {"model": "linear", "inputs": []}, "/inputs", "an array of 0"),
        ("decode", {"model": "linear", "latents": [[[0.0]] * 3]}, "/latents/0/0", "an array of 1"),
        ("loglik", {"model": "linear", "inputs": "rows"}, "/inputs", "'rows'"),
        # wrong dtype
        ("encode", {"model": "linear", "inputs": [[0, 0, "0"]]}, "/inputs/0/2", "'0'"),
        ("encode", {"model": "linear", "inputs": [[0, True, 0]]}, "/inputs/0/1", "true"),
        ("encode", {"model": "linear", "inputs": [[None, 0, 0]]}, "/inputs/0/0", "null"),
        ("sample", {"model": "linear", "n": "3"}, "/n", "'3'"),
        ("sample", {"model": 3}, "/model", "3"),
        # unknown field
        ("sample", {"model": "linear", "count": 3}, "/count", "3"),
        ("loglik", {"model": "linear", "inputs": [ROW], "n": 3}, "/n", "3"),
        # missing field
        ("sample", {}, "/model", "missing"),
        ("encode", {"model": "linear"}, "/inputs", "missing"),
        ("interpolate", {"model": "linear", "end": {"id": ID}}, "/start", "missing"),
        # out of range
        ("sample", {"model": "linear", "n": 0}, "/n", "0"),
        ("sample", {"model": "linear", "seed": 2**53}, "/seed", str(2**53)),
        ("sample", {"model": "linear", "seed": 10**30}, "/seed", str(10**30)),
        ("sample", {"model": "linear", "temperature": -1}, "/temperature", "-1"),
        ("sample", {"model": "linear", "truncation": 0}, "/truncation", "0"),
        ("sample", {"model": "linear", "n": 2, "offset": 2**53 - 2}, "/offset", str(2**53 - 2)),
        ("encode", {"model": "linear", "inputs": [[0, 0, 1e39]]}, "/inputs/0/2", "1e+39"),
        ("loglik", {"model": "linear", "inputs": [ROW], "k": 0}, "/k", "0"),
        (
            "interpolate",
            {"model": "linear", "start": {"id": ID}, "end": {"id": ID}, "steps": 1},
            "/steps",
            "1",
        ),
        # neither, or both
        ("decode", {"model": "linear"}, "", "an object of 1"),
        ("decode", {"model": "linear", "latents": [ROW], "ids": [ID]}, "", "an object of 3"),
        # no such end, no such path
        ("interpolate", {"model": "linear", "start": {}, "end": {"id": ID}}, "/start", "an object of 0"),
        (
            "interpolate",
            {"model": "linear", "start": {"latent": ROW}, "end": {"latent": [1, 0, 0]}},
            "/path",
            "'slerp' with an end without a direction",
        ),
        (
            "interpolate",
            {"model": "linear", "start": {"latent": [-1, 0, 0]}, "end": {"latent": [1, 0, 0]}},
            "/path",
            "'slerp' with opposite ends",
        ),
        (
            "interpolate",
            {"model": "linear", "start": {"input": [1.0]}, "end": {"latent": [1, 0, 0]}},
            "/start/input/0",
            "an array of 1",
        ),
        # labels
        ("sample", {"model": "conditional"}, "/label", "missing"),
        ("sample", {"model": "conditional", "label": 3}, "/label", "3"),
        ("sample", {"model": "conditional", "label": "west"}, "/label", "'west'"),
        ("sample", {"model": "conditional", "n": 2, "label": [0, 1, 2]}, "/label", "an array of 3"),
        ("sample", {"model": "conditional", "n": 2, "label": [0, "west"]}, "/label/1", "'west'"),
        ("sample", {"model": "linear", "label": 0}, "/label", "0"),
        # ids that are none
        ("decode", {"model": "linear", "ids": ["mine"]}, "/ids/0", "'mine'"),
    ],
)
async def test_422_names_the_field_the_value_and_what_is_allowed(
    client: Client, verb: str, fields: dict[str, Any], field: str, value: str
) -> None:
    problem = await client.refused(verb, 422, "invalid_input", **fields)
    error = problem["errors"][0]
    assert (error["field"], error["value"]) == (field, value)
    assert error["allowed"]
    assert value in problem["detail"]


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999"])
@pytest.mark.parametrize("verb", ["encode", "loglik", "reconstruct"])
async def test_nan_and_infinity_are_422(client: Client, verb: str, number: str) -> None:
    body = f'{{"model": "linear", "inputs": [[0, {number}, 0]]}}'
    problem = reason(await client.post(f"/{verb}", content=body, headers=JSON_TYPE), 422, "invalid_input")
    assert problem["errors"][0]["field"] == "/inputs/0/1"


async def test_data_outside_the_support_is_422_where_there_is_no_status(
    artifacts: Path, tmp_path: Path
) -> None:
    manifest = artifacts / "gaussian-vae" / "1"
    folder = tmp_path / "gaussian-vae" / "1"
    folder.mkdir(parents=True)
    for file in manifest.iterdir():
        text = file.read_bytes()
        if file.name == "manifest.json":
            bounded = b'"support": [{"low": 0, "high": 16, "lattice": true}]'
            start = text.index(b'"support"')
            end = text.index(b"]", start) + 1
            text = text[:start] + bounded + text[end:]
        (folder / file.name).write_bytes(text)
    async with serving(tmp_path) as client:
        for verb in ("encode", "reconstruct"):
            problem = await client.refused(
                verb, 422, "invalid_input", model="gaussian-vae", inputs=[[0, 0, 0], [1, 17, 0]]
            )
            error = problem["errors"][0]
            assert error["field"] == "/inputs/1/1"
            assert error["allowed"] == "whole numbers from 0 up to 16"
        answer = await client.ask("loglik", model="gaussian-vae", inputs=[[0, 0, 0], [1, 17, 0], [0.5, 0, 0]])
        assert answer["status"] == ["ok", "out_of_support", "out_of_support"]
        assert answer["log_likelihood"][1:] == [None, None]
        assert answer["log_likelihood"][0] is not None


@pytest.mark.parametrize("array", [np.zeros((2, 4)), np.full((1, 3), np.nan), np.zeros((1, 3), complex)])
async def test_an_npy_body_that_does_not_fit_is_422(client: Client, array: np.ndarray) -> None:
    reason(await client.send_npy("encode", array, model="linear"), 422, "invalid_input")


@pytest.mark.parametrize("body", [b"", b"\x93NUMPY", b"[[0, 0, 0]]", dump(np.zeros((1, 3)))[:-1]])
async def test_an_npy_body_that_is_none_is_422(client: Client, body: bytes) -> None:
    answer = await client.post("/encode?model=linear", content=body, headers={"Content-Type": NPY})
    reason(answer, 422, "invalid_input")


@pytest.mark.parametrize(
    "query", ["", "model=linear&inputs=1", "model=linear&n=3", "model=linear&model=linear", "model=%ff"]
)
async def test_a_query_beside_an_npy_body_is_as_strict(client: Client, query: str) -> None:
    body = dump(np.zeros((1, 3)))
    answer = await client.post(f"/encode?{query}", content=body, headers={"Content-Type": NPY})
    reason(answer, 422, "invalid_input")


async def test_a_query_beside_a_json_body_is_422(client: Client) -> None:
    reason(await client.post("/sample?seed=3", json={"model": "linear"}), 422, "invalid_input")


@pytest.mark.parametrize("verb", ["encode", "reconstruct", "loglik"])
async def test_a_verb_that_the_model_lacks_is_422_with_grades_and_who_has_it(
    client: Client, verb: str
) -> None:
    fields = {"model": "image-gan", "inputs": [[[[0.0] * 8] * 8]]}
    problem = await client.refused(verb, 422, "capability_absent", **fields)
    assert problem["grades"] == {"density": "none", "latents": "none", "generator": "one_shot"}
    assert {"linear", "gaussian-vae", "conditional"} <= set(problem["models"])
    assert "image-gan" not in problem["models"]
    assert problem["verbs"] == ["sample", "decode", "interpolate"]


async def test_a_walk_from_data_needs_a_model_that_encodes(client: Client) -> None:
    ends = {"start": {"input": [[[0.0] * 8] * 8]}, "end": {"seed": 1, "index": 1}}
    await client.refused("interpolate", 422, "capability_absent", model="image-gan", **ends)


async def test_an_unknown_model_version_or_id_is_404(client: Client) -> None:
    await client.refused("sample", 404, "unknown_model", model="nobody")
    await client.refused("sample", 404, "unknown_version", model="linear", version="9")
    problem = await client.refused("decode", 404, "unknown_latent", model="linear", ids=[ID])
    assert problem["ids"] == [ID]
    reason(await client.get("/models/nobody"), 404, "unknown_model")
    reason(await client.get("/models/linear?version=9"), 404, "unknown_version")
    reason(await client.get("/nothing/here"), 404, "not_found")


async def test_an_expired_id_is_404(quick: Path) -> None:
    async with serving(quick, latent_ttl_s=1) as client:
        ids = (await client.ask("encode", model="linear", inputs=[ROW]))["ids"]
        await client.ask("decode", model="linear", ids=ids)
        await asyncio.sleep(1.05)
        await client.refused("decode", 404, "unknown_latent", model="linear", ids=ids)


async def test_an_id_of_another_model_or_version_is_409(client: Client) -> None:
    (own,) = (await client.ask("encode", model="linear", inputs=[ROW]))["ids"]
    (old,) = (await client.ask("encode", model="twice", version="1", inputs=[ROW]))["ids"]
    await client.refused("decode", 409, "latent_space_mismatch", model="twice", ids=[own])
    await client.refused("decode", 409, "latent_space_mismatch", model="twice", ids=[old])
    await client.ask("decode", model="twice", version="1", ids=[old])
    ends = {"start": {"id": own}, "end": {"seed": 1, "index": 1}}
    await client.refused("interpolate", 409, "latent_space_mismatch", model="twice", **ends)


async def test_a_method_that_is_not_allowed_is_405(client: Client) -> None:
    for method, path, allowed in (("GET", "/sample", "POST"), ("POST", "/models", "GET")):
        answer = await client.http.request(method, path)
        reason(answer, 405, "method_not_allowed")
        assert allowed in answer.headers["allow"]


async def test_a_form_of_the_answer_that_there_is_not_is_406(client: Client) -> None:
    for verb, accept in (("sample", "text/html"), ("sample", PNG), ("loglik", PNG)):
        body = {"model": "linear", **({"inputs": [ROW]} if verb == "loglik" else {})}
        answer = await client.post(f"/{verb}", json=body, headers={"Accept": accept})
        offered = reason(answer, 406, "not_acceptable")["offered"]
        assert offered[:3] == ["application/json", NPY, "application/x-npz"]
        assert offered[3:] == (["application/x-ndjson", "text/csv"] if verb == "sample" else [])


async def test_a_form_of_the_body_that_there_is_not_is_415(client: Client) -> None:
    for headers in ({"Content-Type": "text/plain"}, {"Content-Type": NPY}, {"Content-Encoding": "gzip"}):
        answer = await client.post("/sample", content=b"{}", headers=headers)
        reason(answer, 415, "unsupported_media_type")


@pytest.fixture(scope="module")
async def small(artifacts: Path) -> AsyncIterator[Client]:
    """A service that takes little."""
    async with serving(artifacts, max_body_mb=0.01, max_rows=100, queue_ms=1) as client:
        yield client


async def test_a_body_that_can_never_fit_is_413_announced_or_not(small: Client) -> None:
    body = b'{"model": "linear"' + b" " * 20_000 + b"}"

    async def chunks() -> AsyncIterator[bytes]:
        for start in range(0, len(body), 1000):
            yield body[start : start + 1000]

    for content in (body, chunks()):
        answer = await small.post("/sample", content=content, headers=JSON_TYPE)
        reason(answer, 413, "too_large")
        assert answer.headers["connection"] == "close"


async def test_more_rows_than_any_answer_may_have_are_413(small: Client) -> None:
    for verb, fields in (
        ("sample", {"n": 101}),
        ("encode", {"inputs": [ROW] * 101}),
        ("decode", {"latents": [ROW] * 101}),
        ("loglik", {"inputs": [ROW] * 101}),
        ("interpolate", {"start": {"latent": ROW}, "end": {"latent": ROW}, "steps": 101}),
    ):
        problem = await small.refused(verb, 413, "too_large", model="linear", **fields)
        assert problem["limit"] == 100


async def test_more_pictures_than_a_grid_holds_are_413(client: Client) -> None:
    answer = await client.post("/sample", json={"model": "image-gan", "n": 1025}, headers={"Accept": PNG})
    assert reason(answer, 413, "too_large")["limit"] == 1024


async def test_more_draws_than_memory_holds_are_413(client: Client) -> None:
    await client.refused("loglik", 413, "too_large", model="gaussian-vae", inputs=[ROW], k=10**9)


async def test_a_full_queue_is_429_with_retry_after(small: Client) -> None:
    answers = await asyncio.gather(
        *(small.post("/sample", json={"model": "slow", "n": 50, "seed": i}) for i in range(12))
    )
    refused = [answer for answer in answers if answer.status_code != 200]
    assert refused
    for answer in refused:
        problem = reason(answer, 429, "queue_full")
        assert int(answer.headers["retry-after"]) >= 1
        assert problem["retry_after_s"] > 0


async def test_a_deadline_that_passes_is_504(client: Client) -> None:
    async def ask(ms: str) -> httpx.Response:
        return await client.post("/sample", json={"model": "slow"}, headers={"X-Request-Timeout-Ms": ms})

    late = await asyncio.gather(ask("5"), *(ask("30000") for _ in range(2)))
    reason(late[0], 504, "deadline_passed")
    assert [answer.status_code for answer in late[1:]] == [200, 200]


@pytest.mark.parametrize("ms", ["0", "-5", "soon", "nan", "inf", ""])
async def test_a_deadline_that_is_none_is_422(client: Client, ms: str) -> None:
    headers = {"X-Request-Timeout-Ms": ms}
    reason(await client.post("/sample", json={"model": "linear"}, headers=headers), 422, "invalid_input")


async def test_rows_on_which_the_graph_fails_are_500_by_number_and_cost_nobody_else(client: Client) -> None:
    sound, poisoned = [[1.0]], [[1.0], [-1.0], [2.0], [-3.0]]
    problem = await client.refused("decode", 500, "row_failed", model="poison", latents=poisoned)
    assert problem["rows"] == [1, 3]
    asked = [sound, poisoned] * 10
    answers = await asyncio.gather(
        *(client.post("/decode", json={"model": "poison", "latents": latents}) for latents in asked)
    )
    assert [answer.status_code for answer in answers] == [200, 500] * 10


async def test_a_number_that_is_not_finite_is_never_given_as_null(client: Client) -> None:
    problem = await client.refused("decode", 500, "row_failed", model="linear", latents=[ROW, [3e38] * 3])
    assert problem["rows"] == [1]
    answer = await client.ask("loglik", model="gaussian-vae", inputs=[[3e38] * 3, ROW], k=2)
    assert answer["status"][0] in ("numeric", "out_of_support")
    assert answer["log_likelihood"][0] is None
    assert answer["status"][1] == "ok"


async def test_refusals_are_counted_without_making_series(client: Client) -> None:
    for name in ("never-heard-of", "nor-of-this"):
        await client.refused("sample", 404, "unknown_model", model=name)
    scraped = (await client.get("/metrics")).text
    assert "never-heard-of" not in scraped
    assert 'pushforward_requests_total{model="",status="404",verb="sample"}' in scraped
    assert 'pushforward_rejections_total{reason="unknown_model"}' in scraped
