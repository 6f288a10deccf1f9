"""Whoever was accepted is answered, then the process ends with 0."""

from __future__ import annotations

import signal
import socket
import threading
import time
from pathlib import Path

import pytest

from tests.e2e.conftest import Start
from tests.e2e.load import Load
from tests.e2e.processes import until

pytestmark = pytest.mark.chaos

CALLERS = 16


def test_a_service_told_to_stop_answers_what_it_accepted_and_ends_with_zero(
    start: Start, artifacts: Path
) -> None:
    service = start(artifacts).ready()
    with Load(service.url, lambda i: ("sample", {"model": "linear", "n": 200, "seed": i}), CALLERS) as load:
        until(lambda: len(load.calls) > 200, "load")
        told = time.monotonic()
        service.running.signal(signal.SIGTERM)
        assert service.running.ended() == 0, service.running.log
    begun_before = [call for call in load.calls if call.began < told]
    assert {call.status for call in begun_before} == {200}
    assert {call.status for call in load.calls} <= {200, 503, 0}


def test_readiness_is_off_at_once_while_slow_work_is_still_answered(start: Start, artifacts: Path) -> None:
    service = start(artifacts).ready()
    with Load(service.url, lambda i: ("sample", {"model": "slow", "seed": i}), CALLERS) as load:
        until(lambda: len(load.calls) >= CALLERS, "load")
        told = time.monotonic()
        service.running.signal(signal.SIGTERM)
        until(lambda: service.status("/health/ready") in (503, 0), "not ready", timeout_s=0.5)
        assert service.running.ended() == 0, service.running.log
    in_flight = [call for call in load.calls if call.began < told < call.ended]
    assert in_flight, "the signal found nobody waiting: make the slow model slower"
    assert {call.status for call in in_flight} == {200}


def test_an_idle_service_stops_at_once_on_either_signal(start: Start, artifacts: Path) -> None:
    for number in (signal.SIGTERM, signal.SIGINT):
        service = start(artifacts).ready()
        service.running.signal(number)
        assert service.running.ended(timeout_s=5) == 0, service.running.log


@pytest.mark.parametrize("sent", [b"", b"POST /sample HTTP/1.1\r\nHost: x\r\nContent-Length: 50\r\n\r\n{"])
def test_a_silent_connection_does_not_keep_the_service_alive(
    start: Start, artifacts: Path, sent: bytes
) -> None:
    service = start(artifacts, drain_s=1).ready()
    host, port = service.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))) as wire:
        wire.sendall(sent)
        time.sleep(0.1)
        service.running.signal(signal.SIGTERM)
        assert service.running.ended(timeout_s=8) == 0, service.running.log


def test_many_signals_are_one(start: Start, artifacts: Path) -> None:
    service = start(artifacts).ready()
    done = threading.Event()
    with Load(service.url, lambda i: ("sample", {"model": "slow", "seed": i}), 4) as load:
        until(lambda: len(load.calls) >= 4, "load")
        told = time.monotonic()
        service.running.signal(signal.SIGTERM)
        done.wait(0.05)
        service.running.signal(signal.SIGTERM)
        assert service.running.ended() == 0, service.running.log
    assert {call.status for call in load.calls if call.began < told} == {200}
