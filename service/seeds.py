"""Seeds for those who name none, whose first row of noise is there already: drawn for many at once.

A single row costs the generator a few dozen calls of NumPy, which is more than a small graph takes; a
hundredth row beside it next to nothing. The answer names the seed, and whoever asks again for it has the same
row drawn alone, to the same bits.
"""

from __future__ import annotations

import random
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from models.manifest import Law
from models.noise import Address, draw

AT_ONCE: Final = 256
KEPT: Final = 4 * AT_ONCE  # of rows whose seed was given away, and which may never be asked for
BITS: Final = 53  # survive JSON in every client

Array = NDArray[Any]


class Seeds:
    """Of one input.

    Args:
        shape: of one row.
    """

    def __init__(self, law: Law, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
        self._law, self._shape, self._dtype = law, shape, dtype
        self._seeds: list[int] = []
        self._rows: dict[int, Array] = {}

    def take(self) -> int:
        """A seed that nobody has had."""
        if not self._seeds:
            self._draw()
        return self._seeds.pop()

    def row(self, address: Address) -> Array | None:
        """The row at an address, (1, *shape), if it was drawn and not had yet."""
        return self._rows.pop(address.seed, None) if address == (address.seed, *FIRST) else None

    def _draw(self) -> None:
        if len(self._rows) > KEPT:
            self._rows = {}
        self._seeds = [random.getrandbits(BITS) for _ in range(AT_ONCE)]
        rows = draw([(Address(seed), 1) for seed in self._seeds], self._law, self._shape, self._dtype)
        self._rows.update({seed: rows[i : i + 1] for i, seed in enumerate(self._seeds)})


FIRST: Final = Address(0)[1:]  # what the address of a first row says beside its seed
