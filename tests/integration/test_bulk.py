"""Bulk work gives the numbers of the service, to the bit, also when it was stopped on the way."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from models.noise import Address, draw
from tests.integration.conftest import Client, dump
from training import Mistake, bulk, jobs
from training.cli import main
from training.jobs import Job, of_draw, parts_folder

pytestmark = pytest.mark.anyio

NPZ = "application/x-npz"
ROWS = 700
Array = NDArray[Any]


@pytest.fixture
def parts_of_256(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that a few rows already make several parts."""
    monkeypatch.setattr(jobs, "PART_ROWS", 256)


def run(*arguments: object) -> None:
    assert main([str(each) for each in arguments]) == 0


def normal(shape: tuple[int, ...]) -> Array:
    return np.random.default_rng(5).normal(size=(ROWS, *shape)).astype(np.float32)


async def asked(client: Client, verb: str, rows: Array, **query: Any) -> dict[str, Array]:
    """The service's answer to many rows, every member as an array."""
    headers = {"Content-Type": "application/x-npy", "Accept": NPZ}
    answer = await client.post(f"/{verb}", content=dump(rows), params=query, headers=headers)
    assert answer.status_code == 200, answer.text
    with np.load(io.BytesIO(answer.content)) as held:
        return dict(held)


def assert_same_bits(path: Path, answer: dict[str, Array]) -> None:
    """Every array of a result has the bits of the member of its name."""
    with np.load(path) as held:
        assert len(held.files) >= 1
        for name in held.files:
            assert held[name].tobytes() == answer[name].astype(held[name].dtype).tobytes(), name


@pytest.mark.parametrize(
    ("model", "members"),
    [
        ("linear", {"log_likelihood", "p_value", "status"}),
        ("gaussian-vae", {"log_likelihood", "standard_error", "status"}),
    ],
)
@pytest.mark.usefixtures("parts_of_256")
async def test_scores_are_those_of_loglik(
    client: Client, artifacts: Path, tmp_path: Path, model: str, members: set[str]
) -> None:
    x = normal((3,)) * 3
    np.save(tmp_path / "rows.npy", x)
    run("score", model, tmp_path / "rows.npy", "--out", tmp_path / "s.npz", "--artifacts", artifacts)
    with np.load(tmp_path / "s.npz") as held:
        assert set(held.files) == members
    assert_same_bits(tmp_path / "s.npz", await asked(client, "loglik", x, model=model))


@pytest.mark.usefixtures("parts_of_256")
async def test_k_and_seed_of_an_estimate_are_those_of_loglik(
    client: Client, artifacts: Path, tmp_path: Path
) -> None:
    x = normal((3,))[:9]
    np.save(tmp_path / "rows.npy", x)
    run("score", "gaussian-vae", tmp_path / "rows.npy", "--k", 33, "--seed", 4, "--out", tmp_path / "s.npz",
        "--artifacts", artifacts)  # fmt: skip
    answer = await asked(client, "loglik", x, model="gaussian-vae", k=33, seed=4)
    assert "p_value" not in answer
    assert_same_bits(tmp_path / "s.npz", answer)


@pytest.mark.parametrize("model", ["linear", "gaussian-vae"])
@pytest.mark.usefixtures("parts_of_256")
async def test_codes_are_those_of_encode(client: Client, artifacts: Path, tmp_path: Path, model: str) -> None:
    np.save(tmp_path / "rows.npy", normal((3,)))
    run("encode", model, tmp_path / "rows.npy", "--out", tmp_path / "z.npz", "--artifacts", artifacts)
    assert_same_bits(tmp_path / "z.npz", await asked(client, "encode", normal((3,)), model=model))


