"""What an operator sees: one registry of one process, in Prometheus' words.

Labels take only values that the service itself knows, so that a caller cannot make series. Lanes, caches
and routes report here through the small protocols that they define.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from platform import python_version
from typing import Final, Self

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from prometheus_client.samples import Sample

from service.drift import Drift, Scores
from service.gpu import open_gpus
from service.tallies import Count, Counts, Tallies, Tally

SECONDS: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
ROWS: Final = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
NO_MODEL: Final = ""  # the label of requests that never found one
LANE: Final = ("model", "version", "entry_point")
CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"


@dataclass(frozen=True, slots=True)
class Family:
    """A metric's text.

    Attributes:
        head: its two lines of comment, the same in every process.
        samples: its lines, of one process.
    """

    head: str
    samples: str

    @classmethod
    def of(cls, metric: Metric) -> Self:
        meaning, kind, samples = generate_latest(_Only(metric)).decode().split("\n", 2)
        return cls(f"{meaning}\n{kind}\n", samples)


class _Only(Collector):
    """One metric, as a registry."""

    def __init__(self, metric: Metric) -> None:
        self._metric = metric

    def collect(self) -> Iterator[Metric]:
        yield self._metric


def _labelled(sample: Sample, process: str) -> Sample:
    return Sample(sample.name, {**sample.labels, "process": process}, sample.value)


def together(families: Iterable[Family], up: Mapping[str, bool]) -> bytes:
    """The text that Prometheus scrapes from several processes, each metric in one place.

    Args:
        up: which of the processes have given their families.
    """
    metric = GaugeMetricFamily(
        "pushforward_process_up", "1 for each process of the service that has answered.", labels=("process",)
    )
    for process, answered in up.items():
        metric.add_metric((process,), answered)
    by_head: dict[str, list[str]] = {}
    for family in (*families, Family.of(metric)):
        by_head.setdefault(family.head, []).append(family.samples)
    return "".join(part for head, samples in by_head.items() for part in (head, *samples)).encode()


class Metrics:
    """Every number that the service counts; also what lanes and caches report to."""

    def __init__(self) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]  # series that nobody reads
        registry = self.registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        self.requests = Counts(
            "pushforward_requests",
            "Answered requests; status 499 is a caller who hung up.",
            ("verb", "model", "status"),
            registry,
        )
        self.latency = Tallies(
            "pushforward_request_seconds",
            "From the first byte read to the answer written.",
            ("verb", "model"),
            SECONDS,
            registry,
        )
        self.in_flight = Gauge(
            "pushforward_requests_in_flight", "Accepted and not yet answered.", registry=registry
        )
        self.rejections = Counter(
            "pushforward_rejections",
            "Requests answered with a reason instead of a result, by its code.",
            ("reason",),
            registry=registry,
        )
        self.key_requests = Counter(
            "pushforward_key_requests",
            "Answered requests by the key that they came with.",
            ("key", "status"),
            registry=registry,
        )
        self.key_rows = Counter(
            "pushforward_key_rows",
            "Rows that graphs ran, by the key that asked for them.",
            ("key",),
            registry=registry,
        )
        self.caches = Counts(
            "pushforward_cache_lookups",
            "Keys by tier (process, redis, sibling) and result (hit, miss, error, skipped).",
            ("tier", "result"),
            registry,
        )
        self.queued = Gauge("pushforward_queue_rows", "Rows that wait for a batch.", LANE, registry=registry)
        self.fullness = Gauge(
            "pushforward_queue_fullness_ratio",
            "How much of a queue's bound is taken; at 1 callers get 429.",
            LANE,
            registry=registry,
        )
        self.waited = Tallies(
            "pushforward_queue_wait_seconds",
            "How long the rows of one request waited for their first batch.",
            LANE,
            SECONDS,
            registry,
        )
        self.batches = Tallies(
            "pushforward_batch_rows", "Rows in a batch, padding left out.", LANE, ROWS, registry
        )
        self.padding = Counter(
            "pushforward_padding_rows", "Rows computed only to fill a bucket.", LANE, registry=registry
        )
        self.runs = Tallies("pushforward_run_seconds", "How long a graph ran.", LANE, SECONDS, registry)
        self.dropped = Counter(
            "pushforward_dropped_rows",
            "Rows that left the queue without costing device time, by reason.",
            (*LANE, "reason"),
            registry=registry,
        )
        self.oldest_batch = Gauge(
            "pushforward_oldest_batch_seconds",
            "How long the oldest batch has been with the device, 0 if there is none.",
            registry=registry,
        )
        self.drift = Drift(registry)
        self.loaded = Gauge(
            "pushforward_models_loaded", "Model versions that answer requests.", registry=registry
        )
        self.refused = Gauge(
            "pushforward_models_refused",
            "Model versions in the artifact folder that are not right and not served.",
            registry=registry,
        )
        self.redis_out = Gauge(
            "pushforward_redis_breaker_open",
            "1 while Redis is not asked, because it did not answer.",
            registry=registry,
        )
        self.backends = Gauge(
            "pushforward_backend_info",
            "1 for each entry point, with the runtime's provider that really runs it.",
            (*LANE, "provider"),
            registry=registry,
        )
        self.ready = Gauge("pushforward_ready", "1 while the readiness probe answers 200.", registry=registry)
        build = Gauge(
            "pushforward_build_info", "1, with what is running.", ("version", "python"), registry=registry
        )
        build.labels(version("pushforward"), python_version()).set(1)
        self._gpus = False  # whether they are watched
        self._lanes: dict[tuple[str, str, str], LaneMetrics] = {}
        self._lookups: dict[tuple[str, str], Count] = {}
        self._visits: dict[tuple[str, int], tuple[Counter, Counter]] = {}
        self._answers: dict[tuple[str, str, int], tuple[Count, Tally]] = {}

    def answered(self, verb: str, model: str, status: int, started: float) -> None:
        """Count one request; its model is one that was found, or ``NO_MODEL``."""
        key = (verb, model, status)
        children = self._answers.get(key)
        if children is None:
            children = self.requests.labels(verb, model, str(status)), self.latency.labels(verb, model)
            self._answers[key] = children
        children[0].total += 1
        children[1].observe(time.monotonic() - started)

    def rejected(self, reason: str) -> None:
        """Count a request that was answered with a reason."""
        self.rejections.labels(reason).inc()

    def key_answered(self, key: str, status: int, rows: int) -> None:
        """Count one request of a key, by its name, and the rows that ran for it."""
        children = self._visits.get((key, status))
        if children is None:
            children = self.key_requests.labels(key, str(status)), self.key_rows.labels(key)
            self._visits[key, status] = children
        children[0].inc()
        children[1].inc(rows)

    def cache(self, tier: str, result: str, count: int) -> None:
        """Count keys that a tier had, had not, failed at, or was not asked for."""
        child = self._lookups.get((tier, result))
        if child is None:
            child = self._lookups[tier, result] = self.caches.labels(tier, result)
        child.total += count

    def lane(
        self,
        model: str,
        version: str,
        entry: str,
        provider: str,
        waiting: Callable[[], int],
        fullness: Callable[[], float],
    ) -> LaneMetrics:
        """A lane opens; it has the series of its entry point until it closes, or another takes them over."""
        labels = (model, version, entry)
        self.backends.labels(*labels, provider).set(1)
        self.queued.labels(*labels).set_function(waiting)
        self.fullness.labels(*labels).set_function(fullness)
        self._watch_gpus(provider)
        lane = self._lanes[labels] = LaneMetrics(self, labels, provider)
        self._count_models()
        return lane

    def _watch_gpus(self, provider: str) -> None:
        if "cuda" in provider.lower() and not self._gpus:
            self._gpus = True
            open_gpus(self.registry)

    def scores(self, model: str, version: str, held_out: Sequence[float] | None) -> Scores:
        """A model that has log-likelihoods is served."""
        return self.drift.open(model, version, held_out)

    def closed(self, lane: LaneMetrics) -> None:
        """A lane is gone, and with it its series, unless another lane has them now."""
        if self._lanes.get(lane.labels) is not lane:
            return
        del self._lanes[lane.labels]
        self.backends.remove(*lane.labels, lane.provider)
        for metric in (self.queued, self.fullness, self.waited, self.batches, self.padding, self.runs):
            metric.remove(*lane.labels)
        self._count_models()

    def _count_models(self) -> None:
        self.loaded.set(len({labels[:2] for labels in self._lanes}))

    def exposition(self) -> bytes:
        """The text that Prometheus scrapes."""
        return generate_latest(self.registry)

    async def families(self, process: str) -> list[Family]:
        """The same in parts, for a service of several processes, with pauses in which others are served."""
        made = []
        for metric in self.registry.collect():
            metric.samples = [_labelled(sample, process) for sample in metric.samples]
            made.append(Family.of(metric))
            await asyncio.sleep(0)
        return made


class LaneMetrics:
    """The series of one lane, looked up once."""

    def __init__(self, metrics: Metrics, labels: tuple[str, str, str], provider: str) -> None:
        self.labels = labels
        self.provider = provider
        self._metrics = metrics
        self._waited = metrics.waited.labels(*labels)
        self._batches = metrics.batches.labels(*labels)
        self._padding = metrics.padding.labels(*labels)
        self._runs = metrics.runs.labels(*labels)

    def ran(self, rows: int, padding_rows: int, run_s: float, waits_s: Sequence[float]) -> None:
        """A batch has been answered."""
        self._batches.observe(rows)
        self._padding.inc(padding_rows)
        self._runs.observe(run_s)
        self._waited.observe(*waits_s)

    def dropped(self, reason: str, rows: int) -> None:
        """Rows will not be computed, or could not be."""
        self._metrics.dropped.labels(*self.labels, reason).inc(rows)

    def closed(self) -> None:
        """The lane is gone."""
        self._metrics.closed(self)
