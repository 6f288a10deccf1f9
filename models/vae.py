"""Variational autoencoders: a decoder p(x|z), an encoder q(z|x), and importance weights between them."""

from __future__ import annotations

import math
from typing import Final, Literal

import torch
from pydantic import Field
from torch import Tensor as Array
from torch import nn

from models.base import Model, Signature
from models.laws import StandardNormal
from models.layers import (
    Scale,
    Width,
    Widths,
    double,
    halve,
    halvings,
    interval,
    mlp,
    positive_part,
    soft_clamp,
)
from models.manifest import Contract, DataSpace, EntryName, Grades, LatentSpace, Support, Tensor

# Posterior log-std stays within ±6, that of a Gaussian decoder (in standard deviations of the data) too.
LOG_STD_BOUND: Final = 6.0


class VAEConfig(Contract):
    """What a VAE is made of.

    Attributes:
        latent_dim: Z.
        likelihood: ``bernoulli`` for levels (Binomial from three levels on), ``gaussian`` for the real line.
        net: ``conv`` for pictures (C, H, W).
        hidden: widths (``mlp``) or channels (``conv``) from data to latents; the decoder mirrors them.
    """

    family: Literal["vae"] = "vae"
    latent_dim: Width = 16
    likelihood: Literal["bernoulli", "gaussian"] = "bernoulli"
    net: Literal["mlp", "conv"] = "mlp"
    hidden: Widths = Field(default=(256, 256))


class VAE(Model):
    """Variational autoencoder with a standard normal prior and a diagonal Gaussian posterior.

    Reference: Kingma & Welling 2014, arXiv 1312.6114; Burda, Grosse & Salakhutdinov 2016, arXiv 1509.00519.

    Raises:
        ValueError: if the likelihood or the network does not fit the data.
    """

    family = "vae"
    paper = "Kingma & Welling 2014, arXiv 1312.6114"
    grades = Grades(density="lower_bound", latents="posterior", generator="one_shot")
    latent: LatentSpace
    likelihood: Binomial | Gaussian

    def __init__(self, config: VAEConfig, data: DataSpace) -> None:
        super().__init__()
        likelihoods: dict[str, type[Binomial | Gaussian]] = {"bernoulli": Binomial, "gaussian": Gaussian}
        nets = {"mlp": mlp_nets, "conv": conv_nets}
        self.likelihood = likelihoods[config.likelihood](data)
        self.data = self.likelihood.data
        self.latent = LatentSpace(shape=(config.latent_dim,))
        self.prior = StandardNormal()
        self.encoder, self.decoder = nets[config.net](data.shape, config.hidden, config.latent_dim)

    def signatures(self) -> dict[EntryName, Signature]:
        shape: tuple[Literal["B"] | int, ...] = ("B", *self.latent.shape)
        eps = Tensor(name="eps", role="noise", shape=shape, law="standard_normal")
        std = Tensor(name="std", role="std", shape=shape, unit="standard deviation of q(z|x)")
        log_w = Tensor(name="log_w", role="log_weight", shape=("B",), unit="nats")
        return {
            "decode": Signature((self.codes(),), (self.rows("mean of p(x|z)"),)),
            "encode": Signature((self.rows(),), (self.codes("mean of q(z|x)"), std)),
            "log_weight": Signature((self.rows(), eps), (log_w,)),
        }

    def fit_statistics(self, x: Array) -> None:
        self.likelihood.fit(x)

    def decode(self, z: Array) -> Array:
        """Mean of p(x|z), (B, Z) to (B, *shape), in data units."""
        return self.likelihood.mean(self.decoder(z))

    def encode(self, x: Array) -> tuple[Array, Array]:
        """Mean and standard deviation of q(z|x), (B, *shape) to twice (B, Z)."""
        mean, log_std = self.encoder(self.likelihood.scale(x)).chunk(2, dim=1)
        return mean, torch.exp(soft_clamp(log_std, LOG_STD_BOUND))

    def log_weight(self, x: Array, eps: Array) -> Array:
        """One importance draw for each row: log p(x|z) + log p(z) - log q(z|x) at z = mean + std * eps.

        Args:
            x: data, (B, *shape).
            eps: standard normal noise, (B, Z).

        Returns:
            log_w, whose exponential has mean p(x), (B,), in nats.
        """
        return self._weigh(x, *self.encode(x), eps)

    def log_weights(self, x: Array, eps: Array) -> Array:
        """K importance draws for each row, which share one pass of the encoder.

        Args:
            x: data, (B, *shape).
            eps: standard normal noise, (B, K, Z).

        Returns:
            log_w, (B, K), in nats.
        """
        x, mean, std = (t.repeat_interleave(eps.shape[1], dim=0) for t in (x, *self.encode(x)))
        return self._weigh(x, mean, std, eps.flatten(0, 1)).unflatten(0, eps.shape[:2])

    def log_likelihood(self, x: Array, z: Array) -> Array:
        """log p(x|z) of each row, (B,), in nats."""
        return self.likelihood.log_prob(x, self.decoder(z))

    def _weigh(self, x: Array, mean: Array, std: Array, eps: Array) -> Array:
        z = mean + std * eps
        log_q = self.prior(eps) - torch.log(std).sum(1)
        return self.log_likelihood(x, z) + self.prior(z) - log_q


def elbo(log_w: Array, dim: int = -1) -> Array:
    """Evidence lower bound, the mean of log-weights over ``dim``, in nats."""
    return log_w.mean(dim)


