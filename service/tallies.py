"""Counters and histograms that only one thread adds to: a bisection at most, and no lock.

The library's own takes a lock twice and looks at every bucket for each observation; a request makes several.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from itertools import accumulate

from prometheus_client import CollectorRegistry
from prometheus_client.metrics_core import CounterMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector


class Count:
    """One series."""

    __slots__ = ("total",)

    def __init__(self) -> None:
        self.total = 0


class Counts(Collector):
    """A counter by labels."""

    def __init__(
        self, name: str, documentation: str, labels: Sequence[str], registry: CollectorRegistry
    ) -> None:
        self._name, self._documentation, self._labels = name, documentation, labels
        self._counts: dict[tuple[str, ...], Count] = {}
        registry.register(self)

    def labels(self, *values: str) -> Count:
        """The series of these labels, begun if there is none."""
        return self._counts.setdefault(values, Count())

    def collect(self) -> Iterator[CounterMetricFamily]:
        """All series, as the registry wants them."""
        family = CounterMetricFamily(self._name, self._documentation, labels=self._labels)
        for values, count in self._counts.items():
            family.add_metric(values, count.total)
        yield family


class Tally:
    """One series: how many values lie at or below each bound and above the one before, and their sum."""

    __slots__ = ("_bounds", "counts", "sum")

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def observe(self, *values: float) -> None:
        """Count them."""
        for value in values:
            self.counts[bisect_left(self._bounds, value)] += 1
            self.sum += value


class Tallies(Collector):
    """A histogram by labels.

    Args:
        bounds: of the buckets, ascending; one more takes what is above them.
    """

    def __init__(
        self,
        name: str,
        documentation: str,
        labels: Sequence[str],
        bounds: Sequence[float],
        registry: CollectorRegistry,
    ) -> None:
        self._name, self._documentation, self._labels = name, documentation, labels
        self._bounds = tuple(bounds)
        self._names = [*(repr(float(bound)) for bound in bounds), "+Inf"]
        self._tallies: dict[tuple[str, ...], Tally] = {}
        registry.register(self)

    def labels(self, *values: str) -> Tally:
        """The series of these labels, begun if there is none."""
        return self._tallies.setdefault(values, Tally(self._bounds))

    def remove(self, *values: str) -> None:
        """Forget a series."""
        self._tallies.pop(values, None)

    def collect(self) -> Iterator[HistogramMetricFamily]:
        """All series, as the registry wants them."""
        family = HistogramMetricFamily(self._name, self._documentation, labels=self._labels)
        for values, tally in self._tallies.items():
            buckets = list(zip(self._names, accumulate(map(float, tally.counts)), strict=True))
            family.add_metric(values, buckets, tally.sum)
        yield family
