"""What one caller does is not felt by another."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import pytest

from tests.e2e.conftest import Start
from tests.e2e.load import Load
from tests.e2e.processes import Service, until

pytestmark = pytest.mark.chaos


def _hang_up(service: Service, **fields: object) -> None:
    """Send a whole request and leave without reading the answer."""
    host, port = service.url.removeprefix("http://").split(":")
    body = json.dumps(fields).encode()
    head = (
        f"POST /sample HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(body)}"
    )
    with socket.create_connection((host, int(port))) as wire:
        wire.sendall(head.encode() + b"\r\n\r\n" + body)


def test_clients_that_hang_up_are_not_noticed_by_the_others(start: Start, artifacts: Path) -> None:
    service = start(artifacts).ready()
    alone = service.post("sample", model="slow", n=2, seed=7)["samples"]
    with Load(service.url, lambda i: ("sample", {"model": "slow", "n": 2, "seed": 7}), 4) as load:
        for _ in range(40):
            _hang_up(service, model="slow", n=2, seed=3)
        until(lambda: len(load.calls) >= 12, "the others are answered", timeout_s=60)
    assert {call.status for call in load.calls} == {200}
    assert all(call.body["samples"] == alone for call in load.calls)
    assert service.status("/health/ready") == 200


def test_a_poisoned_row_costs_one_row(start: Start, artifacts: Path) -> None:
    service = start(artifacts).ready()
    poisoned, sound = [[-1.0]], [[1.0]]
    before = service.post("decode", model="poison", latents=sound)["samples"]

    def request(i: int) -> tuple[str, dict[str, object]]:
        return "decode", {"model": "poison", "latents": poisoned if i % 5 == 0 else sound}

    with Load(service.url, request, 8) as load:
        until(lambda: len(load.calls) > 300, "load", timeout_s=60)
    healthy = [call for call in load.calls if call.status == 200]
    failed = [call for call in load.calls if call.status != 200]
    assert all(call.body["samples"] == before for call in healthy)
    assert {(call.status, call.body["code"]) for call in failed} == {(500, "row_failed")}
    assert 0.15 < len(failed) / len(load.calls) < 0.25


def test_a_graph_that_fails_leaves_the_lane_and_the_other_models_working(
    start: Start, artifacts: Path
) -> None:
    service = start(artifacts).ready()
    with Load(service.url, lambda i: ("sample", {"model": "linear", "n": 3, "seed": i}), 4) as load:
        for _ in range(20):
            answer = service.client.post("/decode", json={"model": "poison", "latents": [[-1.0], [-2.0]]})
            assert (answer.status_code, answer.json()["code"]) == (500, "row_failed")
            assert answer.json()["rows"] == [0, 1]
    assert {call.status for call in load.calls} == {200}
    assert service.post("decode", model="poison", latents=[[1.0]])["samples"]
