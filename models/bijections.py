"""Invertible maps of (B, D) rows, and the stack that composes them.

A coupling is one class; what it does to a dimension (shift, scale, spline) is a :class:`Transform` passed
to it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor as Array
from torch import nn

from models.layers import Activation, mlp, moments, soft_clamp

# Log-scales of an affine coupling stay within ±1: a few layers multiply up, and tails stay sane. (With ±2 the
# digits' held-out likelihood was worse, and single rows went astray.)
LOG_SCALE_BOUND: Final = 1.0
# How near to an end of its interval Logit looks at a point, as a part of the length: logits stay within ±70.
NEAREST: Final = 2.0**-100


class Bijection(nn.Module, ABC):
    """An invertible map with a known log-determinant."""

    @abstractmethod
    def forward(self, x: Array) -> tuple[Array, Array]:
        """Towards the latents.

        Args:
            x: rows, (B, D).

        Returns:
            z: (B, D).
            log_det: log|det dz/dx|, (B,), or () where it is the same for all rows, in nats.
        """

    @abstractmethod
    def inverse(self, z: Array) -> Array:
        """Back: (B, D) to (B, D)."""

    def fit(self, x: Array) -> Array:
        """Set what is read off the data, (N, D), rather than learned; give what it makes of them then."""
        return self(x)[0]


class Stack(Bijection):
    """Bijections one after the other, the one nearest to the data first."""

    def __init__(self, bijections: Iterable[Bijection]) -> None:
        super().__init__()
        self.bijections = nn.ModuleList(bijections)

    def forward(self, x: Array) -> tuple[Array, Array]:
        log_det = x.new_zeros(())
        for bijection in self.bijections:
            x, change = bijection(x)
            log_det = log_det + change
        return x, log_det

    def inverse(self, z: Array) -> Array:
        for bijection in reversed(self.bijections):
            z = bijection.inverse(z)
        return z

    def fit(self, x: Array) -> Array:
        """Fit each bijection to what those before it make of the data, (N, D)."""
        for bijection in self.bijections:
            x = bijection.fit(x)
        return x


class Logit(Bijection):
    """An interval to the real line, dimension by dimension: the logit of the place within the interval.

    Points at or beyond an end are taken as ``NEAREST`` to it, so they get a finite answer.

    Args:
        low: lower ends, (D,), which float32 holds: else its rows of samples could lie beyond them.
        high: upper ends, (D,), likewise.
    """

    low: Array
    high: Array

    def __init__(self, low: Array, high: Array) -> None:
        super().__init__()
        self.register_buffer("low", low.double())
        self.register_buffer("high", high.double())

    def forward(self, x: Array) -> tuple[Array, Array]:
        low, high = self.low.to(x.dtype), self.high.to(x.dtype)
        # Two differences, not p and 1 - p: near the upper end the second would round to nothing.
        log_p = torch.log(((x - low) / (high - low)).clamp_min(NEAREST))
        log_q = torch.log(((high - x) / (high - low)).clamp_min(NEAREST))
        return log_p - log_q, -(log_p + log_q + torch.log(high - low)).sum(1)

    def inverse(self, z: Array) -> Array:
        low, high = self.low.to(z.dtype), self.high.to(z.dtype)
        # From the nearer end: a sum over the whole length could round to beyond the other one.
        inwards = (high - low) * torch.sigmoid(-z.abs())
        return torch.where(z < 0, low + inwards, high - inwards)


class Unit(Bijection):
    """An interval to [0, 1], dimension by dimension, and what lies outside it likewise.

    Args:
        low: lower ends, (D,).
        high: upper ends, (D,).
    """

    low: Array
    high: Array

    def __init__(self, low: Array, high: Array) -> None:
        super().__init__()
        self.register_buffer("low", low.double())
        self.register_buffer("high", high.double())

    def forward(self, x: Array) -> tuple[Array, Array]:
        low, high = self.low.to(x.dtype), self.high.to(x.dtype)
        return (x - low) / (high - low), -torch.log(high - low).sum()

    def inverse(self, z: Array) -> Array:
        low, high = self.low.to(z.dtype), self.high.to(z.dtype)
        return low + (high - low) * z


class Standardise(Bijection):
    """Each dimension to mean 0 and standard deviation 1, as :meth:`fit` found them.

    Args:
        size: D.
        alike: how many dimensions in a row share a mean and a deviation: the pixels of a channel.
    """

    mean: Array
    std: Array

    def __init__(self, size: int, alike: int = 1) -> None:
        super().__init__()
        self.alike = alike
        self.register_buffer("mean", torch.zeros(size, dtype=torch.float64))
        self.register_buffer("std", torch.ones(size, dtype=torch.float64))

    def fit(self, x: Array) -> Array:
        """Take mean and standard deviation of the rows, (N, D)."""
        groups = x.unflatten(1, (-1, self.alike))  # (N, D / alike, alike)
        mean, std = moments(groups.transpose(1, 2).flatten(0, 1))
        self.mean.copy_(mean.repeat_interleave(self.alike))
        self.std.copy_(std.repeat_interleave(self.alike))
        return self(x)[0]

    def forward(self, x: Array) -> tuple[Array, Array]:
        mean, std = self.mean.to(x.dtype), self.std.to(x.dtype)
        return (x - mean) / std, -torch.log(std).sum()

    def inverse(self, z: Array) -> Array:
        return self.mean.to(z.dtype) + self.std.to(z.dtype) * z


class Permute(Bijection):
    """A fixed order of the dimensions; log-determinant 0.

    Args:
        order: a permutation of 0..D-1, (D,).
    """

    order: Array
    order_inverse: Array

    def __init__(self, order: Array) -> None:
        super().__init__()
        self.register_buffer("order", order)
        self.register_buffer("order_inverse", torch.argsort(order))

    def forward(self, x: Array) -> tuple[Array, Array]:
        return x.index_select(1, self.order), x.new_zeros(())

    def inverse(self, z: Array) -> Array:
        return z.index_select(1, self.order_inverse)


class Diagonal(Bijection):
    """A learned shift and scale of each dimension.

    Reference: the scaling layer of Dinh, Krueger & Bengio 2014, arXiv 1410.8516, section 3.3.

    Args:
        size: D.
        haste: how many times as fast as other parameters the logarithm of the scale is learned.
    """

    def __init__(self, size: int, haste: float = 1.0) -> None:
        super().__init__()
        self.haste = haste
        self.shift = nn.Parameter(torch.zeros(size))
        self.log_scale = nn.Parameter(torch.zeros(size))

    def forward(self, x: Array) -> tuple[Array, Array]:
        log_scale = self.haste * self.log_scale
        return (x - self.shift) * torch.exp(log_scale), log_scale.sum()

    def inverse(self, z: Array) -> Array:
        return z * torch.exp(-self.haste * self.log_scale) + self.shift


@dataclass(frozen=True)
class Transform:
    """What a coupling does to one dimension, given the numbers that its conditioner computed.

    Attributes:
        parameters: how many numbers a dimension takes.
        forward: ``(x, *numbers) -> z, log dz/dx``, all (B, d).
        inverse: ``(z, *numbers) -> x``.
    """

    parameters: int
    forward: Callable[..., tuple[Array, Array]]
    inverse: Callable[..., Array]


def _affine(x: Array, shift: Array, log_scale: Array) -> tuple[Array, Array]:
    log_scale = soft_clamp(log_scale, LOG_SCALE_BOUND)
    return x * torch.exp(log_scale) + shift, log_scale


def _affine_inverse(z: Array, shift: Array, log_scale: Array) -> Array:
    return (z - shift) * torch.exp(-soft_clamp(log_scale, LOG_SCALE_BOUND))


ADDITIVE: Final = Transform(
    parameters=1,
    forward=lambda x, shift: (x + shift, torch.zeros_like(x)),
    inverse=lambda z, shift: z - shift,
)
MULTIPLICATIVE: Final = Transform(
    parameters=1,
    forward=lambda x, log_scale: _affine(x, torch.zeros_like(x), log_scale),
    inverse=lambda z, log_scale: _affine_inverse(z, torch.zeros_like(z), log_scale),
)
AFFINE: Final = Transform(parameters=2, forward=_affine, inverse=_affine_inverse)


class Coupling(Bijection):
    """The first half of a row stays; a network of it says how each dimension of the second half is changed.

    The network starts at zero, where every transform is the identity.

    Reference: Dinh, Krueger & Bengio 2014, arXiv 1410.8516, section 3.2; Dinh, Sohl-Dickstein & Bengio 2017,
    arXiv 1605.08803, section 3.2.

    Args:
        size: D, at least 2.
        transform: what is done to a dimension.
        hidden: widths of the network between.
        activation: between its layers.
    """

    def __init__(
        self, size: int, transform: Transform, hidden: Sequence[int], activation: Activation = nn.SiLU
    ) -> None:
        super().__init__()
        self.halves = (size // 2, size - size // 2)
        self.transform = transform
        self.conditioner = mlp((self.halves[0], *hidden, transform.parameters * self.halves[1]), activation)
        for parameter in self.conditioner[-1].parameters():
            nn.init.zeros_(parameter)

    def forward(self, x: Array) -> tuple[Array, Array]:
        kept, changed = x.split(self.halves, dim=1)
        changed, log_slope = self.transform.forward(changed, *self._numbers(kept))
        return torch.cat((kept, changed), dim=1), log_slope.sum(1)

    def inverse(self, z: Array) -> Array:
        kept, changed = z.split(self.halves, dim=1)
        return torch.cat((kept, self.transform.inverse(changed, *self._numbers(kept))), dim=1)

    def _numbers(self, kept: Array) -> tuple[Array, ...]:
        numbers: tuple[Array, ...] = self.conditioner(kept).chunk(self.transform.parameters, dim=1)
        return numbers
