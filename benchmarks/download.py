"""Long downloads beside short calls: ``python -m benchmarks.download``.

For each workload, in one run and on one service: a file from a whole line and one from a line that is cut
twice, which must be the same; how far the service's resident memory grows with the two; and the latency of a
small ``/sample`` of the same model, from one caller, on the idle service and beside further downloads. Ratios
are the result: the rest belongs to the machine, whose cores the service shares here with its callers. Those
who download take only what nobody else wants of them.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import numpy as np

from benchmarks.proxy import CuttingProxy
from benchmarks.servers import Server, started
from benchmarks.workloads import OURS

ARTIFACTS = os.environ.get("PUSHFORWARD_ARTIFACTS", "artifacts")
SERVICE = Server(
    "download",
    "this service on the demo models",
    lambda port: [sys.executable, "-m", "service", "--port", str(port), "--artifacts", ARTIFACTS],
    OURS,
)
SMALL_CALLS = 2000
WARM_CALLS = 200


@dataclass(frozen=True)
class Workload:
    """Rows of a model, and after how many bytes its line is cut."""

    model: str
    n: int
    cuts: tuple[int, int]


WORKLOADS = (
    Workload("flow-moons", 1_000_000, (2_500_000, 3_000_000)),
    Workload("vae-digits", 100_000, (9_000_000, 8_000_000)),
)


@dataclass
class Resident:
    """The peak of the service's resident memory, in bytes; to look costs the service milliseconds."""

    url: str
    peak: float = field(default=0.0)

    def now(self) -> float:
        text = httpx.get(f"{self.url}/metrics").text
        (line,) = (line for line in text.splitlines() if line.startswith("process_resident_memory_bytes "))
        return float(line.split()[1])

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Look every tenth of a second, until the block ends."""
        over = threading.Event()
        watcher = threading.Thread(target=self._watch, args=(over,))
        watcher.start()
        try:
            yield
        finally:
            over.set()
            watcher.join()

    def _watch(self, over: threading.Event) -> None:
        while not over.wait(0.1):
            self.peak = max(self.peak, self.now())


def latencies_ms(url: str, model: str, calls: int = SMALL_CALLS) -> list[float]:
    """How long small calls take, one after the other."""
    body = {"model": model, "n": 1, "seed": 3}
    taken: list[float] = []
    with httpx.Client(base_url=url) as client:
        for _ in range(calls):
            began = time.perf_counter()
            client.post("/sample", json=body).raise_for_status()
            taken.append(1000 * (time.perf_counter() - began))
    return taken


def download(url: str, work: Workload, path: Path) -> float:
    """How long a file takes, in seconds, by the command in a process of its own."""
    command = ["nice", "-n", "19", sys.executable, "-m", "pushforward_client", "--url", url]
    command += ["sample", work.model]
    command += ["-n", str(work.n), "--seed", "7", "-o", str(path)]
    path.unlink(missing_ok=True)
    began = time.perf_counter()
    subprocess.run(command, check=True, stderr=subprocess.DEVNULL)
    return time.perf_counter() - began


@contextmanager
def downloads(url: str, work: Workload, path: Path) -> Iterator[None]:
    """One after the other, until the block ends."""
    over = threading.Event()

    def go_on() -> None:
        while not over.is_set():
            download(url, work, path)

    with ThreadPoolExecutor(1) as beside:
        going = beside.submit(go_on)
        try:
            yield
        finally:
            over.set()
        going.result()


def hashed(path: Path) -> str:
    """What a file hashes to."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def measure(url: str, work: Workload, folder: Path) -> str:
    """One line of the table."""
    latencies_ms(url, work.model, WARM_CALLS)
    idle = latencies_ms(url, work.model)
    resident = Resident(url)
    before = resident.now()
    with resident.watched(), CuttingProxy(int(url.rpartition(":")[2]), work.cuts) as line:
        whole_s = download(url, work, folder / "whole.npy")
        cut_s = download(line.url, work, folder / "cut.npy")
    whole, cut = hashed(folder / "whole.npy"), hashed(folder / "cut.npy")
    with downloads(url, work, folder / "again.npy"):
        beside = latencies_ms(url, work.model)
    assert line.broken == 2, f"the line was cut {line.broken} times"
    assert cut == whole, "the files differ"
    grown_mb = (resident.peak - before) / 1e6
    cells = [work.model, f"{work.n:,}", f"{whole_s:.1f}", f"{cut_s:.1f}", f"{whole[:12]}…", f"{grown_mb:.1f}"]
    (p50, p99), (p50_then, p99_then) = (np.percentile(taken, [50, 99]) for taken in (idle, beside))
    cells += [f"{p50:.2f} / {p99:.2f}", f"{p50_then:.2f} / {p99_then:.2f}", f"{p99_then / p99:.2f}"]
    return f"| {' | '.join(cells)} |"


def main() -> None:
    names = ["model", "rows", "s", "s, cut twice", "sha256 of both", "memory grows, MB"]
    names += ["idle p50 / p99, ms", "beside, ms", "p99 ratio"]
    print(f"| {' | '.join(names)} |\n|---|{'---:|' * (len(names) - 1)}")
    with started(SERVICE) as running, tempfile.TemporaryDirectory() as folder:
        url = f"http://127.0.0.1:{running.port}"
        running.wait(lambda: urllib.request.urlopen(f"{url}/health/ready"))
        for work in WORKLOADS:
            print(measure(url, work, Path(folder)), flush=True)


if __name__ == "__main__":
    main()
