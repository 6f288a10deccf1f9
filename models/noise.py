"""Noise by address: a vector is a function of (seed, index, stream), whoever draws it, and with what else.

Philox4x32-10 maps a counter and a key of 32-bit words to four words. Row ``index`` of a seed takes the
counters ``(index low, index high, block, stream)``, ``block = 0, 1, ...`` until the row is full, under the
key ``(seed low, seed high)``. The words w of a row, in order, become numbers by a transform that belongs to
the contract, computed in float64:

    uniform           u = (w + 1/2) / 2³², kept below 1 after rounding
    logistic          log u - log(1 - u)
    standard normal   Box–Muller on pairs: √(-2 log u₀) cos 2πu₁, √(-2 log u₀) sin 2πu₁
    truncated at ±t   Φ⁻¹(1/2 + (Φ(z) - 1/2)(Φ(t) - Φ(-t))) of the standard normal z

A truncated number is the standard normal one of its address, drawn in: what lies far out, the most. No NumPy
distribution method is used: their streams may change between versions.

Reference: Salmon, Moraes, Dror & Shaw 2011, "Parallel random numbers: as easy as 1, 2, 3"; Random123 1.14.
Brock, Donahue & Simonyan 2019, arXiv 1809.11096, section 3.1, for what truncation is good for.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import accumulate
from typing import Any, Final, NamedTuple

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

_ROOT_2: Final = math.sqrt(2.0)
_ERF: Final = np.frompyfunc(math.erf, 1, 1)
# Coefficients of AS 241, from the highest power down: above and below the line.
_MIDDLE: Final = (
    np.array(
        [
            2.5090809287301226727e3,
            3.3430575583588128105e4,
            6.7265770927008700853e4,
            4.5921953931549871457e4,
            1.3731693765509461125e4,
            1.9715909503065514427e3,
            1.3314166789178437745e2,
            3.3871328727963666080e0,
        ]
    ),
    np.array(
        [
            5.2264952788528545610e3,
            2.8729085735721942674e4,
            3.9307895800092710610e4,
            2.1213794301586595867e4,
            5.3941960214247511077e3,
            6.8718700749205790830e2,
            4.2313330701600911252e1,
            1.0,
        ]
    ),
)
_TAIL: Final = (
    np.array(
        [
            7.74545014278341407640e-4,
            2.27238449892691845833e-2,
            2.41780725177450611770e-1,
            1.27045825245236838258e0,
            3.64784832476320460504e0,
            5.76949722146069140550e0,
            4.63033784615654529590e0,
            1.42343711074968357734e0,
        ]
    ),
    np.array(
        [
            1.05075007164441684324e-9,
            5.47593808499534494600e-4,
            1.51986665636164571966e-2,
            1.48103976427480074590e-1,
            6.89767334985100004550e-1,
            1.67638483018380384940e0,
            2.05319162663775882187e0,
            1.0,
        ]
    ),
)

Words = NDArray[np.uint64]  # of 32 bits each: a product needs room for 64
Numbers = NDArray[np.floating[Any]]


class Address(NamedTuple):
    """Where the noise of some rows is found: row ``i`` of the piece has index ``offset + i * step``.

    Attributes:
        seed: 0 to 2⁵³ - 1.
        offset: the index of the first row; the last must not pass 2⁵³ - 1.
        stream: keeps the inputs of one row apart.
        scale: multiplies every number, the temperature of a sample.
        step: 1, or 0 to give every row the same noise.
        truncation: the largest size of a standard normal number, before it is scaled.
    """

    seed: int
    offset: int = 0
    stream: int = LATENT
    scale: float = 1.0
    step: int = 1
    truncation: float = math.inf

    def skip(self, rows: int) -> Address:
        """The address of the rows that follow the first ``rows``."""
        offset = self.offset + rows * self.step
        return Address(self.seed, offset, self.stream, self.scale, self.step, self.truncation)


FIXED: Final = Address(0, 0, step=0)  # for verbs that have no seed: one draw, the same for every row


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
            if rows.kept is not None and law == "standard_normal":
                _truncate(numbers, rows.kept[part])
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
        table = np.array([(a.seed, a.offset, a.stream) for a, _ in pieces], np.uint64).T
        if self.count > len(pieces):
            table = table.repeat(counts, axis=1)
            table[1] += _places(pieces, counts)
        halves = np.empty((2, 2, self.count), np.uint64)
        np.bitwise_and(table[:2], _MASK, halves[:, 0])
        np.right_shift(table[:2], _HALF, halves[:, 1])
        (self._key, self._index), self._stream = halves, table[2]
        scales = [a.scale for a, _ in pieces]
        self.scale = None if scales.count(1.0) == len(scales) else np.repeat(scales, counts)
        # The mass of a standard normal that truncation keeps.
        bounds = [a.truncation for a, _ in pieces]
        self.kept = None
        if bounds.count(math.inf) < len(bounds):
            self.kept = np.repeat([math.erf(bound / _ROOT_2) for bound in bounds], counts)

    def words(self, part: slice, blocks: int) -> tuple[Words, Words]:
        """Words 0, 2 and words 1, 3 of the rows of a part, each (2, blocks, rows)."""
        low, high = self._index[:, part]
        even = np.empty((2, blocks, len(low)), np.uint64)
        odd = np.empty_like(even)
        even[0], odd[0] = low, high
        even[1], odd[1] = np.arange(blocks)[:, None], self._stream[part]
        return philox(even, odd, self._key[:, part])


def _places(pieces: Sequence[tuple[Address, int]], counts: list[int]) -> Words:
    """How far the index of each row is from its piece's offset."""
    if len(pieces) == 1:
        return np.arange(counts[0], dtype=np.uint64) * np.uint64(pieces[0][0].step)
    starts = np.array([0, *accumulate(counts[:-1])]).repeat(counts)
    steps = np.array([a.step for a, _ in pieces]).repeat(counts)
    return np.asarray((np.arange(len(starts)) - starts) * steps, np.uint64)


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
    crossed = product[::-1]
    for round_key in keys:
        np.multiply(even, multipliers, product)
        np.right_shift(crossed, _HALF, even)
        np.bitwise_xor(even, odd, even)
        np.bitwise_xor(even, round_key, even)
        np.bitwise_and(crossed, _MASK, odd)
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


def _truncate(z: Numbers, kept: Numbers) -> None:
    """Draw standard normal numbers in, (2, blocks, rows), each row to a mass in the middle, (rows,)."""
    inward = kept < 1.0  # of the others, rounding would touch the tails
    z[..., inward] = _quantile(_ERF(z[..., inward] / _ROOT_2).astype(np.float64) / 2 * kept[inward])


def _quantile(q: Numbers) -> Numbers:
    """The standard normal number below which lies the mass 1/2 + q, to 16 digits.

    Reference: Wichura 1988, "Algorithm AS 241: the percentage points of the normal distribution", PPND16.
    Its third part, for tails lighter than 1.4e-11, is left out: words of 32 bits hardly reach so far.
    """
    middle = _ratio(0.180625 - np.minimum(np.abs(q), 0.425) ** 2, _MIDDLE) * q
    tail = _ratio(np.sqrt(-np.log(0.5 - np.maximum(np.abs(q), 0.425))) - 1.6, _TAIL)
    return np.where(np.abs(q) <= 0.425, middle, np.copysign(tail, q))


def _ratio(r: Numbers, polynomials: tuple[Numbers, Numbers]) -> Numbers:
    above, below = polynomials
    return np.polyval(above, r) / np.polyval(below, r)


_LAWS: Final = {"uniform": _uniform, "logistic": _logistic, "standard_normal": _standard_normal}
