"""Pictures drawn from factors that are known: what a code says of each can be measured.

Every combination of the factors is drawn once, so the factors are independent of each other. In the manner of
dSprites (Matthey et al. 2017), which has more and larger pictures and turns its shapes all the way round.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import product
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

Plane = NDArray[np.float32]
Inside = Callable[[Plane, Plane], NDArray[np.bool_]]

SIDE: Final = 16  # pixels
FINE: Final = 4  # points across a pixel; how many of FINE² are inside is its grey level


def _ellipse(along: Plane, across: Plane) -> NDArray[np.bool_]:
    return along**2 + (2 * across) ** 2 <= 1


def _rectangle(along: Plane, across: Plane) -> NDArray[np.bool_]:
    return (np.abs(along) <= 0.85) & (np.abs(across) <= 0.45)


def _triangle(along: Plane, across: Plane) -> NDArray[np.bool_]:
    return (along >= -0.6) & (2 * np.abs(across) <= (1 - along))


# In units of their size, longer one way than the other, so that no two of the turns look alike.
KINDS: Final[dict[str, Inside]] = {"ellipse": _ellipse, "rectangle": _rectangle, "triangle": _triangle}
SIZES: Final = (2.5, 3.2, 3.9, 4.6)  # half the length, in pixels
TURNS: Final = tuple(math.radians(degrees) for degrees in (-60, -36, -12, 12, 36, 60))
PLACES: Final = tuple(SIDE / 2 + shift for shift in (-3, -2.25, -1.5, -0.75, 0, 0.75, 1.5, 2.25, 3))


@dataclass(frozen=True)
class Drawn:
    """Pictures, and what they were drawn from.

    Attributes:
        x: (N, 1, SIDE, SIDE), whole numbers from 0 to FINE².
        factors: by name the level of each picture's factor, 0, 1, …, (N,).
    """

    x: Plane
    factors: Mapping[str, NDArray[np.int64]]


def draw() -> Drawn:
    """All pictures: every kind in every size, turn and place."""
    choices = {"kind": tuple(KINDS), "size": SIZES, "turn": TURNS, "y": PLACES, "x": PLACES}
    levels = np.indices([len(of) for of in choices.values()]).reshape(len(choices), -1)
    x = np.concatenate([_everywhere(*how) for how in product(KINDS.values(), SIZES, TURNS)])
    return Drawn(x[:, None], dict(zip(choices, levels, strict=True)))


def _everywhere(inside: Inside, size: float, turn: float) -> Plane:
    """A shape in every place, row by row of places, (len(PLACES)², SIDE, SIDE)."""
    fine = ((np.arange(SIDE * FINE) + 0.5) / FINE).astype(np.float32)
    away = (fine - np.array(PLACES, np.float32)[:, None]) / np.float32(size)  # (places, fine)
    across, up = away[None, :, None, :], away[:, None, :, None]
    cos, sin = math.cos(turn), math.sin(turn)
    hit = inside(cos * across + sin * up, cos * up - sin * across)  # (y, x, fine, fine)
    return _shrunk(hit.reshape(-1, SIDE * FINE, SIDE * FINE))


def _shrunk(hit: NDArray[Any]) -> Plane:
    """How many points of each pixel are inside."""
    blocks = hit.reshape(-1, SIDE, FINE, SIDE, FINE)
    return blocks.sum(axis=(2, 4), dtype=np.float32)
