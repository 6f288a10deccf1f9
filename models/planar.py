"""Planar and radial flows: simple steps from noise to data, undone exactly.

The published steps lead from latents to data, and nobody undoes them: their density is known for their own
samples only. Here the density of any point is: a radial step is undone by a square root, a planar one by the
root of a scalar equation that rises everywhere.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal

import torch
from pydantic import Field
from torch import Tensor as Array
from torch import nn

from models.bijections import Bijection, Diagonal, Stack
from models.flow import Flow
from models.layers import softplus
from models.loops import repeat
from models.manifest import Contract, DataSpace

PAPER: Final = "Rezende & Mohamed 2015, arXiv 1505.05770"
# No step makes any direction flatter than by this factor; it is what digits an inverse costs.
FLATTEST: Final = 2.0**-10
# Steps of Newton's method: 12 are at rounding error for every slope that FLATTEST allows, and any point.
NEWTON_STEPS: Final = 12
# Smallest squared distance and length that are divided by, or put under a root.
TINY: Final = 2.0**-100

Steps = Annotated[int, Field(ge=1, le=64)]
Margin = Annotated[float, Field(gt=0, lt=0.5)]


class PlanarConfig(Contract):
    """What a planar flow is made of.

    Attributes:
        layers: how many steps.
        margin: as in :class:`~models.flow.FlowConfig`.
    """

    family: Literal["planar"] = "planar"
    layers: Steps = 16
    margin: Margin = 0.01


class RadialConfig(Contract):
    """What a radial flow is made of; see :class:`PlanarConfig`."""

    family: Literal["radial"] = "radial"
    layers: Steps = 16
    margin: Margin = 0.01


class PlanarFlow(Flow):
    """Steps z + u tanh(w·z + b), each a bend along one direction, from latents to data.

    Reference: Rezende & Mohamed 2015, arXiv 1505.05770, section 4.1.
    """

    family = "planar"

    def __init__(self, config: PlanarConfig, data: DataSpace) -> None:
        steps = [Planar(data.size, seed) for seed in range(config.layers)]
        super().__init__(data, PAPER, Stack((Diagonal(data.size), *steps)), "standard_normal", config.margin)


class RadialFlow(Flow):
    """Steps that pull towards a point or push away from it, less the farther off, from latents to data.

    Reference: Rezende & Mohamed 2015, arXiv 1505.05770, section 4.1.
    """

    family = "radial"

    def __init__(self, config: RadialConfig, data: DataSpace) -> None:
        steps = [Radial(data.size, seed) for seed in range(config.layers)]
        super().__init__(data, PAPER, Stack((Diagonal(data.size), *steps)), "standard_normal", config.margin)


class Planar(Bijection):
    """x = z + û tanh(w·z + b), where û is u changed along w until w·û > -1, so that the step can be undone.

    Reference: Rezende & Mohamed 2015, arXiv 1505.05770, equations 10 to 12 and appendix A.1.

    Args:
        size: D.
        seed: of the direction that the step starts with.
    """

    def __init__(self, size: int, seed: int) -> None:
        super().__init__()
        noise = torch.Generator().manual_seed(seed)
        self.w = nn.Parameter(torch.randn(size, generator=noise) / size**0.5)
        self.u = nn.Parameter(torch.randn(size, generator=noise) / size**0.5)
        self.b = nn.Parameter(torch.randn((), generator=noise))

    def forward(self, x: Array) -> tuple[Array, Array]:
        u, slope = self._bend()
        # w·x + b = y + w·û tanh(y), of which y = w·z + b is the root.
        y = _root((x * self.w).sum(1) + self.b, slope)
        h = torch.tanh(y)
        return x - u * h.unsqueeze(1), -torch.log1p(slope * (1 - h.square()))

    def inverse(self, z: Array) -> Array:
        u, _ = self._bend()
        return z + u * torch.tanh((z * self.w).sum(1, keepdim=True) + self.b)

    def _bend(self) -> tuple[Array, Array]:
        """û, (D,), and w·û, ()."""
        along = (self.w * self.u).sum()
        slope = _above_minus_one(along)
        return self.u + (slope - along) * self.w / self.w.square().sum().clamp_min(TINY), slope


class Radial(Bijection):
    """x = z + β (z - c) / (α + |z - c|), where β > -α, so that the step can be undone.

    Reference: Rezende & Mohamed 2015, arXiv 1505.05770, equation 14 and appendix A.2.

    Args:
        size: D.
        seed: of the centre that the step starts with.
    """

    def __init__(self, size: int, seed: int) -> None:
        super().__init__()
        noise = torch.Generator().manual_seed(seed)
        self.centre = nn.Parameter(torch.randn(size, generator=noise))
        self.log_alpha = nn.Parameter(torch.zeros(()))
        # Near 0.54, where softplus is 1, a step is the identity.
        self.strength = nn.Parameter(torch.randn((), generator=noise) / 2 + 0.5)

    def forward(self, x: Array) -> tuple[Array, Array]:
        alpha, beta = self._pull()
        away = x - self.centre
        size = _length(away)
        # |x - c| = r + β r / (α + r), whose positive root r is |z - c|; so written, nothing cancels.
        half = alpha + beta - size
        sum_of_both = half.abs() + torch.sqrt(half.square() + 4 * alpha * size)
        r = torch.where(half > 0, 2 * alpha * size / sum_of_both, sum_of_both / 2)
        h = 1 / (alpha + r)
        wide, deep = torch.log1p(beta * h), torch.log1p(alpha * beta * h.square())
        log_det = -((x.shape[1] - 1) * wide + deep).squeeze(1)
        return self.centre + away / (1 + beta * h), log_det

    def inverse(self, z: Array) -> Array:
        alpha, beta = self._pull()
        away = z - self.centre
        return z + beta * away / (alpha + _length(away))

    def _pull(self) -> tuple[Array, Array]:
        """α and β, () each."""
        alpha = torch.exp(self.log_alpha)
        return alpha, alpha * _above_minus_one(self.strength)


def _above_minus_one(raw: Array) -> Array:
    """Any number to one above -1, by at least FLATTEST: appendix A, with a floor for the sake of digits."""
    return softplus(raw) - (1 - FLATTEST)


def _length(rows: Array) -> Array:
    """Euclidean, (B, D) to (B, 1)."""
    return torch.sqrt(rows.square().sum(1, keepdim=True).clamp_min(TINY))


def _root(s: Array, c: Array) -> Array:
    """The y at which y + c tanh(y) = s, for c > -1, s and y (B,).

    The curve is odd, and bent one way only on either side of 0. From a start on the steep side of the root,
    Newton's method therefore closes in on it and never steps over.

    Only the last step is differentiated. Its derivative in y vanishes at the root, so what is left is the
    gradient of the implicit function, exactly; it cannot be differentiated again.
    """
    size, bend = s.detach().abs(), c.detach()
    start = torch.where(bend > 0, torch.maximum(size / (1 + bend), size - bend), size - bend)
    y = repeat(lambda y: _newton(y, size, bend), start, NEWTON_STEPS)
    return _newton(torch.sign(s.detach()) * y, s, c)


def _newton(y: Array, s: Array, c: Array) -> Array:
    h = torch.tanh(y)
    slope = c * (1 - h.square())
    return (s - c * h + slope * y) / (1 + slope)
