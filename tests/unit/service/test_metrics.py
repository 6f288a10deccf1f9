"""What is counted can be scraped, and callers cannot make series."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import time
from collections.abc import Callable

import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families

from service.metrics import NO_MODEL, Metrics, together


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


def busy() -> Metrics:
    """Something in every kind of metric."""
    metrics = Metrics()
    metrics.answered("sample", "linear", 200, time.monotonic())
    metrics.rejected("queue_full")
    metrics.cache("redis", "hit", 1)
    metrics.lane("a", "1", "decode", "CPU", int, float).dropped("cancelled", 1)
    metrics.scores("a", "1", [-3.0, -2.0, -1.0]).scored(np.array([-2.5]), ["ok"], comparable=True)
    return metrics


def of_two(first: Metrics, second: Metrics) -> bytes:
    """The text of two processes, of which a third says nothing."""
    families = [family for name in "01" for family in asyncio.run((first, second)[int(name)].families(name))]
    return together(families, {"0": True, "1": True, "2": False})


def test_processes_have_their_series_in_one_text_each_under_its_name() -> None:
    first, second = busy(), busy()
    second.rejected("queue_full")
    second.cache("process", "miss", 2)
    text = of_two(first, second).decode()
    heads = [line for line in text.splitlines() if line.startswith("#")]
    assert len(set(heads)) == len(heads)
    found = {
        (s.name, frozenset(s.labels.items())): s.value
        for family in text_string_to_metric_families(text)
        for s in family.samples
    }
    for name, metrics in (("0", first), ("1", second)):
        of_this = {key: value for key, value in samples(metrics).items() if not key[0].startswith("process_")}
        for (metric, labels), seen in of_this.items():
            assert found[metric, labels | {("process", name)}] == seen
    up = [found["pushforward_process_up", frozenset({("process", name)})] for name in "012"]
    assert up == [1, 1, 0]


def test_who_is_served_meanwhile_waits_for_one_family_only() -> None:
    async def turns() -> tuple[int, int]:
        taken, done = 0, asyncio.Event()

        async def take() -> None:
            nonlocal taken
            while not done.is_set():
                taken += 1
                await asyncio.sleep(0)

        taking = asyncio.create_task(take())
        families = await busy().families("0")
        done.set()
        await taking
        return taken, len(families)

    taken, families = asyncio.run(turns())
    assert taken >= families


@pytest.mark.prometheus
@pytest.mark.parametrize("text", [lambda: busy().exposition(), lambda: of_two(busy(), busy())])
def test_promtool_has_no_complaint(text: Callable[[], bytes]) -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not installed here")
    check = subprocess.run([promtool, "check", "metrics"], input=text(), capture_output=True)
    assert (check.returncode, check.stdout + check.stderr) == (0, b"")
