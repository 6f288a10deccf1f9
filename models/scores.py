"""What a log-likelihood is worth: the same formulas wherever rows are scored, one at a time or in bulk."""

from __future__ import annotations

import math
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from models.manifest import DataSpace

DEFAULT_K: Final = 64  # importance samples of a row where neither caller nor calibration says

Array = NDArray[Any]


def judged(space: DataSpace, log_w: Array, held_out: Array | None, estimated: bool) -> dict[str, Any]:
    """Everything that is said of rows, under the names of the contract; what there is not is left out.

    Args:
        log_w: (B, K), nats, float64; of a row outside the support, -inf.
        held_out: scores of held-out rows of as many draws, ascending, if there are any.
        estimated: whether the draws differ by chance, so that their mean has an error.
    """
    exact = log_w.shape[1] == 1 and not estimated
    score, error = (_alone(log_w[:, 0]), None) if exact else log_mean_exp(log_w)
    said = {
        "log_likelihood": score,
        "bits_per_dim": bits_per_dim(space, score),
        "standard_error": error if estimated else None,
        "p_value": None if held_out is None else typicality(score, held_out),
        "status": statuses(score, held_out),
    }
    return {name: value for name, value in said.items() if value is not None}


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
    if k == 1:
        return _alone(log_w[:, 0]), np.full(len(log_w), np.nan)
    highest = log_w.max(axis=1)
    shift = np.where(np.isneginf(highest), 0.0, highest)
    with np.errstate(divide="ignore", invalid="ignore"):
        weights = np.exp(log_w - shift[:, None])
        mean = weights.mean(axis=1)
        score = shift + np.log(mean)
        spread = weights.std(axis=1, ddof=1)
        return np.where(np.isposinf(highest), np.nan, score), spread / (mean * math.sqrt(k))


def _alone(log_w: Array) -> Array:
    """The same of one draw, (B,)."""
    if not len(log_w) or log_w.max() < np.inf:  # NaN is not
        return log_w
    return np.where(np.isposinf(log_w), np.nan, log_w)


def typicality(score: Array, held_out: Array) -> Array:
    """Two-sided rank of each score among those of held-out rows, a p-value that is never 0, (B,).

    For a row like the held-out ones, p <= alpha happens with a chance of at most alpha.

    Reference: Vovk, Gammerman & Shafer 2005, "Algorithmic learning in a random world", section 2.2.
    """
    below = held_out.searchsorted(score, "right")
    above = len(held_out) - held_out.searchsorted(score, "left")
    p = np.minimum(1.0, 2 * (np.minimum(below, above) + 1) / (len(held_out) + 1))
    p[np.isnan(score)] = np.nan
    return p


def bits_per_dim(space: DataSpace, score: Array) -> Array | None:
    """Bits per dimension of scores in nats, (B,); ``None`` for data without levels."""
    if space.levels is None:
        return None
    return np.asarray(-score / (space.size * math.log(2)) - math.log2(space.bin_width))


def statuses(score: Array, held_out: Array | None) -> list[str]:
    """What each score is: ok, out_of_support, numeric, or extrapolating beyond every held-out score."""
    if _all_ok(score, held_out):
        return ["ok"] * len(score)
    status = np.full(len(score), "ok", "U16")
    if held_out is not None:
        status[(score < held_out[0]) | (score > held_out[-1])] = "extrapolating"
    status[np.isneginf(score)] = "out_of_support"
    status[np.isnan(score)] = "numeric"
    return list(status.tolist())


def _all_ok(score: Array, held_out: Array | None) -> bool:
    """Whether there is nothing to say of any score, as in most requests."""
    if not len(score):
        return True
    lowest, highest = score.min(), score.max()  # NaN if any is
    if held_out is None:
        return bool(np.isfinite(lowest) and np.isfinite(highest))
    return bool(held_out[0] <= lowest and highest <= held_out[-1])
