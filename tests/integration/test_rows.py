"""A row is a row: its answer has the same bits alone and in any crowd."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest

from tests.integration.conftest import Client, serving

pytestmark = pytest.mark.anyio

X = np.random.default_rng(0).normal(size=(48, 3)).astype(np.float32)
Z = np.random.default_rng(1).normal(size=(48, 2)).astype(np.float32)
REQUESTS = 1200

Ask = Callable[[Client, list[int]], Awaitable[list[Any]]]


async def _score_flow(client: Client, rows: list[int]) -> list[Any]:
    answer = await client.ask("loglik", model="linear", inputs=X[rows].tolist())
    return list(zip(answer["log_likelihood"], answer["p_value"], answer["status"], strict=True))


async def _score_vae(client: Client, rows: list[int]) -> list[Any]:
    answer = await client.ask("loglik", model="gaussian-vae", inputs=X[rows].tolist(), k=5, seed=2)
    return list(zip(answer["log_likelihood"], answer["standard_error"], strict=True))


async def _encode(client: Client, rows: list[int]) -> list[Any]:
    answer = await client.ask("encode", model="gaussian-vae", inputs=X[rows].tolist())
    return list(zip(answer["latents"], answer["std"], answer["ids"], strict=True))


async def _decode(client: Client, rows: list[int]) -> list[Any]:
    return list((await client.ask("decode", model="gaussian-vae", latents=Z[rows].tolist()))["samples"])


async def _reconstruct(client: Client, rows: list[int]) -> list[Any]:
    return list((await client.ask("reconstruct", model="linear", inputs=X[rows].tolist()))["samples"])


VERBS: list[Ask] = [_score_flow, _score_vae, _encode, _decode, _reconstruct]


async def test_a_row_has_the_same_bits_alone_and_in_any_crowd(quick: Path) -> None:
    async with serving(quick) as client:
        alone = [[(await ask(client, [row]))[0] for row in range(len(X))] for ask in VERBS]
    random = Random(0)
    # A store that holds next to nothing, so that codes are computed again and again.
    async with serving(quick, latent_store_mb=1, latent_ttl_s=1) as client:

        async def one() -> None:
            verb = random.randrange(len(VERBS))
            rows = [random.randrange(len(X)) for _ in range(random.choice([1, 1, 2, 5, 40]))]
            for row, found in zip(rows, await VERBS[verb](client, rows), strict=True):
                assert found == alone[verb][row]

        for _ in range(0, REQUESTS, 60):
            await asyncio.gather(*(one() for _ in range(60)))
