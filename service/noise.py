"""Noise by address: a vector is a function of (seed, index, stream), whoever draws it, and with what else.

Philox4x32-10 maps a counter and a key of 32-bit words to four words. Row ``index`` of a seed takes the
counters ``(index low, index high, block, stream)``, ``block = 0, 1, ...`` until the row is full, under the
key ``(seed low, seed high)``. The words w of a row, in order, become numbers by a transform that belongs to
the contract, computed in float64:

    uniform           u = (w + 1/2) / 2³², kept below 1 after rounding
    logistic          log u - log(1 - u)
    standard normal   Box–Muller on pairs: √(-2 log u₀) cos 2πu₁, √(-2 log u₀) sin 2πu₁

No NumPy distribution method is used: their streams may change between versions.

Reference: Salmon, Moraes, Dror & Shaw 2011, "Parallel random numbers: as easy as 1, 2, 3"; Random123 1.14.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import DTypeLike, NDArray

from models.manifest import Law

LATENT: Final = 0  # the stream of codes; the noise inputs of an entry point take 1, 2, ...
NOISE: Final = 1
LAST: Final = 2**53 - 1  # seeds and indices survive JSON in every client

_ROUNDS: Final = 10
_MULTIPLIERS: Final = np.array([0xD2511F53, 0xCD9E8D57], np.uint64)[:, None, None]
_WEYL: Final = np.array([0x9E3779B9, 0xBB67AE85], np.uint64)
_KEY_STEPS: Final = (np.arange(_ROUNDS, dtype=np.uint64)[:, None] * _WEYL)[:, :, None]
_HALF: Final = np.array(32, np.uint64)
_MASK: Final = np.array(0xFFFFFFFF, np.uint64)
_CHUNK_BLOCKS: Final = 1 << 13  # of four words: the buffers of a chunk stay in the processor's cache

Words = NDArray[np.uint64]  # of 32 bits each: a product needs room for 64
Numbers = NDArray[np.floating[Any]]


@dataclass(frozen=True, slots=True)
class Address:
    """Where the noise of some rows is found: row ``i`` of the piece has index ``offset + i * step``.

    Attributes:
        seed: 0 to 2⁵³ - 1.
        offset: the index of the first row; the last must not pass 2⁵³ - 1.
        stream: keeps the inputs of one row apart.
        scale: multiplies every number, the temperature of a sample.
        step: 1, or 0 to give every row the same noise.
    """

    seed: int
    offset: int = 0
    stream: int = LATENT
    scale: float = 1.0
    step: int = 1

    def skip(self, rows: int) -> Address:
        """The address of the rows that follow the first ``rows``."""
        return Address(self.seed, self.offset + rows * self.step, self.stream, self.scale, self.step)


def draw(
    pieces: Sequence[tuple[Address, int]],
    law: Law,
    shape: tuple[int, ...],
    dtype: DTypeLike = np.float32,
) -> NDArray[Any]:
    """The noise of all pieces, one after another.

    Args:
        pieces: an address and its number of rows, each.
        law: what the numbers follow.
        shape: of one row.

    Returns:
        (sum of rows, *shape); the bits of a row depend on its address, law, shape and dtype alone.
    """
    width = math.prod(shape)
    blocks = -(-width // 4)
    rows = _Rows(pieces)
    out = np.empty((rows.count, blocks, 2, 2), dtype)
    chunk = max(1, _CHUNK_BLOCKS // max(1, blocks))
    for start in range(0, rows.count, chunk):
        part = slice(start, start + chunk)
        for place, numbers in enumerate(_LAWS[law](*rows.words(part, blocks))):
            if rows.scale is not None:
                numbers *= rows.scale[part]
            out[part, :, :, place] = numbers.T
    if law == "uniform":
        np.minimum(out, np.nextafter(out.dtype.type(1), out.dtype.type(0)), out=out)
    return out.reshape(rows.count, blocks * 4)[:, :width].reshape(rows.count, *shape)


class _Rows:
    """Key, counter and scale of every row of all pieces."""

    def __init__(self, pieces: Sequence[tuple[Address, int]]) -> None:
        counts = [rows for _, rows in pieces]
        self.count = sum(counts)
        table = np.array([(a.seed, a.offset, a.stream, a.step) for a, _ in pieces], np.uint64).T
        if self.count > len(pieces):
            table = np.repeat(table, counts, axis=1)
            starts = np.repeat(np.cumsum([0, *counts[:-1]]), counts)
            table[1] += (np.arange(self.count) - starts).astype(np.uint64) * table[3]
        halves = np.empty((2, 2, self.count), np.uint64)
        np.bitwise_and(table[:2], _MASK, halves[:, 0])
        np.right_shift(table[:2], _HALF, halves[:, 1])
        (self._key, self._index), self._stream = halves, table[2]
        scales = [a.scale for a, _ in pieces]
        self.scale = np.repeat(scales, counts) if any(scale != 1.0 for scale in scales) else None

    def words(self, part: slice, blocks: int) -> tuple[Words, Words]:
        """Words 0, 2 and words 1, 3 of the rows of a part, each (2, blocks, rows)."""
        low, high = self._index[:, part]
        even = np.empty((2, blocks, len(low)), np.uint64)
        odd = np.empty_like(even)
        even[0], odd[0] = low, high
        even[1], odd[1] = np.arange(blocks)[:, None], self._stream[part]
        return philox(even, odd, self._key[:, part])


def philox(even: Words, odd: Words, key: Words) -> tuple[Words, Words]:
    """Philox4x32-10 of many counters at once.

    Args:
        even: words 0 and 2 of the counters, (2, M, N); holds those of the results afterwards.
        odd: words 1 and 3, (2, M, N), likewise.
        key: (2, N), one for each column of counters.

    Returns:
        Both again.
    """
    # Operands are spread to full arrays first: NumPy broadcasts at two to three times the cost.
    keys = np.empty((_ROUNDS, *even.shape), np.uint64)
    keys[...] = ((key + _KEY_STEPS) & _MASK)[:, :, None]
    multipliers, product = np.empty_like(even), np.empty_like(even)
    multipliers[...] = _MULTIPLIERS
    (even_0, even_1), (odd_0, odd_1), (product_0, product_1) = even, odd, product
    for round_key in keys:
        np.multiply(even, multipliers, product)
        np.right_shift(product_1, _HALF, even_0)
        np.right_shift(product_0, _HALF, even_1)
        np.bitwise_xor(even, odd, even)
        np.bitwise_xor(even, round_key, even)
        np.bitwise_and(product_1, _MASK, odd_0)
        np.bitwise_and(product_0, _MASK, odd_1)
    return even, odd


def _uniform(even: Words, odd: Words) -> tuple[Numbers, Numbers]:
    return (even + 0.5) * 2.0**-32, (odd + 0.5) * 2.0**-32


def _logistic(even: Words, odd: Words) -> tuple[Numbers, Numbers]:
    first, second = _uniform(even, odd)
    return np.log(first) - np.log1p(-first), np.log(second) - np.log1p(-second)


def _standard_normal(even: Words, odd: Words) -> tuple[Numbers, Numbers]:
    first, second = _uniform(even, odd)
    radius = np.sqrt(-2.0 * np.log(first))
    angle = (2.0 * math.pi) * second
    return radius * np.cos(angle), radius * np.sin(angle)


_LAWS: Final = {"uniform": _uniform, "logistic": _logistic, "standard_normal": _standard_normal}
