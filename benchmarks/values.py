"""Whether a server's answers are right, before its speed counts.

Log-likelihoods and codes have to be those of the graph; samples have to have its mean and spread at every
pixel, and to be different each time.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy as np

from benchmarks.peers.graphs import Graphs
from benchmarks.workloads import Array, Workload, as_sent

TOLERANCE: Final = 1e-3  # of answers that may come from batches of another size, and through decimal digits
DRAWN: Final = {"vae": 20_000, "gan": 4_000}  # rows behind the expected mean and spread
LEAST: Final = 512  # rows of a server that are held against them
WORST: Final = 6.5  # standard errors at one pixel; chance exceeds it in one of ten million runs


class WrongAnswer(Exception):
    """A server's answer that is not what the graph gives."""


@dataclass(frozen=True)
class Expected:
    """What the graphs give."""

    graphs: Graphs

    @cached_property
    def rows(self) -> Array:
        """Those that are sent."""
        return np.random.default_rng(11).random((32, 784), np.float32)

    @cached_property
    def spread(self) -> dict[str, tuple[Array, Array]]:
        """Mean and standard deviation of samples by pixel, (784,) each."""
        drawn = {
            kind: np.concatenate([self.graphs.sample(kind, 500) for _ in range(count // 500)])
            for kind, count in DRAWN.items()
        }
        return {kind: (rows.mean(0), rows.std(0)) for kind, rows in drawn.items()}

    def check(self, work: Workload, ask: Callable[[], tuple[Array, ...]]) -> None:
        """Ask until it is sure.

        Raises:
            WrongAnswer: with the workload and what is wrong.
        """
        if work.kind in DRAWN:
            self._check_samples(work, ask)
        else:
            self._check_rows(work, ask())

    def _check_rows(self, work: Workload, found: tuple[Array, ...]) -> None:
        rows = self.rows[: work.rows]
        right = self.graphs.encode(as_sent(rows)) if work.kind == "encode" else (self.graphs.loglik(rows),)
        for array, wanted in zip(found, right, strict=True):
            if array.shape != wanted.shape or not np.allclose(array, wanted, rtol=0, atol=TOLERANCE):
                raise WrongAnswer(f"{work.name}: {array.shape} {array.ravel()[:3]}, not {wanted.ravel()[:3]}")

    def _check_samples(self, work: Workload, ask: Callable[[], tuple[Array, ...]]) -> None:
        parts = [ask()[0] for _ in range(1 + LEAST // work.rows)]
        if {part.shape for part in parts} != {(work.rows, 784)}:
            raise WrongAnswer(f"{work.name}: shapes {sorted({part.shape for part in parts})}")
        samples = np.concatenate(parts)
        mean, std = self.spread[work.kind]
        off = np.abs(samples.mean(0) - mean) / (std / np.sqrt(len(samples)))
        if not off.max() < WORST:
            raise WrongAnswer(f"{work.name}: a pixel's mean is {off.max():.1f} standard errors off")
        if not 0.8 < (samples.std(0) / std).mean() < 1.2:
            raise WrongAnswer(
                f"{work.name}: the spread is {(samples.std(0) / std).mean():.2f} times the graph's"
            )
        if len(np.unique(samples, axis=0)) < len(samples):
            raise WrongAnswer(f"{work.name}: rows come twice")
