"""The same work for every server: the artifacts' graphs in ONNX Runtime, and noise by NumPy.

Needs nothing but these two, because it runs in the environment of each peer.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "build/bench"
ARTIFACTS = FOLDER / "artifacts"

Array = np.ndarray[Any, Any]
# Entry points by what a workload asks for: the graph's file, its input, and the numbers in one row of it.
GRAPHS = {
    "vae": ("vae/1/decode.onnx", "z", 16),
    "encode": ("vae/1/encode.onnx", "x", 784),
    "gan": ("gan/1/decode.onnx", "z", 64),
    "loglik": ("flow/1/log_weight.onnx", "x", 784),
}


def session(kind: str, threads: int = 1) -> onnxruntime.InferenceSession:
    """A graph on so many threads, which sleep while there is nothing to do: the cores are shared."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    path = ARTIFACTS / GRAPHS[kind][0]
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


class Graphs:
    """The graphs that a worker needs, one run at a time each."""

    def __init__(self, *kinds: str) -> None:
        self._sessions = {kind: session(kind) for kind in kinds or GRAPHS}
        self._random = np.random.default_rng()

    def sample(self, kind: str, n: int) -> Array:
        """``n`` rows of 784 numbers, of ``vae`` or ``gan``."""
        noise = self._random.standard_normal((n, GRAPHS[kind][2]), dtype=np.float32)
        return self._sessions[kind].run(None, {"z": noise})[0].reshape(n, 784)

    def encode(self, x: Array) -> tuple[Array, Array]:
        """Mean and standard deviation of the code of each row."""
        mean, std = self._sessions["encode"].run(None, {"x": x})
        return mean, std

    def loglik(self, x: Array) -> Array:
        """In nats, of each row."""
        return self._sessions["loglik"].run(None, {"x": x})[0]


def split(rows: Array, counts: list[int]) -> list[Array]:
    """The rows of each request of a batch."""
    return np.split(rows, np.cumsum(counts)[:-1])
