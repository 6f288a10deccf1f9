"""Who is measured: how each server is started, how it is asked, and how it ends.

Every server has as many processes as there are cores, unless its name says otherwise, and one thread for each
graph's run.
"""

from __future__ import annotations

import http.client
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from benchmarks import processor
from benchmarks.peers.graphs import ARTIFACTS, FOLDER, ROOT
from benchmarks.workloads import BASE64, BENTO, OURS, PLAIN, Array, Dialect, Request, Workload, first_body

CORES: Final = len(os.sched_getaffinity(0))
START_S: Final = 120
SURE: Final = 8 * CORES  # answers in a row, on new connections, before each process must have given one
STOP_S: Final = 10
VENVS: Final = FOLDER / "venvs"


class Broken(Exception):
    """A server that does not start, or does not answer."""


@dataclass(frozen=True)
class Server:
    """A server in one configuration.

    Attributes:
        title: the configuration, for people.
        command: of the port.
        venv: whose Python runs it, ``None`` for ours.
    """

    name: str
    title: str
    command: Callable[[int], list[str]]
    dialect: Dialect
    environment: dict[str, str] = field(default_factory=dict)
    venv: str | None = None
    end: signal.Signals = signal.SIGTERM

    @property
    def missing(self) -> bool:
        """Whether it has to be installed first."""
        return self.venv is not None and not (VENVS / self.venv / "installed").exists()


def _module(venv: str | None, module: str, *words: str) -> list[str]:
    python = sys.executable if venv is None else str(VENVS / venv / "bin/python")
    return [python, "-m", module, *words]


def _ours(name: str, processes: int) -> Server:
    return Server(
        name,
        f"this service, {processes} processes" if processes > 1 else "this service, 1 process",
        lambda port: _module(None, "service", "--port", str(port), "--artifacts", str(ARTIFACTS)),
        OURS,
        {"PUSHFORWARD_PROCESSES": str(processes)},
    )


def _naive() -> Server:
    options = ["--workers", str(CORES), "--no-access-log", "--log-level", "warning"]
    return Server(
        "naive",
        f"FastAPI, async routes with pydantic models, uvicorn with {CORES} workers, no batches",
        lambda port: _module(None, "uvicorn", "benchmarks.peers.naive:app", "--port", str(port), *options),
        PLAIN,
    )


def _mosec(workers: int, batch: int) -> Server:
    options = ["--address", "127.0.0.1", "--timeout", "60000", "--capacity", "4096", "--log-level", "error"]
    module = "benchmarks.peers.mosec_server"
    return Server(
        f"mosec-w{workers}-b{batch}",
        f"mosec, workers a route: {workers}, batches of up to {batch} requests within 1 ms",
        lambda port: _module("mosec", module, str(workers), str(batch), "--port", str(port), *options),
        PLAIN,
        venv="mosec",
    )


def _litserve() -> Server:
    module = "benchmarks.peers.litserve_server"
    return Server(
        f"litserve-w{CORES}",
        f"LitServe, {CORES} workers a route, {CORES} front ends, fast queue, batches of up to 64 within 2 ms",
        lambda port: _module("litserve", module, str(port), str(CORES)),
        BASE64,
        venv="litserve",
    )


def _bentoml() -> Server:
    words = ["serve", "benchmarks.peers.bentoml_server:Peer", "--host", "127.0.0.1", "--port"]
    return Server(
        f"bentoml-w{CORES}",
        f"BentoML, {CORES} workers, adaptive batches of up to 64, access log and metrics off",
        lambda port: _module("bentoml", "bentoml", *words, str(port)),
        BENTO,
        {
            "BENCH_WORKERS": str(CORES),
            "BENTOML_HOME": str(FOLDER / "bentoml"),
            "BENTOML_DO_NOT_TRACK": "true",
        },
        venv="bentoml",
    )


def _ray() -> Server:
    return Server(
        f"ray-w{CORES}",
        f"Ray Serve, {CORES} replicas, optimised for throughput, batches of up to 64 within 2 ms",
        lambda port: _module("ray", "benchmarks.peers.ray_server", str(port), str(CORES)),
        PLAIN,
        {"RAY_SERVE_THROUGHPUT_OPTIMIZED": "1", "RAY_USAGE_STATS_ENABLED": "0", "PYTHONPATH": str(ROOT)},
        venv="ray",
        end=signal.SIGINT,
    )


SERVERS: Final = {
    server.name: server
    for server in (
        _ours("ours", CORES),
        _ours("ours-1", 1),
        _naive(),
        _mosec(1, 16),
        _mosec(CORES, 4),
        _mosec(CORES, 16),
        _litserve(),
        _bentoml(),
        _ray(),
    )
}


class Running:
    """A server that has answered."""

    def __init__(self, server: Server, port: int, process: subprocess.Popen[bytes]) -> None:
        self.server = server
        self.port = port
        self._process = process
        self._family = {process.pid}

    @property
    def pids(self) -> set[int]:
        """Its processes, also those that have left the family."""
        self._family |= processor.family(self._process.pid)
        return self._family

    def request(self, work: Workload, rows: Array) -> Request:
        """The workload in the server's words."""
        return self.server.dialect.request(work, rows)

    def ask(self, work: Workload, rows: Array) -> tuple[Array, ...]:
        """The arrays of one answer.

        Raises:
            Broken: if it is no answer.
        """
        try:
            status, body = self._post(self.request(work, rows))
        except (OSError, http.client.HTTPException) as error:
            raise Broken(f"{work.name}: {error!r}") from error
        if status != 200:
            raise Broken(f"{work.name}: status {status}: {body[:200]!r}")
        return self.server.dialect.arrays(work, body)

    def _post(self, request: Request) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        try:
            connection.request("POST", request.path, first_body(request.body), request.headers)
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def wait(self, ask: Callable[[], object]) -> None:
        """Until every process of it answers, and asking no longer raises.

        Raises:
            Broken: if it ends, or takes longer than two minutes.
        """
        end = time.monotonic() + START_S
        answered = 0
        while answered < SURE:
            if self._process.poll() is not None:
                raise Broken(f"it ended with {self._process.returncode}; see {_log(self.server)}")
            try:
                ask()
            except (Broken, OSError):
                if time.monotonic() > end:
                    raise
                answered = 0
                time.sleep(0.2)
            else:
                answered += 1

    def stop(self) -> None:
        """Politely, and whoever is left after ten seconds by force."""
        pids = self.pids
        with suppress(ProcessLookupError):
            self._process.send_signal(self.server.end)
        end = time.monotonic() + STOP_S
        while time.monotonic() < end and any(map(processor.alive, pids)):
            self._process.poll()
            time.sleep(0.1)
        for pid in pids | processor.family(self._process.pid):
            if processor.alive(pid):
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        self._process.wait()


def _log(server: Server) -> Path:
    return FOLDER / f"{server.name}.log"


def free_port() -> int:
    """One that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def started(server: Server) -> Iterator[Running]:
    """The server on a port of its own, until the block ends.

    What it writes goes to a file of its name, which stays where something failed.
    """
    port = free_port()
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PUSHFORWARD_")}
    environment |= {"OMP_NUM_THREADS": "1", **server.environment}
    with _log(server).open("wb") as log:
        process = subprocess.Popen(
            server.command(port),
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    running = Running(server, port, process)
    try:
        yield running
    finally:
        running.stop()
    _log(server).unlink()
