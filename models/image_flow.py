"""Flows of pictures: convolutional couplings at several scales, whose density is exact."""

from __future__ import annotations

from typing import Annotated, Final, Literal

from pydantic import Field

from models.bijections import AFFINE, Bijection, Diagonal, Stack
from models.flow import Flow
from models.image_bijections import (
    ActNorm,
    ChannelCoupling,
    CheckerboardCoupling,
    InvertibleConvolution,
    MultiScale,
    Shape,
    Squeeze,
)
from models.layers import Width
from models.manifest import Contract, DataSpace

PAPERS: Final = {
    "realnvp": "Dinh, Sohl-Dickstein & Bengio 2017, arXiv 1605.08803",
    "glow": "Kingma & Dhariwal 2018, arXiv 1807.03039",
}


class ImageFlowConfig(Contract):
    """What a flow of pictures is made of.

    Attributes:
        kind: ``realnvp`` has checkerboard and channel couplings, ``glow`` mixes channels between couplings.
        scales: how many resolutions. RealNVP squeezes between them, Glow at the beginning of each: sides must
            be divisible by two that often.
        steps: couplings of each mask at a RealNVP's scale (one more at the last), Glow's steps at each scale.
        channels: of the couplings' networks.
        blocks: residual blocks in each of them.
        margin: as in ``FlowConfig``; the paper's logits have 0.05.
    """

    family: Literal["image_flow"] = "image_flow"
    kind: Literal["realnvp", "glow"] = "realnvp"
    scales: Annotated[int, Field(ge=1, le=6)] = 2
    steps: Annotated[int, Field(ge=1, le=64)] = 3
    channels: Width = 32
    blocks: Annotated[int, Field(ge=0, le=16)] = 2
    margin: Annotated[float, Field(gt=0, lt=0.5)] = 0.05


class ImageFlow(Flow):
    """RealNVP and Glow as published, but for weight normalisation in place of batch normalisation, a learned
    bias of each place in the couplings' networks, and a diagonal as NICE has at the end.

    Reference: Dinh, Sohl-Dickstein & Bengio 2017, arXiv 1605.08803; Kingma & Dhariwal 2018, arXiv 1807.03039.

    Raises:
        ValueError: if rows are no pictures (C, H, W), or cannot be halved that often.
    """

    family = "image_flow"

    def __init__(self, config: ImageFlowConfig, data: DataSpace) -> None:
        scales = _multi_scale(config, data)
        # What is the same for every picture of a data set, place by place, is cheapest learned at the end.
        bijection = Stack((scales, Diagonal(data.size)))
        # A pixel without ink in the training rows has next to no deviation: in units of its own, ink there
        # would be hundreds, which the couplings stretch beyond float32's digits.
        pixels = data.size // data.shape[0]
        super().__init__(data, PAPERS[config.kind], bijection, "standard_normal", config.margin, alike=pixels)


def _multi_scale(config: ImageFlowConfig, data: DataSpace) -> MultiScale:
    build = {"realnvp": _realnvp_scale, "glow": _glow_scale}[config.kind]
    shape = here = _picture(config, data)
    scales, ends = [], []
    for i in range(config.scales):
        scale, end = build(config, here, i == config.scales - 1)
        scales.append(Stack(scale))
        ends.append(end)
        here = (end[0] // 2, *end[1:])
    return MultiScale(shape, scales, ends)


def _realnvp_scale(config: ImageFlowConfig, shape: Shape, is_last: bool) -> tuple[list[Bijection], Shape]:
    """Checkerboard couplings, a squeeze, channel couplings; the last scale has checkerboards alone."""
    net = (AFFINE, config.channels, config.blocks)
    boards: list[Bijection] = [
        CheckerboardCoupling(shape, *net, white=bool(i % 2)) for i in range(config.steps + is_last)
    ]
    if is_last:
        return boards, shape
    squeezed = _squeezed(shape)
    channels = [ChannelCoupling(squeezed, *net, last=bool(i % 2)) for i in range(config.steps)]
    return [*boards, Squeeze(), *channels], squeezed


def _glow_scale(config: ImageFlowConfig, shape: Shape, is_last: bool) -> tuple[list[Bijection], Shape]:
    """A squeeze, then steps of normalisation, mixing and coupling.

    The half that leaves is at the end changed by the half that stays: the paper's learned prior of it.
    """
    shape = _squeezed(shape)
    net = (AFFINE, config.channels, config.blocks)
    steps: list[Bijection] = [Squeeze()]
    for _ in range(config.steps):
        steps += [
            ActNorm(shape[0]),
            InvertibleConvolution(shape[0]),
            ChannelCoupling(shape, *net, last=False),
        ]
    return steps, shape


def _squeezed(shape: Shape) -> Shape:
    return 4 * shape[0], shape[1] // 2, shape[2] // 2


def _picture(config: ImageFlowConfig, data: DataSpace) -> Shape:
    times = config.scales - (config.kind == "realnvp")
    if len(data.shape) != 3 or any(side % 2**times for side in data.shape[1:]):
        raise ValueError(
            f"data has rows of shape {data.shape}; {config.scales} scales of a {config.kind} take (C, H, W) "
            f"with H and W divisible by {2**times}"
        )
    channels, height, width = data.shape
    return channels, height, width