@pytest.mark.parametrize(
    ("model", "more"),
    [
        ("linear", {}),
        ("gaussian-vae", {"temperature": 0.7}),
        ("gaussian-vae", {"temperature": 0.7, "truncation": 1.5}),
        ("image-gan", {}),
        ("conditional", {"label": 2}),
    ],
)
@pytest.mark.usefixtures("parts_of_256")
async def test_draws_are_those_of_sample(
    client: Client, artifacts: Path, tmp_path: Path, model: str, more: dict[str, float]
) -> None:
    options = [f"--{name}={value}" for name, value in more.items()]
    run("draw", model, "-n", ROWS, "--seed", 7, "--offset", 40, "--out", tmp_path / "x.npy",
        "--artifacts", artifacts, *options)  # fmt: skip
    answer = await client.npy("sample", model=model, n=ROWS, seed=7, offset=40, **more)
    assert np.load(tmp_path / "x.npy").tobytes() == answer.tobytes()


async def test_classes_may_come_from_a_file(client: Client, artifacts: Path, tmp_path: Path) -> None:
    classes = [i % 3 for i in range(20)]
    (tmp_path / "classes.csv").write_text("\n".join(map(str, classes)))
    run("draw", "conditional", "-n", 20, "--label", tmp_path / "classes.csv", "--out", tmp_path / "x.npy",
        "--artifacts", artifacts)  # fmt: skip
    drawn = await client.npy("sample", model="conditional", n=20, seed=0, label=classes)
    assert np.load(tmp_path / "x.npy").tobytes() == drawn.tobytes()


async def test_a_row_that_the_graph_fails_on_costs_one_row(artifacts: Path, tmp_path: Path) -> None:
    job = of_draw(artifacts / "poison" / "1", ROWS, Address(0))
    tally = bulk.run(job, tmp_path / "x.npy", bulk.local)
    codes = draw([(Address(0), ROWS)], "standard_normal", (1,))
    bad = codes <= -1
    expected = np.where(bad, np.nan, 2 * codes)
    np.testing.assert_array_equal(np.load(tmp_path / "x.npy"), expected.astype(np.float32))
    assert tally == {"finite": int((~bad).sum()), "not finite": int(bad.sum())}


# Stopped and gone on with -----------------------------------------------------------------------------------


class PowerCut(Exception):
    pass


def cut_after(parts: int) -> bulk.Engine:
    """An engine that is stopped after some parts."""

    def engine(job: Job, folder: Path, missing: Sequence[int]) -> Iterator[int]:
        for count, rows in enumerate(bulk.local(job, folder, missing)):
            yield rows
            if count + 1 == parts:
                raise PowerCut

    return engine


def watched(seen: list[int]) -> bulk.Engine:
    """An engine that tells which parts it was asked for."""

    def engine(job: Job, folder: Path, missing: Sequence[int]) -> Iterator[int]:
        seen.extend(missing)
        return bulk.local(job, folder, missing)

    return engine


@pytest.mark.usefixtures("parts_of_256")
def test_what_was_stopped_goes_on_with_the_parts_that_are_missing(artifacts: Path, tmp_path: Path) -> None:
    job = of_draw(artifacts / "linear" / "1", 1100, Address(3))
    whole, cut = tmp_path / "whole.npz", tmp_path / "cut.npz"
    bulk.run(job, whole, bulk.local)
    with pytest.raises(PowerCut):
        bulk.run(job, cut, cut_after(3))
    assert not cut.exists()
    spoilt = sorted(parts_folder(cut).glob("000001-*"))[0]
    spoilt.write_bytes(spoilt.read_bytes()[:-1] + b"?")
    asked_for: list[int] = []
    bulk.run(job, cut, watched(asked_for))
    assert asked_for == [1, 3, 4]
    assert cut.read_bytes() == whole.read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cut.npz", "whole.npz"]


@pytest.mark.usefixtures("parts_of_256")
def test_the_parts_of_another_job_are_not_gone_on_with(artifacts: Path, tmp_path: Path) -> None:
    with pytest.raises(PowerCut):
        bulk.run(of_draw(artifacts / "linear" / "1", 600, Address(3)), tmp_path / "x.npy", cut_after(1))
    other = of_draw(artifacts / "linear" / "1", 600, Address(4))
    with pytest.raises(Mistake, match=r"x\.npy\.parts is of another job; remove it"):
        bulk.run(other, tmp_path / "x.npy", bulk.local)
