"""Seeds for those who name none, whose noise is there already: drawn for many at once.

One row, or a few dozen, cost the generator a few dozen calls of NumPy, which may be more than a small graph
takes; as many again beside them little more. The answer names the seed, and whoever asks again for it has the
same rows drawn alone, to the same bits.
"""

from __future__ import annotations

import random
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from models.manifest import Law
from models.noise import Address, draw

AT_ONCE: Final = 256  # rows
MOST: Final = AT_ONCE // 4  # rows of one seed that are drawn beforehand
KEPT: Final = 4 * AT_ONCE  # rows whose seed was given away, and which may never be asked for
BITS: Final = 53  # survive JSON in every client

Array = NDArray[Any]


class Seeds:
    """Of one input.

    Args:
        shape: of one row.
    """

    def __init__(self, law: Law, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
        self._law, self._shape, self._dtype = law, shape, dtype
        self._seeds: dict[int, list[int]] = {}  # by the number of their rows
        self._noise: dict[tuple[int, int], Array] = {}

    def take(self, rows: int) -> int:
        """A seed that nobody has had, for so many rows, at most ``MOST``."""
        seeds = self._seeds.get(rows) or self._draw(rows)
        return seeds.pop()

    def noise(self, address: Address, rows: int) -> Array | None:
        """The rows from an address on, (rows, *shape), if they were drawn and not had yet."""
        return self._noise.pop((address.seed, rows), None) if address == (address.seed, *FIRST) else None

    def _draw(self, rows: int) -> list[int]:
        if self._kept() > KEPT:
            self._seeds, self._noise = {}, {}
        seeds = self._seeds[rows] = [random.getrandbits(BITS) for _ in range(AT_ONCE // rows)]
        noise = draw([(Address(seed), rows) for seed in seeds], self._law, self._shape, self._dtype)
        for place, seed in enumerate(seeds):
            self._noise[seed, rows] = noise[place * rows : (place + 1) * rows]
        return seeds

    def _kept(self) -> int:
        """How many rows nobody has had; a copy, because a lane may take some on its own thread."""
        return sum(rows for _, rows in list(self._noise))


FIRST: Final = Address(0)[1:]  # what the address of a first row says beside its seed
