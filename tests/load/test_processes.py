"""A process of several is killed, again, while callers call: only what it had in its hands is lost."""

from __future__ import annotations

import os
import signal
from typing import Any

import pytest

from tests.e2e.conftest import Start
from tests.e2e.load import Load
from tests.e2e.processes import Service, until
from tests.load.conftest import Models
from tests.load.vitals import family

pytestmark = pytest.mark.chaos

CALLERS = 8


def _asked(number: int) -> tuple[str, dict[str, Any]]:
    match number % 3:
        case 0:
            return "sample", {"model": "linear", "n": 20, "seed": number % 30}
        case 1:
            return "loglik", {"model": "linear", "inputs": [[float(number % 30), 1.0, 2.0]]}
        case _:
            return "encode", {"model": "linear", "inputs": [[float(number % 30), 1.0, 2.0]]}


def _told(body: dict[str, Any]) -> dict[str, Any]:
    """An answer without what depends on who asked before."""
    return {name: value for name, value in body.items() if name != "cached"}


def _serving(service: Service) -> list[int]:
    """The pids of the processes that serve."""
    return list(family(service.running.process.pid))[1:]


@pytest.mark.long
def test_a_process_killed_again_and_again_loses_no_more_than_it_had_in_its_hands(
    start: Start, models: Models
) -> None:
    service = start(models("linear_flow"), processes=2).ready()
    until(lambda: len(_serving(service)) == 2, "both run")
    alone = [_told(service.post(verb, **fields)) for verb, fields in map(_asked, range(30))]
    with Load(service.url, _asked, CALLERS) as load:
        for death in range(1, 4):
            more = len(load.calls) + 200
            until(lambda: len(load.calls) > more, "load")  # noqa: B023
            os.kill(_serving(service)[0], signal.SIGKILL)
            again = lambda: service.running.log.count("answers again") == death  # noqa: B023, E731
            until(again, "it answers again", timeout_s=60)
    lost = [call for call in load.calls if call.status == 0]
    assert len(lost) <= 3 * CALLERS
    for call in load.calls:
        if call.status:
            assert call.status == 200, call.body
            assert _told(call.body) == alone[call.number % 30]
    assert service.stop() == 0
