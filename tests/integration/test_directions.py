"""Named directions over HTTP: codes are moved, then decoded, whichever way they came."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.graphs import linear_directions, linear_map
from tests.integration.conftest import NPY, Client, dump, load, reason

pytestmark = pytest.mark.anyio

A, B = linear_map(3)
FIRST, ALL = (np.array(direction.vector) for direction in linear_directions(3).values())
X = [[0.5, 1.0, 2.0], [3.0, 4.0, 5.0]]


async def test_decoded_codes_are_moved_first(client: Client) -> None:
    z = np.array([[0.5, -1.0, 2.0], [0.0, 0.25, 0.0]])
    moved = {"first": 1.5, "all": -2.0}
    answer = await client.ask("decode", model="linear", latents=z.tolist(), directions=moved)
    np.testing.assert_allclose(answer["samples"], (z + 1.5 * FIRST - 2 * ALL) @ A.T + B, atol=1e-5)
    encoded = await client.ask("encode", model="linear", inputs=X)
    by_id = await client.ask("decode", model="linear", ids=encoded["ids"], directions=moved)
    by_number = await client.ask("decode", model="linear", latents=encoded["latents"], directions=moved)
    assert by_id["samples"] == by_number["samples"]


async def test_strength_0_is_no_direction_to_the_bit(client: Client) -> None:
    plain = await client.npy("reconstruct", model="linear", inputs=X)
    still = await client.npy("reconstruct", model="linear", inputs=X, directions={"first": 0, "all": 0.0})
    assert plain.tobytes() == still.tobytes()


async def test_a_reconstruction_is_moved_by_what_decode_adds(client: Client) -> None:
    answer = await client.ask("reconstruct", model="linear", inputs=X, directions={"first": -3})
    np.testing.assert_allclose(answer["samples"], np.array(X) - 3 * A[:, 0], atol=1e-5)


async def test_every_step_of_a_walk_is_moved_the_ends_too(client: Client) -> None:
    ends = {"start": {"input": X[0]}, "end": {"latent": [1, 0, -1]}}
    plain = await client.ask("interpolate", model="linear", steps=4, path="lerp", **ends)
    moved = await client.ask(
        "interpolate", model="linear", steps=4, path="lerp", directions={"all": 2}, **ends
    )
    shift = np.array(moved["samples"]) - plain["samples"]
    np.testing.assert_allclose(shift, np.tile(2 * A @ ALL, (4, 1)), atol=1e-5)


async def test_a_moved_row_alone_is_the_row_in_a_crowd_whatever_the_order(client: Client) -> None:
    z = np.random.default_rng(0).normal(size=(50, 3)).astype(np.float32).tolist()
    crowd = await client.npy("decode", model="linear", latents=z, directions={"first": 0.3, "all": 0.7})
    for row in (0, 17, 49):
        alone = await client.npy(
            "decode", model="linear", latents=[z[row]], directions={"all": 0.7, "first": 0.3}
        )
        assert alone.tobytes() == crowd[row].tobytes()


@pytest.mark.parametrize("verb", ["decode", "reconstruct"])
async def test_an_array_brings_its_directions_in_the_query_string(client: Client, verb: str) -> None:
    rows = np.array(X, np.float32)
    field = {"decode": "latents", "reconstruct": "inputs"}[verb]
    wanted = {"first": 1.5, "all": -2.0}
    asked = await client.npy(verb, model="linear", directions=wanted, **{field: X})
    query = {f"directions.{name}": strength for name, strength in wanted.items()}
    answer = await client.post(
        f"/{verb}",
        content=dump(rows),
        params={"model": "linear", **query},
        headers={"Content-Type": NPY, "Accept": NPY},
    )
    assert answer.status_code == 200, answer.text
    assert load(answer.content).tobytes() == asked.tobytes()


@pytest.mark.parametrize(
    ("directions", "field", "words"),
    [
        ({"bald": 1}, "/directions/bald", "the directions of linear: first, all"),
        ({"first": 1e300}, "/directions/first", "less than or equal to 10"),
        ({"first": 11}, "/directions/first", "less than or equal to 10"),
        ({"first": "1"}, "/directions/first", "a valid number"),
        ({"first": None}, "/directions/first", "a valid number"),
        ({"No": 1}, "/directions/No", "pattern"),
        ({}, "/directions", "at least 1"),
        ([1], "/directions", "an object"),
    ],
)
async def test_what_is_no_direction_is_refused_by_name(
    client: Client, directions: Any, field: str, words: str
) -> None:
    problem = await client.refused(
        "decode", 422, "invalid_input", model="linear", latents=[[0, 0, 0]], directions=directions
    )
    assert problem["errors"][0]["field"] == field
    assert words in problem["detail"], problem["detail"]


@pytest.mark.parametrize(
    ("query", "field", "words"),
    [
        ({"directions.bald": 1}, "/directions/bald", "first, all"),
        ({"directions.first": "nan"}, "/directions/first", "finite"),
        ({"directions": 1}, "/directions", "an object"),
        ({"directions": 1, "directions.first": 1}, "the fields", "not both"),
        ({"colour.first": 1}, "/colour", "the fields"),
        ({"model.first": 1, "model": "linear"}, "the fields", "model or model.first, not both"),
    ],
)
async def test_a_query_string_is_refused_the_same_way(
    client: Client, query: dict[str, Any], field: str, words: str
) -> None:
    answer = await client.send_npy("decode", np.zeros((1, 3)), **{"model": "linear", **query})
    problem = reason(answer, 422, "invalid_input")
    assert problem["errors"][0]["field"] == field
    assert words in problem["detail"], problem["detail"]


async def test_a_model_without_directions_says_so(client: Client) -> None:
    problem = await client.refused(
        "decode",
        422,
        "invalid_input",
        model="gaussian-vae",
        latents=[[0, 0]],
        directions={"first": 1},
    )
    assert "no directions, gaussian-vae has none" in problem["detail"]


async def test_verbs_that_decode_nothing_of_the_callers_take_none(client: Client) -> None:
    for verb, fields in {"encode": {"inputs": X}, "loglik": {"inputs": X}, "sample": {"n": 1}}.items():
        problem = await client.refused(
            verb, 422, "invalid_input", model="linear", directions={"first": 1}, **fields
        )
        assert problem["errors"][0]["field"] == "/directions"


async def test_a_model_lists_its_directions_and_what_they_mean(client: Client) -> None:
    listed = (await client.get("/models/linear")).json()["directions"]
    assert list(listed) == ["first", "all"]
    assert listed["first"] == {
        "attribute": "the first number of a row",
        "unit": "one standard deviation of it",
        "source": "made by hand",
        "correlation": 1.0,
        "effect": [[-1.0, -1.0], [1.0, 1.0]],
        "judge": "the row itself",
    }
    assert (await client.get("/models/gaussian-vae")).json()["directions"] == {}
