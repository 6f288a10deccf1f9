"""Streams of every form hold the rows of their addresses."""

from __future__ import annotations

import csv
import io
import json
from typing import Any

import httpx
import numpy as np
import pytest

from tests.integration.conftest import JSON, Client, reason

NDJSON, CSV = "application/x-ndjson", "text/csv"
ROWS = 100_000  # some pieces of the three columns of `linear`, and of one megabyte each

pytestmark = pytest.mark.anyio


async def _stream(client: Client, accept: str, **fields: Any) -> httpx.Response:
    answer = await client.post("/sample", json=fields, headers={"Accept": accept})
    assert answer.status_code == 200, answer.text
    return answer


@pytest.mark.parametrize("n", [1, ROWS])
async def test_lines_are_the_rows_that_npy_has(client: Client, n: int) -> None:
    fields = {"model": "linear", "n": n, "seed": 3}
    rows = await client.npy("sample", **fields)
    lines = (await _stream(client, NDJSON, **fields)).text.splitlines()
    assert np.array([json.loads(line) for line in lines], np.float32).tobytes() == rows.tobytes()
    _, *table = csv.reader(io.StringIO((await _stream(client, CSV, **fields)).text))
    assert np.array(table, np.float32).tobytes() == rows.tobytes()


async def test_lines_go_on_where_they_broke(client: Client) -> None:
    whole = await _stream(client, NDJSON, model="linear", n=1000, seed=3)
    broken = whole.text[: len(whole.text) // 2].rpartition("\n")[0] + "\n"
    got = broken.count("\n")
    rest = await _stream(client, NDJSON, model="linear", n=1000 - got, seed=3, offset=got)
    assert broken + rest.text == whole.text


async def test_a_row_of_a_picture_is_one_line(client: Client) -> None:
    fields = {"model": "image-gan", "n": 5, "seed": 3}
    lines = (await _stream(client, NDJSON, **fields)).text.splitlines()
    assert [json.loads(line) for line in lines] == (await client.ask("sample", **fields))["samples"]


async def test_the_seed_and_the_version_are_in_the_headers(client: Client) -> None:
    answer = await _stream(client, CSV, model="linear", n=2)
    seed = int(answer.headers["x-pushforward-seed"])
    again = await _stream(client, CSV, model="linear", n=2, seed=seed)
    assert (answer.text, answer.headers["x-pushforward-version"]) == (again.text, "1")


async def test_pictures_are_no_table_and_other_verbs_have_no_lines(client: Client) -> None:
    body = {"model": "image-gan", "n": 2}
    answer = await client.post("/sample", json=body, headers={"Accept": CSV})
    assert reason(answer, 406, "not_acceptable")["offered"] == [
        JSON, "application/x-npy", "application/x-npz", "image/png", NDJSON
    ]  # fmt: skip
    body = {"model": "linear", "inputs": [[0.0, 0.0, 0.0]]}
    reason(await client.post("/loglik", json=body, headers={"Accept": NDJSON}), 406, "not_acceptable")


async def test_json_of_too_many_rows_is_refused_with_what_to_do(client: Client) -> None:
    problem = await client.refused("sample", 413, "too_large", model="linear", n=2_000_000)
    assert "npy, NDJSON or, for tables, CSV" in problem["detail"]
