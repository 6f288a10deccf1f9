"""Every verb, in every form, against arithmetic."""

from __future__ import annotations

import io
import math
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy import stats

from models.noise import Address, draw
from tests.graphs import coded, linear_map, linear_scores
from tests.integration.conftest import NPY, PNG, Client, load, serving

pytestmark = pytest.mark.anyio

A, B = linear_map(3)


def codes(seed: int, offset: int, n: int, dim: int = 3) -> np.ndarray:
    return draw([(Address(seed, offset), n)], "standard_normal", (dim,))


async def test_samples_are_decoded_noise(client: Client) -> None:
    answer = await client.ask("sample", model="linear", n=5, seed=7, offset=2)
    samples = answer.pop("samples")
    assert answer == {"model": "linear", "version": "1", "seed": 7, "offset": 2}
    np.testing.assert_allclose(samples, codes(7, 2, 5) @ A.T + B, atol=1e-6)


async def test_a_sample_without_a_seed_says_which_it_took(client: Client) -> None:
    first, second = [await client.ask("sample", model="linear") for _ in range(2)]
    assert first["seed"] != second["seed"]
    again = await client.ask("sample", model="linear", seed=first["seed"])
    assert again["samples"] == first["samples"]


async def test_temperature_scales_the_noise(client: Client) -> None:
    cold = await client.ask("sample", model="linear", n=2, seed=7, temperature=0)
    np.testing.assert_allclose(cold["samples"], [B, B], atol=1e-6)
    hot = await client.ask("sample", model="linear", n=2, seed=7, temperature=2.0)
    np.testing.assert_allclose(hot["samples"], 2 * codes(7, 0, 2) @ A.T + B, atol=1e-5)


async def test_truncation_keeps_the_noise_near_the_middle(client: Client) -> None:
    cut = await client.ask("sample", model="linear", n=200, seed=7, truncation=0.5)
    z = draw([(Address(7, truncation=0.5), 200)], "standard_normal", (3,))
    np.testing.assert_allclose(cut["samples"], z @ A.T + B, atol=1e-5)
    assert np.abs(z).max() <= 0.5


async def test_codes_are_inverses_with_ids(client: Client) -> None:
    x = [[0.5, 1.0, 2.0], [3.0, 4.0, 5.0]]
    answer = await client.ask("encode", model="linear", inputs=x)
    np.testing.assert_allclose(np.array(answer["latents"]) @ A.T + B, x, atol=1e-5)
    assert answer["cached"] == [False, False]
    assert all(i.startswith("linear.1.") for i in answer["ids"])
    assert "std" not in answer
    again = await client.ask("encode", model="linear", inputs=[x[1], [0, 0, 0], x[0]])
    assert again["cached"] == [True, False, True]
    assert [again["ids"][i] for i in (2, 0)] == answer["ids"]
    assert [again["latents"][i] for i in (2, 0)] == answer["latents"]


async def test_a_posterior_has_a_width(client: Client) -> None:
    answer = await client.ask("encode", model="gaussian-vae", inputs=[[1, 2, 3]])
    assert np.shape(answer["std"]) == (1, 2)
    assert (np.array(answer["std"]) > 0).all()
    again = await client.ask("encode", model="gaussian-vae", inputs=[[1, 2, 3]])
    assert again == {**answer, "cached": [True]}


async def test_a_learned_way_back_says_what_it_loses_and_pictures_can_be_walked_between(
    tmp_path: Path,
) -> None:
    coded(tmp_path)
    async with serving(tmp_path) as client:
        answer = await client.ask("encode", model="coded", inputs=[[1, 2, 3], [4, 5, 0]])
        assert answer["latents"] == [[1, 2], [4, 5]]
        assert answer["residual"] == [1, 0]
        again = await client.ask("encode", model="coded", inputs=[[4, 5, 0], [1, 2, -6]])
        assert (again["cached"], again["residual"]) == ([True, False], [0, 2])
        ends = {"start": {"input": [1, 2, 3]}, "end": {"input": [3, 4, 5]}}
        walk = await client.ask("interpolate", model="coded", steps=3, path="lerp", **ends)
        assert walk["samples"] == [[1, 2, 0], [2, 3, 0], [3, 4, 0]]


async def test_codes_are_decoded_as_numbers_and_by_id(client: Client) -> None:
    encoded = await client.ask("encode", model="linear", inputs=[[0.5, 1.0, 2.0], [3.0, 4.0, 5.0]])
    by_id = await client.ask("decode", model="linear", ids=encoded["ids"][::-1])
    by_number = await client.ask("decode", model="linear", latents=encoded["latents"][::-1])
    assert by_id == by_number
    np.testing.assert_allclose(by_id["samples"], [[3, 4, 5], [0.5, 1, 2]], atol=1e-5)


