"""What the log says, as a machine reads it and as a person does."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import sys
from select import PIPE_BUF
from typing import Any

import pytest

from service.logs import FLUSH_S, JsonLines, RequestLog
from service.visit import CURRENT, Visit


def visit(path: str = "/sample", status: int = 200, **known: Any) -> Visit:
    request = Visit("POST", path, {b"x-request-id": b"order-1"})
    request.status = status
    for name, value in known.items():
        setattr(request, name, value)
    return request


def told(*visits: Visit, as_json: bool = True) -> list[bytes]:
    """The lines about some requests."""
    out = io.BytesIO()

    async def tell() -> None:
        log = RequestLog(out, as_json)
        for one in visits:
            log.answered(one)
        assert out.getvalue() == b""
        log.flush()

    asyncio.run(tell())
    return out.getvalue().splitlines()


def test_an_event_is_one_line_with_the_request_in_which_it_happened() -> None:
    token = CURRENT.set("order-1")
    try:
        raise ValueError("two\nlines")
    except ValueError:
        record = logging.LogRecord("x", logging.ERROR, __file__, 1, "%s failed", ("it",), sys.exc_info())
    line = JsonLines().format(record)
    CURRENT.reset(token)
    said = json.loads(line)
    assert "\n" not in line
    assert (said["level"], said["event"], said["request"]) == ("error", "it failed", "order-1")
    assert said["traceback"].endswith("ValueError: two\nlines")
    assert said["time"] == pytest.approx(record.created, abs=0.001)


def test_an_event_outside_of_requests_names_none() -> None:
    record = logging.LogRecord("x", logging.INFO, __file__, 1, "ready", None, None)
    assert json.loads(JsonLines().format(record)).keys() == {"time", "level", "event"}


def test_probes_are_told_only_where_they_fail() -> None:
    paths = ["/health/live", "/v2/health/ready", "/metrics", "/models"]
    lines = told(*(visit(path) for path in paths), *(visit(path, 503) for path in paths))
    assert [json.loads(line)["path"] for line in lines] == ["/models", *paths]


@pytest.mark.parametrize("as_json", [True, False])
def test_a_path_can_neither_begin_a_line_nor_fill_a_disk(as_json: bool) -> None:
    (line,) = told(visit("/\n\x1b[31m" + 10_000 * "x", 404), as_json=as_json)
    assert b"\x1b" not in line
    assert len(line) < 600


def test_a_person_reads_what_happened() -> None:
    (line,) = told(visit(model="linear", rows=5), as_json=False)
    assert line.startswith(b"200 POST /sample, linear, 5 rows, ")
    assert line.endswith(b" ms (order-1)")


def test_lines_are_written_without_being_asked_for() -> None:
    out = io.BytesIO()

    async def tell() -> None:
        RequestLog(out, True).answered(visit())
        await asyncio.sleep(3 * FLUSH_S)

    asyncio.run(tell())
    assert json.loads(out.getvalue())["event"] == "request"


class Writes(io.BytesIO):
    """Keeps what was written at once apart."""

    def __init__(self) -> None:
        super().__init__()
        self.parts: list[bytes] = []

    def flush(self) -> None:
        self.parts.append(self.getvalue())
        self.seek(0)
        self.truncate()


def test_a_pipe_takes_each_part_whole_and_each_part_is_whole_lines() -> None:
    out = Writes()

    async def tell() -> None:
        log = RequestLog(out, True)
        for number in range(200):
            log.answered(visit("/" + number * "x"))
        log.flush()

    asyncio.run(tell())
    assert all(len(part) <= PIPE_BUF and part.endswith(b"\n") for part in out.parts)
    assert len(out.parts) < 200 * 400 / PIPE_BUF
    lines = b"".join(out.parts).splitlines()
    assert [len(json.loads(line)["path"]) for line in lines] == [
        min(number + 1, 200) for number in range(200)
    ]
