"""Generative adversarial networks: a generator that a discriminator cannot tell from data."""

from __future__ import annotations

import math
from typing import Final, Literal

from pydantic import Field
from torch import Tensor as Array
from torch import nn

from models.base import Model, Signature
from models.layers import Scale, Width, Widths, double, halve, halvings, interval, mlp, softplus
from models.manifest import Contract, DataSpace, EntryName, Grades, LatentSpace, Support

LEAK: Final = 0.2  # of the discriminator's rectifiers, as in DCGAN
INIT_STD: Final = 0.02  # of all weights, as in DCGAN, section 4


class GANConfig(Contract):
    """What a GAN is made of.

    Attributes:
        latent_dim: Z.
        net: ``conv`` for pictures (C, H, W), the DCGAN; ``mlp`` for any data.
        hidden: channels (``conv``) or widths (``mlp``) from data to latents; the generator mirrors them.
    """

    family: Literal["gan"] = "gan"
    latent_dim: Width = 64
    net: Literal["mlp", "conv"] = "conv"
    hidden: Widths = Field(default=(64, 128), min_length=1)


class GAN(Model):
    """Generative adversarial network; its ``discriminator`` serves training and stays behind at export.

    Reference: Goodfellow et al. 2014, arXiv 1406.2661; Radford, Metz & Chintala 2016, arXiv 1511.06434.

    Raises:
        ValueError: if the network does not fit the data.
    """

    family = "gan"
    paper = "Goodfellow et al. 2014, arXiv 1406.2661"
    grades = Grades(density="none", latents="code", generator="one_shot")
    latent: LatentSpace

    def __init__(self, config: GANConfig, data: DataSpace) -> None:
        super().__init__()
        nets = {"mlp": mlp_nets, "conv": conv_nets}
        self.data = _reachable(data)
        self.latent = LatentSpace(shape=(config.latent_dim,))
        self.scale = Scale(self.data)
        self.squash = nn.Tanh() if self.scale.bounded else nn.Identity()
        self.generator, critic = nets[config.net](data.shape, config.hidden, config.latent_dim)
        # A scale of its own: nothing of the discriminator is the generator's.
        self.discriminator = nn.Sequential(Scale(self.data), critic, nn.Flatten(0))

    def signatures(self) -> dict[EntryName, Signature]:
        return {"decode": Signature((self.codes(),), (self.rows(),))}

    def fit_statistics(self, x: Array) -> None:
        self.scale.fit(x)
        self.discriminator[0].fit(x)

    def decode(self, z: Array) -> Array:
        """A sample from each code, (B, Z) to (B, *shape), in data units and within their support."""
        return self.scale.inverse(self.squash(self.generator(z)))


def discriminator_loss(logits_real: Array, logits_fake: Array) -> Array:
    """Minus the value V(D) of the game: -E log D(x) - E log(1 - D(G(z))), in nats.

    Reference: Goodfellow et al. 2014, arXiv 1406.2661, equation 1.

    Args:
        logits_real: logit of D at data, (B,).
        logits_fake: logit of D at samples, (B,).
    """
    return softplus(-logits_real).mean() + softplus(logits_fake).mean()


def generator_loss(logits_fake: Array) -> Array:
    """The non-saturating loss -E log D(G(z)), in nats.

    It has the game's fixed point and a gradient that does not vanish while the discriminator wins: by the
    logit a, -(1 - sigmoid(a)) where the game itself gives -sigmoid(a).

    Reference: Goodfellow et al. 2014, arXiv 1406.2661, section 3.
    """
    return softplus(-logits_fake).mean()


def mlp_nets(shape: tuple[int, ...], hidden: tuple[int, ...], latent: int) -> tuple[nn.Module, nn.Module]:
    """Fully connected generator and critic."""
    size = math.prod(shape)
    generator = nn.Sequential(mlp((latent, *reversed(hidden), size), nn.ReLU), nn.Unflatten(1, shape))
    critic = nn.Sequential(nn.Flatten(), mlp((size, *hidden, 1), _leaky))
    return generator, critic


def conv_nets(shape: tuple[int, ...], hidden: tuple[int, ...], latent: int) -> tuple[nn.Module, nn.Module]:
    """The DCGAN: strided convolutions, batch norm everywhere but next to the pictures."""
    sizes = halvings(shape, len(hidden))
    start = (hidden[-1], *sizes[-1])
    # Where batch norm follows, it has the bias.
    project = [nn.Linear(latent, math.prod(start), bias=False), nn.Unflatten(1, start)]
    up: list[nn.Module] = [double(hidden[0], shape[0], sizes[0])]
    down: list[nn.Module] = [halve(shape[0], hidden[0], sizes[0]), _leaky()]
    for before, after, size in zip(hidden, hidden[1:], sizes[1:], strict=False):
        up = [double(after, before, size, bias=False), nn.BatchNorm2d(before), nn.ReLU(), *up]
        down += [halve(before, after, size, bias=False), nn.BatchNorm2d(after), _leaky()]
    generator = nn.Sequential(*project, nn.BatchNorm2d(hidden[-1]), nn.ReLU(), *up)
    critic = nn.Sequential(*down, nn.Flatten(), nn.Linear(math.prod(start), 1))
    return generator.apply(_initialise), critic.apply(_initialise)


def _leaky() -> nn.Module:
    return nn.LeakyReLU(LEAK)


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Linear | nn.Conv2d | nn.ConvTranspose2d):
        nn.init.normal_(module.weight, 0.0, INIT_STD)
    elif isinstance(module, nn.BatchNorm2d):
        nn.init.normal_(module.weight, 1.0, INIT_STD)


def _reachable(data: DataSpace) -> DataSpace:
    """The values that samples take: between the bounds, or the whole line where one is missing."""
    bounded = interval(data) is not None
    support = (
        tuple(s.model_copy(update={"lattice": False}) for s in data.support) if bounded else (Support(),)
    )
    return data.model_copy(update={"support": support})
