"""Flows: bijections between data and latents whose density is exact. Here the fully connected ones."""

from __future__ import annotations

import math
from typing import Annotated, Final, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor as Array
from torch import nn

from models.base import Model, Signature
from models.bijections import (
    ADDITIVE,
    AFFINE,
    MULTIPLICATIVE,
    Bijection,
    Coupling,
    Diagonal,
    Logit,
    Permute,
    Stack,
    Standardise,
    Unit,
)
from models.laws import log_density
from models.layers import Activation, Widths, interval
from models.manifest import Contract, DataSpace, EntryName, Grades, LatentSpace, Law, Support, Tensor
from models.splines import spline

PAPERS: Final = {
    "additive": "Dinh, Krueger & Bengio 2014, arXiv 1410.8516",
    "multiplicative": "Dinh, Krueger & Bengio 2014, arXiv 1410.8516",
    "affine": "Dinh, Sohl-Dickstein & Bengio 2017, arXiv 1605.08803",
    "spline": "Durkan, Bekasov, Murray & Papamakarios 2019, arXiv 1906.04032",
}
ACTIVATIONS: Final[dict[str, Activation]] = {"silu": nn.SiLU, "relu": nn.ReLU}
# Rows that data-dependent beginnings behind the preprocessing are read off.
STATISTICS_ROWS: Final = 512


class FlowConfig(Contract):
    """What a coupling flow is made of.

    Attributes:
        coupling: ``additive`` is NICE, ``affine`` is RealNVP, ``spline`` is the neural spline flow.
        bins: of a spline.
        layers: how many couplings.
        hidden: widths of each coupling's network.
        activation: between them; NICE has ``relu``.
        halves: what a coupling keeps: half of a ``shuffled`` row, or, as NICE, ``even`` and odd dimensions in
            turn.
        prior: law of the latents; NICE has the logistic.
        bounded: what becomes of bounded data: ``logit`` stretches their interval over the whole line, so that
            samples stay in it; ``unit`` only takes it to [0, 1], as NICE does.
        margin: how far beyond bounded data the flow may go, as a part alpha of the widened interval at each
            end, before the logit; keeps the logits of data moderate.
    """

    family: Literal["flow"] = "flow"
    coupling: Literal["additive", "multiplicative", "affine", "spline"] = "affine"
    bins: Annotated[int, Field(ge=2, le=256)] = 8
    layers: Annotated[int, Field(ge=1, le=64)] = 8
    hidden: Widths = (128, 128)
    activation: Literal["silu", "relu"] = "silu"
    halves: Literal["shuffled", "even"] = "shuffled"
    prior: Literal["standard_normal", "logistic"] = "standard_normal"
    bounded: Literal["logit", "unit"] = "logit"
    margin: Annotated[float, Field(gt=0, lt=0.5)] = 0.01


class Flow(Model):
    """A bijection between data and latents, whose density is therefore exact. A family says which bijection.

    Bounded data go through a logit, all are standardised, and the bijection of (B, D) rows does the rest. The
    logit is as in Papamakarios, Pavlakou & Murray 2017, arXiv 1705.07057. Without a margin for it, bounded
    data are only taken to [0, 1].

    Args:
        data: what callers send and receive.
        paper: the source of the bijection.
        bijection: from standardised rows (B, D) to latents (B, D).
        prior: law of the latents.
        margin: how far beyond bounded data the flow may go, see :class:`FlowConfig`; ``None`` for no logit.
        decode_passes: how many passes of the bijection's networks its inverse takes.
        alike: how many dimensions are standardised by the same numbers, see :class:`Standardise`.
    """

    grades = Grades(density="exact", latents="bijection", generator="one_shot")
    latent: LatentSpace
    bin: Array

    def __init__(
        self,
        data: DataSpace,
        paper: str,
        bijection: Bijection,
        prior: Law,
        margin: float | None,
        decode_passes: int = 1,
        alike: int = 1,
    ) -> None:
        super().__init__()
        self.decode_passes = decode_passes
        self.paper = paper
        self.data = _reachable(data, margin)
        self.latent = LatentSpace(shape=(data.size,), prior=prior)
        self.prior = log_density(prior)
        self.preprocessing = Stack(_preprocessing(data, margin, alike))
        self.bijection = bijection
        width = data.bin_width if data.levels else 0.0
        self.register_buffer("bin", torch.tensor(width, dtype=torch.float64))

    def signatures(self) -> dict[EntryName, Signature]:
        log_p = Tensor(name="log_w", role="log_weight", shape=("B",), unit="nats")
        return {
            "decode": Signature((self.codes(),), (self.rows(),), cost=float(self.decode_passes)),
            "encode": Signature((self.rows(),), (self.codes(),)),
            "log_weight": Signature((self.rows(),), (log_p,), precision="float64"),
        }

    def fit_statistics(self, x: Array) -> None:
        x = x.flatten(1)
        self.preprocessing.fit(x)
        with torch.no_grad():
            # As many as a minibatch or two: what lies behind is learned from there on.
            y, _ = self.preprocessing(x[:STATISTICS_ROWS])
            self.bijection.fit(y.to(next(self.bijection.parameters()).dtype))

    def dequantise(self, x: Array, u: Array) -> Array:
        """Spread each level evenly over its bin, which it is the middle of; continuous data stay.

        Reference: Theis, van den Oord & Bethge 2016, arXiv 1511.01844, section 3.1: the mean of the
        log-density at spread points bounds the log-mass of the levels from below.

        Args:
            x: data, (B, *shape).
            u: uniform noise in [0, 1), of the same shape.
        """
        return x + self.bin.to(x.dtype) * (u - 0.5)

    def decode(self, z: Array) -> Array:
        """The data of each code, (B, D) to (B, *shape), in data units."""
        return self.preprocessing.inverse(self.bijection.inverse(z)).unflatten(1, self.data.shape)

    def encode(self, x: Array) -> Array:
        """The code of each row, (B, *shape) to (B, D)."""
        return self._push(x)[0]

    def log_weight(self, x: Array) -> Array:
        """log p(x), exact, (B, *shape) to (B,), in nats of density in data units."""
        z, log_det = self._push(x)
        return self.prior(z) + log_det

    def _push(self, x: Array) -> tuple[Array, Array]:
        y, preprocessing = self.preprocessing(x.flatten(1))
        z, log_det = self.bijection(y)
        return z, preprocessing + log_det


