"""Which values a row of data may hold, asked of many rows at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from models.manifest import Support

Array = NDArray[Any]


@dataclass(frozen=True, slots=True)
class Bounds:
    """The support of data as arrays.

    Attributes:
        low, high: of each dimension, (D,), or (1,) for all alike; ``None`` where nothing is bounded.
        lattice: which dimensions are whole numbers, or ``None``.
    """

    low: Array | None
    high: Array | None
    lattice: Array | None

    @classmethod
    def of(cls, support: Sequence[Support]) -> Self:
        """The bounds that a manifest declares."""
        low = np.array([-np.inf if s.low is None else s.low for s in support])
        high = np.array([np.inf if s.high is None else s.high for s in support])
        lattice = np.array([s.lattice for s in support])
        return cls(
            low=low if np.isfinite(low).any() else None,
            high=high if np.isfinite(high).any() else None,
            lattice=lattice if lattice.any() else None,
        )

    @property
    def open(self) -> bool:
        """Whether every number lies inside."""
        return self.low is None and self.high is None and self.lattice is None

    def violations(self, x: Array) -> Array:
        """Which numbers of x (B, ...) lie outside, (B, D)."""
        flat = x.reshape(len(x), -1)
        bad = np.zeros(flat.shape, bool) if self.low is None else flat < self.low
        if self.high is not None:
            bad |= flat > self.high
        if self.lattice is not None:
            bad |= self.lattice & (flat != np.rint(flat))
        return bad
