"""Two-dimensional toys with a known density, so that a model's score has a known ceiling.

No model scores better on fresh rows than minus the entropy of their source; the gap is the divergence
KL(source, model). Rows are drawn from a generator that the caller seeds, as many as wanted.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

NODES: Final = 1024
EIGHT_SD: Final = 0.5 / math.sqrt(2)
RING_RADIUS: Final = 2.0  # Metz et al. 2017, arXiv 1611.02163, appendix A
RING_SD: Final = 0.02
CHUNK: Final = 512


class Toy(Protocol):
    """A source of rows in the plane."""

    def draw(self, n: int, rng: np.random.Generator) -> Floats:
        """Rows, (n, 2)."""

    def log_density(self, x: Floats) -> Floats:
        """The source's own log density at each row of ``x``, (B, 2), in nats, (B,)."""


@dataclass(frozen=True)
class BlurredCurve:
    """A curve, or a set of points, blurred by a round Gaussian.

    Attributes:
        curve: takes positions in [0, 1), (B,), to points of the plane, (B, 2).
        sd: the standard deviation of the blur.
    """

    curve: Callable[[Floats], Floats]
    sd: float

    def draw(self, n: int, rng: np.random.Generator) -> Floats:
        return self.curve(rng.random(n)) + self.sd * rng.standard_normal((n, 2))

    def log_density(self, x: Floats) -> Floats:
        # The midpoint rule; the nodes lie far closer together than the blur is wide.
        centres = self.curve((np.arange(NODES) + 0.5) / NODES)
        return np.concatenate([self._average(piece, centres) for piece in _pieces(x)])

    def _average(self, x: Floats, centres: Floats) -> Floats:
        squares = ((x[:, None] - centres) ** 2).sum(-1) / (2 * self.sd**2)  # (B, NODES)
        nearest = squares.min(axis=1)
        mass = np.exp(nearest[:, None] - squares).mean(axis=1)
        return np.log(mass) - nearest - math.log(2 * math.pi * self.sd**2)


@dataclass(frozen=True)
class Checkerboard:
    """Uniform on half of [-4, 4]²: the fields of one colour, each two wide."""

    def draw(self, n: int, rng: np.random.Generator) -> Floats:
        field = rng.integers(0, 8, n)
        row, column = field // 2, 2 * (field % 2) + (field // 2) % 2
        return 2.0 * np.stack([column, row], axis=1) - 4 + 2 * rng.random((n, 2))

    def log_density(self, x: Floats) -> Floats:
        field = np.floor((x + 4) / 2)
        inside = (np.abs(x) <= 4).all(axis=1) & (field.sum(axis=1) % 2 == 0)
        return np.where(inside, -math.log(32), -np.inf)


@dataclass(frozen=True)
class Modes:
    """Where the mass of a source is gathered, as much in each.

    Attributes:
        centres: (M, 2).
        sd: of each, in every direction.
    """

    centres: Floats
    sd: float


def _pieces(x: Floats) -> list[Floats]:
    return [x[start : start + CHUNK] for start in range(0, len(x), CHUNK)]


def _moons(u: Floats) -> Floats:
    angle = 2 * np.pi * np.where(u < 0.5, u, u - 0.5)
    upper = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    lower = np.stack([1 - np.cos(angle), 0.5 - np.sin(angle)], axis=1)
    return np.where((u < 0.5)[:, None], upper, lower)


def _eight_points(u: Floats, radius: float = 4 / math.sqrt(2)) -> Floats:
    angle = np.floor(8 * u) * np.pi / 4
    return radius * np.stack([np.cos(angle), np.sin(angle)], axis=1)


def _ring(u: Floats) -> Floats:
    return _eight_points(u, RING_RADIUS)


def _rings(u: Floats) -> Floats:
    radius, angle = np.where(u < 0.5, 1.0, 2.5), 4 * np.pi * u
    return radius[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=1)


def _spirals(u: Floats) -> Floats:
    arm, along = np.where(u < 0.5, 1.0, -1.0), np.sqrt(np.where(u < 0.5, 2 * u, 2 * u - 1))
    angle = 3 * np.pi * along
    return (arm * angle / 3)[:, None] * np.stack([-np.cos(angle), np.sin(angle)], axis=1)


TOYS: Final[dict[str, Toy]] = {
    "moons": BlurredCurve(_moons, sd=0.1),
    # As in the papers on flows; minus its entropy is -2.8307 nats.
    "eight-gaussians": BlurredCurve(_eight_points, sd=EIGHT_SD),
    # As in the papers on mode collapse: the gap between neighbours is 77 standard deviations.
    "ring": BlurredCurve(_ring, sd=RING_SD),
    "rings": BlurredCurve(_rings, sd=0.15),
    "spirals": BlurredCurve(_spirals, sd=0.1),
    # Minus its entropy is -ln 32 = -3.4657 nats.
    "checkerboard": Checkerboard(),
}

MODES: Final = {
    "eight-gaussians": Modes(_eight_points(np.arange(8) / 8), EIGHT_SD),
    "ring": Modes(_ring(np.arange(8) / 8), RING_SD),
}
