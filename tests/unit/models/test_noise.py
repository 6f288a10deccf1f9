"""Noise is a function of its address."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from models.manifest import Law
from models.noise import LAST, LATENT, NOISE, Address, draw, philox

NORMAL = NormalDist()
LAWS: tuple[Law, ...] = ("standard_normal", "uniform", "logistic")

laws = st.sampled_from(LAWS)
shapes = st.sampled_from([(), (1,), (2,), (3,), (5,), (16,), (1, 3, 3)])
counts = st.integers(1, 9)
addresses = st.builds(
    Address,
    seed=st.integers(0, LAST) | st.integers(0, 3),
    offset=st.integers(0, LAST - 1000) | st.integers(0, 5) | st.just(2**32 - 2),
    stream=st.integers(0, 3),
    scale=st.sampled_from([1.0, 0.5, 0.0]),
    step=st.sampled_from([0, 1]),
    truncation=st.sampled_from([math.inf, 2.0, 0.5]),
)
pieces = st.lists(st.tuples(addresses, counts), min_size=1, max_size=8)


# From the Random123 distribution, kat_vectors, "philox4x32 10".
@pytest.mark.parametrize(
    ("counter", "key", "expected"),
    [
        ([0] * 4, [0] * 2, "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
        ([0xFFFFFFFF] * 4, [0xFFFFFFFF] * 2, "408f276d 41c83b0e a20bc7c6 6d5451fd"),
        (
            [0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344],
            [0xA4093822, 0x299F31D0],
            "d16cfe09 94fdcceb 5001e420 24126ea1",
        ),
    ],
)
def test_the_generator_is_philox(counter: list[int], key: list[int], expected: str) -> None:
    words = np.array(counter, np.uint64).reshape(2, 2, 1, 1)
    even, odd = philox(words[:, 0].copy(), words[:, 1].copy(), np.array(key, np.uint64)[:, None])
    assert " ".join(f"{word:08x}" for word in np.stack((even, odd), axis=1).ravel().tolist()) == expected


def philox_by_hand(seed: int, index: int, block: int, stream: int) -> list[int]:
    """One block by the definition, in Python's integers."""
    c, key = [index & 0xFFFFFFFF, index >> 32, block, stream], [seed & 0xFFFFFFFF, seed >> 32]
    for _ in range(10):
        first, second = c[0] * 0xD2511F53, c[2] * 0xCD9E8D57
        c = [
            second >> 32 ^ c[1] ^ key[0],
            second & 0xFFFFFFFF,
            first >> 32 ^ c[3] ^ key[1],
            first & 0xFFFFFFFF,
        ]
        key = [(key[0] + 0x9E3779B9) & 0xFFFFFFFF, (key[1] + 0xBB67AE85) & 0xFFFFFFFF]
    return c


@given(seed=st.integers(0, LAST), index=st.integers(0, LAST), stream=st.integers(0, 3))
def test_the_transform_is_the_documented_one(seed: int, index: int, stream: int) -> None:
    u = [(w + 0.5) / 2**32 for block in (0, 1) for w in philox_by_hand(seed, index, block, stream)]
    radius = [math.sqrt(-2 * math.log(first)) for first in u[::2]]
    angle = [2 * math.pi * second for second in u[1::2]]
    expected = [r * f(a) for r, a in zip(radius, angle, strict=True) for f in (math.cos, math.sin)]
    where = [(Address(seed, index, stream), 1)]
    np.testing.assert_allclose(draw(where, "standard_normal", (8,), np.float64)[0], expected, atol=1e-14)
    np.testing.assert_array_equal(draw(where, "uniform", (8,), np.float64)[0], u)
    logistic = [math.log(v) - math.log1p(-v) for v in u]
    np.testing.assert_allclose(draw(where, "logistic", (8,), np.float64)[0], logistic, rtol=1e-14, atol=1e-14)


@given(pieces, laws, shapes)
def test_a_row_has_the_same_bits_alone_and_in_any_crowd(
    crowd: list[tuple[Address, int]], law: Law, shape: tuple[int, ...]
) -> None:
    alone = [draw([(address.skip(i), 1)], law, shape) for address, rows in crowd for i in range(rows)]
    together = draw(crowd, law, shape)
    assert together.dtype == np.float32
    assert together.shape == (sum(rows for _, rows in crowd), *shape)
    assert together.tobytes() == np.concatenate(alone).tobytes()


@given(addresses, st.integers(0, 20), counts)
def test_an_offset_starts_anywhere_in_the_same_stream(address: Address, skipped: int, rows: int) -> None:
    whole = draw([(address, skipped + rows)], "standard_normal", (3,))
    rest = draw([(address.skip(skipped), rows)], "standard_normal", (3,))
    assert whole[skipped:].tobytes() == rest.tobytes()


def test_rows_are_the_same_across_the_chunks_of_a_large_draw() -> None:
    whole = draw([(Address(1, 7), 40_000)], "standard_normal", (5,))
    for i in (0, 4095, 4096, 16_384, 39_999):
        assert whole[i].tobytes() == draw([(Address(1, 7 + i), 1)], "standard_normal", (5,)).tobytes()


