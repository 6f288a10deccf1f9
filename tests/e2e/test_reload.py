"""New versions take over while callers go on calling."""

from __future__ import annotations

import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from tests import graphs
from tests.e2e.conftest import Start
from tests.e2e.load import Load
from tests.e2e.processes import Service, until

pytestmark = pytest.mark.chaos


def _by_signal(service: Service) -> None:
    service.running.signal(signal.SIGHUP)


def _by_call(service: Service) -> None:
    assert service.client.post("/models/reload").status_code == 200


@pytest.mark.parametrize("reload", [_by_signal, _by_call])
def test_a_new_version_takes_over_without_dropping_a_request(
    start: Start, artifacts: Path, reload: Callable[[Service], None]
) -> None:
    service = start(artifacts).ready()
    with Load(service.url, lambda i: ("sample", {"model": "linear", "n": 5, "seed": i}), 8) as load:
        until(lambda: len(load.calls) > 100, "load")
        graphs.linear_flow(artifacts, version="2")
        reload(service)
        until(lambda: load.calls[-1].body.get("version") == "2", "the new version answers")
        seen = len(load.calls)
        until(lambda: len(load.calls) > seen + 100, "load goes on")
    assert {call.status for call in load.calls} == {200}
    assert {call.body["version"] for call in load.calls} == {"1", "2"}
    assert service.post("sample", model="linear", version="1")["version"] == "1"


def test_a_version_that_is_taken_away_ends_without_dropping_a_request(start: Start, artifacts: Path) -> None:
    graphs.linear_flow(artifacts, version="2")
    service = start(artifacts).ready()
    with Load(service.url, lambda i: ("sample", {"model": "linear", "n": 5, "seed": i}), 8) as load:
        until(lambda: len(load.calls) > 100, "load")
        shutil.rmtree(artifacts / "linear" / "2")
        _by_signal(service)
        until(lambda: load.calls[-1].body.get("version") == "1", "the old version answers")
    assert {call.status for call in load.calls} == {200}
