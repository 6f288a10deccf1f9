"""Every family by its configuration: the one place that lists them all."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from models.base import Model
from models.flow import CouplingFlow, FlowConfig
from models.gan import GAN, GANConfig
from models.image_flow import ImageFlow, ImageFlowConfig
from models.manifest import DataSpace
from models.vae import VAE, VAEConfig

Config = Annotated[VAEConfig | GANConfig | FlowConfig | ImageFlowConfig, Field(discriminator="family")]


def build(config: Config, data: DataSpace) -> Model:
    """The untrained model of a configuration, for data of this kind.

    Raises:
        ValueError: if the two do not fit each other.
    """
    families: dict[type, type] = {
        VAEConfig: VAE,
        GANConfig: GAN,
        FlowConfig: CouplingFlow,
        ImageFlowConfig: ImageFlow,
    }
    model: Model = families[type(config)](config, data)
    return model