async def test_a_reconstruction_goes_through_the_code(client: Client) -> None:
    x = np.array([[1.0, 2.0, 3.0]])
    flow = await client.ask("reconstruct", model="linear", inputs=x.tolist())
    np.testing.assert_allclose(flow["samples"], x, atol=1e-5)
    vae = await client.ask("reconstruct", model="gaussian-vae", inputs=x.tolist())
    assert vae["samples"][0][2] == 0
    np.testing.assert_allclose(vae["samples"][0][:2], [0.8, 2 * 16 / 17], rtol=1e-4)


@pytest.mark.parametrize("path", ["slerp", "lerp"])
async def test_a_walk_begins_and_ends_at_its_ends_bit_for_bit(client: Client, path: str) -> None:
    encoded = await client.ask("encode", model="linear", inputs=[[3.0, 4.0, 5.0]])
    ends = [
        {"seed": 7, "index": 3},
        {"latent": [0.1, 0.2, 0.3]},
        {"id": encoded["ids"][0]},
        {"input": [3.0, 4.0, 5.0]},
    ]
    alone = [
        (await client.ask("sample", model="linear", seed=7, offset=3))["samples"][0],
        (await client.ask("decode", model="linear", latents=[[0.1, 0.2, 0.3]]))["samples"][0],
        (await client.ask("decode", model="linear", ids=encoded["ids"]))["samples"][0],
        (await client.ask("decode", model="linear", ids=encoded["ids"]))["samples"][0],
    ]
    for start, end in ((0, 1), (1, 2), (3, 0)):
        walk = await client.ask(
            "interpolate", model="linear", start=ends[start], end=ends[end], steps=5, path=path
        )
        assert walk["t"] == [0, 0.25, 0.5, 0.75, 1]
        assert walk["path"] == path
        assert [walk["samples"][0], walk["samples"][-1]] == [alone[start], alone[end]]


async def test_slerp_is_the_way_of_normal_noise(client: Client) -> None:
    ends = {"start": {"latent": [1, 0, 0]}, "end": {"latent": [0, 1, 0]}}
    walk = await client.ask("interpolate", model="linear", **ends, steps=3)
    assert walk["path"] == "slerp"
    np.testing.assert_allclose(walk["samples"][1], np.array([0.5**0.5, 0.5**0.5, 0]) @ A.T + B, atol=1e-6)


async def test_a_flow_has_exact_likelihoods_with_ranks(client: Client) -> None:
    x = np.array([[0.5, 1.0, 2.0], [-0.5, 0.5, 3.0], [50.0, 50.0, 50.0]])
    answer = await client.ask("loglik", model="linear", inputs=x.tolist())
    covariance = A.astype(float) @ A.T.astype(float)
    expected = stats.multivariate_normal(B, covariance).logpdf(x)
    np.testing.assert_allclose(answer["log_likelihood"], expected, rtol=1e-5)
    assert (answer["kind"], answer["unit"]) == ("exact", "nats")
    assert answer["status"] == ["ok", "ok", "extrapolating"]
    assert answer["p_value"][2] == pytest.approx(2 / 201)
    rank = sum(score <= expected[1] for score in linear_scores(3))
    assert answer["p_value"][1] == pytest.approx(min(1, 2 * (min(rank, 200 - rank) + 1) / 201))
    assert not {"k", "seed", "standard_error", "bits_per_dim"} & answer.keys()


async def test_a_bound_says_k_and_its_error_and_tightens(client: Client) -> None:
    x = [[0.5, 1.0, 0.2], [1.0, -2.0, 0.1]]
    exact = stats.multivariate_normal([0, 0, 0], np.diag([1.25, 4.25, 0.25])).logpdf(x)
    for k in (1, 2, 500):
        answer = await client.ask("loglik", model="gaussian-vae", inputs=x, k=k, seed=3)
        assert (answer["kind"], answer["k"], answer["seed"]) == ("lower_bound", k, 3)
        if k == 1:
            assert answer["standard_error"] == [None, None]
    error = np.abs(np.array(answer["log_likelihood"]) - exact)
    assert (error < 4 * np.array(answer["standard_error"])).all()
    assert "p_value" not in answer
    again = await client.ask("loglik", model="gaussian-vae", inputs=x, k=500, seed=3)
    assert again == answer


async def test_the_draws_of_a_row_do_not_depend_on_how_many_rows_there_are(client: Client) -> None:
    x = np.random.default_rng(0).normal(size=(40, 3)).tolist()
    crowd = await client.ask("loglik", model="gaussian-vae", inputs=x, k=16, seed=3)
    for row in (0, 17, 39):
        alone = await client.ask("loglik", model="gaussian-vae", inputs=[x[row]], k=16, seed=3)
        assert alone["log_likelihood"][0] == crowd["log_likelihood"][row]
        assert alone["standard_error"][0] == crowd["standard_error"][row]


