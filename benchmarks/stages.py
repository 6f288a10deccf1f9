"""One small request by stage: ``python -m benchmarks.stages``.

A process of the service without its socket: connections that are as many objects, each asking as soon as it
has its answer, so that nothing is measured but our own code and the libraries that it calls. Each stage is
the processor's time a request in the functions that make it; they are timed where they lie, without profiler.
"""

from __future__ import annotations

import asyncio
import gc
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any, Final

import numpy as np
import uvicorn
import uvloop
from uvicorn.server import ServerState

from benchmarks.peers.graphs import ARTIFACTS
from benchmarks.workloads import OURS, WORKLOADS
from service import routes, seeds, verbs
from service.app import create_app
from service.backends import OnnxGraph
from service.front import Front, OneWrite
from service.lane import Lane
from service.lifecycle import Lifecycle
from service.logs import RequestLog
from service.settings import Settings
from service.verbs import Short

CONNECTIONS: Final = (1, 16, 64)
WARM_S: Final = 0.5
RUN_S: Final = 2.0
CPU: Final = time.process_time

# Each is told without the stages inside of it.
STAGES: Final[tuple[tuple[str, Any, str], ...]] = (
    ("read the head, find the verb", Front, "data_received"),
    ("parse and validate the body", routes.VerbExchange, "_parse"),
    ("compose: seed, address, entry point", routes.VerbExchange, "_begin"),
    ("join the queue", Lane, "enter"),
    ("lane: gather, check, cut", Lane, "_pump"),
    ("noise, drawn ahead", seeds, "draw"),
    ("the graph", OnnxGraph, "__call__"),
    ("put the answer together", Short, "set_result"),
    ("write JSON", verbs, "encode_at_once"),
    ("write the head, hand over the bytes", OneWrite, "take"),
    ("count and log", Short, "_leave"),
)


class Caller:
    """A connection that asks as soon as it has its answer, in place of a transport."""

    def __init__(self, request: bytes) -> None:
        self._request = request
        self._loop = asyncio.get_running_loop()
        self.protocol: Front
        self.answers = 0
        self.last = b""

    def ask(self) -> None:
        self._loop.call_soon(self.protocol.data_received, self._request)

    def write(self, answer: bytes) -> None:
        self.answers += 1
        self.last = answer
        self.ask()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return ("127.0.0.1", 1) if name in ("peername", "sockname") else default

    def is_closing(self) -> bool:
        return False

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...

    def close(self) -> None: ...


def watch(spent: dict[str, float]) -> None:
    """Have every stage add up its time."""
    inside = [0.0]  # of the stages that run now, the time of those inside of each
    for stage, owner, name in STAGES:
        setattr(owner, name, _timed(getattr(owner, name), stage, spent, inside))


def _timed(
    inner: Callable[..., Any], stage: str, spent: dict[str, float], inside: list[float]
) -> Callable[..., Any]:
    def timed(*args: Any) -> Any:
        began = time.perf_counter()
        inside.append(0.0)
        try:
            return inner(*args)
        finally:
            took = time.perf_counter() - began
            spent[stage] += took - inside.pop()
            inside[-1] += took

    return timed


def request() -> bytes:
    """W1 as wrk sends it."""
    asked = OURS.request(WORKLOADS["W1"], np.zeros((1, 784), np.float32))
    body = asked.body
    headers = {"Host": "127.0.0.1", **asked.headers, "Content-Length": str(len(body))}
    lines = [f"POST {asked.path} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
    return "\r\n".join([*lines, "", ""]).encode() + body


def connect(app: Any, count: int) -> list[Caller]:
    """So many callers, each on a connection of its own."""
    config = uvicorn.Config(app, http=Front, ws="none", lifespan="off", log_config=None, proxy_headers=False)
    config.load()
    state = ServerState()
    state.default_headers = [(b"date", b"Thu, 01 Jan 1970 00:00:00 GMT")]
    callers = [Caller(request()) for _ in range(count)]
    for caller in callers:
        caller.protocol = Front(config, state, {}, asyncio.get_running_loop())
        caller.protocol.connection_made(caller)  # type: ignore[arg-type]
        caller.ask()
    return callers


async def measure(count: int) -> dict[str, float]:
    """Microseconds a request by stage, for so many callers at once."""
    with TemporaryFile() as log:
        app = create_app(Settings(artifacts=Path(ARTIFACTS)), RequestLog(log, as_json=True))
        app.middleware_stack = app.build_middleware_stack()
        life: Lifecycle = app.state.life
        await life.open()
        gc.collect()
        gc.freeze()
        callers = connect(app, count)
        await asyncio.sleep(WARM_S)
        spent: dict[str, float] = defaultdict(float)
        watch(spent)
        before, began = sum(caller.answers for caller in callers), CPU()
        await asyncio.sleep(RUN_S)
        whole, answers = CPU() - began, sum(caller.answers for caller in callers) - before
    if not callers[0].last.startswith(b"HTTP/1.1 200"):
        raise SystemExit(f"the service answers {callers[0].last[:300]!r}")
    return _told(spent, whole, answers)


def _told(spent: dict[str, float], whole_s: float, answers: int) -> dict[str, float]:
    took = {stage: spent[stage] / answers * 1e6 for stage, _, _ in STAGES}
    took["the event loop, the log's lines"] = whole_s / answers * 1e6 - sum(took.values())
    return took


def main() -> None:
    """Print the table; every column is a process of its own, because stages are timed where they lie."""
    if len(sys.argv) > 1:
        took = uvloop.run(measure(int(sys.argv[1])))
        print("\n".join(f"{stage}\t{us}" for stage, us in took.items()))
        return
    columns = []
    for count in CONNECTIONS:
        done = subprocess.run(
            [sys.executable, "-m", "benchmarks.stages", str(count)],
            check=True,
            capture_output=True,
            text=True,
        )
        columns.append(dict(line.split("\t") for line in done.stdout.splitlines()))
    names = [f"{count} at once" for count in CONNECTIONS]
    print(f"| W1, µs a request | {' | '.join(names)} |\n|---|{'---:|' * len(names)}")
    for stage in columns[0]:
        print(f"| {stage} | {' | '.join(f'{float(column[stage]):.1f}' for column in columns)} |")
    totals = [sum(map(float, column.values())) for column in columns]
    print(f"| together | {' | '.join(f'{total:.1f}' for total in totals)} |")


if __name__ == "__main__":
    main()
