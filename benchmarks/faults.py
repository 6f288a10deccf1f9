"""What each server does when something goes wrong: ``python -m benchmarks.faults [SERVERS]``.

The same four accidents for this service and every peer that is installed; a line each, in words and counts.
Callers are closed-loop on connections of their own, each answer within twenty seconds or it counts as none.
"""

from __future__ import annotations

import fnmatch
import http.client
import os
import signal
import socket
import struct
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from benchmarks import processor
from benchmarks.servers import SERVERS, Broken, Running, started
from benchmarks.workloads import WORKLOADS, Request, first_body

CALLERS: Final = 8
LOAD_S: Final = 3.0
BACK_S: Final = 30.0  # to be whole again
LEAVERS: Final = 300
PATIENCE_S: Final = 20.0
STOP_S: Final = 30.0
ENCODE, LOGLIK = WORKLOADS["W4"], WORKLOADS["W3"]
ROWS: Final = np.random.default_rng(3).random((32, 784), np.float32)


@dataclass
class Load:
    """Callers of one request; when each call began and ended, and its status, 0 for none."""

    port: int
    request: Request
    calls: list[tuple[float, float, int]] = field(default_factory=list)
    _over: threading.Event = field(default_factory=threading.Event)

    @contextmanager
    def going(self) -> Iterator[Load]:
        """Until the block ends."""
        callers = [threading.Thread(target=self._go) for _ in range(CALLERS)]
        for caller in callers:
            caller.start()
        try:
            yield self
        finally:
            self._over.set()
            for caller in callers:
                caller.join()

    def _go(self) -> None:
        wire = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE_S)
        while not self._over.is_set():
            began = time.monotonic()
            status = post(wire, self.request)
            self.calls.append((began, time.monotonic(), status))
            if status == 0:
                wire.close()
                time.sleep(0.05)
        wire.close()

    def failed(self, since: float) -> list[tuple[float, float, int]]:
        """Calls that ended after a moment, and not with 200."""
        return [call for call in self.calls if call[1] > since and call[2] != 200]


def post(wire: http.client.HTTPConnection, request: Request) -> int:
    """The status of the answer, 0 where none came."""
    try:
        wire.request("POST", request.path, first_body(request.body), request.headers)
        answer = wire.getresponse()
        answer.read()
    except (OSError, http.client.HTTPException):
        return 0
    return answer.status


def row_too_short(running: Running) -> str:
    """A body of 700 numbers among good ones of 784, again and again."""
    bad = running.request(ENCODE, ROWS[:1, :700])
    wire = http.client.HTTPConnection("127.0.0.1", running.port, timeout=PATIENCE_S)
    began, statuses = time.monotonic(), list[int]()
    with Load(running.port, running.request(ENCODE, ROWS[:1])).going() as load:
        while time.monotonic() < began + LOAD_S:
            statuses.append(post(wire, bad))
            time.sleep(0.01)
    wire.close()
    spoilt = load.failed(began)
    told = "/".join(str(status or "none") for status in sorted(set(statuses)))
    return f"it gets {told}; {len(spoilt)} of {len(load.calls)} good calls beside it fail"


def worker_killed(running: Running) -> str:
    """SIGKILL for the busiest process but the first."""
    with Load(running.port, running.request(ENCODE, ROWS[:1])).going() as load:
        time.sleep(LOAD_S)
        killed = time.monotonic()
        os.kill(_busiest(running), signal.SIGKILL)
        while time.monotonic() < killed + BACK_S and _fails(load, killed):
            time.sleep(0.2)
    failed = load.failed(killed)
    if not failed:
        return "nobody notices"
    if _fails(load, killed):
        return f"{len(failed)} calls fail, and still do after {BACK_S:g} s"
    return f"{len(failed)} calls fail, the last after {max(call[1] for call in failed) - killed:.1f} s"


