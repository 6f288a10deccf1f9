"""The limit: the graph alone, in a loop in one process, on all cores, at its best size of batch.

Either one run with a thread on each core, or a run on each core at the same time; which of the two is faster
depends on the graph.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from typing import Final

import numpy as np
from onnxruntime import InferenceSession

from benchmarks.peers.graphs import GRAPHS, session
from benchmarks.servers import CORES
from benchmarks.workloads import Kind

BATCHES: Final = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)
SECONDS: Final = 0.3


@dataclass(frozen=True)
class Limit:
    """The best that a graph reached."""

    rows_per_s: float
    batch: int
    runs: int
    threads: int

    @property
    def how(self) -> str:
        """In words."""
        if self.runs == 1:
            return f"one run of {self.threads} threads, batches of {self.batch}"
        return f"{self.runs} runs of one thread, batches of {self.batch}"


def limit(kind: Kind) -> Limit:
    """Try every size of batch both ways."""
    return max(
        (
            Limit(_rows_per_s(kind, sessions, batch), batch, runs, threads)
            for runs, threads in ((1, CORES), (CORES, 1))
            for sessions in [[session(kind, threads) for _ in range(runs)]]
            for batch in BATCHES
        ),
        key=lambda limit: limit.rows_per_s,
    )


def _rows_per_s(kind: Kind, sessions: list[InferenceSession], batch: int) -> float:
    _, name, columns = GRAPHS[kind]
    feed = {name: np.random.default_rng(0).random((batch, columns), np.float32)}
    done = [0] * len(sessions)
    end = time.perf_counter() + SECONDS

    def loop(place: int) -> None:
        while time.perf_counter() < end:
            sessions[place].run(None, feed)
            done[place] += batch

    began = time.perf_counter()
    threads = [threading.Thread(target=loop, args=(place,)) for place in range(len(sessions))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(done) / (time.perf_counter() - began)
