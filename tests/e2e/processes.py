"""Real processes: each listens on loopback, is waited for, and is ended by the handle that started it."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families as families

ROOT = Path(__file__).parents[2]


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def program(name: str) -> str:
    """The path of an installed program; the test is left out without it."""
    path = shutil.which(name)
    if path is None:
        pytest.skip(f"{name} is not installed here (make test installs it as root on Debian)")
    return path


def until(holds: Callable[[], bool], what: str, timeout_s: float = 20) -> None:
    """Return as soon as it holds."""
    end = time.monotonic() + timeout_s
    while not holds():
        assert time.monotonic() < end, f"{what}: not within {timeout_s} s"
        time.sleep(0.02)


class Running:
    """A child process with its log in a file."""

    def __init__(self, command: list[str], log: Path, env: dict[str, str] | None = None) -> None:
        self.log_file = log
        with log.open("ab") as out:
            self.process = subprocess.Popen(command, cwd=ROOT, env=env, stdout=out, stderr=out)

    @property
    def log(self) -> str:
        return self.log_file.read_text(errors="replace")

    @property
    def alive(self) -> bool:
        return self.process.poll() is None

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def ended(self, timeout_s: float = 30) -> int:
        """Wait for the end, and give the exit code."""
        return self.process.wait(timeout_s)

    def stop(self) -> int:
        """End it: politely first."""
        if self.alive:
            self.signal(signal.SIGTERM)
        try:
            return self.ended()
        except subprocess.TimeoutExpired:
            self.process.kill()
            return self.ended()


@dataclass
class Service:
    """``python -m service`` on a port of its own, and a client that talks to it."""

    running: Running
    url: str
    client: httpx.Client

    @classmethod
    def start(cls, artifacts: Path, log: Path, under: Sequence[str] = (), **knobs: Any) -> Service:
        """Start it without waiting; knobs are fields of its settings, ``under`` is a command that runs it."""
        port = free_port()
        knobs = {"host": "127.0.0.1", "port": port, "artifacts": artifacts, **knobs}
        ours = {f"PUSHFORWARD_{name.upper()}": str(value) for name, value in knobs.items()}
        inherited = {k: v for k, v in os.environ.items() if not k.startswith(("PUSHFORWARD_", "REDIS_"))}
        command = [*under, sys.executable, "-m", "service"]
        running = Running(command, log, {**inherited, **ours})
        url = f"http://127.0.0.1:{port}"
        return cls(running, url, httpx.Client(base_url=url, timeout=60))

    def status(self, path: str) -> int:
        """The status of a GET, 0 where nobody listens any more."""
        try:
            return httpx.get(self.url + path, timeout=5).status_code
        except httpx.TransportError:
            return 0

    def ready(self) -> Service:
        """Wait until the service says that it is ready."""

        def answers() -> bool:
            assert self.running.alive, f"the service ended:\n{self.running.log}"
            return self.status("/health/ready") == 200

        until(answers, "ready", timeout_s=60)
        return self

    def post(self, verb: str, **fields: Any) -> dict[str, Any]:
        """The JSON answer to a call that must succeed."""
        answer = self.client.post(f"/{verb}", json=fields)
        assert answer.status_code == 200, f"{answer.status_code}: {answer.text}"
        return dict(answer.json())

    def npy(self, verb: str, **fields: Any) -> bytes:
        """The answer as the bytes of a NumPy file."""
        answer = self.client.post(f"/{verb}", json=fields, headers={"Accept": "application/x-npy"})
        assert answer.status_code == 200, f"{answer.status_code}: {answer.text}"
        return answer.content

    def metric(self, name: str, **labels: str) -> float:
        """The sum of all samples of a metric that carry the labels."""
        samples = (s for family in families(self.client.get("/metrics").text) for s in family.samples)
        return sum(s.value for s in samples if s.name == name and labels.items() <= s.labels.items())

    def stop(self) -> int:
        """SIGTERM, and the exit code."""
        code = self.running.stop()
        self.client.close()
        return code


class Redis:
    """A redis-server that can be killed, frozen and brought back on the same port."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.port = folder, free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self.start()

    def start(self) -> None:
        command = [program("redis-server"), "--port", str(self.port), "--bind", "127.0.0.1", "--save", ""]
        command += ["--appendonly", "no", "--dir", str(self.folder)]
        self.running = Running(command, self.folder / "redis.log")
        until(lambda: self.ask("PING") == "+PONG", "redis answers")

    def ask(self, line: str) -> str:
        """The first line of the answer to an inline command."""
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=1) as wire:
                wire.sendall(line.encode() + b"\r\n")
                return wire.recv(4096).split(b"\r\n")[0].decode()
        except OSError:
            return ""

    @property
    def keys(self) -> int:
        return int(self.ask("DBSIZE").removeprefix(":"))

    def kill(self) -> None:
        self.running.process.kill()
        self.running.ended()

    def stop(self) -> None:
        """End it, also when it is frozen."""
        if self.running.alive:
            self.running.signal(signal.SIGCONT)
            self.kill()
