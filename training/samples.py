"""Samples of a model, for numbers and for pictures: noise through ``decode``, by an address of their own."""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor as Array

from models.base import Model
from models.manifest import Law
from training.objectives import generator

CHUNK: Final = 8192  # rows of a model's pass


def samples(model: Model, n: int, *address: int, label: Array | None = None) -> Array:
    """The model's samples, (n, *shape), on the CPU; which ones is said by the address.

    Args:
        label: the class of each, for a model that takes classes; without it all classes in turn.
    """
    assert model.latent is not None
    inputs = [_prior_noise(model.latent.prior, (n, *model.latent.shape), generator(*address))]
    if takes_classes(model):
        inputs.append(torch.arange(n) % len(model.data.labels or ()) if label is None else label)
    place = next(model.parameters()).device
    parts = zip(*(rows.to(place).split(CHUNK) for rows in inputs), strict=True)
    return torch.cat([model.decode(*part).cpu() for part in parts])


def takes_classes(model: Model) -> bool:
    """Whether samples are of a class that callers choose."""
    return any(tensor.role == "label" for tensor in model.signatures()["decode"].inputs)


def _prior_noise(law: Law, shape: tuple[int, ...], noise: torch.Generator) -> Array:
    if law == "standard_normal":
        return torch.randn(shape, generator=noise)
    u = torch.rand(shape, generator=noise, dtype=torch.float64)
    return (torch.logit(u, eps=1e-12) if law == "logistic" else u).float()
