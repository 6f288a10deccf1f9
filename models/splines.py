"""Monotonic rational-quadratic splines: a curve between any two slopes that is inverted by a square root."""

from __future__ import annotations

from typing import Final, NamedTuple

import torch
from torch import Tensor as Array

from models.bijections import Transform
from models.layers import soft_clamp

# The spline bends what lies within ±4 standard deviations, and leaves what lies beyond as it is.
REACH: Final = 4.0
# The part of the whole that bins share evenly, whatever the network says. Like REACH float32 holds it.
EVEN: Final = 2.0**-6
# Slopes at the knots stay within e^±3 of those beside them.
LOG_SLOPE_BOUND: Final = 3.0


class Bin(NamedTuple):
    """The bin that each number falls into, and its curve; all (B, d)."""

    left: Array
    width: Array
    bottom: Array
    height: Array
    slope_left: Array
    slope_right: Array

    @property
    def slope(self) -> Array:
        """Of the line from corner to corner."""
        return self.height / self.width

    @property
    def bend(self) -> Array:
        return self.slope_left + self.slope_right - 2 * self.slope


class Knots(NamedTuple):
    """Corners of K bins from (-REACH, -REACH) to (REACH, REACH), and the slopes there.

    Attributes:
        x: (B, d, K+1), rising.
        z: likewise.
        slopes: (B, d, K+1), positive, 1 at both ends.
    """

    x: Array
    z: Array
    slopes: Array

    def bin(self, value: Array, edges: Array) -> Bin:
        """The bin that each value (B, d) has by its ``edges``, which are ``x`` or ``z``."""
        index = (value.unsqueeze(-1) >= edges[..., 1:-1]).sum(-1, keepdim=True)

        def pick(corners: Array) -> tuple[Array, Array]:
            left, right = (corners.gather(-1, i).squeeze(-1) for i in (index, index + 1))
            return left, right

        (left, right), (bottom, top), (d0, d1) = pick(self.x), pick(self.z), pick(self.slopes)
        return Bin(left, right - left, bottom, top - bottom, d0, d1)


def spline(bins: int) -> Transform:
    """The transform that bends a dimension by a spline of so many bins, and is the identity beyond ±REACH.

    Numbers that are all 0 give the identity.

    Reference: Durkan, Bekasov, Murray & Papamakarios 2019, arXiv 1906.04032, section 3.
    """
    return Transform(parameters=3 * bins - 1, forward=_forward, inverse=_inverse)


def knots(numbers: tuple[Array, ...]) -> Knots:
    """The corners that 3K-1 unbounded numbers, each (B, d), stand for: K widths, K heights, K-1 slopes."""
    bins = (len(numbers) + 1) // 3
    raw = torch.stack(numbers, dim=-1)
    x, z = _edges(raw[..., :bins]), _edges(raw[..., bins : 2 * bins])
    end = torch.ones_like(raw[..., :1])
    inner = torch.exp(soft_clamp(raw[..., 2 * bins :], LOG_SLOPE_BOUND)) * _between(x, z)
    return Knots(x, z, torch.cat((end, inner, end), dim=-1))


def _between(x: Array, z: Array) -> Array:
    """Slopes at the inner corners, (B, d, K-1): the harmonic mean of the lines that meet there.

    A steep corner beside a flat line would make the curve within the bin flatter still, by the square, and
    cost the inverse its digits; the harmonic mean is at most twice the flatter of the two.

    Reference: Fritsch & Butland 1984, A method for constructing local monotone piecewise cubic interpolants.
    """
    slopes = z.diff(dim=-1) / x.diff(dim=-1)
    before, after = slopes[..., :-1], slopes[..., 1:]
    return 2 * before * after / (before + after)


def _edges(raw: Array) -> Array:
    """Corners of bins whose parts of the whole are a softmax, (B, d, K) to (B, d, K+1)."""
    parts = (1 - EVEN) * torch.softmax(raw, dim=-1) + torch.full_like(raw, EVEN) / raw.shape[-1]
    # The last corner is not summed, so that it is where the tail begins to the bit.
    inner = 2 * REACH * torch.cumsum(parts[..., :-1], dim=-1) - REACH
    end = torch.full_like(raw[..., :1], REACH)
    return torch.cat((-end, inner, end), dim=-1)


def _forward(x: Array, *numbers: Array) -> tuple[Array, Array]:
    corners = knots(numbers)
    inside = x.clamp(-REACH, REACH)
    bin = corners.bin(inside, corners.x)
    place = (inside - bin.left) / bin.width
    z = bin.bottom + bin.height * _rise(bin, place)
    beyond = x.abs() > REACH
    return torch.where(beyond, x, z), torch.where(beyond, torch.zeros_like(x), _log_slope(bin, place))


def _inverse(z: Array, *numbers: Array) -> Array:
    corners = knots(numbers)
    inside = z.clamp(-REACH, REACH)
    bin = corners.bin(inside, corners.z)
    place = _place(bin, (inside - bin.bottom))
    return torch.where(z.abs() > REACH, z, bin.left + bin.width * place)


def _rise(bin: Bin, place: Array) -> Array:
    """How far up the bin's curve is at a place in [0, 1] of its width, in [0, 1]: equation 4."""
    mixed = place * (1 - place)
    return (bin.slope * place.square() + bin.slope_left * mixed) / (bin.slope + bin.bend * mixed)


def _log_slope(bin: Bin, place: Array) -> Array:
    """Logarithm of equation 5."""
    mixed = place * (1 - place)
    curve = bin.slope_right * place.square() + 2 * bin.slope * mixed + bin.slope_left * (1 - place).square()
    return 2 * torch.log(bin.slope) + torch.log(curve) - 2 * torch.log(bin.slope + bin.bend * mixed)


def _place(bin: Bin, risen: Array) -> Array:
    """Where in [0, 1] the curve has risen so far: equations 6 to 8, in the form that never cancels."""
    a = bin.height * (bin.slope - bin.slope_left) + risen * bin.bend
    b = bin.height * bin.slope_left - risen * bin.bend
    c = -bin.slope * risen
    # Not negative, but for rounding.
    root = torch.sqrt((b.square() - 4 * a * c).clamp_min(0))
    return 2 * c / (-b - root)
