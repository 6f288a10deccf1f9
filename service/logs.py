"""What the process tells its operator: one JSON object a line, or a sentence where a person looks on.

Answered requests are written apart from the other events, by :class:`RequestLog`: there are thousands a
second, and the machinery of logging would cost a tenth of each.
"""

from __future__ import annotations

import logging
import sys
import time
from asyncio import TimerHandle, get_running_loop
from collections.abc import Iterator
from functools import lru_cache
from select import PIPE_BUF
from typing import Any, BinaryIO, Final, Literal

import orjson

from service.visit import CURRENT, OPEN, Visit

Form = Literal["auto", "text", "json"]

FLUSH_S: Final = 0.025  # how long a line may lie here; one write then takes all
LONGEST_PATH: Final = 200
QUIET: Final = (*OPEN, "/metrics")  # said only where they fail


class JsonLines(logging.Formatter):
    """Each event as one JSON object, with the id of the request in which it happened."""

    def format(self, record: logging.LogRecord) -> str:
        said: dict[str, Any] = {
            "time": _rounded(record.created),
            "level": record.levelname.lower(),
            "event": record.getMessage(),
        }
        if request := CURRENT.get(""):
            said["request"] = request
        if record.exc_info:
            said["traceback"] = self.formatException(record.exc_info)
        return orjson.dumps(said, default=str).decode()


def set_up(form: Form) -> RequestLog:
    """Send the process's log to stderr; where its requests are to be told."""
    as_json = form == "json" or (form == "auto" and not sys.stderr.isatty())
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines() if as_json else logging.Formatter("%(levelname)s %(message)s"))
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    return RequestLog(sys.stderr.buffer, as_json)


class RequestLog:
    """A line for each request, made and written a moment later together with its neighbours'."""

    def __init__(self, out: BinaryIO, as_json: bool) -> None:
        self._out = out
        self._line = _json_line if as_json else _text_line
        self._over: list[tuple[Visit, float]] = []
        self._timer: TimerHandle | None = None

    def answered(self, visit: Visit) -> None:
        """Tell of a request; of probes only where they fail."""
        if visit.status == 200 and visit.path.startswith(QUIET):
            return
        self._over.append((visit, time.monotonic()))
        if self._timer is None:
            self._timer = get_running_loop().call_later(FLUSH_S, self.flush)

    def flush(self) -> None:
        """Write what there is."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        over, self._over = self._over, []
        since = time.time() - time.monotonic()
        for part in _parts([self._line(visit, end, since + end) for visit, end in over]):
            self._out.write(part)
            self._out.flush()


def _parts(lines: list[bytes]) -> Iterator[bytes]:
    """The lines, as many at once as a pipe takes whole: other processes write to it too."""
    part, size = list[bytes](), 0
    for line in lines:
        if part and size + len(line) > PIPE_BUF:
            yield b"".join(part)
            part, size = [], 0
        part.append(line)
        size += len(line)
    if part:
        yield b"".join(part)


def _json_line(visit: Visit, end: float, at: float) -> bytes:
    ms, queue_ms = 1000 * (end - visit.started), 1000 * visit.waited_s
    asked = _quoted(visit.method, visit.path[:LONGEST_PATH], visit.model, visit.caller.name)
    trace = "" if visit.trace is None else f',"trace":"{visit.trace.id}"'
    # An id has no character that JSON would have to escape.
    return (
        f'{{"time":{at:.3f},"level":"info","event":"request","request":"{visit.id}",{asked},'
        f'"status":{visit.status},"ms":{ms:.3f},"queue_ms":{queue_ms:.3f},"rows":{visit.rows}{trace}}}\n'
    ).encode()


@lru_cache(maxsize=1024)
def _quoted(method: str, path: str, model: str, key: str) -> str:
    """These members of a line, which are nearly always the same."""
    return orjson.dumps({"method": method, "path": path, "model": model, "key": key}).decode()[1:-1]


def _text_line(visit: Visit, end: float, at: float) -> bytes:
    path = visit.path[:LONGEST_PATH].encode("unicode_escape").decode()
    parts = [f"{visit.status} {visit.method} {path}"]
    parts += [f"{visit.model}, {visit.rows} rows"] if visit.model else []
    parts.append(f"{1000 * (end - visit.started):.1f} ms")
    parts += [f"key {visit.caller.name}"] if visit.caller.name else []
    return f"{', '.join(parts)} ({visit.id})\n".encode()


def _rounded(value: float) -> float:
    """To three digits behind the point; ``round`` takes five times as long."""
    return int(value * 1000) / 1000
