"""A sample is an address: seed and index say which row it is, whoever else is served."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest

from service.operations import PIECE_BYTES
from tests.integration.conftest import NPY, Client, load

pytestmark = pytest.mark.anyio

MODELS = ["linear", "gaussian-vae", "image-gan"]


@pytest.mark.parametrize("model", MODELS)
async def test_ten_rows_are_the_ten_single_calls_alone_and_in_a_crowd(client: Client, model: str) -> None:
    ten = await client.npy("sample", model=model, n=10, seed=7, offset=0)
    alone = [await client.npy("sample", model=model, seed=7, offset=i) for i in range(10)]
    crowd = asyncio.gather(
        *(client.npy("sample", model=model, n=1 + i % 9, seed=100 + i, offset=i) for i in range(64))
    )
    among = await asyncio.gather(
        *(client.npy("sample", model=model, seed=7, offset=i) for i in range(10)),
    )
    await crowd
    for row in range(10):
        assert ten[row].tobytes() == alone[row].tobytes() == among[row].tobytes()


async def test_labels_and_temperature_belong_to_the_row(client: Client) -> None:
    label = [i % 3 for i in range(10)]
    ten = await client.npy("sample", model="conditional", n=10, seed=7, label=label, temperature=0.7)
    for i in range(10):
        one = await client.npy("sample", model="conditional", seed=7, offset=i, label=i % 3, temperature=0.7)
        assert one[0].tobytes() == ten[i].tobytes()


async def test_truncation_belongs_to_the_row(client: Client) -> None:
    ten = await client.npy("sample", model="linear", n=10, seed=7, truncation=0.8)
    crowd = [client.npy("sample", model="linear", n=3, seed=i) for i in range(20)]
    ones = (client.npy("sample", model="linear", seed=7, offset=i, truncation=0.8) for i in range(10))
    for row, one in zip(ten, (await asyncio.gather(*ones, *crowd))[:10], strict=True):
        assert row.tobytes() == one[0].tobytes()


async def test_the_last_address_is_as_good_as_the_first(client: Client) -> None:
    last = 2**53 - 1
    both = await client.npy("sample", model="linear", n=2, seed=last, offset=last - 2)
    one = await client.npy("sample", model="linear", n=1, seed=last, offset=last - 1)
    assert both[1].tobytes() == one[0].tobytes()


async def test_json_and_npy_are_the_same_rows(client: Client) -> None:
    json = await client.ask("sample", model="linear", n=100, seed=7)
    npy = await client.npy("sample", model="linear", n=100, seed=7)
    assert np.array(json["samples"], np.float32).tobytes() == npy.tobytes()


async def test_a_stream_is_the_same_rows_with_a_true_header(client: Client) -> None:
    piece = PIECE_BYTES // 12
    n = 2 * piece + 12_345
    answer = await client.post(
        "/sample", json={"model": "linear", "n": n, "seed": 7, "offset": 5}, headers={"Accept": NPY}
    )
    rows = load(answer.content)
    assert rows.shape == (n, 3)
    assert int(answer.headers["content-length"]) == len(answer.content)
    assert answer.headers["x-pushforward-offset"] == "5"
    for start in (0, piece - 1, 2 * piece - 1, n - 2):
        part = await client.npy("sample", model="linear", n=2, seed=7, offset=5 + start)
        assert part.tobytes() == rows[start : start + 2].tobytes()


async def test_a_download_that_broke_is_resumed(client: Client) -> None:
    whole = await client.npy("sample", model="linear", n=100_000, seed=3)
    rest = await client.npy("sample", model="linear", n=60_000, seed=3, offset=40_000)
    assert rest.tobytes() == whole[40_000:].tobytes()
