"""The formulas behind the verbs: paths between codes, and what a log-likelihood is worth."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.manifest import DataSpace

Array = NDArray[Any]


def lerp(start: Array, end: Array, t: Array) -> Array:
    """The straight line between two codes (...), at each t, (S, ...), float64."""
    along = t.reshape(-1, *[1] * start.ndim)
    return np.asarray((1 - along) * start.astype(np.float64) + along * end.astype(np.float64))


def slerp(start: Array, end: Array, t: Array) -> Array:
    """The great circle between two codes (...), at each t, (S, ...), float64.

    Keeps the length that normal noise has, which a straight line does not.

    Reference: Shoemake 1985, "Animating rotation with quaternion curves"; White 2016, arXiv 1609.04468.

    Raises:
        ValueError: if an end is zero or the ends are opposite, because then there is no one circle.
    """
    a, b = start.astype(np.float64).ravel(), end.astype(np.float64).ravel()
    length_a, length_b = float(np.linalg.norm(a)), float(np.linalg.norm(b))
    if min(length_a, length_b) == 0:
        raise ValueError("an end without a direction")
    u, v = a / length_a, b / length_b
    # This form of the angle stays accurate for ends that nearly coincide or nearly oppose (Kahan).
    angle = 2 * math.atan2(float(np.linalg.norm(u - v)), float(np.linalg.norm(u + v)))
    if math.pi - angle < 1e-6:
        raise ValueError("opposite ends")
    if angle < 1e-9:
        return lerp(start, end, t)
    from_a, from_b = np.sin((1 - t) * angle) / math.sin(angle), np.sin(t * angle) / math.sin(angle)
    walked = from_a[:, None] * a + from_b[:, None] * b  # (S, Z)
    return walked.reshape(len(t), *start.shape)


def log_mean_exp(log_w: Array) -> tuple[Array, Array]:
    """log(mean(exp)) over the draws of each row, and its standard error by the delta method.

    A row in which a draw is NaN or +inf has the answer NaN.

    Reference: Burda, Grosse & Salakhutdinov 2016, arXiv 1509.00519, section 3.

    Args:
        log_w: (B, K), nats, float64.

    Returns:
        (B,) and (B,), nats; the error is NaN for one draw.
    """
    k = log_w.shape[1]
    highest = log_w.max(axis=1)
    shift = np.where(np.isneginf(highest), 0.0, highest)
    with np.errstate(divide="ignore", invalid="ignore"):
        weights = np.exp(log_w - shift[:, None])
        mean = weights.mean(axis=1)
        score = shift + np.log(mean)
        spread = weights.std(axis=1, ddof=1) if k > 1 else np.full(len(log_w), np.nan)
        return np.where(np.isposinf(highest), np.nan, score), spread / (mean * math.sqrt(k))


def typicality(score: Array, held_out: Array) -> Array:
    """Two-sided rank of each score among those of held-out rows, a p-value that is never 0, (B,).

    For a row like the held-out ones, p <= alpha happens with a chance of at most alpha.

    Reference: Vovk, Gammerman & Shafer 2005, "Algorithmic learning in a random world", section 2.2.
    """
    below = np.searchsorted(held_out, score, side="right")
    above = len(held_out) - np.searchsorted(held_out, score, side="left")
    p = np.minimum(1.0, 2 * (np.minimum(below, above) + 1) / (len(held_out) + 1))
    return np.where(np.isnan(score), np.nan, p)


def bits_per_dim(space: DataSpace, score: Array) -> Array | None:
    """Bits per dimension of scores in nats, (B,); ``None`` for data without levels."""
    if space.levels is None:
        return None
    return np.asarray(-score / (space.size * math.log(2)) - math.log2(space.bin_width))


def statuses(score: Array, held_out: Array | None) -> list[str]:
    """What each score is: ok, out_of_support, numeric, or extrapolating beyond every held-out score."""
    status = np.full(len(score), "ok", "U16")
    if held_out is not None:
        status[(score < held_out[0]) | (score > held_out[-1])] = "extrapolating"
    status[np.isneginf(score)] = "out_of_support"
    status[np.isnan(score)] = "numeric"
    return list(status.tolist())
