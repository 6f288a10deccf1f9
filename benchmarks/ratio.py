"""The bare graph, a naive FastAPI route and this service, side by side in one run: ``make bench``.

Absolute numbers belong to the machine and to its load; the ratio within a row is the result. Each cell is the
median of rounds whose order is rotated. Before the clock runs both servers are asked once, and their answers
compared in shape.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

ARTIFACTS = Path(os.environ.get("PUSHFORWARD_ARTIFACTS", "artifacts"))
ROUNDS = 3
SECONDS = 3
CONNECTIONS = (1, 32)


@dataclass(frozen=True)
class Workload:
    """One call; ``rows`` in each request."""

    title: str
    verb: str
    fields: dict[str, Any]
    field: str
    rows: int

    @property
    def body(self) -> bytes:
        return json.dumps(self.fields).encode()


POINTS = np.random.default_rng(0).normal(size=(32, 2)).round(3).tolist()
WORKLOADS = (
    Workload("sample, VAE, n=1", "sample", {"model": "vae-digits", "n": 1, "seed": 1}, "samples", 1),
    Workload("sample, VAE, n=64", "sample", {"model": "vae-digits", "n": 64, "seed": 1}, "samples", 64),
    Workload(
        "loglik, flow, 32 rows", "loglik", {"model": "flow-moons", "inputs": POINTS}, "log_likelihood", 32
    ),
)


@contextmanager
def server(command: list[str], port: int, path: str) -> Iterator[str]:
    """A server process on a port, from its first answer on until the block ends."""
    environment = os.environ | {"PUSHFORWARD_PORT": str(port), "PUSHFORWARD_ARTIFACTS": str(ARTIFACTS)}
    process = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    try:
        _wait(f"http://127.0.0.1:{port}{path}", process)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait()


def _wait(url: str, process: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + 60
    while time.monotonic() < end and process.poll() is None:
        try:
            urllib.request.urlopen(url)
        except OSError:
            time.sleep(0.1)
        else:
            return
    raise SystemExit(f"{url} did not answer within 60 s")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def shape(url: str, work: Workload) -> tuple[int, ...]:
    """The shape of the answer's main array."""
    request = urllib.request.Request(
        f"{url}/{work.verb}", work.body, headers={"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request) as answer:
        return np.shape(json.load(answer)[work.field])


def rate(url: str, work: Workload, connections: int) -> float:
    """Requests per second, all of them answered with 200."""
    measure_by = _by_wrk if shutil.which("wrk") else _by_callers
    return measure_by(f"{url}/{work.verb}", work.body.decode(), connections)


def _by_callers(url: str, body: str, connections: int) -> float:
    command = [sys.executable, "-m", "benchmarks.callers", url, str(connections), str(SECONDS)]
    return float(subprocess.run(command, input=body, capture_output=True, text=True, check=True).stdout)


def _by_wrk(url: str, body: str, connections: int) -> float:
    headers = "wrk.method = 'POST'; wrk.headers['Content-Type'] = 'application/json'"
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as script:
        script.write(f"{headers}; wrk.body = [==[{body}]==]")
        script.flush()
        command = ["wrk", "-t1", f"-c{connections}", f"-d{SECONDS}s", "-s", script.name, url]
        said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    if "Non-2xx" in said:
        raise SystemExit(f"not every answer was 200:\n{said}")
    return float(re.findall(r"Requests/sec: +([\d.]+)", said)[0])


def bare(work: Workload) -> float:
    """Rows per second of the graph alone, on one thread, at the request's number of rows."""
    entry_point = "decode" if work.verb == "sample" else "log_weight"
    newest = max((ARTIFACTS / work.fields["model"]).iterdir(), key=lambda version: int(version.name))
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    graph = onnxruntime.InferenceSession(newest / f"{entry_point}.onnx", options)
    (declared,) = graph.get_inputs()
    rows = {declared.name: np.zeros((work.rows, *declared.shape[1:]), np.float32)}
    began, runs = time.perf_counter(), 0
    while time.perf_counter() < began + 1:
        graph.run(None, rows)
        runs += 1
    return runs * work.rows / (time.perf_counter() - began)


def measure(urls: dict[str, str], work: Workload, connections: int) -> dict[str, float]:
    """The median rate of each server."""
    rates: dict[str, list[float]] = {name: [] for name in urls}
    for i in range(ROUNDS):
        order = list(urls) if i % 2 == 0 else list(reversed(urls))
        for name in order:
            rates[name].append(rate(urls[name], work, connections))
    return {name: statistics.median(seen) for name, seen in rates.items()}


def main() -> None:
    naive, ours = free_port(), free_port()
    uvicorn = [sys.executable, *f"-m uvicorn benchmarks.naive:app --port {naive} --no-access-log".split()]
    with ExitStack() as stack:
        urls = {
            "naive": stack.enter_context(server(uvicorn, naive, "/openapi.json")),
            "ours": stack.enter_context(server([sys.executable, "-m", "service"], ours, "/health/ready")),
        }
        client = "wrk" if shutil.which("wrk") else "Python callers"
        print(f"Requests per second by {client}, median of {ROUNDS} rounds of {SECONDS} s, JSON in and out.")
        print("\n| call | connections | bare graph, rows/s | naive route | this service | ratio |")
        print("|---|---:|---:|---:|---:|---:|")
        for work in WORKLOADS:
            answers = {shape(url, work) for url in urls.values()}
            assert len(answers) == 1, f"{work.title}: the answers differ in shape, {answers}"
            for connections in CONNECTIONS:
                print(_line(work, connections, measure(urls, work, connections)), flush=True)


def _line(work: Workload, connections: int, seen: dict[str, float]) -> str:
    """A line of the table."""
    cells = f"{bare(work):,.0f} | {seen['naive']:,.0f} | {seen['ours']:,.0f}"
    return f"| {work.title} | {connections} | {cells} | {seen['ours'] / seen['naive']:.2f} |"


if __name__ == "__main__":
    main()
