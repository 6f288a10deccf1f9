"""Approximate posteriors q(z|x): how an encoder's outputs and noise make a code and its density.

Each takes the outputs h of an encoder, (B, width), and noise eps, (B, Z).
"""

from __future__ import annotations

from itertools import pairwise
from typing import Final, Literal

import torch
from pydantic import Field
from torch import Tensor as Array
from torch import nn

from models.laws import StandardNormal
from models.layers import Width, Widths, positive_part, soft_clamp, softplus, total
from models.manifest import Contract
from models.planar import FLATTEST, TINY

# Log standard deviations, and the logits of gates, stay within ±6.
BOUND: Final = 6.0
# A gate starts mostly open, so that a step starts near the identity: Kingma et al. 2016, section 3.
OPEN: Final = 1.5


class Diagonal(nn.Module):
    """N(mean, std²), dimension by dimension.

    Reference: Kingma & Welling 2014, arXiv 1312.6114, equation 9.

    Attributes:
        width: of the encoder's outputs: mean and log std.
    """

    def __init__(self, latent: int) -> None:
        super().__init__()
        self.width = 2 * latent
        self.standard = StandardNormal()

    def moments(self, h: Array) -> tuple[Array, Array]:
        """Mean and standard deviation, (B, Z) each."""
        mean, log_std = h.chunk(2, dim=1)
        return mean, torch.exp(soft_clamp(log_std, BOUND))

    def code(self, h: Array) -> tuple[Array, Array]:
        """What stands for a row: the mean, and the standard deviation around it."""
        return self.moments(h)

    def draw(self, h: Array, eps: Array) -> tuple[Array, Array]:
        """A code and log q of it, (B, Z) and (B,), in nats."""
        mean, std = self.moments(h)
        return mean + std * eps, self.standard(eps) - total(torch.log(std))

    def divergence(self, h: Array, z: Array, log_q: Array) -> Array:
        """KL(q(z|x) || p(z)) in closed form, (B,), in nats."""
        return kl_to_prior(*self.moments(h))


class IAFConfig(Contract):
    """Inverse autoregressive flow on top of the Gaussian.

    Attributes:
        steps: each is a gated update by an autoregressive network, after which the order is reversed.
        hidden: widths of that network.
    """

    kind: Literal["iaf"] = "iaf"
    steps: Width = 2
    hidden: Widths = Field(default=(64,), min_length=1)


class PlanarStepsConfig(Contract):
    """Bends along one direction each on top of the Gaussian; the encoder says which, row by row."""

    kind: Literal["planar"] = "planar"
    steps: Width = 8


def posterior(latent: int, config: IAFConfig | PlanarStepsConfig | None) -> Diagonal | Bent:
    """The posterior of a configuration, over Z latents; without one, a diagonal Gaussian."""
    match config:
        case IAFConfig():
            return Bent(latent, InverseAutoregressive(latent, config))
        case PlanarStepsConfig():
            return Bent(latent, PlanarSteps(latent, config))
    return Diagonal(latent)


class Bent(nn.Module):
    """A diagonal Gaussian, pushed on by a flow. Its density is known at its own draws, and only there.

    Args:
        flow: takes z, (B, Z), and context, (B, flow.context), to another z and the log-determinant, (B,).

    Attributes:
        width: of the encoder's outputs: mean, log std and the context of the flow.
    """

    def __init__(self, latent: int, flow: InverseAutoregressive | PlanarSteps) -> None:
        super().__init__()
        self.base = Diagonal(latent)
        self.flow = flow
        self.width = self.base.width + flow.context
        self.prior = StandardNormal()

    def code(self, h: Array) -> Array:
        """What stands for a row: where the flow takes the mean. It is a location of q, not its mean."""
        base, context = self._parts(h)
        z: Array = self.flow(self.base.moments(base)[0], context)[0]
        return z

    def draw(self, h: Array, eps: Array) -> tuple[Array, Array]:
        """A code and log q of it, (B, Z) and (B,), in nats."""
        base, context = self._parts(h)
        z, log_q = self.base.draw(base, eps)
        z, log_det = self.flow(z, context)
        return z, log_q - log_det

    def divergence(self, h: Array, z: Array, log_q: Array) -> Array:
        """One draw of log q(z|x) - log p(z), (B,), in nats: there is no closed form."""
        return log_q - self.prior(z)

    def _parts(self, h: Array) -> tuple[Array, Array]:
        return h[:, : self.base.width], h[:, self.base.width :]


