"""Live log-likelihoods beside those of held-out rows: does traffic look like what the model has learnt?

Both are histograms in nats over the same bounds, which are quantiles of the held-out scores and a few far
beyond them. So one query gives the quantiles of either, and another how far the two lie apart.
"""

from __future__ import annotations

from collections import Counter as Tally
from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from prometheus_client import CollectorRegistry, Counter
from prometheus_client.metrics_core import HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

LEVELS: Final = (0.0, 0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 1.0)
BEYOND: Final = (100, 10, 1)  # spans of the held-out scores, below them
MODEL: Final = ("model", "version")
AT_ONCE: Final = 4096  # rows are counted together, or when somebody looks
STATUSES: Final = ("ok", "extrapolating", "out_of_support", "numeric")

Array = NDArray[Any]


class Drift(Collector):
    """The log-likelihoods of every model that is served, and what they are held against."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._rows = Counter(
            "pushforward_loglik_rows",
            "Rows whose log-likelihood was asked for, by what the answer is.",
            (*MODEL, "status"),
            registry=None,
        )
        self._open: dict[tuple[str, str], Scores] = {}
        registry.register(self)

    def open(self, model: str, version: str, held_out: Sequence[float] | None) -> Scores:
        """A model is served; its series last until it is closed, or another takes them over.

        Args:
            held_out: scores of rows that training never saw, in nats, or ``None`` if there are none.
        """
        key = model, version
        self._open[key] = scores = Scores(self, key, held_out)
        return scores

    def closed(self, scores: Scores) -> None:
        """A model is gone, and with it its series, unless another has them now."""
        if self._open.get(scores.labels) is scores:
            del self._open[scores.labels]
            for status in STATUSES:
                self._rows.remove(*scores.labels, status)

    def rows(self, labels: tuple[str, str]) -> dict[str, Counter]:
        """The counters of a model by status, each of them there from the beginning."""
        return {status: self._rows.labels(*labels, status) for status in STATUSES}

    def collect(self) -> Iterator[Metric]:
        """The rows of every model, and the two histograms of those that have held-out scores."""
        for scores in self._open.values():
            scores.count()
        live = HistogramMetricFamily(
            "pushforward_log_likelihood_nats",
            "Finite log-likelihoods of live rows, scored as the held-out ones were.",
            labels=MODEL,
        )
        held_out = HistogramMetricFamily(
            "pushforward_held_out_log_likelihood_nats",
            "Log-likelihoods of the rows that training never saw, for comparison.",
            labels=MODEL,
        )
        for scores in self._open.values():
            if scores.bounds is not None:
                live.add_metric(scores.labels, _buckets(scores.bounds, scores.live), None)
                held_out.add_metric(scores.labels, _buckets(scores.bounds, scores.held_out), None)
        return iter((*self._rows.collect(), live, held_out))


class Scores:
    """The log-likelihoods of one model version.

    Attributes:
        bounds: between the counts of ``live`` and of ``held_out``, ascending, in nats; ``None`` if there
            are no held-out scores.
    """

    def __init__(self, drift: Drift, labels: tuple[str, str], held_out: Sequence[float] | None) -> None:
        self.labels = labels
        self._drift = drift
        self._rows = drift.rows(labels)
        self._uncounted: list[tuple[Array, Sequence[str], bool]] = []
        self._waiting = 0
        self.bounds = None if held_out is None else bounds(np.array(held_out))
        if self.bounds is not None:
            self.live = np.zeros(len(self.bounds) + 1, np.int64)
            self.held_out = counts(np.array(held_out), self.bounds)

    def scored(self, log_p_nats: Array, status: Sequence[str], comparable: bool) -> None:
        """Rows have been answered.

        Args:
            log_p_nats: of each row, (B,).
            status: of each row.
            comparable: whether they were scored as the held-out rows were, with as many draws.
        """
        self._uncounted.append((log_p_nats, status, comparable))
        self._waiting += len(status)
        if self._waiting >= AT_ONCE:
            self.count()

    def count(self) -> None:
        """Count the rows that wait for it."""
        uncounted, self._uncounted, self._waiting = self._uncounted, [], 0
        for name, rows in Tally(chain.from_iterable(status for _, status, _ in uncounted)).items():
            self._rows[name].inc(rows)
        alike = [log_p for log_p, _, comparable in uncounted if comparable]
        if alike and self.bounds is not None:
            log_p = np.concatenate(alike)
            self.live += counts(log_p[np.isfinite(log_p)], self.bounds)

    def closed(self) -> None:
        """The model is gone."""
        self.count()
        self._drift.closed(self)


def bounds(held_out: Array) -> Array:
    """Where to cut the line of scores: at held-out quantiles, and far beyond, ascending, in nats."""
    inside = np.quantile(held_out, LEVELS, method="inverted_cdf")
    low, high = inside[0], inside[-1]
    span = (high - low) or 1.0
    return np.unique([*(low - spans * span for spans in BEYOND), *inside, high + span])


def counts(score: Array, bounds: Array) -> Array:
    """How many scores lie in each bucket: at or below a bound and above the one before, (bounds + 1,)."""
    return np.bincount(bounds.searchsorted(score), minlength=len(bounds) + 1)


def _buckets(bounds: Array, counted: Array) -> list[tuple[str, float]]:
    """Cumulative, as Prometheus wants them."""
    names = [*(repr(float(bound)) for bound in bounds), "+Inf"]
    return list(zip(names, np.cumsum(counted).tolist(), strict=True))
