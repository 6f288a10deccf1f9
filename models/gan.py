"""Generative adversarial networks: a generator that a discriminator cannot tell from data."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal

import torch
from pydantic import Field
from torch import Tensor as Array
from torch import nn
from torch.nn.utils.parametrizations import spectral_norm

from models.base import Model, Signature
from models.layers import (
    OneHot,
    Scale,
    Width,
    Widths,
    double,
    halve,
    halvings,
    interval,
    mlp,
    positive_part,
    softplus,
)
from models.manifest import Contract, DataSpace, EntryName, Grades, LatentSpace, Support, Tensor

LEAK: Final = 0.2  # of the discriminator's rectifiers, as in DCGAN
INIT_STD: Final = 0.02  # of all weights, as in DCGAN, section 4

Loss = Literal["minimax", "non_saturating", "hinge", "wasserstein"]
Normalisation = Literal["batch", "spectral", "none"]


class GANConfig(Contract):
    """What a GAN is made of.

    Attributes:
        latent_dim: Z.
        net: ``conv`` for pictures (C, H, W), the DCGAN; ``mlp`` for any data.
        hidden: channels (``conv``) or widths (``mlp``) from data to latents; the generator mirrors them.
        discriminator: how it is kept from running away: ``batch`` norm (``conv`` only, ``mlp`` then has
            none), or ``spectral`` norm of every layer.
        conditional: both players are told the class of a row, and callers choose it.
        encoder: a third network learns the way back, from data to codes, once the generator is done.
    """

    family: Literal["gan"] = "gan"
    latent_dim: Width = 64
    net: Literal["mlp", "conv"] = "conv"
    hidden: Widths = Field(default=(64, 128), min_length=1)
    discriminator: Normalisation = "batch"
    conditional: bool = False
    encoder: bool = False


class GAN(Model):
    """Generative adversarial network; its ``discriminator`` serves training and stays behind at export.

    Reference: Goodfellow et al. 2014, arXiv 1406.2661; Radford, Metz & Chintala 2016, arXiv 1511.06434;
    Mirza & Osindero 2014, arXiv 1411.1784, for the label.

    Raises:
        ValueError: if the network does not fit the data, or the data have no classes to condition on.
    """

    family = "gan"
    paper = "Goodfellow et al. 2014, arXiv 1406.2661"
    grades = Grades(density="none", latents="code", generator="one_shot")
    latent: LatentSpace

    def __init__(self, config: GANConfig, data: DataSpace) -> None:
        super().__init__()
        up, down = {"mlp": (mlp_up, mlp_down), "conv": (conv_up, conv_down)}[config.net]
        classes = _classes(data) if config.conditional else 0
        self.data = _reachable(data)
        self.latent = LatentSpace(shape=(config.latent_dim,))
        self.scale = Scale(self.data)
        self.squash = nn.Tanh() if self.scale.bounded else nn.Identity()
        self.classes = OneHot(classes) if classes else None
        self.generator = up(data.shape, config.hidden, config.latent_dim + classes)
        channels, *rest = data.shape
        critic = down((channels + classes, *rest), config.hidden, 1, config.discriminator)
        self.discriminator = Discriminator(self.data, critic, classes)
        self.encoder = down(data.shape, config.hidden, config.latent_dim, "none") if config.encoder else None

    def signatures(self) -> dict[EntryName, Signature]:
        label = (Tensor(name="label", role="label", dtype="int64", shape=("B",)),) if self.classes else ()
        decode = Signature((self.codes(), *label), (self.rows(),))
        if self.encoder is None:
            return {"decode": decode}
        residual = Tensor(name="residual", role="residual", shape=("B",), unit="data units, mean absolute")
        encode = Signature((self.rows(), *label), (self.codes(), residual), cost=2)
        return {"decode": decode, "encode": encode}

    def fit_statistics(self, x: Array) -> None:
        self.scale.fit(x)
        self.discriminator.scale.fit(x)

    def decode(self, z: Array, label: Array | None = None) -> Array:
        """A sample from each code, (B, Z) to (B, *shape), in data units and within their support.

        Args:
            label: the class of each sample, (B,), int64, for a conditional model.
        """
        return self.finished(self.generator(self.told(z, label)))

    def encode(self, x: Array, label: Array | None = None) -> tuple[Array, Array]:
        """The code whose sample should be the row, and by how much it is not.

        Args:
            x: data, (B, *shape).
            label: as in :meth:`decode`.

        Returns:
            z: (B, Z).
            residual: mean absolute difference of the row and the sample of its code, (B,), in data units.
        """
        z = self.code(x)
        return z, (x - self.decode(z, label)).abs().flatten(1).mean(1)

    def code(self, x: Array) -> Array:
        """The encoder's code of each row, (B, *shape) to (B, Z)."""
        assert self.encoder is not None
        code: Array = self.encoder(self.scale(x))
        return code

    def finished(self, y: Array) -> Array:
        """What a generator gives, in network units, as data."""
        return self.scale.inverse(self.squash(y))

    def told(self, z: Array, label: Array | None) -> Array:
        """What the generator sees: the code, and the class where it is told one."""
        return z if self.classes is None else torch.cat([z, self.classes(label, z)], dim=1)


