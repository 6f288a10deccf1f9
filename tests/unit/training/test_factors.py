"""What is measured of codes whose information is known in closed form."""

from __future__ import annotations

import math

import numpy as np
import pytest

from training.factors import information_gaps, mutual_information

N = 2160
LEVELS = {"kind": 3, "size": 4, "place": 9}
GRID = np.indices(tuple(LEVELS.values())).reshape(3, -1)  # every combination, 108
FACTORS = dict(zip(LEVELS, np.tile(GRID, 20), strict=True))


def noise(*shape: int, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape)


def perfect() -> np.ndarray:
    """A latent for each factor, and one more that says nothing."""
    knowing = np.stack(list(FACTORS.values()), axis=1)
    return np.concatenate([knowing + 0.01 * noise(*knowing.shape), noise(len(knowing), 1, seed=2)], axis=1)


def read(codes: np.ndarray) -> dict[str, float]:
    return {name: metric.value for name, metric in information_gaps(codes, FACTORS)}


def test_a_latent_for_each_factor_knows_all_of_it_and_has_the_whole_gap() -> None:
    found = read(perfect())
    for name, levels in LEVELS.items():
        assert found[f"information_{name}"] == pytest.approx(math.log(levels), abs=0.02)
        assert found[f"gap_{name}"] == pytest.approx(1, abs=0.03)
    assert found["mutual_information_gap"] == pytest.approx(1, abs=0.02)


def test_neither_order_nor_direction_nor_scale_of_the_latents_matters() -> None:
    assert read(perfect()[:, ::-1] * [-1, 100, 0.01, 3]) == pytest.approx(read(perfect()), abs=0.01)


def test_a_code_turned_within_its_plane_knows_as_much_and_has_no_gap() -> None:
    """Two Gaussian factors, and the halves of an angle between them: both latents know the same."""
    v = noise(8000, 2, seed=3)
    factors = {name: np.clip(np.floor(2 * v[:, i] + 3), 0, 5).astype(int) for i, name in enumerate("ab")}
    half = np.array([[1, 1], [1, -1]]) / math.sqrt(2)
    upright, turned = (dict(information_gaps(codes, factors)) for codes in (v, v @ half))
    assert upright["mutual_information_gap"].value > 0.8
    assert turned["mutual_information_gap"].value < 0.02
    assert turned["information_a"].value > 0.2


def test_a_factor_that_two_latents_know_has_no_gap() -> None:
    codes = perfect()
    codes[:, 3] = FACTORS["place"] + 0.01 * noise(N, seed=4)
    found = read(codes)
    assert found["gap_place"] == pytest.approx(0, abs=0.02)
    assert found["information_place"] == pytest.approx(math.log(9), abs=0.05)


def test_the_only_latent_is_ahead_by_all_that_it_knows() -> None:
    found = read(perfect()[:, :1])
    assert found["gap_kind"] == pytest.approx(1, abs=0.02)
    assert found["gap_size"] == pytest.approx(0, abs=0.01)


def test_a_code_that_knows_nothing_reads_nothing() -> None:
    for name, metric in information_gaps(noise(N, 8), FACTORS):
        assert abs(metric.value) < 0.03, name


@pytest.mark.parametrize("n", [1500, 6000])
def test_few_rows_do_not_seem_to_know(n: int) -> None:
    """The plain histogram would read (bins - 1)(levels - 1) / 2N nats of nothing: 0.05 at 1500."""
    read = [
        mutual_information(np.arange(n) * 20 // n, np.random.default_rng(i).integers(0, 9, n))
        for i in range(200)
    ]
    plain = 19 * 8 / (2 * n)
    assert abs(np.mean(read)) < plain / 10


@pytest.mark.parametrize("wrong", [0.0, 0.05, 0.2, 0.5])
def test_a_noisy_channel_carries_what_shannon_says(wrong: float) -> None:
    rng = np.random.default_rng(5)
    sent = rng.integers(0, 2, 200_000)
    got = sent ^ (rng.random(200_000) < wrong)
    lost = sum(-p * math.log(p) for p in (wrong, 1 - wrong) if p)
    assert mutual_information(sent, got) == pytest.approx(math.log(2) - lost, abs=0.006)


def test_the_standard_error_is_how_far_the_number_moves_between_samples() -> None:
    """Against 60 samples of the same source: a noisy latent, and one that half knows."""
    values, errors = [], []
    for i in range(60):
        rng = np.random.default_rng(i)
        level = rng.integers(0, 4, 600)
        codes = level[:, None] + rng.standard_normal((600, 2)) * [0.4, 1.5]
        metric = dict(information_gaps(codes, {"level": level}))["mutual_information_gap"]
        values.append(metric.value)
        errors.append(metric.standard_error)
    assert np.mean(errors) == pytest.approx(np.std(values), rel=0.35)
