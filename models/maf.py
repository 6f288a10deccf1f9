"""Masked autoregressive flow: each dimension is shifted and scaled by what all dimensions before it say."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor as Array
from torch import nn

from models.bijections import AFFINE, Bijection, Diagonal, Permute, Stack, Transform
from models.flow import Flow
from models.layers import Widths
from models.loops import repeat
from models.manifest import Contract, DataSpace, Grades
from models.posteriors import Masked


class MAFConfig(Contract):
    """What a masked autoregressive flow is made of.

    Attributes:
        layers: how many autoregressive maps; the order of the dimensions is reversed between them.
        hidden: widths of each map's network.
        margin: as in :class:`~models.flow.FlowConfig`.
    """

    family: Literal["maf"] = "maf"
    layers: Annotated[int, Field(ge=1, le=64)] = 5
    hidden: Widths = Field(default=(128, 128), min_length=1)
    margin: Annotated[float, Field(gt=0, lt=0.5)] = 0.01


class MAF(Flow):
    """Autoregressive maps in a row. The density takes one pass, a sample one for each dimension.

    Reference: Papamakarios, Pavlakou & Murray 2017, arXiv 1705.07057.
    """

    family = "maf"
    grades = Grades(density="exact", latents="bijection", generator="sequential")

    def __init__(self, config: MAFConfig, data: DataSpace) -> None:
        layers: list[Bijection] = []
        for _ in range(config.layers):
            layers += [Autoregressive(data.size, AFFINE, config.hidden), _reversal(data.size)]
        super().__init__(
            data,
            "Papamakarios, Pavlakou & Murray 2017, arXiv 1705.07057",
            Stack((*layers, Diagonal(data.size))),
            "standard_normal",
            config.margin,
            decode_passes=data.size,
        )


class Autoregressive(Bijection):
    """Dimension i is transformed by numbers that a masked network makes of the dimensions before it.

    The inverse knows one more dimension after each pass, so it takes D of them.

    Reference: Germain, Gregor, Murray & Larochelle 2015, arXiv 1502.03509 (the masks).

    Args:
        size: D.
        transform: what is done to a dimension.
        hidden: widths of the network between, at least one.
    """

    def __init__(self, size: int, transform: Transform, hidden: Sequence[int]) -> None:
        super().__init__()
        self.size = size
        self.transform = transform
        # A unit of degree m sees the dimensions up to m; the last layer only what is of lower degree.
        degrees = [torch.arange(size), *(torch.arange(width) % max(1, size - 1) for width in hidden)]
        layers: list[nn.Module] = []
        for before, after in pairwise(degrees):
            layers += [Masked(after[:, None] >= before), nn.SiLU()]
        last = Masked((degrees[0][:, None] > degrees[-1]).repeat(transform.parameters, 1))
        for parameter in last.parameters():
            nn.init.zeros_(parameter)
        self.conditioner = nn.Sequential(*layers, last)

    def forward(self, x: Array) -> tuple[Array, Array]:
        z, log_slope = self.transform.forward(x, *self._numbers(x))
        return z, log_slope.sum(1)

    def inverse(self, z: Array) -> Array:
        return repeat(lambda x: self.transform.inverse(z, *self._numbers(x)), torch.zeros_like(z), self.size)

    def _numbers(self, x: Array) -> tuple[Array, ...]:
        numbers: tuple[Array, ...] = self.conditioner(x).chunk(self.transform.parameters, dim=1)
        return numbers


def _reversal(size: int) -> Permute:
    return Permute(torch.arange(size).flip(0))