def _busiest(running: Running) -> int:
    """The Python process that computes most: a worker, wherever a server has one."""
    first = min(running.pids)
    pids = [pid for pid in running.pids - {first} if processor.alive(pid) and _is_python(pid)]
    before = {pid: processor.spent_s([pid]) for pid in pids or [first]}
    time.sleep(1)
    return max(before, key=lambda pid: processor.spent_s([pid]) - before[pid])


def _is_python(pid: int) -> bool:
    try:
        return "python" in os.readlink(f"/proc/{pid}/exe")
    except OSError:
        return False


def _fails(load: Load, since: float) -> bool:
    """Whether less than three seconds have passed in which every call was answered, and some were."""
    end = time.monotonic()
    calm = [call for call in load.calls if call[1] > max(since, end - 3)]
    return end < since + 3 or not calm or any(call[2] != 200 for call in calm)


def callers_who_leave(running: Running) -> str:
    """Log-likelihoods that nobody waits for: does the next caller wait for them?"""
    request = running.request(LOGLIK, ROWS)
    usual_ms = min(_ms(running.port, request) for _ in range(20))
    for _ in range(LEAVERS):
        _leave(running.port, request)
    next_ms = _ms(running.port, request)
    return f"the next waits {next_ms:.0f} ms, otherwise {usual_ms:.0f} ms"


def _ms(port: int, request: Request) -> float:
    wire = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_S)
    began = time.monotonic()
    status = post(wire, request)
    wire.close()
    if status != 200:
        return float("inf")
    return 1000 * (time.monotonic() - began)


def _leave(port: int, request: Request) -> None:
    body = first_body(request.body)
    head = [f"POST {request.path} HTTP/1.1", "Host: x", f"Content-Length: {len(body)}"]
    head += [f"{name}: {value}" for name, value in request.headers.items()]
    with socket.create_connection(("127.0.0.1", port)) as wire:
        wire.sendall("\r\n".join([*head, "", ""]).encode() + body)
        wire.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def told_to_stop(running: Running) -> str:
    """SIGTERM, or what its documentation says, under load."""
    pids = running.pids
    with Load(running.port, running.request(LOGLIK, ROWS)).going() as load:
        time.sleep(LOAD_S)
        told = time.monotonic()
        os.kill(min(pids), running.server.end)
        while time.monotonic() < told + STOP_S and any(map(processor.alive, pids)):
            time.sleep(0.1)
    lost = [call for call in load.failed(told) if call[0] < told]
    left = sum(map(processor.alive, pids))
    end = f"{left} processes stay" if left else f"gone after {time.monotonic() - told:.1f} s"
    return f"{len(lost)} of {CALLERS} calls in flight are lost; {end}"


TRIALS: Final[dict[str, Callable[[Running], str]]] = {
    "a row too short": row_too_short,
    f"{LEAVERS} callers who leave": callers_who_leave,
    "a worker is killed": worker_killed,
    "told to stop": told_to_stop,
}


def _tried(running: Running, trial: Callable[[Running], str]) -> str:
    try:
        return trial(running)
    except Exception as error:  # a server that is broken by now is a result
        return f"{type(error).__name__}: {error}"


def main() -> None:
    """Try every server that the command line names."""
    wanted = sys.argv[1:] or ["*"]
    chosen = [s for s in SERVERS.values() if any(fnmatch.fnmatch(s.name, name) for name in wanted)]
    print(f"| server | {' | '.join(TRIALS)} |\n|---|{'---|' * len(TRIALS)}")
    for server in chosen:
        if server.missing:
            print(f"| {server.name} | not installed |", flush=True)
            continue
        cells = []
        for trial in TRIALS.values():
            try:
                with started(server) as running:
                    running.wait(lambda: running.ask(ENCODE, ROWS[:1]))
                    cells.append(_tried(running, trial))
            except Broken as error:
                cells.append(f"does not start: {error}")
        print(f"| {server.name} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