class Discriminator(nn.Module):
    """The logit of a row being data rather than a sample; a critic where the loss gives no probability.

    Has a scale of its own: nothing of the discriminator is the generator's.

    Args:
        critic: rows in network units to (B, 1); each class is a further channel of them.
    """

    def __init__(self, data: DataSpace, critic: nn.Module, classes: int) -> None:
        super().__init__()
        self.scale = Scale(data)
        self.critic = critic
        self.classes = OneHot(classes) if classes else None

    def forward(self, x: Array, label: Array | None = None) -> Array:
        """Rows (B, *shape), in data units, and the class of each where the model has classes, to (B,)."""
        return self.judge(self.scale(x), label)

    def judge(self, y: Array, label: Array | None = None) -> Array:
        """The same for rows in network units, where slopes are measured."""
        if self.classes is not None:
            told = self.classes(label, y).view(len(y), -1, *[1] * (y.ndim - 2))
            y = torch.cat([y, told.expand(-1, -1, *y.shape[2:])], dim=1)
        return self.critic(y).flatten()


# Losses ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Game:
    """What each player lowers.

    Attributes:
        discriminator: takes logits at data and at samples, (B,) each, to a loss, ().
        generator: takes logits at samples, (B,), to a loss, ().
        probabilistic: the sigmoid of a logit is the probability of a row being data.
    """

    discriminator: Callable[[Array, Array], Array]
    generator: Callable[[Array], Array]
    probabilistic: bool


def discriminator_loss(logits_real: Array, logits_fake: Array) -> Array:
    """Minus the value V(D) of the game: -E log D(x) - E log(1 - D(G(z))), in nats.

    Reference: Goodfellow et al. 2014, arXiv 1406.2661, equation 1.

    Args:
        logits_real: logit of D at data, (B,).
        logits_fake: logit of D at samples, (B,).
    """
    return softplus(-logits_real).mean() + softplus(logits_fake).mean()


def minimax_generator_loss(logits_fake: Array) -> Array:
    """The generator's side of the game itself, E log(1 - D(G(z))), in nats.

    Its slope by the logit a is -sigmoid(a), which vanishes while the discriminator wins.

    Reference: Goodfellow et al. 2014, arXiv 1406.2661, equation 1.
    """
    return -softplus(logits_fake).mean()


def generator_loss(logits_fake: Array) -> Array:
    """The non-saturating loss -E log D(G(z)), in nats.

    It has the game's fixed point and a gradient that does not vanish while the discriminator wins: by the
    logit a, -(1 - sigmoid(a)) where the game itself gives -sigmoid(a).

    Reference: Goodfellow et al. 2014, arXiv 1406.2661, section 3.
    """
    return softplus(-logits_fake).mean()


def hinge_loss(logits_real: Array, logits_fake: Array) -> Array:
    """The discriminator wants data above 1 and samples below -1, and no more than that.

    Reference: Lim & Ye 2017, arXiv 1705.02894, section 3.
    """
    return positive_part(1 - logits_real).mean() + positive_part(1 + logits_fake).mean()


def critic_loss(logits_real: Array, logits_fake: Array) -> Array:
    """Minus a critic's estimate of the Wasserstein distance, E f(G(z)) - E f(x), for f of slope at most 1.

    Reference: Arjovsky, Chintala & Bottou 2017, arXiv 1701.07875, equation 2.
    """
    return logits_fake.mean() - logits_real.mean()


def ascent_loss(logits_fake: Array) -> Array:
    """Minus the mean logit: the generator climbs the critic. Also of the hinge."""
    return -logits_fake.mean()


GAMES: Final[dict[Loss, Game]] = {
    "minimax": Game(discriminator_loss, minimax_generator_loss, probabilistic=True),
    "non_saturating": Game(discriminator_loss, generator_loss, probabilistic=True),
    "hinge": Game(hinge_loss, ascent_loss, probabilistic=False),
    "wasserstein": Game(critic_loss, ascent_loss, probabilistic=False),
}


def slopes(critic: Callable[[Array], Array], y: Array) -> Array:
    """Length of the critic's gradient at each row, (B, ...) to (B,); differentiable itself."""
    y = y.detach().requires_grad_()
    (slope,) = torch.autograd.grad(critic(y).sum(), y, create_graph=True)
    return torch.linalg.vector_norm(slope.flatten(1), dim=1)


