"""Drawn shapes show the factors that they were drawn from."""

from __future__ import annotations

import numpy as np
import pytest

from training import shapes
from training.data import ShapeData, load
from training.shapes import FINE, KINDS, PLACES, SIDE, SIZES, TURNS, Drawn


@pytest.fixture(scope="module")
def drawn() -> Drawn:
    return shapes.draw()


def centre(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of the ink, across and down, in pixels."""
    grey, middle = x[:, 0] / x[:, 0].sum(axis=(1, 2), keepdims=True), np.arange(SIDE) + 0.5
    return grey.sum(1) @ middle, grey.sum(2) @ middle


def alone(drawn: Drawn, factor: str) -> list[np.ndarray]:
    """Pictures by the level of a factor, (levels, others, …): along the first axis nothing else changes."""
    level = drawn.factors[factor]
    return [drawn.x[level == i] for i in range(level.max() + 1)]


def test_every_combination_is_drawn_once_and_looks_like_no_other(drawn: Drawn) -> None:
    count = len(KINDS) * len(SIZES) * len(TURNS) * len(PLACES) ** 2
    assert drawn.x.shape == (count, 1, SIDE, SIDE)
    assert len({row.tobytes() for row in drawn.x}) == count
    assert len(np.unique(np.stack(list(drawn.factors.values())), axis=1).T) == count
    assert set(np.unique(drawn.x)) == set(range(FINE**2 + 1))


@pytest.mark.parametrize(("factor", "axis"), [("x", 0), ("y", 1)])
def test_a_place_moves_the_ink_as_far_and_nothing_else(drawn: Drawn, factor: str, axis: int) -> None:
    along, other = (np.stack([centre(x)[a] for x in alone(drawn, factor)]) for a in (axis, 1 - axis))
    assert np.abs(np.diff(along, axis=0) - (PLACES[1] - PLACES[0])).max() < 0.1
    assert np.abs(np.diff(other, axis=0)).max() < 0.1


def test_the_ink_is_the_area_of_the_shape(drawn: Drawn) -> None:
    # The triangle has a base of 1.6 and a height of 1.6 in units of its size.
    areas = {"ellipse": np.pi / 2, "rectangle": 1.7 * 0.9, "triangle": 1.6 * 1.6 / 2}
    kind, size = (drawn.factors[name] for name in ("kind", "size"))
    ink = drawn.x.sum(axis=(1, 2, 3)) / FINE**2
    expected = np.array([areas[name] for name in KINDS])[kind] * np.array(SIZES)[size] ** 2
    assert np.abs(ink / expected - 1).max() < 0.1


def test_a_turn_turns_the_long_axis(drawn: Drawn) -> None:
    flat = drawn.x[(drawn.factors["kind"] == 0) & (drawn.factors["size"] == 3)][:, 0]
    turn = drawn.factors["turn"][(drawn.factors["kind"] == 0) & (drawn.factors["size"] == 3)]
    middle = np.arange(SIDE) + 0.5
    ink = flat.sum(axis=(1, 2))
    cx, cy = flat.sum(1) @ middle / ink, flat.sum(2) @ middle / ink
    dx, dy = middle - cx[:, None], middle - cy[:, None]
    xy = np.einsum("nyx,ny,nx->n", flat, dy, dx)
    xx, yy = np.einsum("nyx,nx->n", flat, dx**2), np.einsum("nyx,ny->n", flat, dy**2)
    assert np.allclose(np.arctan2(2 * xy, xx - yy) / 2, np.array(TURNS)[turn], atol=0.05)


def test_the_splits_keep_the_factors_of_every_picture(drawn: Drawn) -> None:
    splits = load(ShapeData(source="shapes"))
    assert splits.factors is not None
    assert splits.labels is not None
    assert splits.space.labels == ("ellipse", "rectangle", "triangle")
    assert sum(len(x) for x in (splits.train, splits.valid, splits.test)) == len(drawn.x)
    known = {
        row.tobytes(): levels
        for row, levels in zip(drawn.x, np.stack(list(drawn.factors.values()), axis=1), strict=True)
    }
    for name, x in (("train", splits.train), ("valid", splits.valid), ("test", splits.test)):
        held = np.stack(list(splits.factors[name].values()), axis=1)
        assert all((known[row.tobytes()] == levels).all() for row, levels in zip(x, held, strict=True))
        assert np.array_equal(splits.labels[name], splits.factors[name]["kind"])
