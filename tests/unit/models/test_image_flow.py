"""Flows of pictures: their parts, one by one, and which pictures they take."""

from __future__ import annotations

from typing import Literal

import pytest
import torch
from torch.nn import functional as F

from models.bijections import AFFINE
from models.image_bijections import (
    ActNorm,
    CheckerboardCoupling,
    Convolve,
    InvertibleConvolution,
    ResidualNet,
    Squeeze,
)
from models.image_flow import ImageFlow, ImageFlowConfig
from models.manifest import DataSpace, Support
from tests.unit.models.zoo import ODD_PICTURES, PICTURES, PLANE, source, stir

GREYS = DataSpace(shape=(1, 8, 8), support=(Support(low=0, high=255, lattice=True),), levels=256)


@pytest.mark.parametrize("kernel", [1, 3, 5])
def test_a_convolution_by_patches_is_the_convolution(kernel: int) -> None:
    x = torch.randn(2, 3, 5, 8, dtype=torch.float64, generator=source(1))
    weight = torch.randn(4, 3, kernel, kernel, dtype=torch.float64, generator=source(2))
    bias = torch.randn(4, dtype=torch.float64, generator=source(3))
    expected = F.conv2d(x, weight, bias, padding=kernel // 2)
    found = Convolve((3, 5, 8), kernel)(x, weight, bias)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)


def test_a_squeeze_puts_even_rows_before_odd_ones() -> None:
    x = torch.arange(16.0).view(1, 1, 4, 4)
    z, log_det = Squeeze()(x)
    assert z[0, :, 0, 0].tolist() == [0, 1, 4, 5]
    assert log_det == 0
    assert torch.equal(Squeeze().inverse(z), x)


def test_activation_normalisation_begins_by_standardising_each_channel() -> None:
    x = 3 + 2 * torch.randn(50, 4, 3, 5, generator=source(1))
    norm = ActNorm(4)
    norm.fit(x)
    std, mean = torch.std_mean(norm(x)[0], dim=(0, 2, 3), correction=0)
    torch.testing.assert_close(mean, torch.zeros(4), rtol=0, atol=1e-5)
    torch.testing.assert_close(std, torch.ones(4), rtol=0, atol=1e-5)


def test_mixing_begins_as_a_rotation_and_stays_invertible() -> None:
    mixing = InvertibleConvolution(12).double()
    x = torch.randn(3, 12, 2, 5, dtype=torch.float64, generator=source(1))
    z, log_det = mixing(x)
    torch.testing.assert_close(z.norm(), x.norm(), rtol=1e-6, atol=0)
    assert abs(log_det) < 1e-5
    stir(mixing)
    torch.testing.assert_close(mixing.inverse(mixing(x)[0]), x, rtol=0, atol=1e-10)


@pytest.mark.parametrize("white", [False, True])
def test_a_checkerboard_changes_one_colour_by_the_other(white: bool) -> None:
    coupling = stir(CheckerboardCoupling((1, 4, 4), AFFINE, 6, 1, white=white)).double()
    x = torch.randn(1, 1, 4, 4, dtype=torch.float64, generator=source(1))
    stays = (torch.arange(4)[:, None] + torch.arange(4)) % 2 == int(white)
    jacobian = torch.autograd.functional.jacobian(lambda row: coupling(row)[0], x)[0, 0, :, :, 0, 0]
    rows = jacobian.reshape(16, 16)
    torch.testing.assert_close(rows[stays.flatten()], torch.eye(16, dtype=torch.float64)[stays.flatten()])
    changed = rows[~stays.flatten()][:, ~stays.flatten()]
    assert torch.equal(changed, torch.diag(changed.diagonal()))


def test_latents_are_all_there_and_what_leaves_first_comes_first() -> None:
    """What left knows nothing of the couplings after it; what stays depends on them."""
    flow = ImageFlow(ImageFlowConfig(scales=3, steps=1, channels=4, blocks=0), PICTURES)
    multi_scale = flow.bijection.bijections[0]
    assert multi_scale.parts == [(2, 4, 4), (4, 2, 2), (4, 2, 2)]
    x = torch.randn(2, 64, generator=source(1))
    before = multi_scale(x)[0]
    stir(multi_scale.scales[1])
    after = multi_scale(x)[0]
    assert torch.equal(before[:, :32], after[:, :32])
    assert not torch.equal(before[:, 32:], after[:, 32:])


@pytest.mark.parametrize("kind", ["realnvp", "glow"])
def test_ink_where_no_training_row_has_any_comes_back_in_float32(kind: Literal["realnvp", "glow"]) -> None:
    """Counted in the deviations of such a pixel, ink there is far out, and couplings make that worse."""
    flow = ImageFlow(ImageFlowConfig(kind=kind, steps=6, channels=8, blocks=0), GREYS)
    rows = torch.randint(256, (100, 1, 8, 8), generator=source(1)).double()
    rows[:, :, :, 0] = 0
    flow.fit_statistics(flow.dequantise(rows, torch.rand(rows.shape, generator=source(2))))
    for net in flow.modules():
        if isinstance(net, ResidualNet):
            stir(net)
    odd = rows[:20].clone()
    odd[:, :, 3, 0] = 255
    returned = flow.decode(flow.encode(odd.float()))
    assert (returned - odd).abs().max() < 1e-3 * rows.std()


@pytest.mark.parametrize(
    ("config", "data", "message"),
    [
        (ImageFlowConfig(), PLANE, r"shape \(2,\); 2 scales of a realnvp .* divisible by 2"),
        (ImageFlowConfig(), ODD_PICTURES, r"shape \(2, 7, 10\); 2 scales of a realnvp .* divisible by 2"),
        (
            ImageFlowConfig(kind="glow", scales=3),
            DataSpace(shape=(1, 28, 28)),
            r"3 scales of a glow .* divisible by 8",
        ),
    ],
)
def test_what_cannot_be_halved_is_refused(config: ImageFlowConfig, data: DataSpace, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ImageFlow(config, data)
