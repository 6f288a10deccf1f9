"""Every family by its configuration: the one place that lists them all."""

from __future__ import annotations

from typing import Annotated, Final

from pydantic import Field

from models.base import Model
from models.flow import CouplingFlow, FlowConfig
from models.gan import GAN, GANConfig
from models.image_flow import ImageFlow, ImageFlowConfig
from models.maf import MAF, MAFConfig
from models.manifest import DataSpace
from models.planar import PlanarConfig, PlanarFlow, RadialConfig, RadialFlow
from models.vae import VAE, VAEConfig

Config = Annotated[
    VAEConfig | GANConfig | FlowConfig | ImageFlowConfig | PlanarConfig | RadialConfig | MAFConfig,
    Field(discriminator="family"),
]
FAMILIES: Final[dict[type, type]] = {
    VAEConfig: VAE,
    GANConfig: GAN,
    FlowConfig: CouplingFlow,
    ImageFlowConfig: ImageFlow,
    PlanarConfig: PlanarFlow,
    RadialConfig: RadialFlow,
    MAFConfig: MAF,
}


def build(config: Config, data: DataSpace) -> Model:
    """The untrained model of a configuration, for data of this kind.

    Raises:
        ValueError: if the two do not fit each other.
    """
    model: Model = FAMILIES[type(config)](config, data)
    return model
