"""Paths between codes."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

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
