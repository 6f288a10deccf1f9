"""What is counted can be scraped, and callers cannot make series."""

from __future__ import annotations

import shutil
import subprocess
import time

import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families

from service.metrics import NO_MODEL, Metrics


def samples(metrics: Metrics) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    families = text_string_to_metric_families(metrics.exposition().decode())
    return {(s.name, frozenset(s.labels.items())): s.value for f in families for s in f.samples}


def value(metrics: Metrics, name: str, **labels: str) -> float:
    return samples(metrics)[name, frozenset(labels.items())]


def test_requests_are_counted_by_verb_model_and_status_with_their_latency() -> None:
    metrics = Metrics()
    for status in (200, 200, 429):
        metrics.answered("sample", "linear", status, time.monotonic() - 0.003)
    metrics.answered("sample", NO_MODEL, 404, time.monotonic())
    labels = {"verb": "sample", "model": "linear"}
    assert value(metrics, "pushforward_requests_total", **labels, status="200") == 2
    assert value(metrics, "pushforward_requests_total", **labels, status="429") == 1
    assert value(metrics, "pushforward_request_seconds_count", **labels) == 3
    assert value(metrics, "pushforward_request_seconds_bucket", **labels, le="0.005") == 3
    assert value(metrics, "pushforward_request_seconds_bucket", **labels, le="0.0025") == 0


def test_two_registries_do_not_meet() -> None:
    first, second = Metrics(), Metrics()
    first.rejected("queue_full")
    assert value(first, "pushforward_rejections_total", reason="queue_full") == 1
    assert 'reason="queue_full"' not in second.exposition().decode()


def test_caches_are_counted_by_tier_and_result() -> None:
    metrics = Metrics()
    metrics.cache("redis", "miss", 3)
    metrics.cache("redis", "miss", 2)
    assert value(metrics, "pushforward_cache_lookups_total", tier="redis", result="miss") == 5


def test_a_lane_reports_its_batches_and_its_queue() -> None:
    metrics, waiting = Metrics(), 7
    lane = metrics.lane("a", "1", "decode", "CPU", lambda: waiting, lambda: 0.25)
    lane.ran(5, 3, 0.002, [0.0001, 0.02])
    lane.dropped("deadline", 4)
    labels = {"model": "a", "version": "1", "entry_point": "decode"}
    assert value(metrics, "pushforward_queue_rows", **labels) == 7
    assert value(metrics, "pushforward_queue_fullness_ratio", **labels) == 0.25
    assert value(metrics, "pushforward_batch_rows_sum", **labels) == 5
    assert value(metrics, "pushforward_padding_rows_total", **labels) == 3
    assert value(metrics, "pushforward_run_seconds_bucket", **labels, le="0.0025") == 1
    assert value(metrics, "pushforward_queue_wait_seconds_count", **labels) == 2
    assert value(metrics, "pushforward_dropped_rows_total", **labels, reason="deadline") == 4
    assert value(metrics, "pushforward_backend_info", **labels, provider="CPU") == 1


def test_what_is_no_longer_served_is_no_longer_shown() -> None:
    metrics = Metrics()
    lanes = [
        metrics.lane(*names, "CPU", int, float)
        for names in (("a", "1", "x"), ("a", "1", "y"), ("b", "2", "x"))
    ]
    assert value(metrics, "pushforward_models_loaded") == 2
    for lane in lanes[:2]:
        lane.closed()
    assert value(metrics, "pushforward_models_loaded") == 1
    assert 'model="a"' not in metrics.exposition().decode()


def test_a_lane_that_replaces_another_keeps_its_series() -> None:
    metrics = Metrics()
    old = metrics.lane("a", "1", "decode", "CPU", lambda: 1, float)
    metrics.lane("a", "1", "decode", "CPU", lambda: 2, float)
    old.closed()
    labels = {"model": "a", "version": "1", "entry_point": "decode"}
    assert value(metrics, "pushforward_queue_rows", **labels) == 2


@pytest.mark.prometheus
def test_promtool_has_no_complaint() -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not installed here")
    metrics = Metrics()
    metrics.answered("sample", "linear", 200, time.monotonic())
    metrics.rejected("queue_full")
    metrics.cache("redis", "hit", 1)
    metrics.lane("a", "1", "decode", "CPU", int, float).dropped("cancelled", 1)
    metrics.scores("a", "1", [-3.0, -2.0, -1.0]).scored(np.array([-2.5]), ["ok"], comparable=True)
    check = subprocess.run([promtool, "check", "metrics"], input=metrics.exposition(), capture_output=True)
    assert (check.returncode, check.stdout + check.stderr) == (0, b"")