class CouplingFlow(Flow):
    """Couplings with fixed permutations between them, and a diagonal at the end.

    Reference: Dinh, Krueger & Bengio 2014, arXiv 1410.8516 (NICE); Dinh, Sohl-Dickstein & Bengio 2017,
    arXiv 1605.08803 (RealNVP).

    Raises:
        ValueError: if rows have one dimension only.
    """

    family = "flow"

    def __init__(self, config: FlowConfig, data: DataSpace) -> None:
        if data.size < 2:
            raise ValueError(f"data has rows of {data.size} dimension; a coupling needs at least 2")
        # Without a standardisation, dark pixels have to be stretched a thousandfold by the last scale alone.
        haste = 8.0 if config.bounded == "unit" else 1.0
        bijection = Stack((*_couplings(config, data.size), Diagonal(data.size, haste)))
        margin = config.margin if config.bounded == "logit" else None
        super().__init__(data, PAPERS[config.coupling], bijection, config.prior, margin)


def _couplings(config: FlowConfig, size: int) -> list[Bijection]:
    transform = {
        "additive": ADDITIVE,
        "multiplicative": MULTIPLICATIVE,
        "affine": AFFINE,
        "spline": spline(config.bins),
    }[config.coupling]
    order = {"shuffled": _shuffled, "even": _even_first}[config.halves]
    activation = ACTIVATIONS[config.activation]
    layers: list[Bijection] = []
    for i in range(config.layers):
        # Every second time the halves are swapped: what one coupling keeps, the next one changes, in two
        # dimensions too.
        swapped = torch.arange(size).roll(-(size // 2))
        layers += [
            Permute(swapped if i % 2 else order(size, i)),
            Coupling(size, transform, config.hidden, activation),
        ]
    return layers


def _shuffled(size: int, layer: int) -> Array:
    return torch.randperm(size, generator=torch.Generator().manual_seed(layer))


def _even_first(size: int, layer: int) -> Array:
    """Even dimensions, then odd ones; later on, the halves swapped back."""
    places = torch.arange(size)
    return torch.cat((places[::2], places[1::2])) if layer == 0 else places.roll(-(size // 2))


def _preprocessing(data: DataSpace, margin: float | None, alike: int) -> list[Bijection]:
    if interval(data) is None:
        return [Standardise(data.size, alike)]
    if margin is None:
        return [Unit(*_ends(_widened(data, 0.0)))]
    return [Logit(*_ends(_widened(data, margin))), Standardise(data.size, alike)]


def _ends(data: DataSpace) -> tuple[Array, Array]:
    ends = interval(data)
    assert ends is not None
    return ends


def _reachable(data: DataSpace, margin: float | None) -> DataSpace:
    """The values that samples take: half a bin and the margin beyond the bounds, or the whole line."""
    if interval(data) is None or margin is None:
        return data.model_copy(update={"support": (Support(),)})
    return _widened(data, margin)


def _widened(data: DataSpace, margin: float) -> DataSpace:
    half_bin = data.bin_width / 2 if data.levels else 0.0
    return data.model_copy(update={"support": tuple(_wider(s, half_bin, margin) for s in data.support)})


def _wider(support: Support, half_bin: float, margin: float) -> Support:
    assert support.low is not None
    assert support.high is not None
    low, high = support.low - half_bin, support.high + half_bin
    # So that the place in the wider interval is alpha + (1 - 2 alpha) y, y the place in the narrower one.
    beyond = (high - low) * margin / (1 - 2 * margin)
    return Support(low=_single(low - beyond, -math.inf), high=_single(high + beyond, math.inf))


def _single(x: float, towards: float) -> float:
    """A number that float32 holds, ``x`` or the next one ``towards`` an infinity.

    Samples are float32: of an end that is not, they would lie beyond it by a rounding.
    """
    nearest = np.float32(x)
    beyond = nearest >= x if towards > 0 else nearest <= x
    return float(nearest if beyond else np.nextafter(nearest, np.float32(towards)))
