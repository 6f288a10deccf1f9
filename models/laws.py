"""Log-densities of the laws that latents and noise follow, by the name that the manifest gives them."""

from __future__ import annotations

import math

import torch
from torch import Tensor as Array
from torch import nn

from models.layers import softplus, total
from models.manifest import Law


class StandardNormal(nn.Module):
    """Independent N(0, 1)."""

    half_log_2pi: Array

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("half_log_2pi", torch.tensor(math.log(2 * math.pi) / 2, dtype=torch.float64))

    def forward(self, z: Array) -> Array:
        """Log-density of each row, (B, ...) to (B,), in nats."""
        return -total(z.square() / 2 + self.half_log_2pi.to(z.dtype))


class Logistic(nn.Module):
    """Independent standard logistic, the prior of NICE."""

    def forward(self, z: Array) -> Array:
        """Log-density of each row, (B, ...) to (B,), in nats."""
        # Symmetric, so |z|: neither term can cancel the other.
        return -total(z.abs() + 2 * softplus(-z.abs()))


def log_density(law: Law) -> nn.Module:
    """The log-density of a prior.

    Raises:
        ValueError: if the law has none on the whole line.
    """
    laws: dict[str, type[nn.Module]] = {"standard_normal": StandardNormal, "logistic": Logistic}
    if law not in laws:
        raise ValueError(f"prior is {law}; allowed are {', '.join(laws)}")
    return laws[law]()
