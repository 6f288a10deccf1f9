"""BentoML: batchable calls, whose batches adapt to what they were seen to take.

``bentoml serve benchmarks.peers.bentoml_server:Peer``. What may be batched are lists, so binary travels as a
list of base64 texts, one for each request. The variable ``BENCH_WORKERS`` says how many processes there are.
"""

from __future__ import annotations

import base64
import os

import bentoml
import numpy as np

from benchmarks.peers.graphs import Array, Graphs, split

BATCHED = {"batchable": True, "batch_dim": 0, "max_batch_size": 64, "max_latency_ms": 10_000}


def _texts(parts: list[Array]) -> list[str]:
    return [base64.b64encode(part.tobytes()).decode() for part in parts]


@bentoml.service(
    workers=int(os.environ["BENCH_WORKERS"]),
    threads=1,
    traffic={"timeout": 60, "max_concurrency": 10_000},
    logging={"access": {"enabled": False}},
    metrics={"enabled": False},
)
class Peer:
    def __init__(self) -> None:
        self.graphs = Graphs()

    @bentoml.api(**BATCHED)
    def one(self, n: np.ndarray) -> np.ndarray:
        """A sample of the VAE for each request: arrays are BentoML's fastest form."""
        return self.graphs.sample("vae", len(n))

    @bentoml.api(**BATCHED)
    def vae(self, n: list[int]) -> list[str]:
        return _texts(split(self.graphs.sample("vae", sum(n)), n))

    @bentoml.api(**BATCHED)
    def gan(self, n: list[int]) -> list[str]:
        return _texts(split(self.graphs.sample("gan", sum(n)), n))

    @bentoml.api(**BATCHED)
    def encode(self, x: np.ndarray) -> np.ndarray:
        """Mean and standard deviation side by side, (n, 32)."""
        return np.concatenate(self.graphs.encode(x.astype(np.float32)), 1)

    @bentoml.api(**BATCHED)
    def loglik(self, x: list[str]) -> list[str]:
        rows = [np.frombuffer(base64.b64decode(text), np.float32).reshape(-1, 784) for text in x]
        return _texts(split(self.graphs.loglik(np.concatenate(rows)), [len(part) for part in rows]))