def test_a_step_of_nought_gives_every_row_the_same_noise() -> None:
    fixed = draw([(Address(4, 9, NOISE, step=0), 5)], "standard_normal", (3,))
    assert np.all(fixed == draw([(Address(4, 9, NOISE), 1)], "standard_normal", (3,)))


def test_streams_seeds_indices_and_places_do_not_meet() -> None:
    rows = [Address(s, i, t) for s in (0, 1, 2**32, LAST) for i in (0, 1, 2**32) for t in (LATENT, NOISE)]
    table = draw([(address, 1) for address in rows], "uniform", (8,))
    assert len(np.unique(table)) == table.size


def test_scale_multiplies_the_noise() -> None:
    plain = draw([(Address(1), 4)], "standard_normal", (6,), np.float64)
    half, none = (draw([(Address(1, scale=s), 4)], "standard_normal", (6,), np.float64) for s in (0.5, 0.0))
    np.testing.assert_array_equal(half, 0.5 * plain)
    np.testing.assert_array_equal(none, 0 * plain)


@given(st.floats(1e-3, 10), st.integers(0, LAST))
def test_a_truncated_number_is_the_plain_one_drawn_in(bound: float, seed: int) -> None:
    where = ([(Address(seed, truncation=t), 3)] for t in (math.inf, bound))
    plain, cut = (draw(pieces, "standard_normal", (5,), np.float64).ravel() for pieces in where)
    assert np.abs(cut).max() <= bound
    mass = [NORMAL.cdf(z) - 0.5 for z in plain]
    kept = NORMAL.cdf(bound) - NORMAL.cdf(-bound)
    expected = [NORMAL.inv_cdf(0.5 + q * kept) for q in mass]
    np.testing.assert_allclose(cut, expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("bound", [0.3, 1.0, 2.5])
def test_truncated_numbers_are_those_of_the_prior_that_lie_within(bound: float) -> None:
    n = 20_000
    x = np.sort(draw([(Address(6, truncation=bound), n)], "standard_normal", (1,), np.float64).ravel())
    below = cumulative("standard_normal", np.array([-bound]))[0]
    u = (cumulative("standard_normal", x) - below) / (1 - 2 * below)
    assert np.abs(u - (np.arange(n) + 0.5) / n).max() < 1.95 / math.sqrt(n)


def test_wide_truncation_changes_nothing_and_temperature_comes_after() -> None:
    plain = draw([(Address(2), 9)], "standard_normal", (8,))
    assert np.allclose(draw([(Address(2, truncation=9.0), 9)], "standard_normal", (8,)), plain, rtol=1e-6)
    warm, cut = (
        draw([(Address(2, scale=s, truncation=1.5), 9)], "standard_normal", (8,)) for s in (2.0, 1.0)
    )
    np.testing.assert_allclose(warm, 2 * cut, rtol=1e-6)


def test_uniforms_stay_inside_their_interval_after_rounding() -> None:
    row = draw([(Address(0), 1 << 20)], "uniform", (16,))
    assert 0 < row.min() < 1e-6
    assert 1 - 1e-6 < row.max() < 1


def moments(values: NDArray[Any]) -> list[float]:
    return [float(np.mean(values**power)) for power in (1, 2, 3, 4)]


@pytest.mark.parametrize(
    ("law", "expected"),
    [
        ("standard_normal", [0, 1, 0, 3]),
        ("uniform", [1 / 2, 1 / 3, 1 / 4, 1 / 5]),
        ("logistic", [0, math.pi**2 / 3, 0, 7 * math.pi**4 / 15]),
    ],
)
def test_the_numbers_have_the_moments_of_their_law(law: Law, expected: Sequence[float]) -> None:
    values = draw([(Address(123), 500_000)], law, (2,), np.float64).ravel()
    spread = [float(np.std(values**power)) / math.sqrt(values.size) for power in (1, 2, 3, 4)]
    for moment, right, error in zip(moments(values), expected, spread, strict=True):
        assert abs(moment - right) < 4.5 * error


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("across", ["indices", "seeds", "places"])
def test_the_numbers_have_the_distribution_of_their_law(law: Law, across: str) -> None:
    n = 20_000
    where = {
        "indices": ([(Address(5), n)], (1,)),
        "seeds": ([(Address(seed), 1) for seed in range(n)], (1,)),
        "places": ([(Address(5), 1)], (n,)),
    }
    addresses, shape = where[across]
    u = np.sort(cumulative(law, draw(addresses, law, shape, np.float64).ravel()))
    distance = np.abs(u - (np.arange(n) + 0.5) / n).max()
    assert distance < 1.95 / math.sqrt(n)  # Kolmogorov–Smirnov at the level 0.001


def cumulative(law: Law, x: NDArray[Any]) -> NDArray[Any]:
    if law == "standard_normal":
        return np.array([0.5 * math.erfc(-v / math.sqrt(2)) for v in x])
    return x if law == "uniform" else 1 / (1 + np.exp(-x))


def test_neighbours_are_not_correlated() -> None:
    table = draw([(Address(8), 100_000)], "standard_normal", (4,))
    table = np.concatenate([table[:-1], table[1:]], axis=1)
    correlation = np.corrcoef(table.T) - np.eye(8)
    assert np.abs(correlation).max() < 5 / math.sqrt(len(table))
