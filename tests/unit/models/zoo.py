"""The zoo: every family in every kind of data that it is made for. A new model is one line here."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor as Array

from models.base import Model
from models.families import Config, build
from models.flow import Flow, FlowConfig
from models.gan import GANConfig
from models.image_flow import ImageFlowConfig
from models.maf import MAFConfig
from models.manifest import DataSpace, Support
from models.planar import PlanarConfig, RadialConfig
from models.posteriors import IAFConfig, PlanarStepsConfig
from models.vae import VAEConfig

PICTURES = DataSpace(shape=(1, 8, 8), support=(Support(low=0, high=16, lattice=True),), levels=17)
ODD_PICTURES = DataSpace(shape=(2, 7, 10), support=(Support(low=0, high=1, lattice=True),), levels=2)
CLASSES = PICTURES.model_copy(update={"labels": ("nought", "one", "two")})
COLOURS = DataSpace(shape=(3, 4, 6))
GREY = DataSpace(shape=(3,), support=(Support(low=-1, high=1),), levels=5, bin_width=0.5)
BOX = DataSpace(shape=(2,), support=(Support(low=0, high=1), Support(low=-2, high=5)))
PLANE = DataSpace(shape=(2,))
TABLE = DataSpace(shape=(7,), columns=tuple("abcdefg"))


@dataclass(frozen=True)
class Case:
    """A configuration and the data that it is for."""

    name: str
    config: Config
    data: DataSpace


ZOO = [
    Case("bernoulli-mlp", VAEConfig(latent_dim=3, hidden=(12,)), PICTURES),
    Case("bernoulli-conv", VAEConfig(latent_dim=3, net="conv", hidden=(4, 6)), PICTURES),
    Case("bernoulli-conv-odd", VAEConfig(latent_dim=3, net="conv", hidden=(4, 6)), ODD_PICTURES),
    Case("gaussian-mlp", VAEConfig(latent_dim=2, likelihood="gaussian", hidden=(8, 8)), TABLE),
    Case("gaussian-conv", VAEConfig(latent_dim=2, likelihood="gaussian", net="conv", hidden=(4,)), PICTURES),
    Case("linear-gaussian", VAEConfig(latent_dim=2, likelihood="gaussian", hidden=()), TABLE),
    Case("categorical-mlp", VAEConfig(latent_dim=3, likelihood="categorical", hidden=(12,)), PICTURES),
    Case(
        "categorical-conv",
        VAEConfig(latent_dim=3, likelihood="categorical", net="conv", hidden=(4, 6), activation="tanh"),
        ODD_PICTURES,
    ),
    Case("classes-mlp", VAEConfig(latent_dim=3, hidden=(12,), conditional=True), CLASSES),
    Case("classes-conv", VAEConfig(latent_dim=3, net="conv", hidden=(4, 6), conditional=True), CLASSES),
    Case("iaf-mlp", VAEConfig(latent_dim=3, hidden=(12,), posterior=IAFConfig(hidden=(8, 6))), PICTURES),
    Case(
        "iaf-classes",
        VAEConfig(
            latent_dim=2,
            likelihood="gaussian",
            net="conv",
            hidden=(4,),
            conditional=True,
            posterior=IAFConfig(steps=3, hidden=(8,)),
        ),
        CLASSES,
    ),
    Case("planar-mlp", VAEConfig(latent_dim=3, hidden=(12,), posterior=PlanarStepsConfig(steps=4)), PICTURES),
    Case(
        "planar-classes",
        VAEConfig(
            latent_dim=3, likelihood="gaussian", conditional=True, posterior=PlanarStepsConfig(steps=2)
        ),
        CLASSES,
    ),
    Case("gan-conv", GANConfig(latent_dim=4, hidden=(4, 6)), PICTURES),
    Case("gan-conv-odd", GANConfig(latent_dim=4, hidden=(4, 6)), ODD_PICTURES),
    Case("gan-conv-spectral", GANConfig(latent_dim=4, hidden=(4, 6), discriminator="spectral"), PICTURES),
    Case("gan-conv-classes", GANConfig(latent_dim=4, hidden=(4, 6), conditional=True), CLASSES),
    Case("gan-conv-encoder", GANConfig(latent_dim=4, hidden=(4, 6), encoder=True), PICTURES),
    Case("gan-mlp-both", GANConfig(net="mlp", hidden=(8,), conditional=True, encoder=True), CLASSES),
    Case("gan-mlp-spectral", GANConfig(net="mlp", hidden=(8,), discriminator="spectral"), PLANE),
    Case("gan-mlp", GANConfig(latent_dim=4, net="mlp", hidden=(8,)), PLANE),
    Case("gan-mlp-box", GANConfig(latent_dim=4, net="mlp", hidden=(8,)), BOX),
    Case("affine-plane", FlowConfig(layers=6, hidden=(16, 16)), PLANE),
    Case("affine-box", FlowConfig(layers=4, hidden=(16,)), BOX),
    Case("affine-table", FlowConfig(layers=3, hidden=(16,), prior="logistic"), TABLE),
    Case("affine-levels", FlowConfig(layers=3, hidden=(16,)), GREY),
    Case("affine-pictures", FlowConfig(layers=3, hidden=(16,), margin=0.05), PICTURES),
    Case("additive-plane", FlowConfig(coupling="additive", prior="logistic", hidden=(16,)), PLANE),
    Case("additive-table", FlowConfig(coupling="additive", layers=4, hidden=(16,)), TABLE),
    Case("planar-plane", PlanarConfig(layers=5), PLANE),
    Case("planar-box", PlanarConfig(layers=3), BOX),
    Case("planar-pictures", PlanarConfig(layers=3), PICTURES),
    Case("radial-plane", RadialConfig(layers=5), PLANE),
    Case("radial-table", RadialConfig(layers=3), TABLE),
    Case("maf-plane", MAFConfig(layers=3, hidden=(16,)), PLANE),
    Case("maf-table", MAFConfig(layers=3, hidden=(16, 12)), TABLE),
    Case("maf-levels", MAFConfig(layers=2, hidden=(8,)), GREY),
    Case("multiplicative-table", FlowConfig(coupling="multiplicative", layers=4, hidden=(16,)), TABLE),
    Case("spline-plane", FlowConfig(coupling="spline", layers=4, hidden=(16,)), PLANE),
    Case("spline-box", FlowConfig(coupling="spline", bins=3, layers=4, hidden=(16,)), BOX),
    Case("spline-table", FlowConfig(coupling="spline", bins=5, layers=3, hidden=(16,)), TABLE),
    Case(
        "nice",
        FlowConfig(
            coupling="additive",
            layers=4,
            hidden=(16, 16),
            activation="relu",
            halves="even",
            prior="logistic",
            bounded="unit",
        ),
        PICTURES,
    ),
    Case("additive-pictures", FlowConfig(coupling="additive", layers=4, hidden=(16,)), PICTURES),
    Case("realnvp-pictures", ImageFlowConfig(scales=2, steps=2, channels=4, blocks=1), PICTURES),
    Case("realnvp-pictures-3", ImageFlowConfig(scales=3, steps=1, channels=4, blocks=0), PICTURES),
    Case("realnvp-odd", ImageFlowConfig(scales=1, steps=2, channels=4, blocks=1), ODD_PICTURES),
    Case("realnvp-line", ImageFlowConfig(scales=2, steps=1, channels=4, blocks=1), COLOURS),
    Case("glow-pictures", ImageFlowConfig(kind="glow", steps=1, channels=4, blocks=1), PICTURES),
    Case("glow-line", ImageFlowConfig(kind="glow", scales=1, steps=2, channels=4, blocks=1), COLOURS),
]


def source(seed: int) -> torch.Generator:
    """Where the noise of a test comes from."""
    return torch.Generator().manual_seed(seed)


def draw_rows(data: DataSpace, n: int, seed: int = 0) -> Array:
    """Rows of the kind that a space holds, (n, *shape), float64."""
    if data.levels is not None:
        low = data.support[0].low
        assert low is not None
        levels = torch.randint(0, data.levels, (n, *data.shape), generator=source(seed))
        return low + data.bin_width * levels.double()
    u = torch.rand(n, data.size, dtype=torch.float64, generator=source(seed))
    if data.support[0].low is None:
        return (10 * u - 3).view(n, *data.shape)
    low, high = torch.tensor([(s.low, s.high) for s in data.support], dtype=torch.float64).unbind(1)
    return (low + (high - low) * u).view(n, *data.shape)


def stir(model: Model) -> Model:
    """Random weights of everyday size, so that nothing is the identity, zero or symmetric."""
    generator = source(1)
    for parameter in model.parameters():
        fan_in = parameter[0].numel() if parameter.ndim > 1 else 16
        noise = torch.randn(parameter.shape, dtype=parameter.dtype, generator=generator)
        parameter.data.copy_(noise / fan_in**0.5)
    return model


def make(case: Case) -> Model:
    """The model of a case, in float64, with scales fitted and weights stirred."""
    with torch.random.fork_rng():
        torch.manual_seed(0)  # an invertible convolution keeps the permutation that it began with
        model = build(case.config, case.data)
    model.fit_statistics(objective_rows(model, draw_rows(case.data, 64)))
    return stir(model).double().eval()


def objective_rows(model: Model, x: Array) -> Array:
    """Rows as an objective feeds them: a flow's are dequantised."""
    if not isinstance(model, Flow):
        return x
    return model.dequantise(x, torch.rand(x.shape, dtype=x.dtype, generator=source(2)))
