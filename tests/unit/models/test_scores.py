"""Scores are what their names say."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from models.manifest import DataSpace
from models.scores import bits_per_dim, judged, log_mean_exp, statuses, typicality


@given(hnp.arrays(np.float64, (3, 8), elements=st.floats(-2000, 2000)))
def test_log_mean_exp_is_the_log_of_the_mean(log_w: np.ndarray) -> None:
    score, error = log_mean_exp(log_w)
    for row, found in zip(log_w, score, strict=True):
        expected = max(row) + math.log(sum(math.exp(w - max(row)) for w in row) / 8)
        assert found == pytest.approx(expected, rel=1e-12, abs=1e-9)
    assert (error >= 0).all()


def test_a_row_of_log_mean_exp_has_the_same_bits_in_any_crowd() -> None:
    log_w = np.random.default_rng(0).normal(-700, 30, (257, 33))
    crowd, errors = log_mean_exp(log_w)
    for row in range(len(log_w)):
        alone, error = log_mean_exp(log_w[row : row + 1])
        assert (alone[0], error[0]) == (crowd[row], errors[row])


def test_the_standard_error_covers_the_truth() -> None:
    rng = np.random.default_rng(1)
    log_w = rng.normal(0, 0.5, (2000, 200))  # E exp = exp(1/8)
    score, error = log_mean_exp(log_w)
    inside = np.abs(score - 0.125) < 2 * error
    assert 0.92 < inside.mean() < 0.98


def test_log_zero_is_no_number_only_where_it_should_be() -> None:
    rows = np.array([[-np.inf, -np.inf], [-np.inf, 0.0], [np.inf, 0.0], [np.nan, 0.0]])
    score, error = log_mean_exp(rows)
    assert score[0] == -np.inf
    assert score[1] == pytest.approx(math.log(0.5))
    assert np.isnan(score[2:]).all()
    assert np.isnan(error[[0, 2, 3]]).all()
    assert np.isnan(log_mean_exp(np.zeros((1, 1)))[1]).all()


def test_typicality_is_a_p_value() -> None:
    rng = np.random.default_rng(2)
    held_out = np.sort(rng.normal(size=99))
    p = typicality(rng.normal(size=20_000), held_out)
    for alpha in (0.05, 0.2, 0.5):
        assert (p <= alpha).mean() <= alpha + 0.06
    assert p.min() > 0
    assert p.max() <= 1


def test_typicality_ranks_on_both_sides() -> None:
    held_out = np.arange(1.0, 10.0)
    scores = np.array([-np.inf, 0.0, 1.0, 5.0, 9.0, 10.0, np.nan])
    expected = [0.2, 0.2, 0.4, 1.0, 0.4, 0.2, np.nan]
    np.testing.assert_allclose(typicality(scores, held_out), expected)


def test_typicality_is_what_counting_gives() -> None:
    rng = np.random.default_rng(3)
    held_out = np.sort(rng.integers(0, 9, size=37).astype(float))  # with many ties
    scores = np.arange(-2.0, 11.0, 0.5)

    def counted(score: float) -> float:
        below, above = sum(held_out <= score), sum(held_out >= score)
        return float(min(1, 2 * min((below + 1) / 38, (above + 1) / 38)))

    np.testing.assert_allclose(typicality(scores, held_out), [counted(score) for score in scores])


def test_a_status_says_where_a_score_lies() -> None:
    scores = np.array([0.5, 1.0, 3.0, 3.5, -np.inf, np.nan])
    assert statuses(scores, np.array([1.0, 2.0, 3.0])) == [
        "extrapolating",
        "ok",
        "ok",
        "extrapolating",
        "out_of_support",
        "numeric",
    ]
    assert statuses(scores, None) == ["ok"] * 4 + ["out_of_support", "numeric"]


def test_bits_per_dimension_agree_with_the_manifest() -> None:
    space = DataSpace(shape=(3,), levels=17, bin_width=0.5)
    found = bits_per_dim(space, np.array([-7.5]))
    assert found is not None
    assert found[0] == pytest.approx(space.bits_per_dim(-7.5))
    assert bits_per_dim(DataSpace(shape=(3,)), np.zeros(1)) is None


def test_what_there_is_not_is_not_said() -> None:
    log_w = np.log([[1.0, 3.0], [2.0, 2.0]])
    plain = judged(DataSpace(shape=(2,)), log_w, held_out=None, estimated=False)
    assert list(plain) == ["log_likelihood", "status"]
    np.testing.assert_allclose(plain["log_likelihood"], np.log(2.0))
    all_of_it = judged(DataSpace(shape=(2,), levels=17), log_w, np.zeros(3), estimated=True)
    members = ["log_likelihood", "bits_per_dim", "standard_error", "p_value", "status"]
    assert list(all_of_it) == members
    assert all_of_it["standard_error"][1] == 0
