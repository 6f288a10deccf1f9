"""Variational autoencoders: a decoder p(x|z), an encoder q(z|x), and importance weights between them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final, Literal

import torch
from pydantic import Field
from torch import Tensor as Array
from torch import nn

from models.base import Model, Signature
from models.laws import StandardNormal
from models.layers import Activation, OneHot, Width, Widths, double, halve, halvings, mlp
from models.likelihoods import Binomial, Categorical, Gaussian
from models.manifest import Contract, DataSpace, EntryName, Grades, LatentSpace, Tensor
from models.posteriors import Bent, Diagonal, IAFConfig, PlanarStepsConfig, posterior

Likelihood = Binomial | Categorical | Gaussian
Shape = tuple[int, ...]

LIKELIHOODS: Final[dict[str, type[Likelihood]]] = {
    "bernoulli": Binomial,
    "categorical": Categorical,
    "gaussian": Gaussian,
}
ACTIVATIONS: Final[dict[str, Activation]] = {"silu": nn.SiLU, "tanh": nn.Tanh}


class VAEConfig(Contract):
    """What a VAE is made of.

    Attributes:
        latent_dim: Z.
        likelihood: ``bernoulli`` for levels (Binomial from three levels on), ``categorical`` for levels with
            a probability each, ``gaussian`` for the real line.
        net: ``conv`` for pictures (C, H, W).
        hidden: widths (``mlp``) or channels (``conv``) from data to latents; the decoder mirrors them.
        activation: between layers; with ``tanh`` weights begin as Glorot & Bengio 2010 have them.
        conditional: encoder and decoder are told the class of a row.
        posterior: what bends the Gaussian posterior; without it, it stays a diagonal Gaussian.
    """

    family: Literal["vae"] = "vae"
    latent_dim: Width = 16
    likelihood: Literal["bernoulli", "categorical", "gaussian"] = "bernoulli"
    net: Literal["mlp", "conv"] = "mlp"
    hidden: Widths = Field(default=(256, 256))
    activation: Literal["silu", "tanh"] = "silu"
    conditional: bool = False
    posterior: IAFConfig | PlanarStepsConfig | None = Field(default=None, discriminator="kind")


class VAE(Model):
    """Variational autoencoder with a standard normal prior.

    Told a class y, everything is given y: log-weights are of p(x|y), and the prior is that of every class.

    Reference: Kingma & Welling 2014, arXiv 1312.6114; Burda, Grosse & Salakhutdinov 2016, arXiv 1509.00519;
    Sohn, Lee & Yan 2015 for the classes.

    Raises:
        ValueError: if the likelihood or the network does not fit the data, or it has no classes to be told.
    """

    family = "vae"
    paper = "Kingma & Welling 2014, arXiv 1312.6114"
    grades = Grades(density="lower_bound", latents="posterior", generator="one_shot")
    latent: LatentSpace
    likelihood: Likelihood
    posterior: Diagonal | Bent

    def __init__(self, config: VAEConfig, data: DataSpace) -> None:
        super().__init__()
        if config.conditional and data.labels is None:
            raise ValueError("data has no classes; a conditional model needs rows with labels")
        self.likelihood = LIKELIHOODS[config.likelihood](data)
        self.data = self.likelihood.data
        self.latent = LatentSpace(shape=(config.latent_dim,))
        self.prior = StandardNormal()
        z = config.latent_dim
        self.posterior = posterior(z, config.posterior)
        told = len(data.labels) if config.conditional and data.labels else 0
        self.classes = OneHot(told) if told else None
        self.flat = nn.Flatten() if config.net == "mlp" else nn.Identity()
        nets = {"mlp": mlp_nets, "conv": conv_nets}[config.net]
        ends = Ends(data.shape, told, self.posterior.width, z, self.likelihood.outputs)
        self.encoder, self.decoder = nets(ends, config.hidden, ACTIVATIONS[config.activation])
        if config.activation == "tanh":
            self.encoder.apply(_glorot)
            self.decoder.apply(_glorot)

    def signatures(self) -> dict[EntryName, Signature]:
        shape: tuple[Literal["B"] | int, ...] = ("B", *self.latent.shape)
        label = (Tensor(name="label", role="label", dtype="int64", shape=("B",)),) if self.classes else ()
        eps = Tensor(name="eps", role="noise", shape=shape, law="standard_normal")
        std = Tensor(name="std", role="std", shape=shape, unit="standard deviation of q(z|x)")
        log_w = Tensor(name="log_w", role="log_weight", shape=("B",), unit="nats")
        if isinstance(self.posterior, Diagonal):
            code: tuple[Tensor, ...] = (self.codes("mean of q(z|x)"), std)
        else:
            code = (self.codes("location of q(z|x)"),)
        return {
            "decode": Signature((self.codes(), *label), (self.rows("mean of p(x|z)"),)),
            "encode": Signature((self.rows(), *label), code),
            "log_weight": Signature((self.rows(), eps, *label), (log_w,)),
        }

    def fit_statistics(self, x: Array) -> None:
        self.likelihood.fit(x)

    def decode(self, z: Array, label: Array | None = None) -> Array:
        """Mean of p(x|z), (B, Z) to (B, *shape), in data units.

        Args:
            label: the class of each row, (B,), int64, here and below; a model that is not conditional
                does not look at it.
        """
        return self.likelihood.mean(self.decoder(self._told(z, label)))

    def encode(self, x: Array, label: Array | None = None) -> Array | tuple[Array, Array]:
        """Mean and standard deviation of q(z|x), (B, *shape) to twice (B, Z).

        A posterior with a flow has neither in closed form: it answers its location, where the flow takes
        the mean of the Gaussian that it starts from.
        """
        return self.posterior.code(self.infer(x, label))

    def log_weight(self, x: Array, eps: Array, label: Array | None = None) -> Array:
        """One importance draw for each row: log p(x|z) + log p(z) - log q(z|x) at z ~ q, made of eps.

        Args:
            x: data, (B, *shape).
            eps: standard normal noise, (B, Z).

        Returns:
            log_w, whose exponential has mean p(x), (B,), in nats.
        """
        return self._weigh(x, self.infer(x, label), eps, label)

    def log_weights(self, x: Array, eps: Array, label: Array | None = None) -> Array:
        """K importance draws for each row, which share one pass of the encoder.

        Args:
            x: data, (B, *shape).
            eps: standard normal noise, (B, K, Z).

        Returns:
            log_w, (B, K), in nats.
        """
        k = eps.shape[1]
        rows, h = (t.repeat_interleave(k, dim=0) for t in (x, self.infer(x, label)))
        label = None if label is None else label.repeat_interleave(k, dim=0)
        return self._weigh(rows, h, eps.flatten(0, 1), label).unflatten(0, eps.shape[:2])

    def infer(self, x: Array, label: Array | None = None) -> Array:
        """What the encoder says of each row, (B, *shape) to (B, posterior.width)."""
        return self.encoder(self._told(self.flat(self.likelihood.scale(x)), label))

    def log_likelihood(self, x: Array, z: Array, label: Array | None = None) -> Array:
        """log p(x|z) of each row, (B,), in nats."""
        return self.likelihood.log_prob(x, self.decoder(self._told(z, label)))

    def _told(self, rows: Array, label: Array | None) -> Array:
        """Rows, and behind their first axis their class: for pictures as planes of ones and zeros."""
        if self.classes is None:
            return rows
        assert label is not None
        told = self.classes(label, rows)[(..., *[None] * (rows.ndim - 2))]
        return torch.cat([rows, told.expand(-1, -1, *rows.shape[2:])], dim=1)

    def _weigh(self, x: Array, h: Array, eps: Array, label: Array | None) -> Array:
        z, log_q = self.posterior.draw(h, eps)
        return self.log_likelihood(x, z, label) + self.prior(z) - log_q


def elbo(log_w: Array, dim: int = -1) -> Array:
    """Evidence lower bound, the mean of log-weights over ``dim``, in nats."""
    return log_w.mean(dim)


def importance_bound(log_w: Array, dim: int = -1) -> Array:
    """Log-mean-exp of the log-weights over ``dim``: L_K, rising with K from ELBO to log p(x), in nats.

    Reference: Burda, Grosse & Salakhutdinov 2016, arXiv 1509.00519, section 3.
    """
    return torch.logsumexp(log_w, dim) - math.log(log_w.shape[dim])


@dataclass(frozen=True)
class Ends:
    """What goes into the networks and has to come out of them, for one row.

    Attributes:
        shape: of the data.
        told: how many numbers say the class, 0 where nobody does.
        inferred: how many numbers the encoder gives.
        latent: Z.
        outputs: the shape of what the decoder gives.
    """

    shape: Shape
    told: int
    inferred: int
    latent: int
    outputs: Shape


def mlp_nets(ends: Ends, hidden: Shape, activation: Activation) -> tuple[nn.Module, nn.Module]:
    """Fully connected encoder of flat rows, and its mirror."""
    encoder = mlp((math.prod(ends.shape) + ends.told, *hidden, ends.inferred), activation)
    widths = (ends.latent + ends.told, *reversed(hidden), math.prod(ends.outputs))
    return encoder, nn.Sequential(mlp(widths, activation), nn.Unflatten(1, ends.outputs))


def conv_nets(ends: Ends, hidden: Shape, activation: Activation) -> tuple[nn.Module, nn.Module]:
    """Encoder of convolutions of stride 2, and its mirror."""
    sizes = halvings(ends.shape, len(hidden))
    into, out = (ends.shape[0] + ends.told, *hidden), (ends.outputs[0], *hidden)
    flat = out[-1] * math.prod(sizes[-1])
    down: list[nn.Module] = []
    up: list[nn.Module] = []
    for i, size in enumerate(sizes[:-1]):
        down += [halve(into[i], into[i + 1], size), activation()]
        up = [activation(), double(out[i + 1], out[i], size), *up]
    encoder = nn.Sequential(*down, nn.Flatten(), nn.Linear(flat, ends.inferred))
    start = nn.Linear(ends.latent + ends.told, flat)
    return encoder, nn.Sequential(start, nn.Unflatten(1, (out[-1], *sizes[-1])), *up)


def _glorot(layer: nn.Module) -> None:
    # Torch begins smaller, as suits ReLU and its kin.
    if isinstance(layer, nn.Linear | nn.Conv2d | nn.ConvTranspose2d):
        nn.init.xavier_uniform_(layer.weight)
        nn.init.zeros_(layer.bias)
