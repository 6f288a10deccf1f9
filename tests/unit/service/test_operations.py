"""Verbs are compositions: here of plain functions in place of graphs."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

from models.manifest import FILE_NAME, LatentSpace, Law, Manifest
from models.noise import Address, draw
from service import operations
from service.batch import Rows
from service.calls import Call, in_turns
from service.engine import Served
from service.errors import InvalidInput, QueueFull, RowFailed
from service.lane import NoObserver
from service.latents import LatentStore
from service.schemas import (
    EncodeRequest,
    InputEnd,
    InterpolateRequest,
    LoglikRequest,
    ReconstructRequest,
    SampleRequest,
)
from service.visit import Visit
from tests import graphs

Graph = Callable[..., tuple[np.ndarray, ...]]


class Artifact:
    digest = "d" * 64


class Plain:
    """A model whose entry points are functions of arrays."""

    def __init__(self, manifest: Manifest, **entries: Graph) -> None:
        self.manifest = manifest
        self.artifact = Artifact()
        self.scores = NoObserver()
        self.worked_out: dict[type, Any] = {}
        self.asked: list[tuple[str, int]] = []
        self.fails: dict[int, str] = {}
        self._entries = entries

    async def run(self, entry: str, inputs: Any, rows: int, deadline: float, admitted: bool = False) -> Rows:
        self.asked.append((entry, rows))
        await asyncio.sleep(0)
        tensors = self.manifest.entry_points[entry].inputs  # type: ignore[index]
        arrays = [
            draw([(value, rows)], tensor.law or "standard_normal", tensor.row_shape)
            if isinstance(value, Address)
            else value
            for tensor, value in zip(tensors, inputs, strict=True)
        ]
        return Rows(self._entries[entry](*arrays), self.fails, 0.0, 0.0)


class Uncounted:
    def cache(self, tier: str, result: str, count: int) -> None: ...


def call(plain: Plain) -> Call:
    store = LatentStore(60, 1 << 20, None, Uncounted())
    visit = Visit("POST", "/encode", {})
    return Call(cast(Served, plain), plain.manifest, store, time.monotonic() + 60, 10_000, list, visit)


def manifest(tmp_path: Path, make: Callable[[Path], Path]) -> Manifest:
    return Manifest.model_validate_json((make(tmp_path) / FILE_NAME).read_text())


def test_only_rows_that_are_not_remembered_are_encoded(tmp_path: Path) -> None:
    plain = Plain(manifest(tmp_path, graphs.linear_flow), encode=lambda x: (2 * x,))
    here = call(plain)

    async def scenario() -> None:
        rows = [[float(i)] * 3 for i in range(5)]
        for asked in ([0, 1], [1, 2, 0, 3], [3, 2]):
            request = EncodeRequest(model="linear", inputs=[rows[i] for i in asked])
            answer = await operations.answered(operations.encode(here, request))
            assert answer.fields["latents"].tolist() == [[2.0 * i] * 3 for i in asked]
        assert plain.asked == [("encode", 2), ("encode", 2)]
        plain.fails = {1: "broken"}
        with pytest.raises(RowFailed) as caught:
            await operations.answered(
                operations.encode(here, EncodeRequest(model="linear", inputs=[*rows, [9.0] * 3, [8.0] * 3]))
            )
        assert caught.value.extra["rows"] == [5]

    asyncio.run(scenario())


@pytest.mark.parametrize(("rows", "k", "runs"), [(1, 7, 1), (3, 7, 3), (7, 3, 3), (4, 4, 4), (5, 1, 1)])
def test_draws_are_the_same_whichever_way_they_are_sent(tmp_path: Path, rows: int, k: int, runs: int) -> None:
    def log_weight(x: np.ndarray, eps: np.ndarray) -> tuple[np.ndarray, ...]:
        return ((x[:, 0] + eps[:, 0] * eps[:, 1]).astype(np.float32),)

    plain = Plain(manifest(tmp_path, graphs.gaussian_vae), log_weight=log_weight)
    x = np.arange(rows * 3, dtype=np.float32).reshape(rows, 3)
    request = LoglikRequest(model="gaussian-vae", inputs=x.tolist(), k=k, seed=11)
    answer = asyncio.run(operations.answered(operations.loglik(call(plain), request)))
    assert len(plain.asked) == runs
    eps = draw([(Address(11, 0, stream=1), k)], "standard_normal", (2,))
    expected = (x[:, :1] + (eps[:, 0] * eps[:, 1])[None]).astype(np.float32).astype(float)
    np.testing.assert_allclose(
        answer.fields["log_likelihood"], np.log(np.exp(expected).mean(axis=1)), rtol=1e-6
    )


def test_a_row_without_a_number_costs_one_row(tmp_path: Path) -> None:
    def log_weight(x: np.ndarray) -> tuple[np.ndarray, ...]:
        return (np.array([np.nan, -1.0, np.inf, -np.inf], np.float32),)

    plain = Plain(manifest(tmp_path, graphs.linear_flow), log_weight=log_weight)
    request = LoglikRequest(model="linear", inputs=[[0.0] * 3] * 4)
    answer = asyncio.run(operations.answered(operations.loglik(call(plain), request)))
    assert answer.fields["status"] == ["numeric", "extrapolating", "numeric", "out_of_support"]


def test_rows_that_a_bijection_does_not_give_back_are_named(tmp_path: Path) -> None:
    plain = Plain(
        manifest(tmp_path, graphs.linear_flow), encode=lambda x: (x,), decode=lambda z: (np.fmin(z, 1e6),)
    )
    rows = [[1.0, 2.0, 3.0], [1e7, 0.0, 0.0], [1e-30] * 3, [1.005e6, 0.0, 0.0]]
    with pytest.raises(RowFailed, match="does not give back 1 of 4 rows") as caught:
        asyncio.run(operations.reconstruct(call(plain), ReconstructRequest(model="linear", inputs=rows)))
    assert caught.value.extra["rows"] == [1]
    walk = InterpolateRequest(model="linear", start=InputEnd(input=rows[1]), end=InputEnd(input=rows[0]))
    with pytest.raises(RowFailed, match="does not give back"):
        asyncio.run(operations.interpolate(call(plain), walk))


def test_a_posterior_need_not_give_rows_back(tmp_path: Path) -> None:
    plain = Plain(
        manifest(tmp_path, graphs.gaussian_vae),
        encode=lambda x: (x[:, :2], x[:, :2]),
        decode=lambda z: (np.zeros((len(z), 3), np.float32),),
    )
    request = ReconstructRequest(model="gaussian-vae", inputs=[[1e7] * 3])
    answer = asyncio.run(operations.reconstruct(call(plain), request))
    assert answer.fields["samples"].tolist() == [[0.0] * 3]


@pytest.mark.parametrize(
    ("prior", "field", "value"),
    [("uniform", "temperature", 0.5), ("uniform", "truncation", 2.0), ("logistic", "truncation", 2.0)],
)
def test_noise_that_has_no_such_law_is_neither_scaled_nor_truncated(
    tmp_path: Path, prior: Law, field: str, value: float
) -> None:
    normal = manifest(tmp_path, graphs.linear_flow)
    other = normal.model_copy(update={"latent": LatentSpace(shape=(3,), prior=prior)})
    request = SampleRequest.model_validate({"model": "linear", field: value})
    with pytest.raises(InvalidInput, match=f"/{field}.*whose prior is {prior}"):
        operations.sample(call(Plain(other)), request)


def test_a_stream_is_made_as_it_is_taken_one_piece_ahead(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(operations, "PIECE_BYTES", 1200)
    plain = Plain(manifest(tmp_path, graphs.linear_flow), decode=lambda z: (z,))
    request = SampleRequest(model="linear", n=10**12, seed=5)

    async def scenario() -> None:
        stream = operations.sample_stream(call(plain), request, patience_s=60)
        assert stream.shape == (10**12, 3)
        taken = [await anext(stream.pieces) for _ in range(3)]
        for _ in range(20):
            await asyncio.sleep(0)
        assert len(plain.asked) == 4
        expected = draw([(Address(5), 300)], "standard_normal", (3,))
        assert np.concatenate(taken).tobytes() == expected.tobytes()
        await stream.pieces.aclose()
        assert len(asyncio.all_tasks()) == 1

    asyncio.run(scenario())


def test_pieces_take_turns_and_the_first_failure_ends_the_rest() -> None:
    begun: list[int] = []

    async def piece(i: int) -> np.ndarray:
        begun.append(i)
        await asyncio.sleep(0)
        if i == 3:
            raise QueueFull("full", 1.0)
        await asyncio.sleep(0)
        return np.array([i])

    async def scenario() -> None:
        assert [int(a[0]) for a in await in_turns([piece(i) for i in range(3)])] == [0, 1, 2]
        with pytest.raises(QueueFull):
            await in_turns([piece(i) for i in range(100)])
        assert len(begun) < 50
        assert len(asyncio.all_tasks()) == 1

    asyncio.run(scenario())
