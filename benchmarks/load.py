"""The load: wrk in a closed loop, one thread, connections that stay open, on loopback."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import tempfile
import time
from dataclasses import dataclass
from typing import Final

import numpy as np

from benchmarks import processor
from benchmarks.servers import Broken, Running
from benchmarks.workloads import Workload

SCRIPT: Final = "benchmarks/load.lua"


@dataclass(frozen=True)
class Measured:
    """What one run of the load saw.

    Attributes:
        server_us: processor time of the server's processes for each request, in microseconds.
        others_cores: how many cores were busy with neither server nor load.
    """

    requests_per_s: float
    p50_ms: float
    p99_ms: float
    errors: int
    server_us: float
    others_cores: float


@dataclass(frozen=True)
class _Clocks:
    """Seconds: of the wall, of the machine's cores, of the server, of load clients that have ended."""

    wall: float
    machine: float
    server: float
    load: float


def load(running: Running, work: Workload, connections: int, seconds: float) -> Measured:
    """Ask as fast as answers come; rows that are sent are new ones in every run.

    Raises:
        Broken: if nothing was answered.
    """
    request = running.request(work, np.random.default_rng().random((work.rows, 784), np.float32))
    headers = "\n".join(f"{name}: {value}" for name, value in request.headers.items())
    with tempfile.NamedTemporaryFile() as body:
        body.write(request.body)
        body.flush()
        environment = os.environ | {"BENCH_BODY": body.name, "BENCH_HEADERS": headers}
        command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "20s", "-s", SCRIPT]
        command.append(f"http://127.0.0.1:{running.port}{request.path}")
        before = _clocks(running)
        said = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
        after = _clocks(running)
    return _measured(work, said, before, after)


def _clocks(running: Running) -> _Clocks:
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return _Clocks(
        time.monotonic(),
        processor.machine_s(),
        processor.spent_s(running.pids),
        children.ru_utime + children.ru_stime,
    )


def _measured(work: Workload, said: str, before: _Clocks, after: _Clocks) -> Measured:
    told = json.loads(said.splitlines()[-1])
    if not told["requests"]:
        raise Broken(f"{work.name}: nothing was answered in {told['duration_us'] / 1e6:.0f} s")
    server_s = after.server - before.server
    others_s = after.machine - before.machine - server_s - (after.load - before.load)
    return Measured(
        requests_per_s=told["requests"] / (told["duration_us"] / 1e6),
        p50_ms=told["p50_us"] / 1000,
        p99_ms=told["p99_us"] / 1000,
        errors=told["errors"],
        server_us=1e6 * server_s / told["requests"],
        others_cores=max(0.0, others_s / (after.wall - before.wall)),
    )
