"""Downloads: any length in constant memory, resumed where they broke, finished when the service stops."""

from __future__ import annotations

import io
import signal
import threading
from pathlib import Path

import numpy as np

from tests.e2e.conftest import Start
from tests.e2e.processes import Service, until

ROWS = 4_000_000
NPY = {"Accept": "application/x-npy"}
FORMS = ("application/x-npy", "application/x-ndjson", "text/csv")


def _fields(n: int, offset: int = 0) -> dict[str, object]:
    return {"model": "linear", "n": n, "seed": 5, "offset": offset}


def _head(service: Service, fields: dict[str, object], size: int, accept: str = NPY["Accept"]) -> bytes:
    """The first bytes of a download that is then given up."""
    with service.client.stream("POST", "/sample", json=fields, headers={"Accept": accept}) as answer:
        got = bytearray()
        for chunk in answer.iter_bytes():
            got += chunk
            if len(got) >= size:
                return bytes(got[:size])
    raise AssertionError(f"the download ended after {len(got)} bytes")


def test_a_long_download_takes_no_more_memory_than_a_short_one(start: Start, artifacts: Path) -> None:
    service = start(artifacts).ready()
    service.npy("sample", **_fields(100_000))
    before = service.metric("process_resident_memory_bytes")
    peak = before
    received = 0
    with service.client.stream("POST", "/sample", json=_fields(ROWS), headers=NPY) as answer:
        for i, chunk in enumerate(answer.iter_bytes(1 << 20)):
            received += len(chunk)
            if i % 8 == 0:
                peak = max(peak, service.metric("process_resident_memory_bytes"))
    assert received > ROWS * 3 * 4
    assert peak - before < 16 << 20


def test_nor_does_one_in_lines(start: Start, artifacts: Path) -> None:
    service = start(artifacts).ready()
    for accept in FORMS[1:]:
        _head(service, _fields(2**40), 1_000_000, accept)
        before = service.metric("process_resident_memory_bytes")
        head = _head(service, _fields(2**40), 16 << 20, accept)
        assert head.count(b"\n") > 300_000
        assert service.metric("process_resident_memory_bytes") - before < 8 << 20


def test_a_download_that_broke_is_resumed_by_its_offset(start: Start, artifacts: Path) -> None:
    service = start(artifacts).ready()
    whole = np.load(io.BytesIO(service.npy("sample", **_fields(300_000))))
    start_of_data = 128  # the head of a version 1 file
    broken = _head(service, _fields(300_000), start_of_data + 777 * 3 * 4)
    rows = np.frombuffer(broken[start_of_data:], np.float32).reshape(-1, 3)
    rest = np.load(io.BytesIO(service.npy("sample", **_fields(300_000 - len(rows), offset=len(rows)))))
    assert np.array_equal(np.concatenate([rows, rest]), whole)


def test_callers_who_leave_a_download_leave_nothing_behind(start: Start, artifacts: Path) -> None:
    service = start(artifacts).ready()
    for i in range(12):
        _head(service, _fields(2**40), 1000, FORMS[i % len(FORMS)])
    until(lambda: service.metric("pushforward_queue_rows", model="linear") == 0, "the queue is empty")
    until(lambda: service.metric("pushforward_requests_in_flight") <= 1, "only the scrape is in flight")
    ran = service.metric("pushforward_batch_rows_count", model="linear")
    assert service.post("sample", model="linear")["samples"]
    assert service.metric("pushforward_batch_rows_count", model="linear") == ran + 1


def test_a_download_is_finished_when_the_service_is_told_to_stop(start: Start, artifacts: Path) -> None:
    service = start(artifacts).ready()
    expected = len(service.npy("sample", **_fields(300_000)))
    begun, sizes = threading.Event(), []

    def download() -> None:
        size = 0
        with service.client.stream("POST", "/sample", json=_fields(300_000), headers=NPY) as answer:
            for chunk in answer.iter_bytes():
                size += len(chunk)
                begun.set()
        sizes.append(size)

    caller = threading.Thread(target=download)
    caller.start()
    assert begun.wait(10)
    service.running.signal(signal.SIGTERM)
    assert service.running.ended() == 0, service.running.log
    caller.join(10)
    assert sizes == [expected]
