"""Live log-likelihoods are counted over the same bounds as held-out ones, and callers make no series."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from prometheus_client.parser import text_string_to_metric_families

from service.drift import LEVELS, STATUSES, bounds, counts
from service.metrics import Metrics

HELD_OUT = sorted(np.random.default_rng(0).normal(-100, 8, 1000).tolist())


def buckets(metrics: Metrics, name: str, model: str = "a") -> dict[float, float]:
    """Cumulative rows by bound."""
    families = text_string_to_metric_families(metrics.exposition().decode())
    return {
        float(s.labels["le"]): s.value
        for family in families
        for s in family.samples
        if s.name == f"{name}_bucket" and s.labels["model"] == model
    }


def shares(metrics: Metrics, name: str) -> NDArray[np.float64]:
    found = np.array(list(buckets(metrics, name).values()))
    return found / found[-1]


def distance(live: NDArray[np.float64]) -> float:
    """How far the distribution of live rows lies from that of held-out ones, as the alert sees it."""
    metrics = Metrics()
    metrics.scores("a", "1", HELD_OUT).scored(live, ["ok"] * len(live), comparable=True)
    names = "pushforward_log_likelihood_nats", "pushforward_held_out_log_likelihood_nats"
    ours, theirs = (shares(metrics, name) for name in names)
    return float(np.abs(ours - theirs).max())


@pytest.mark.parametrize("size", [1, 2, 7, 1000])
def test_between_the_bounds_lie_the_shares_that_the_levels_say(size: int) -> None:
    held_out = np.array(HELD_OUT[:size])
    cut = bounds(held_out)
    assert (np.diff(cut) > 0).all()
    below = np.cumsum(counts(held_out, cut))
    for level in LEVELS:
        reached = below[np.searchsorted(cut, np.quantile(held_out, level, method="inverted_cdf"))]
        assert level <= reached / size <= level + 1 / size
    assert below[-1] == size


def test_rows_like_those_held_out_lie_near_them_and_shifted_ones_far() -> None:
    draws = np.random.default_rng(1).normal(-100, 8, 2000)
    assert distance(draws) < 0.05
    assert distance(draws - 8) > 0.3
    assert distance(np.full(50, -1e6)) > 0.99
    assert distance(np.full(50, HELD_OUT[500])) > 0.45


def test_a_bound_counts_what_lies_at_it_or_below() -> None:
    metrics = Metrics()
    metrics.scores("a", "1", [-3.0, -2.0, -1.0]).scored(np.array([-2.0, -1.5]), ["ok"] * 2, comparable=True)
    live = buckets(metrics, "pushforward_log_likelihood_nats")
    assert (live[-3.0], live[-2.0], live[-1.0], live[float("inf")]) == (0, 1, 2, 2)


def test_what_is_not_finite_or_not_comparable_is_counted_by_status_only() -> None:
    metrics = Metrics()
    scores = metrics.scores("a", "1", HELD_OUT)
    scores.scored(np.array([-np.inf, np.nan, -100]), ["out_of_support", "numeric", "ok"], comparable=True)
    scores.scored(np.array([-90.0]), ["ok"], comparable=False)
    assert buckets(metrics, "pushforward_log_likelihood_nats")[float("inf")] == 1
    found = metrics.exposition().decode()
    for status, rows in (("ok", 2), ("numeric", 1), ("out_of_support", 1), ("extrapolating", 0)):
        assert f'pushforward_loglik_rows_total{{model="a",status="{status}",version="1"}} {rows}.0' in found


def test_a_model_without_held_out_scores_has_counts_and_no_histogram() -> None:
    metrics = Metrics()
    metrics.scores("a", "1", None).scored(np.array([-1.0]), ["ok"], comparable=False)
    assert not buckets(metrics, "pushforward_log_likelihood_nats")
    assert metrics.exposition().decode().count('pushforward_loglik_rows_total{model="a"') == len(STATUSES)


def test_the_series_go_with_their_model_unless_another_has_taken_them_over() -> None:
    metrics = Metrics()
    old = metrics.scores("a", "1", HELD_OUT)
    new = metrics.scores("a", "1", HELD_OUT[:10])
    old.closed()
    assert buckets(metrics, "pushforward_held_out_log_likelihood_nats")[float("inf")] == 10
    new.closed()
    assert 'model="a"' not in metrics.exposition().decode()