async def test_labels_are_numbers_or_names_for_all_or_for_each(client: Client) -> None:
    z = [[0.0, 0.0], [1.0, 1.0]]
    for label in (1, "east", [1, "east"]):
        answer = await client.ask("decode", model="conditional", latents=z, label=label)
        assert answer["samples"] == [[4, 0], [5, 1]]
    mixed = await client.ask("encode", model="conditional", inputs=z, label=["north", 0])
    assert mixed["latents"] == [[0, -4], [1, 1]]
    sampled = await client.ask("sample", model="conditional", n=2, seed=1, label=["north", 0])
    np.testing.assert_allclose(sampled["samples"], codes(1, 0, 2, 2) + np.array([[0, 4], [0, 0]]), atol=1e-6)
    walk = {"start": {"input": [4.0, 1.0]}, "end": {"latent": [1.0, 0.0]}, "steps": 2}
    walked = await client.ask("interpolate", model="conditional", label="east", **walk)
    assert walked["samples"] == [[4, 1], [5, 0]]
    scored = await client.ask("loglik", model="conditional", inputs=[[4.0, 0.0]], label="east")
    assert scored["log_likelihood"][0] == pytest.approx(-math.log(2 * math.pi))


async def test_rows_are_cached_by_label_too(client: Client) -> None:
    first = await client.ask("encode", model="conditional", inputs=[[9.0, 9.0]], label=0)
    second = await client.ask("encode", model="conditional", inputs=[[9.0, 9.0]], label=1)
    assert second["cached"] == [False]
    assert second["latents"] != first["latents"]


async def test_arrays_travel_as_npy_both_ways(client: Client) -> None:
    x = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)
    expected = await client.ask("encode", model="linear", inputs=x.tolist())
    for array in (x, x.astype(np.float64), np.asfortranarray(x)):
        answer = await client.send_npy("encode", array, model="linear", version="1")
        assert answer.json()["latents"] == expected["latents"]
    raw = await client.npy("encode", model="linear", inputs=x.tolist())
    assert raw.dtype == np.float32
    assert raw.tolist() == np.array(expected["latents"], np.float32).tolist()
    scores = await client.send_npy("loglik", x, model="gaussian-vae", k=4, seed=9)
    assert (scores.json()["k"], scores.json()["seed"]) == (4, 9)
    decoded = await client.send_npy("decode", raw, model="linear")
    np.testing.assert_allclose(decoded.json()["samples"], x, atol=1e-5)


async def test_npy_answers_say_the_rest_in_headers(client: Client) -> None:
    answer = await client.post(
        "/sample", json={"model": "linear", "n": 3, "seed": 5, "offset": 1}, headers={"Accept": NPY}
    )
    assert load(answer.content).shape == (3, 3)
    said = {k.removeprefix("x-pushforward-"): v for k, v in answer.headers.items() if "pushforward" in k}
    assert said == {"model": "linear", "version": "1", "seed": "5", "offset": "1"}
    scored = await client.post(
        "/loglik", json={"model": "linear", "inputs": [[0, 0, 0]]}, headers={"Accept": NPY}
    )
    assert scored.headers["x-pushforward-kind"] == "exact"
    assert scored.headers["x-pushforward-status"] == "ok"
    assert load(scored.content).dtype == np.float64


async def test_pictures_come_as_a_grid_and_a_walk_as_a_strip(client: Client) -> None:
    async def picture(verb: str, **fields: object) -> tuple[int, int]:
        body = {"model": "image-gan", **fields}
        answer = await client.post(f"/{verb}", json=body, headers={"Accept": PNG})
        assert answer.headers["content-type"] == PNG, answer.text
        return Image.open(io.BytesIO(answer.content)).size

    assert await picture("sample", n=9, seed=1) == (3 * 66 + 2, 3 * 66 + 2)
    assert await picture("decode", latents=[[0, 0, 0, 0]] * 2) == (2 * 66 + 2, 66 + 2)
    ends = {"start": {"seed": 1, "index": 0}, "end": {"seed": 1, "index": 1}}
    assert await picture("interpolate", **ends, steps=5) == (5 * 66 + 2, 66 + 2)


async def test_the_newest_version_answers_unless_another_is_asked_for(client: Client) -> None:
    assert (await client.ask("sample", model="twice"))["version"] == "2"
    assert (await client.ask("sample", model="twice", version="1"))["version"] == "1"


async def test_large_json_is_whole(client: Client) -> None:
    answer = await client.ask("sample", model="linear", n=30_000, seed=7)
    np.testing.assert_allclose(answer["samples"], codes(7, 0, 30_000) @ A.T + B, atol=1e-5)
