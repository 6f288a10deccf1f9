"""The game of a GAN on finite sets, and what its networks owe to the service."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor as Array

from models.gan import GAN, GANConfig, discriminator_loss, generator_loss
from models.manifest import Support
from tests.unit.models.zoo import BOX, PICTURES, PLANE, draw_rows, source


def masses(seed: int) -> Array:
    """A distribution on ten points."""
    return torch.rand(10, dtype=torch.float64, generator=source(seed)).square().softmax(0)


def value(logits: Array, p: Array, q: Array) -> Array:
    """V(D) with data p and samples q, from the loss itself: each point at its weight, one side at a time."""
    sure = torch.tensor([1e9], dtype=torch.float64)
    real = torch.stack([discriminator_loss(a[None], -sure) for a in logits])
    fake = torch.stack([discriminator_loss(sure, a[None]) for a in logits])
    return -(p * real).sum() - (q * fake).sum()


def jensen_shannon(p: Array, q: Array) -> Array:
    m = (p + q) / 2
    return ((p * (p / m).log()).sum() + (q * (q / m).log()).sum()) / 2


def test_at_the_optimal_discriminator_the_value_is_jensen_shannon() -> None:
    """D* = p / (p + q), V(D*) = 2 JS(p, q) - ln 4. Goodfellow et al. 2014, theorem 1."""
    p, q = masses(1), masses(2)
    optimal = (p / q).log()
    expected = 2 * jensen_shannon(p, q) - math.log(4)
    torch.testing.assert_close(value(optimal, p, q), expected, rtol=0, atol=1e-12)


def test_no_discriminator_beats_the_optimal_one() -> None:
    p, q = masses(1), masses(2)
    logits = (p / q).log().requires_grad_()
    best = value(logits, p, q)
    (slope,) = torch.autograd.grad(best, logits)
    assert slope.abs().max() < 1e-12
    for seed in range(20):
        nudge = 0.3 * torch.randn(10, dtype=torch.float64, generator=source(seed))
        assert value(logits.detach() + nudge, p, q) < best


def test_between_equals_the_discriminator_is_at_a_loss() -> None:
    p = masses(3)
    torch.testing.assert_close(value(torch.zeros_like(p), p, p).item(), -math.log(4))


@pytest.mark.parametrize("logit", [-30.0, -2.0, 0.0, 2.0, 30.0])
def test_the_generator_learns_most_where_it_loses(logit: float) -> None:
    """By the logit a, the game's own loss has slope -sigmoid(a), the non-saturating one -(1 - sigmoid(a))."""
    a = torch.tensor([logit], dtype=torch.float64, requires_grad=True)
    (non_saturating,) = torch.autograd.grad(generator_loss(a), a)
    real = torch.zeros(1, dtype=torch.float64)
    (game,) = torch.autograd.grad(-discriminator_loss(real, a), a)
    torch.testing.assert_close(non_saturating, -(1 - torch.sigmoid(a.detach())))
    torch.testing.assert_close(game, -torch.sigmoid(a.detach()))


def test_losses_stay_finite_when_one_side_has_won() -> None:
    for logit in (-1e4, 1e4):
        a = torch.tensor([logit])
        assert discriminator_loss(a, a).isfinite()
        assert generator_loss(a).isfinite()


@pytest.mark.parametrize("size", [(8, 8), (28, 28), (7, 10)])
def test_a_dcgan_makes_pictures_of_any_size(size: tuple[int, int]) -> None:
    data = PICTURES.model_copy(update={"shape": (1, *size)})
    model = GAN(GANConfig(latent_dim=5, hidden=(4, 8)), data).eval()
    x = model.decode(torch.randn(3, 5, generator=source(4)))
    assert x.shape == (3, 1, *size)
    assert model.discriminator(x).shape == (3,)


def test_dcgan_weights_start_as_the_paper_says() -> None:
    model = GAN(GANConfig(latent_dim=64, hidden=(32, 64)), PICTURES)
    weights = torch.cat([p.flatten() for name, p in model.named_parameters() if p.ndim > 1])
    assert abs(weights.std() - 0.02) < 1e-3
    assert abs(weights.mean()) < 1e-3


def test_samples_are_no_longer_on_the_lattice_of_the_data() -> None:
    assert GAN(GANConfig(), PICTURES).data.support == (Support(low=0, high=16),)


def test_unbounded_samples_have_the_scale_of_the_data() -> None:
    x = 100 + 7 * draw_rows(PLANE, 500)
    model = GAN(GANConfig(net="mlp", hidden=(8,)), PLANE).double()
    model.fit_statistics(x)
    torch.testing.assert_close(model.scale(x).mean(0), torch.zeros(2).double(), rtol=0, atol=1e-9)
    assert model.data.support == (Support(),)


def test_each_dimension_keeps_to_its_own_bounds() -> None:
    model = GAN(GANConfig(latent_dim=2, net="mlp", hidden=(8,)), BOX)
    x = model.decode(1e6 * torch.randn(500, 2, generator=source(5)))
    low, high = torch.tensor([0.0, -2.0]), torch.tensor([1.0, 5.0])
    assert (x >= low).all()
    assert (x <= high).all()
    assert ((x == low) | (x == high)).any()


def test_a_discriminator_shares_nothing_with_the_generator() -> None:
    model = GAN(GANConfig(), PICTURES)
    sides = [
        {x.data_ptr() for x in side.state_dict().values()} for side in (model.generator, model.discriminator)
    ]
    assert not sides[0] & sides[1]


def test_pictures_too_small_to_halve_are_refused() -> None:
    with pytest.raises(ValueError, match=r"shape \(1, 8, 8\); 4 convolutions .* at least 16"):
        GAN(GANConfig(hidden=(2, 2, 2, 2)), PICTURES)
    with pytest.raises(ValueError, match=r"shape \(2,\); 2 convolutions"):
        GAN(GANConfig(), PLANE)