def importance_bound(log_w: Array, dim: int = -1) -> Array:
    """Log-mean-exp of the log-weights over ``dim``: L_K, rising with K from ELBO to log p(x), in nats.

    Reference: Burda, Grosse & Salakhutdinov 2016, arXiv 1509.00519, section 3.
    """
    return torch.logsumexp(log_w, dim) - math.log(log_w.shape[dim])


def kl_to_prior(mean: Array, std: Array) -> Array:
    """KL(N(mean, std²) || N(0, 1)) of each row, (B, Z) to (B,), in nats.

    Reference: Kingma & Welling 2014, arXiv 1312.6114, appendix B.
    """
    return (mean.square() + std.square() - 1).sum(1) / 2 - torch.log(std).sum(1)


class Binomial(nn.Module):
    """Each dimension a count of successes in L - 1 trials, L the levels; with two levels, Bernoulli.

    Sums to one over the lattice. The decoder's outputs are logits.

    Raises:
        ValueError: if the data are not whole numbers from low to low + L - 1.
    """

    low: Array
    log_choose: Array

    def __init__(self, data: DataSpace) -> None:
        super().__init__()
        low, self.trials = _lattice(data)
        support = tuple(s.model_copy(update={"lattice": True}) for s in data.support)
        self.data = data.model_copy(update={"support": support})
        self.scale = Scale(data)
        self.offset = nn.Parameter(torch.zeros(data.shape))
        self.register_buffer("low", low.view(data.shape))
        self.register_buffer("log_choose", _log_choose(self.trials))

    def fit(self, x: Array) -> None:
        """Start from the mean of the rows: the decoder learns what differs from it."""
        # The authors of the importance-weighted autoencoder clip there too (github yburda/iwae).
        mean = ((x.double().mean(0) - self.low) / self.trials).clamp(0.001, 0.999)
        self.offset.data.copy_(torch.logit(mean))

    def mean(self, h: Array) -> Array:
        """In data units, (B, *shape)."""
        return self.low.to(h.dtype) + self.trials * torch.sigmoid(h + self.offset)

    def log_prob(self, x: Array, h: Array) -> Array:
        """(B,), in nats."""
        logit = h + self.offset
        count = x - self.low.to(x.dtype)
        # Whole numbers are clamped rather than floats: not even NaN may reach beyond the table.
        choose = self.log_choose.to(x.dtype)[count.round().long().clamp(0, self.trials)]
        # count * log p + (trials - count) * log(1 - p) as a sum of terms of one sign.
        misses = count * positive_part(-logit) + (self.trials - count) * positive_part(logit)
        entropy = self.trials * torch.log1p(torch.exp(-logit.abs()))
        return (choose - misses - entropy).flatten(1).sum(1)


def _lattice(data: DataSpace) -> tuple[Array, int]:
    """Lowest value of each dimension, (D,), and the number of steps above it."""
    bounds = interval(data)
    if data.levels is None or data.bin_width != 1 or bounds is None:
        raise ValueError(
            f"data has levels {data.levels}, bin width {data.bin_width} and support {list(data.support)}; "
            "a bernoulli likelihood takes whole numbers between bounds: levels, and bin width 1"
        )
    low, high = bounds
    if not torch.equal(high - low, torch.full_like(low, data.levels - 1)):
        raise ValueError(f"data has {data.levels} levels; its bounds must then be {data.levels - 1} apart")
    return low, data.levels - 1


def _log_choose(trials: int) -> Array:
    """Logarithms of the binomial coefficients of ``trials`` over 0..trials, in float64."""
    return torch.tensor([math.log(math.comb(trials, k)) for k in range(trials + 1)], dtype=torch.float64)


class Gaussian(nn.Module):
    """Each dimension normal around the decoder's output, with a learned variance of its own."""

    def __init__(self, data: DataSpace) -> None:
        super().__init__()
        # A density on the line says nothing of levels, so it must not be turned into bits per dimension.
        self.data = data.model_copy(update={"support": (Support(),), "levels": None})
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
        log_std = soft_clamp(self.log_std, LOG_STD_BOUND)
        residual = (self.scale(x) - h) * torch.exp(-log_std)
        return self.standard(residual) - log_std.sum() - self.scale.log_volume.to(x.dtype)


def mlp_nets(shape: tuple[int, ...], hidden: tuple[int, ...], latent: int) -> tuple[nn.Module, nn.Module]:
    """Fully connected encoder to (mean, log std), (B, 2Z), and its mirror."""
    size = math.prod(shape)
    encoder = nn.Sequential(nn.Flatten(), mlp((size, *hidden, 2 * latent)))
    decoder = nn.Sequential(mlp((latent, *reversed(hidden), size)), nn.Unflatten(1, shape))
    return encoder, decoder


def conv_nets(shape: tuple[int, ...], hidden: tuple[int, ...], latent: int) -> tuple[nn.Module, nn.Module]:
    """Convolutions of stride 2 to (mean, log std), (B, 2Z), and their mirror."""
    sizes = halvings(shape, len(hidden))
    channels = (shape[0], *hidden)
    flat = channels[-1] * math.prod(sizes[-1])
    down: list[nn.Module] = []
    up: list[nn.Module] = []
    for i, size in enumerate(sizes[:-1]):
        down += [halve(channels[i], channels[i + 1], size), nn.SiLU()]
        up = [nn.SiLU(), double(channels[i + 1], channels[i], size), *up]
    encoder = nn.Sequential(*down, nn.Flatten(), nn.Linear(flat, 2 * latent))
    decoder = nn.Sequential(nn.Linear(latent, flat), nn.Unflatten(1, (channels[-1], *sizes[-1])), *up)
    return encoder, decoder