class InverseAutoregressive(nn.Module):
    """z = σ(s) z + (1 - σ(s)) m again and again, m and s from what precedes in z.

    All of z is known when a step is made, so a draw costs no more than a pass of the networks; its density
    is known too, log q(z|x) = log N(z_0) - Σ log σ(s). That of another point would take Z passes.

    Reference: Kingma, Salimans et al. 2016, arXiv 1606.04934, algorithm 1.
    """

    def __init__(self, latent: int, config: IAFConfig) -> None:
        super().__init__()
        self.context = config.hidden[0]
        self.steps = nn.ModuleList(
            Autoregressive(latent, self.context, config.hidden) for _ in range(config.steps)
        )

    def forward(self, z: Array, context: Array) -> tuple[Array, Array]:
        log_det = torch.zeros_like(z[:, 0])
        for step in self.steps:
            m, s = step(z, context)
            gate = torch.sigmoid(s)
            z = (gate * z + (1 - gate) * m).flip(1)
            log_det = log_det - total(softplus(-s))
        return z, log_det


class PlanarSteps(nn.Module):
    """z + û tanh(w·z + b) again and again, û being u changed along w until w·û > -1: so each can be undone.

    The change is ELU's, which leaves u as it is where w·u > 0. That of the paper makes û of a small w large
    without bound, and encoders do give small ones.

    Reference: Rezende & Mohamed 2015, arXiv 1505.05770, equations 10 to 13 and appendix A.1.
    """

    def __init__(self, latent: int, config: PlanarStepsConfig) -> None:
        super().__init__()
        self.parts = (latent, latent, 1)  # u, w and b of one step
        self.steps = config.steps
        self.context = config.steps * sum(self.parts)

    def forward(self, z: Array, context: Array) -> tuple[Array, Array]:
        log_det = torch.zeros_like(z[:, 0])
        for step in context.chunk(self.steps, dim=1):
            u, w, b = step.split(self.parts, dim=1)
            along = total(u * w)
            slope = (1 - FLATTEST) * _elu(along)
            u = u + ((slope - along) / total(w.square()).clamp_min(TINY)).unsqueeze(1) * w
            h = torch.tanh(total(w * z).unsqueeze(1) + b)
            z = z + u * h
            log_det = log_det + torch.log1p(slope * (1 - h.square()).squeeze(1))
        return z, log_det


class Autoregressive(nn.Module):
    """Two numbers for each dimension of z, from the dimensions before it and from a context.

    Reference: Germain et al. 2015, arXiv 1502.03509 (MADE).
    """

    def __init__(self, latent: int, context: int, hidden: tuple[int, ...]) -> None:
        super().__init__()
        degrees = [torch.arange(latent), *(torch.arange(width) % max(1, latent - 1) for width in hidden)]
        self.context = nn.Linear(context, hidden[0])
        self.layers = nn.ModuleList(Masked(after[:, None] >= before) for before, after in pairwise(degrees))
        self.last = Masked((degrees[0][:, None] > degrees[-1]).repeat(2, 1))
        nn.init.constant_(self.last.bias[latent:], OPEN)

    def forward(self, z: Array, context: Array) -> tuple[Array, Array]:
        """m and the logit s of the gate, (B, Z) each."""
        first, *others = self.layers
        h = first(z) + self.context(context)
        for layer in others:
            h = layer(nn.functional.silu(h))
        m, s = self.last(nn.functional.silu(h)).chunk(2, dim=1)
        return m, soft_clamp(s, BOUND)


class Masked(nn.Linear):
    """A linear layer that sees only what a mask allows, (outputs, inputs)."""

    mask: Array

    def __init__(self, mask: Array) -> None:
        super().__init__(mask.shape[1], mask.shape[0])
        self.register_buffer("mask", mask.double())

    def forward(self, x: Array) -> Array:
        return nn.functional.linear(x, self.weight * self.mask.to(x.dtype), self.bias)


def _elu(x: Array) -> Array:
    # ONNX Runtime's own rounds a row that is alone in another way than one in a crowd.
    return positive_part(x) + torch.exp(-positive_part(-x)) - 1


def kl_to_prior(mean: Array, std: Array) -> Array:
    """KL(N(mean, std²) || N(0, 1)) of each row, (B, Z) to (B,), in nats.

    Reference: Kingma & Welling 2014, arXiv 1312.6114, appendix B.
    """
    return (mean.square() + std.square() - 1).sum(1) / 2 - torch.log(std).sum(1)
