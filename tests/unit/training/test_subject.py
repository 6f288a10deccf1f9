"""The rows that laws are tried on: the same at every call, and inside the support."""

from __future__ import annotations

import numpy as np
import pytest

from models.base import Signature
from models.manifest import DataSpace, LatentSpace, Support, Tensor
from training.subject import Kind, bounds, chunks, draws, inputs

X = Tensor(name="x", role="data", shape=("B", 4))
SUPPORTS = [
    Support(low=0.0, high=16.0, lattice=True),
    Support(low=0.0, high=16.0),
    Support(low=0.0),
    Support(),
]
LABEL = Tensor(name="label", role="label", dtype="int64", shape=("B",))


def data_rows(support: Support, kind: Kind, seed: int = 0) -> np.ndarray:
    space = DataSpace(shape=(4,), support=(support,))
    typical = np.random.default_rng(seed).integers(2, 14, (64, 4)).astype(np.float32)
    return inputs(space, None, Signature((X,), ()), kind, lambda: typical)[0]


@pytest.mark.parametrize(("kind", "count"), [("typical", 64), ("tail", 17), ("boundary", 3)])
@pytest.mark.parametrize(
    "support",
    [Support(low=0.0, high=16.0, lattice=True), Support(low=0.0, high=16.0), Support(low=0.0), Support()],
)
def test_rows_of_data_stay_in_the_support(support: Support, kind: Kind, count: int) -> None:
    rows = data_rows(support, kind)
    assert rows.shape == (count, 4)
    assert rows.dtype == np.float32
    low = -np.inf if support.low is None else support.low
    high = np.inf if support.high is None else support.high
    assert (rows >= low).all()
    assert (rows <= high).all()
    if support.lattice:
        np.testing.assert_array_equal(rows, rows.round())


def test_tail_rows_lie_three_times_as_far_from_the_mean() -> None:
    typical, tail = data_rows(Support(), "typical"), data_rows(Support(), "tail")
    mean = typical.mean(0)
    np.testing.assert_allclose(tail - mean, 3 * (typical[:17] - mean), rtol=1e-5, atol=1e-5)


def test_boundary_rows_of_a_lattice_are_its_ends() -> None:
    rows = data_rows(Support(low=0.0, high=16.0, lattice=True), "boundary")
    np.testing.assert_array_equal(rows, [[0] * 4, [16] * 4, [0, 16, 0, 16]])


def test_boundary_rows_of_an_interval_are_just_inside() -> None:
    low, high, _ = data_rows(Support(low=0.0, high=16.0), "boundary")
    assert 0 < low.min() < 0.1
    assert 15.9 < high.max() < 16


@pytest.mark.parametrize("law", ["standard_normal", "logistic", "uniform"])
@pytest.mark.parametrize("kind", ["typical", "tail", "boundary"])
def test_noise_follows_its_law_and_is_the_same_at_every_call(law, kind: Kind) -> None:
    noise = Tensor(name="eps", role="noise", shape=("B", 5), law=law)
    signature = Signature((noise,), ())
    space = DataSpace(shape=(4,))
    (first,), (second,) = (inputs(space, None, signature, kind, lambda: np.empty(0)) for _ in range(2))
    np.testing.assert_array_equal(first, second)
    assert np.isfinite(first).all()
    if law == "uniform":
        assert ((first > 0) & (first < 1)).all()


def test_labels_go_through_all_classes_in_turn() -> None:
    space = DataSpace(shape=(4,), labels=("a", "b", "c"))
    (labels,) = draws(space, LatentSpace(shape=(2,)), Signature((LABEL,), ()), count=7)
    assert labels.tolist() == [0, 1, 2, 0, 1, 2, 0]


def test_another_seed_draws_other_noise() -> None:
    z = Signature((Tensor(name="z", role="latent", shape=("B", 2)),), ())
    space, latent = DataSpace(shape=(4,)), LatentSpace(shape=(2,))
    one, other = (draws(space, latent, z, count=3, seed=seed)[0] for seed in (0, 1))
    assert not np.array_equal(one, other)


def test_bounds_are_the_support_where_it_ends_and_the_reach_elsewhere() -> None:
    space = DataSpace(shape=(2,), support=(Support(low=-1.0), Support(high=9.0)))
    low, high = bounds(space, np.array([[0.0, 0.0], [2.0, 4.0]]), np.array([5.0, 5.0]))
    assert low.tolist() == [-1.0, -3.0]
    assert high.tolist() == [6.0, 9.0]


def test_chunks_are_all_the_rows_in_order() -> None:
    rows = np.arange(10)
    pieces = chunks((rows, rows), size=4)
    assert [len(piece[0]) for piece in pieces] == [4, 4, 2]
    np.testing.assert_array_equal(np.concatenate([piece[1] for piece in pieces]), rows)
