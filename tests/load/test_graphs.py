"""Graphs that fail, that return the wrong shape, that take for ever or all memory: others do not notice."""

from __future__ import annotations

import resource
import signal
from collections.abc import Callable
from typing import Any

import pytest

from tests.e2e.conftest import Start
from tests.e2e.load import Call, Load
from tests.e2e.processes import Service, until
from tests.load.conftest import Models

pytestmark = pytest.mark.chaos

BAD = -2.0
SOUND = {"model": "linear", "n": 3, "seed": 1}


def _decode(model: str, *values: float) -> tuple[str, dict[str, Any]]:
    return "decode", {"model": model, "latents": [[value] for value in values]}


def _sound(service: Service) -> Callable[[Call], bool]:
    """Whether a call of the sound model was answered as when it was alone."""
    alone = service.post("sample", **SOUND)
    return lambda call: call.status == 200 and call.body == alone


@pytest.mark.parametrize("model", ["poison", "crooked"])
def test_a_row_that_a_graph_fails_on_or_loses_costs_that_row_and_no_other(
    start: Start, models: Models, model: str
) -> None:
    """Four rows each, one of them bad in every fifth call, from callers who share their batches."""
    service = start(models("linear_flow", model)).ready()
    right = _sound(service)
    alone = service.post("decode", **_decode(model, 1, 2, 3, 4)[1])

    def request(i: int) -> tuple[str, dict[str, Any]]:
        return _decode(model, 1, 2, BAD if i % 5 == 0 else 3, 4)

    with (
        Load(service.url, lambda _: ("sample", SOUND), 2) as others,
        Load(service.url, request, callers=6) as load,
    ):
        until(lambda: len(load.calls) > 200 and len(others.calls) > 50, "load", timeout_s=60)
    assert all(map(right, others.calls))
    for call in load.calls:
        if call.number % 5:
            assert call.body == alone
        else:
            assert (call.status, call.body["code"], call.body["rows"]) == (500, "row_failed", [2])


def test_a_graph_that_takes_for_ever_costs_its_own_model_and_no_other(start: Start, models: Models) -> None:
    """Its callers hear so at their deadlines, the gauge of the oldest batch tells, and the process stops."""
    service = start(models("linear_flow", "endless"), deadline_ms=1000, drain_s=1).ready()
    right = _sound(service)
    assert service.post("decode", **_decode("endless", 1)[1])["samples"] == [[1.0]]
    with Load(service.url, lambda _: ("sample", SOUND), 2) as others:
        for value in (BAD, 1.0, 1.0):
            verb, fields = _decode("endless", value)
            answer = service.client.post(f"/{verb}", json=fields)
            assert (answer.status_code, answer.json()["code"]) == (504, "deadline_passed")
    assert len(others.calls) > 50
    assert all(map(right, others.calls))
    assert service.metric("pushforward_oldest_batch_seconds") > 2
    assert service.status("/health/live") == 200
    service.running.signal(signal.SIGTERM)
    assert service.running.ended(timeout_s=10) == 0, service.running.log


TOO_MUCH = 3e6  # megabytes, of a machine that has fewer
ROOM_BYTES = 100 << 20


@pytest.mark.parametrize("rows", [[1.0] * 256, [0.0] * 100 + [TOO_MUCH] + [0.0] * 100], ids=["batch", "row"])
def test_memory_that_is_not_there_costs_smaller_batches_or_the_row_that_wants_it(
    start: Start, models: Models, rows: list[float]
) -> None:
    """A real limit of the kernel; a full batch asks for more than it allows, or one row does."""
    service = start(models("linear_flow", "hungry")).ready()
    right = _sound(service)
    pid = service.running.process.pid
    limit = _mapped_bytes(pid) + ROOM_BYTES
    resource.prlimit(pid, resource.RLIMIT_AS, (limit, resource.RLIM_INFINITY))
    with Load(service.url, lambda _: ("sample", SOUND), 2) as others:
        seen = [service.client.post("/decode", json=_decode("hungry", *rows)[1]) for _ in range(4)]
        until(lambda: len(others.calls) > 50, "load")
    assert all(map(right, others.calls))
    for answer in seen:
        if TOO_MUCH in rows:
            assert (answer.status_code, answer.json()["rows"]) == (500, [rows.index(TOO_MUCH)])
        else:
            assert answer.json()["samples"] == [[row] for row in rows]
    assert "do not fit into memory" in service.running.log
    one_batch = _batches(service) + 1
    assert service.post("decode", **_decode("hungry", *[0.0] * 256)[1])["samples"] == [[0.0]] * 256
    assert (_batches(service) == one_batch) is (TOO_MUCH in rows)


def _batches(service: Service) -> float:
    return service.metric("pushforward_batch_rows_count", model="hungry")


def _mapped_bytes(pid: int) -> int:
    with open(f"/proc/{pid}/statm") as pages:
        return int(pages.read().split()[0]) * resource.getpagesize()
