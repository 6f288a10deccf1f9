"""Artifacts that change, come half written, or disappear, while callers call."""

from __future__ import annotations

import shutil
import signal
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests import graphs
from tests.e2e.conftest import Start
from tests.e2e.load import Load
from tests.e2e.processes import until
from tests.load.conftest import Models
from tests.load.vitals import vitals

pytestmark = pytest.mark.chaos

DIMS = (3, 4)  # of the model before and after, so that an answer tells which one it is of


def _sample(number: int) -> tuple[str, dict[str, Any]]:
    return "sample", {"model": "linear", "n": 5, "seed": number % 20}


def _put(folder: Path, dim: int) -> None:
    """Write another model of the same name and version over the one that is there, file by file, slowly."""
    new = graphs.linear_flow(folder.parents[1] / f"new-{dim}", dim=dim)
    for file in sorted(new.iterdir(), reverse=True):  # the manifest not last
        (folder / file.name).write_bytes(file.read_bytes())
        time.sleep(0.05)
    shutil.rmtree(new.parents[1])


def test_an_artifact_that_is_written_over_under_load_is_the_old_or_the_new_one_never_both(
    start: Start, models: Models
) -> None:
    """Reloads come all the time, also while the files do not fit together."""
    root = models("linear_flow")
    service = start(root).ready()
    stop = threading.Event()

    def reload() -> None:
        while not stop.is_set():
            service.running.signal(signal.SIGHUP)
            time.sleep(0.02)

    reloading = threading.Thread(target=reload)
    with Load(service.url, _sample, callers=4) as load:
        reloading.start()
        for dim in (4, 3, 4):
            _put(root / "linear" / "1", dim)
            until(lambda: _dim(load.calls[-1].body) == dim, f"{dim} dimensions")  # noqa: B023
        stop.set()
        reloading.join()
    assert {call.status for call in load.calls} == {200}
    seen: dict[tuple[int, int], Any] = {}
    for call in load.calls:
        rows = call.body["samples"]
        assert seen.setdefault((call.number % 20, _dim(call.body)), rows) == rows
    assert {dim for _, dim in seen} == set(DIMS)


def _dim(body: dict[str, Any]) -> int:
    return int(np.shape(body["samples"])[1])


@pytest.mark.long
def test_a_hundred_reloads_under_load_leave_nothing_behind(start: Start, models: Models) -> None:
    """Threads and memory of versions that nobody calls any more are given back."""
    root = models("linear_flow", "gaussian_vae")
    service = start(root).ready()
    pid = service.running.process.pid
    held = vitals(pid)
    with Load(service.url, _sample, callers=4) as load:
        for turn in range(100):
            if turn == 20:
                held = vitals(pid)
            shutil.rmtree(root / "linear")
            graphs.linear_flow(root, dim=DIMS[turn % 2])
            assert service.client.post("/models/reload").status_code == 200
    assert {call.status for call in load.calls} <= {200, 404}
    service.post("sample", model="linear")
    until(lambda: vitals(pid).threads <= held.threads, "no more threads than before")
    assert vitals(pid).descriptors <= held.descriptors
    assert vitals(pid).resident_bytes < 1.1 * held.resident_bytes
