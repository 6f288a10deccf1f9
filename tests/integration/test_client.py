"""The client against the application: every verb in NumPy arrays, the same numbers as JSON says."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import numpy as np
import pytest

from pushforward_client import (
    Address,
    AsyncClient,
    CapabilityAbsent,
    InvalidInput,
    Latents,
    LatentSpaceMismatch,
    Patience,
    UnknownLatent,
    UnknownModel,
)
from pushforward_client.calls import SLICE_ROWS
from tests.integration.conftest import Client

pytestmark = pytest.mark.anyio
INPUTS = [[0.1, 0.2, 0.3], [-1.0, 0.5, 2.0]]


@pytest.fixture
async def ours(client: Client) -> AsyncIterator[AsyncClient]:
    transport = httpx.ASGITransport(client.app)
    async with AsyncClient("http://service", patience=Patience(20, retries=0), transport=transport) as made:
        yield made


async def test_models_are_described(client: Client, ours: AsyncClient) -> None:
    models = {model.name: model for model in await ours.models()}
    assert models["linear"].density == "exact"
    assert (models["image-gan"].density, len(models["image-gan"].data_shape)) == ("none", 3)
    one = await ours.describe("twice", "1")
    assert (one.version, one.versions) == ("1", ("2", "1"))
    assert one.about["limits"]["max_rows"] == 100_000


async def test_samples_are_those_of_the_address(client: Client, ours: AsyncClient) -> None:
    rows = await ours.sample("linear", n=100_000, seed=3, offset=5, temperature=0.5).array()
    assert np.array_equal(
        rows[7:9], await client.npy("sample", model="linear", n=2, seed=3, offset=12, temperature=0.5)
    )
    labels = [i % 2 for i in range(9)]
    told = await ours.sample("conditional", n=9, seed=1, label=labels).array()
    assert np.array_equal(told, await client.npy("sample", model="conditional", n=9, seed=1, label=labels))


async def test_a_seed_that_nobody_names_is_drawn_once(ours: AsyncClient) -> None:
    samples = ours.sample("linear", n=3)
    assert np.array_equal(await samples.array(), await ours.sample("linear", n=3, seed=samples.seed).array())
    assert ours.sample("linear").seed != samples.seed


async def test_samples_are_saved_and_gone_on_with(ours: AsyncClient, tmp_path: Path) -> None:
    seen: list[int] = []
    whole = await ours.sample("linear", n=200_000, seed=3).array()
    wanted = await ours.sample("linear", n=200_000, seed=3).save(tmp_path / "rows.npy", seen.append)
    assert (wanted.version, sum(seen), seen[0]) == ("1", 200_000, 0)
    assert np.array_equal(np.load(tmp_path / "rows.npy"), whole)


async def test_codes_have_ids_and_lead_back(client: Client, ours: AsyncClient) -> None:
    z = await ours.encode("linear", INPUTS)
    said = await client.ask("encode", model="linear", inputs=INPUTS)
    assert z.vectors.tobytes() == np.array(said["latents"], np.float32).tobytes()
    assert z.ids == tuple(said["ids"])
    for latents in (z, z.ids, z.vectors):
        back = await ours.decode("linear", latents)  # type: ignore[arg-type]
        np.testing.assert_allclose(back, INPUTS, rtol=1e-5)
    assert np.array_equal(await ours.reconstruct("linear", INPUTS), await ours.decode("linear", z))
    rows = np.zeros((2, *(await ours.describe("gaussian-vae")).data_shape))
    assert (await ours.encode("gaussian-vae", rows)).std is not None


async def test_directions_move_codes(client: Client, ours: AsyncClient) -> None:
    (name, *_) = (await ours.describe("linear")).about["directions"]
    z = await ours.encode("linear", INPUTS)
    moved = await ours.decode("linear", z.move(**{name: 2}))
    assert not np.array_equal(moved, await ours.decode("linear", z))
    assert np.array_equal(moved, await ours.reconstruct("linear", INPUTS, directions={name: 2}))


async def test_a_walk_has_ends_of_every_kind(client: Client, ours: AsyncClient) -> None:
    z = await ours.encode("linear", INPUTS)
    walk = await ours.interpolate("linear", z[0], z[1], steps=5)
    along = getattr(z[0], walk.path)(z[1], walk.t)
    np.testing.assert_allclose(await ours.decode("linear", along), walk.samples, rtol=1e-5, atol=1e-6)
    assert z.ids
    by_id = await ours.interpolate("linear", z.ids[0], INPUTS[1], steps=5)
    assert np.array_equal(by_id.samples, walk.samples)
    drawn = await ours.interpolate("linear", Address(3, 1), Address(3, 2), steps=2, path="lerp")
    assert np.array_equal(drawn.samples, await ours.sample("linear", n=2, seed=3, offset=1).array())


async def test_likelihoods_are_those_of_the_service_to_the_bit(client: Client, ours: AsyncClient) -> None:
    rows = np.random.default_rng(0).normal(size=(SLICE_ROWS + 3, 3)).astype(np.float32)
    found = await ours.loglik("linear", rows)
    said = await client.ask("loglik", model="linear", inputs=rows[-5:].tolist())
    assert (found.kind, found.unit, len(found.log_likelihood)) == ("exact", "nats", len(rows))
    assert found.log_likelihood[-5:].tolist() == said["log_likelihood"]
    assert found.status[-5:].tolist() == said["status"]
    assert found.p_value is not None
    assert found.p_value[-5:].tolist() == said["p_value"]


async def test_estimates_come_with_their_error(client: Client, ours: AsyncClient) -> None:
    rows = np.zeros((3, *(await ours.describe("gaussian-vae")).data_shape))
    found = await ours.loglik("gaussian-vae", rows, k=8, seed=5)
    assert (found.k, found.seed, found.kind) == (8, 5, "lower_bound")
    assert found.standard_error is not None
    assert np.ptp(found.log_likelihood) == 0


async def test_pictures_are_drawn(ours: AsyncClient) -> None:
    assert (await ours.sample("image-gan", n=4, seed=1).png()).startswith(b"\x89PNG")
    walk = {"start": Address(1, 0), "end": Address(1, 1), "steps": 3}
    assert (await ours.picture("interpolate", "image-gan", **walk)).startswith(b"\x89PNG")


async def test_refusals_are_errors_of_the_tree(ours: AsyncClient) -> None:
    with pytest.raises(UnknownModel, match="there is no model 'nope'"):
        await ours.sample("nope").array()
    with pytest.raises(CapabilityAbsent) as absent:
        await ours.loglik("image-gan", INPUTS)
    assert "linear" in absent.value.problem["models"]
    with pytest.raises(InvalidInput, match=r"/inputs is an array of shape \[1, 2\]"):
        await ours.encode("linear", [[1.0, 2.0]])
    with pytest.raises(UnknownLatent):
        await ours.decode("linear", [f"linear.1.{'a' * 32}"])
    with pytest.raises(LatentSpaceMismatch):
        await ours.decode("linear", [f"other.1.{'a' * 32}"])


async def test_mistakes_that_need_no_service_are_found_without_it() -> None:
    async with AsyncClient("http://127.0.0.1:9") as nowhere:
        z = Latents("linear", np.zeros((2, 3)), "1")
        with pytest.raises(ValueError, match="codes are of linear version 1"):
            await nowhere.decode("other", z)
        with pytest.raises(ValueError, match="start has 2 codes; allowed: 1"):
            await nowhere.interpolate("linear", z, z[0])
        with pytest.raises(ValueError, match="end is moved"):
            await nowhere.interpolate("linear", z[0], z[1].move(up=1))
        with pytest.raises(ValueError, match="at least one"):
            await nowhere.loglik("linear", [])
    with pytest.raises(ValueError, match="http://"):
        AsyncClient("127.0.0.1:8000")
