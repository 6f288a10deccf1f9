"""What is measured on a row is what a ruler would say; what is learned of it is told from rows alone."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from training import Mistake
from training.attributes import Examples, Judge, correlation, ink, learned, of_data, slant
from training.data import DigitsData, Splits, ToyData, load

DISPLAY = (0.0, 16.0)


@pytest.fixture(scope="module")
def digits() -> Splits:
    return load(DigitsData(source="digits"))


def bar(lean: float) -> np.ndarray:
    """A stroke of 9 rows through the middle of 9×9 pixels, ``lean`` columns to the right for each row up."""
    picture = np.zeros((1, 1, 9, 9), np.float32)
    for row in range(9):
        column = 4 + lean * (4 - row)
        left = int(np.floor(column))
        picture[0, 0, row, left] = 16 * (1 - (column - left))
        picture[0, 0, row, min(left + 1, 8)] += 16 * (column - left)
    return picture


def test_ink_is_the_part_of_white_that_is_there() -> None:
    x = np.zeros((3, 1, 4, 4), np.float32)
    x[1, :, :2], x[2] = 16, 16
    assert ink(x, DISPLAY).tolist() == [0, 0.5, 1]
    assert ink(x / 16 * 2 - 1, (-1.0, 1.0)).tolist() == [0, 0.5, 1]


@pytest.mark.parametrize("lean", [-1.0, -0.25, 0.0, 0.5, 0.9])
def test_slant_is_the_lean_of_a_stroke_wherever_it_is_and_however_dark(lean: float) -> None:
    assert slant(bar(lean), DISPLAY) == pytest.approx(lean, abs=1e-6)
    assert slant(bar(lean) / 4, DISPLAY) == pytest.approx(lean, abs=1e-6)
    narrow = np.pad(bar(lean), [(0, 0), (0, 0), (0, 2), (3, 0)])
    assert slant(narrow, DISPLAY) == pytest.approx(lean, abs=1e-6)


def test_what_has_no_height_has_no_slant() -> None:
    dot = np.zeros((2, 1, 5, 5), np.float32)
    dot[1, 0, 2, 2] = 16
    assert slant(dot, DISPLAY).tolist() == [0, 0]


def test_a_class_is_told_by_a_judge_who_has_seen_rows_alone(digits: Splits) -> None:
    labelled = of_data("label:3", digits)
    assert labelled.fitted.y.sum() == (digits.labels["train"] == 3).sum()
    assert labelled.held_out.y.tolist() == (digits.labels["test"] == 3).tolist()
    skill = correlation(labelled.judge.tell(digits.test), labelled.held_out.y)
    assert skill > 0.7
    assert f"correlation {skill:.2f} on held-out" in labelled.judge.who


def test_a_measure_is_its_own_judge(digits: Splits) -> None:
    labelled = of_data("slant", digits)
    np.testing.assert_array_equal(labelled.judge.tell(digits.test), labelled.held_out.y)


@pytest.mark.parametrize(
    ("attribute", "words"),
    [
        ("colour", "'colour' is no attribute; allowed are ink, slant and label:<class>"),
        ("label:eleven", "no class 'eleven'; they have 0, 1, 2"),
    ],
)
def test_an_attribute_that_the_data_lack_is_refused(digits: Splits, attribute: str, words: str) -> None:
    with pytest.raises(Mistake, match=words):
        of_data(attribute, digits)


def test_points_have_no_ink_and_no_labels(digits: Splits) -> None:
    moons = load(ToyData(source="toys", toy="moons", train=50, valid=10, test=10))
    with pytest.raises(Mistake, match=r"ink is measured on pictures; these are rows of shape \[2\]"):
        of_data("ink", moons)
    with pytest.raises(Mistake, match="have no labels; allowed are ink, slant"):
        of_data("label:0", dataclasses.replace(digits, labels=None))


def test_examples_are_taken_evenly() -> None:
    rows = Examples(np.arange(10.0)[:, None], np.arange(10.0), np.arange(10))
    few = rows.spread(4)
    assert few.x[:, 0].tolist() == few.y.tolist() == few.classes.tolist() == [0, 3, 6, 9]
    assert len(rows.spread(99)) == 10


def test_what_does_not_vary_is_not_correlated() -> None:
    assert correlation(np.ones(5), np.arange(5.0)) == 0
    assert correlation(-np.arange(5.0), np.arange(5.0)) == pytest.approx(-1)


def test_a_judge_follows_numbers_without_bound() -> None:
    x = np.random.default_rng(0).normal(size=(200, 3)).astype(np.float32)
    rows = Examples(x, x[:, 0].astype(float) * 2 + 1)
    judge: Judge = learned(rows, rows)
    assert judge.tell(np.array([[100, 0, 0]], np.float32)) == pytest.approx(201, rel=0.01)
