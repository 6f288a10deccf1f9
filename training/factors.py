"""What single latents say of the factors that rows were drawn from: disentanglement, measured.

A code is disentangled where one latent knows a factor and the others do not. Which latent knows it is not
asked for, nor in which direction. A code turned within its space says as much in all, and its gap is small:
not 0, unless it is turned by half of a right angle. A gap wants to be read beside that of factors turned at
random.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from models.manifest import Metric

Floats = NDArray[np.float64]
Whole = NDArray[np.int64]

# Of each latent at least, with as many rows in each: Locatello et al. 2019, arXiv 1811.12359. Taken up to the
# next multiple of a factor's levels, or the bins that two levels share would hide a tenth of what is known.
BINS: Final = 20
PARTS: Final = 20  # of the rows, left out in turn for the standard errors


def information_gaps(codes: Floats, factors: Mapping[str, Whole]) -> Iterator[tuple[str, Metric]]:
    """For each factor what the best latent knows of it, and by how much it is ahead of the second best.

    The gap is a part of the factor's entropy; the mutual information gap is its mean over the factors.
    Standard errors are of the rows, by the jackknife.

    Reference: Chen et al. 2018, arXiv 1802.04942, section 4.1, with a histogram for the densities.

    Args:
        codes: one draw of each row's latents, (N, Z). With means instead, a latent that is not in use would
            seem to know what its noise covers.
        factors: by name the level of each row's factor, (N,).
    """
    part, nobody = np.arange(len(codes)) % PARTS, -1
    gauges = np.array([_leads(codes, factors, part != out) for out in (nobody, *range(PARTS))])
    found, without = gauges[0], gauges[1:]
    error = np.sqrt((PARTS - 1) * without.var(axis=0))
    for name, of, off in zip(factors, found, error, strict=True):
        yield f"information_{name}", _metric(of[0], off[0], "nats")
        yield f"gap_{name}", _metric(of[1], off[1], "of the factor's entropy")
    gap_error = math.sqrt((PARTS - 1) * without[..., 1].mean(axis=1).var())
    yield "mutual_information_gap", _metric(found[:, 1].mean(), gap_error, "of the factors' entropy")


def mutual_information(one: Whole, other: Whole) -> float:
    """Of two columns of whole numbers, (N,) each, in nats, from how often they meet.

    Counts of N rows lie too high by about a half of one over N for each cell that may be hit and is not
    foreseen; that much is taken off (Miller & Madow 1955), so the answer may lie below 0 by its noise. It
    takes several rows for each cell: of 20 by 9 cells, 1,500 rows are enough and 200 are not.
    """
    meetings = np.zeros((one.max() + 1, other.max() + 1))
    np.add.at(meetings, (one, other), 1)
    return _entropy(meetings.sum(1)) + _entropy(meetings.sum(0)) - _entropy(meetings)


def _leads(codes: Floats, factors: Mapping[str, Whole], kept: NDArray[np.bool_]) -> list[tuple[float, float]]:
    """What the best latent knows of each factor in nats, and its lead as a part of the entropy."""
    rank = codes[kept].argsort(axis=0).argsort(axis=0)
    return [_lead(rank, level[kept]) for level in factors.values()]


def _lead(rank: Whole, level: Whole) -> tuple[float, float]:
    levels = np.bincount(level)
    bins = rank * (-(-BINS // len(levels)) * len(levels)) // len(rank)
    # Two latents that say nothing stand for those that a small code does not have.
    known = sorted([0.0, 0.0, *(mutual_information(column, level) for column in bins.T)])
    return known[-1], (known[-1] - known[-2]) / _entropy(levels)


def _entropy(counts: NDArray[Any]) -> float:
    """Of what was counted, in nats, with the correction of Miller & Madow."""
    hit = counts[counts > 0]
    p = hit / hit.sum()
    return float(-(p * np.log(p)).sum() + (len(hit) - 1) / (2 * hit.sum()))


def _metric(value: float, error: float, unit: str) -> Metric:
    return Metric(value=float(value), unit=unit, kind="estimate", standard_error=float(error))