def between(real: Array, fake: Array, u: Array) -> Array:
    """A point on the line from each sample to a row of data; ``u`` in [0, 1], (B,), says where."""
    u = u.view(-1, *[1] * (real.ndim - 1))
    return u * real + (1 - u) * fake


def slope_penalty(lengths: Array) -> Array:
    """Mean squared slope: at data it is zero where the game ends.

    Reference: Mescheder, Geiger & Nowozin 2018, arXiv 1801.04406, equation 9 (R1).
    """
    return lengths.square().mean() / 2


def lipschitz_penalty(lengths: Array) -> Array:
    """Mean squared distance of the slope from 1, the slope of the best critic between data and samples.

    Reference: Gulrajani et al. 2017, arXiv 1704.00028, equation 3.
    """
    return (lengths - 1).square().mean()


# Networks ----------------------------------------------------------------------------------------------


def mlp_up(shape: tuple[int, ...], hidden: tuple[int, ...], inputs: int) -> nn.Module:
    """Fully connected generator, (B, inputs) to (B, *shape)."""
    widths = (inputs, *reversed(hidden), math.prod(shape))
    return nn.Sequential(mlp(widths, nn.ReLU), nn.Unflatten(1, shape))


def mlp_down(
    shape: tuple[int, ...], hidden: tuple[int, ...], outputs: int, normalisation: Normalisation
) -> nn.Module:
    """Fully connected critic, (B, *shape) to (B, outputs)."""
    net = nn.Sequential(nn.Flatten(), mlp((math.prod(shape), *hidden, outputs), _leaky))
    return _spectral(net) if normalisation == "spectral" else net


def conv_up(shape: tuple[int, ...], hidden: tuple[int, ...], inputs: int) -> nn.Module:
    """The DCGAN's generator: strided convolutions, batch norm everywhere but next to the pictures."""
    sizes = halvings(shape, len(hidden))
    start = (hidden[-1], *sizes[-1])
    # Where batch norm follows, it has the bias.
    project = [nn.Linear(inputs, math.prod(start), bias=False), nn.Unflatten(1, start)]
    up: list[nn.Module] = [double(hidden[0], shape[0], sizes[0])]
    for before, after, size in zip(hidden, hidden[1:], sizes[1:], strict=False):
        up = [double(after, before, size, bias=False), nn.BatchNorm2d(before), nn.ReLU(), *up]
    return nn.Sequential(*project, nn.BatchNorm2d(hidden[-1]), nn.ReLU(), *up).apply(_initialise)


def conv_down(
    shape: tuple[int, ...], hidden: tuple[int, ...], outputs: int, normalisation: Normalisation
) -> nn.Module:
    """The DCGAN's discriminator, (B, *shape) to (B, outputs)."""
    sizes = halvings(shape, len(hidden))
    batch = normalisation == "batch"
    down: list[nn.Module] = [halve(shape[0], hidden[0], sizes[0]), _leaky()]
    for before, after, size in zip(hidden, hidden[1:], sizes[1:], strict=False):
        norm = [nn.BatchNorm2d(after)] if batch else []
        down += [halve(before, after, size, bias=not batch), *norm, _leaky()]
    flat = hidden[-1] * math.prod(sizes[-1])
    net = nn.Sequential(*down, nn.Flatten(), nn.Linear(flat, outputs)).apply(_initialise)
    return _spectral(net) if normalisation == "spectral" else net


def _spectral(net: nn.Module) -> nn.Module:
    """The weights of every layer divided by their largest singular value, followed as they change.

    Reference: Miyato et al. 2018, arXiv 1802.05957, algorithm 1.
    """
    for layer in list(net.modules()):
        if isinstance(layer, nn.Linear | nn.Conv2d):
            spectral_norm(layer)
    return net


def _leaky() -> nn.Module:
    return nn.LeakyReLU(LEAK)


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Linear | nn.Conv2d | nn.ConvTranspose2d):
        nn.init.normal_(module.weight, 0.0, INIT_STD)
    elif isinstance(module, nn.BatchNorm2d):
        nn.init.normal_(module.weight, 1.0, INIT_STD)


def _classes(data: DataSpace) -> int:
    if data.labels is None:
        raise ValueError("data has no classes; a conditional model needs rows with labels")
    return len(data.labels)


def _reachable(data: DataSpace) -> DataSpace:
    """The values that samples take: between the bounds, or the whole line where one is missing."""
    bounded = interval(data) is not None
    support = (
        tuple(s.model_copy(update={"lattice": False}) for s in data.support) if bounded else (Support(),)
    )
    return data.model_copy(update={"support": support})
