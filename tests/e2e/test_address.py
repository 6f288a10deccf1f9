"""A sample is an address, and a row is a row: the same bits, whoever else is served, before and after."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np

from tests.e2e.conftest import Start
from tests.e2e.load import Load
from tests.e2e.processes import until

# The main array of each answer.
ANSWERS = {"loglik": "log_likelihood", "encode": "latents", "decode": "samples"}


def test_ten_rows_are_the_ten_single_rows_alone_in_a_crowd_and_after_a_restart(
    start: Start, artifacts: Path
) -> None:
    service = start(artifacts).ready()
    ten = service.post("sample", model="linear", n=10, seed=42)["samples"]

    def one(i: int) -> tuple[str, dict[str, object]]:
        return "sample", {"model": "linear", "n": 1, "seed": 42, "offset": i % 10}

    assert [service.post(one(i)[0], **one(i)[1])["samples"][0] for i in range(10)] == ten
    with Load(service.url, one, callers=64) as load:
        until(lambda: len(load.calls) > 1000, "load", timeout_s=60)
    assert {call.status for call in load.calls} == {200}
    assert all(call.body["samples"] == [ten[call.body["offset"]]] for call in load.calls)

    before = service.npy("sample", model="gaussian-vae", n=257, seed=1, offset=2**40)
    assert service.stop() == 0
    after = start(artifacts).ready()
    assert after.npy("sample", model="gaussian-vae", n=257, seed=1, offset=2**40) == before
    assert after.post("sample", model="linear", n=10, seed=42)["samples"] == ten


def test_a_row_alone_has_the_bits_that_it_has_in_any_crowd(start: Start, artifacts: Path) -> None:
    service = start(artifacts).ready()
    rows = np.random.default_rng(0).normal(size=(64, 3)).round(3).tolist()
    alone = {
        verb: [service.post(verb, model="linear", **_input(verb, [row]))[field][0] for row in rows]
        for verb, field in ANSWERS.items()
    }

    def picks(i: int) -> tuple[str, list[int]]:
        dice = random.Random(i)
        return dice.choice(list(ANSWERS)), dice.sample(range(64), dice.randint(1, 40))

    def crowd(i: int) -> tuple[str, dict[str, object]]:
        verb, chosen = picks(i)
        return verb, {"model": "linear", **_input(verb, [rows[row] for row in chosen])}

    with Load(service.url, crowd, callers=16) as load:
        until(lambda: len(load.calls) >= 1000, "load", timeout_s=100)
    for call in load.calls:
        verb, chosen = picks(call.number)
        assert call.status == 200
        assert call.body[ANSWERS[verb]] == [alone[verb][row] for row in chosen]


def _input(verb: str, rows: list[list[float]]) -> dict[str, object]:
    return {"latents" if verb == "decode" else "inputs": rows}
