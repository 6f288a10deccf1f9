"""Networks and scales that the families share.

Numbers that define a map exactly (scales, tables, rotations) are float64 buffers, taken to the dtype of the
rows where they are used. So ``model.double()`` is exact to float64, and a float32 graph holds them cast. (A
Python float is no substitute: the ONNX exporter rounds it to float32 even in a float64 graph.)
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor as Array
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_weights, fuse_linear_bn_weights

from models.manifest import DataSpace

Width = Annotated[int, Field(ge=1, le=16384, strict=True)]
# Recipes are TOML, whose arrays arrive as lists: only the container is lax.
Widths = Annotated[tuple[Width, ...], Field(max_length=16, strict=False)]
Activation = Callable[[], nn.Module]


def soft_clamp(x: Array, bound: float) -> Array:
    """``x`` near 0, smoothly kept within ±bound, which must be a number that float32 holds."""
    return bound * torch.tanh(x / bound)


def softplus(x: Array) -> Array:
    """log(1 + exp(x)), from operations that ONNX Runtime has in float64 too."""
    return positive_part(x) + torch.log1p(torch.exp(-x.abs()))


def positive_part(x: Array) -> Array:
    """max(x, 0) with slope 1/2 at 0, so that :func:`softplus` has its slope there too; a clamp has 1."""
    return (x + x.abs()) / 2


def total(x: Array) -> Array:
    """Sum of each row, (B, ...) to (B,), added up in float64.

    ONNX Runtime adds up a row that is alone in another order than one in a crowd. Of hundreds of float32
    numbers that shows in the last bits; of float64 ones it is gone after rounding.
    """
    return x.flatten(1).double().sum(1).to(x.dtype)


def interval(data: DataSpace) -> tuple[Array, Array] | None:
    """Lowest and highest value of each dimension, (D,) float64 each; ``None`` unless all are bounded."""
    bounds = [(s.low, s.high) for s in data.support] * (data.size // len(data.support))
    if any(low is None or high is None for low, high in bounds):
        return None
    low, high = torch.tensor(bounds, dtype=torch.float64).unbind(1)
    return low, high


def moments(x: Array) -> tuple[Array, Array]:
    """Mean and standard deviation of each dimension of rows (N, ...), in float64; a constant counts as 1."""
    std, mean = torch.std_mean(x.double(), dim=0, correction=0)
    return mean, torch.where(std > 0, std, 1.0)


class Scale(nn.Module):
    """Data units to the units of networks and back: ``(x - shift) / scale`` for each dimension.

    Bounded data go to [-1, 1] by their bounds. Other data are standardised once :meth:`fit` has seen them.
    """

    shift: Array
    scale: Array

    def __init__(self, data: DataSpace) -> None:
        super().__init__()
        bounds = interval(data)
        self.bounded = bounds is not None
        low, high = bounds or (-torch.ones(data.size), torch.ones(data.size))
        self.register_buffer("shift", ((low + high) / 2).double().view(data.shape))
        self.register_buffer("scale", ((high - low) / 2).double().view(data.shape))

    def fit(self, x: Array) -> None:
        """Take mean and standard deviation of the rows, (N, *shape), unless the data are bounded."""
        if not self.bounded:
            mean, std = moments(x)
            self.shift.copy_(mean)
            self.scale.copy_(std)

    def forward(self, x: Array) -> Array:
        return (x - self.shift.to(x.dtype)) / self.scale.to(x.dtype)

    @property
    def log_volume(self) -> Array:
        """What a log-density loses on the way back to data units, (), in nats."""
        return torch.log(self.scale).sum()

    def inverse(self, y: Array) -> Array:
        """Back to data units."""
        return self.shift.to(y.dtype) + self.scale.to(y.dtype) * y


class OneHot(nn.Module):
    """Class numbers, (B,), int64, as rows with a 1 in their place, (B, K).

    By comparison, not by look-up: a number that is no class is all 0, and reaches beyond no table.
    """

    numbers: Array

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.register_buffer("numbers", torch.arange(classes))

    def forward(self, label: Array, like: Array) -> Array:
        """In the dtype of ``like``."""
        return (label[:, None] == self.numbers).to(like.dtype)


def mlp(widths: Sequence[int], activation: Activation = nn.SiLU) -> nn.Sequential:
    """Linear layers through ``widths``, from the first to the last, with activations between them."""
    layers: list[nn.Module] = []
    for before, after in pairwise(widths):
        layers += [nn.Linear(before, after), activation()]
    return nn.Sequential(*layers[:-1])


def halvings(shape: Sequence[int], times: int) -> list[tuple[int, int]]:
    """Heights and widths of a picture (C, H, W) halved again and again, itself first.

    Raises:
        ValueError: if rows are no pictures, or too small for it.
    """
    if len(shape) != 3 or min(shape[1:]) < 2**times:
        raise ValueError(
            f"data has rows of shape {tuple(shape)}; {times} convolutions of stride 2 take (C, H, W) "
            f"with H and W of at least {2**times}"
        )
    return [(shape[1] >> i, shape[2] >> i) for i in range(times + 1)]


def halve(channels: int, out: int, size: tuple[int, int], bias: bool = True) -> nn.Conv2d:
    """Convolution from ``size`` to half of it, rounded down: an odd side takes a kernel of 5, an even 4."""
    return nn.Conv2d(channels, out, _kernel(size), stride=2, padding=1, bias=bias)


def double(channels: int, out: int, size: tuple[int, int], bias: bool = True) -> nn.ConvTranspose2d:
    """Transposed convolution to ``size`` from half of it, rounded down."""
    return nn.ConvTranspose2d(channels, out, _kernel(size), stride=2, padding=1, bias=bias)


def _kernel(size: tuple[int, int]) -> tuple[int, int]:
    return 4 + size[0] % 2, 4 + size[1] % 2


def fold_batch_norm(model: nn.Module) -> nn.Module:
    """A copy for inference whose batch norms are part of the layers before them: nothing of a batch is left.

    Within each ``nn.Sequential`` a batch norm must follow a linear layer or a convolution.
    """
    folded = copy.deepcopy(model).eval()
    for net in folded.modules():
        if isinstance(net, nn.Sequential):
            _fold(net)
    return folded


def _fold(net: nn.Sequential) -> None:
    for i, norm in enumerate(net):
        if isinstance(norm, nn.BatchNorm2d):
            layer = next(net[j] for j in reversed(range(i)) if not isinstance(net[j], nn.Unflatten))
            layer.weight, layer.bias = _fused(layer, norm)
            net[i] = nn.Identity()


def _fused(layer: nn.Module, norm: nn.BatchNorm2d) -> tuple[nn.Parameter, nn.Parameter]:
    """Weight and bias of the layer with the norm behind it."""
    statistics = (norm.running_mean, norm.running_var)
    if isinstance(layer, nn.Linear):
        # Its numbers become channels of pictures, all pixels of a channel in a row.
        pixels = layer.out_features // norm.num_features
        mean, var, gain, bias = (t.repeat_interleave(pixels) for t in (*statistics, norm.weight, norm.bias))
        return fuse_linear_bn_weights(layer.weight, layer.bias, mean, var, norm.eps, gain, bias)
    transposed = isinstance(layer, nn.ConvTranspose2d)
    return fuse_conv_bn_weights(
        layer.weight, layer.bias, *statistics, norm.eps, norm.weight, norm.bias, transposed
    )
