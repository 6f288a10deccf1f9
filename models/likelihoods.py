"""What a decoder's outputs say of a row: the likelihoods p(x|z), in the units of the data."""

from __future__ import annotations

import math
from typing import Final

import torch
from torch import Tensor as Array
from torch import nn

from models.laws import StandardNormal
from models.layers import Scale, interval, positive_part, soft_clamp, total
from models.manifest import DataSpace, Support

# Of the log standard deviation of a Gaussian, in standard deviations of the data.
BOUND: Final = 6.0


class Binomial(nn.Module):
    """Each dimension a count of successes in L - 1 trials, L the levels; with two levels, Bernoulli.

    Sums to one over the lattice. The decoder's outputs are logits.

    Attributes:
        data: the rows that the likelihood is of.
        outputs: the shape of what a decoder gives for a row.

    Raises:
        ValueError: if the data are not whole numbers from low to low + L - 1.
    """

    low: Array
    log_choose: Array

    def __init__(self, data: DataSpace) -> None:
        super().__init__()
        low, self.trials = _lattice(data, "bernoulli")
        self.data = _on_lattice(data)
        self.outputs = data.shape
        self.scale = Scale(data)
        self.offset = nn.Parameter(torch.zeros(data.shape))
        self.register_buffer("low", low.view(data.shape))
        self.register_buffer("log_choose", _log_choose(self.trials))

    def fit(self, x: Array) -> None:
        """Start from the mean of the rows: the networks see and say what differs from it."""
        # The authors of the importance-weighted autoencoder clip there too (github yburda/iwae).
        mean = ((x.double().mean(0) - self.low) / self.trials).clamp(0.001, 0.999)
        self.offset.data.copy_(torch.logit(mean))
        self.scale.shift.copy_(x.double().mean(0))

    def mean(self, h: Array) -> Array:
        """In data units, (B, *shape)."""
        return self.low.to(h.dtype) + self.trials * torch.sigmoid(h + self.offset)

    def log_prob(self, x: Array, h: Array) -> Array:
        """(B,), in nats."""
        logit = h + self.offset
        count = x - self.low.to(x.dtype)
        choose = self.log_choose.to(x.dtype)[_level(count, self.trials)]
        # count * log p + (trials - count) * log(1 - p) as a sum of terms of one sign.
        misses = count * positive_part(-logit) + (self.trials - count) * positive_part(logit)
        entropy = self.trials * torch.log1p(torch.exp(-logit.abs()))
        return total(choose - misses - entropy)


class Categorical(nn.Module):
    """Each dimension one of L levels, with a probability of its own for every level.

    Sums to one over the lattice. The decoder's outputs are logits, (L * C, H, W) for pictures and (L * D,)
    for vectors, the levels first; ``mean`` is the mean of the levels, which unlike the most likely one moves
    smoothly with the code.

    Raises:
        ValueError: as :class:`Binomial`.
    """

    low: Array
    numbers: Array

    def __init__(self, data: DataSpace) -> None:
        super().__init__()
        low, self.most = _lattice(data, "categorical")
        self.data = _on_lattice(data)
        self.outputs = ((self.most + 1) * data.shape[0], *data.shape[1:])
        self.scale = Scale(data)
        self.offset = nn.Parameter(torch.zeros(*data.shape, self.most + 1))
        self.register_buffer("low", low.view(data.shape))
        self.register_buffer("numbers", torch.arange(self.most + 1, dtype=torch.float64))

    def fit(self, x: Array) -> None:
        """Start from how often the rows have each level, each counted once more (Laplace's rule)."""
        level = _level(x.double() - self.low, self.most)
        seen = torch.stack([(level == number).sum(0) for number in range(self.most + 1)], dim=-1)
        self.offset.data.copy_(torch.log((seen + 1.0) / (len(x) + self.most + 1)))
        self.scale.shift.copy_(x.double().mean(0))

    def mean(self, h: Array) -> Array:
        """In data units, (B, *shape)."""
        p = torch.softmax(self._logits(h), dim=-1)
        # Weights that add up to one but for rounding would leave the support by as much.
        return self.low.to(h.dtype) + (p * self.numbers.to(h.dtype)).sum(-1).clamp(0, self.most)

    def log_prob(self, x: Array, h: Array) -> Array:
        """(B,), in nats."""
        level = _level(x - self.low.to(x.dtype), self.most)
        chosen = torch.log_softmax(self._logits(h), dim=-1).gather(-1, level[..., None])
        return total(chosen)

    def _logits(self, h: Array) -> Array:
        """(B, *shape, L)."""
        # The levels last: over a middle axis ONNX Runtime adds up a single row in another order than a crowd.
        return h.unflatten(1, (self.most + 1, self.data.shape[0])).movedim(1, -1) + self.offset


class Gaussian(nn.Module):
    """Each dimension normal around the decoder's output, with a learned variance of its own."""

    def __init__(self, data: DataSpace) -> None:
        super().__init__()
        # A density on the line says nothing of levels, so it must not be turned into bits per dimension.
        self.data = data.model_copy(update={"support": (Support(),), "levels": None})
        self.outputs = data.shape
        self.scale = Scale(self.data)
        self.standard = StandardNormal()
        self.log_std = nn.Parameter(torch.zeros(data.shape))

    def fit(self, x: Array) -> None:
        """Standardise by the rows."""
        self.scale.fit(x)

    def mean(self, h: Array) -> Array:
        """In data units, (B, *shape)."""
        return self.scale.inverse(h)

    def log_prob(self, x: Array, h: Array) -> Array:
        """(B,), in nats of density in data units."""
        log_std = soft_clamp(self.log_std, BOUND)
        residual = (self.scale(x) - h) * torch.exp(-log_std)
        return self.standard(residual) - log_std.sum() - self.scale.log_volume.to(x.dtype)


def _lattice(data: DataSpace, name: str) -> tuple[Array, int]:
    """Lowest value of each dimension, (D,), and the number of steps above it."""
    bounds = interval(data)
    if data.levels is None or data.bin_width != 1 or bounds is None:
        raise ValueError(
            f"data has levels {data.levels}, bin width {data.bin_width} and support {list(data.support)}; "
            f"a {name} likelihood takes whole numbers between bounds: levels, and bin width 1"
        )
    low, high = bounds
    if not torch.equal(high - low, torch.full_like(low, data.levels - 1)):
        raise ValueError(f"data has {data.levels} levels; its bounds must then be {data.levels - 1} apart")
    return low, data.levels - 1


def _on_lattice(data: DataSpace) -> DataSpace:
    return data.model_copy(
        update={"support": tuple(s.model_copy(update={"lattice": True}) for s in data.support)}
    )


def _level(count: Array, most: int) -> Array:
    """The number of a level, int64, clamped as a whole number: not even NaN may reach beyond a table."""
    return count.round().long().clamp(0, most)


def _log_choose(trials: int) -> Array:
    """Logarithms of the binomial coefficients of ``trials`` over 0..trials, in float64."""
    return torch.tensor([math.log(math.comb(trials, k)) for k in range(trials + 1)], dtype=torch.float64)
