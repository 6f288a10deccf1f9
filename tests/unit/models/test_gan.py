"""The game of a GAN on finite sets, and what its networks owe to the service."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

import pytest
import torch
from torch import Tensor as Array
from torch import nn

from models.gan import (
    GAMES,
    GAN,
    GANConfig,
    Loss,
    between,
    critic_loss,
    discriminator_loss,
    hinge_loss,
    lipschitz_penalty,
    slope_penalty,
    slopes,
)
from models.manifest import Support
from tests.unit.models.zoo import BOX, CLASSES, PICTURES, PLANE, draw_rows, source


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


GENERATOR_SLOPES: dict[Loss, Callable[[float], float]] = {
    "minimax": lambda a: -sigmoid(a),
    "non_saturating": lambda a: -(1 - sigmoid(a)),
    "hinge": lambda a: -1.0,
    "wasserstein": lambda a: -1.0,
}
REAL_SLOPES: dict[Loss, Callable[[float], float]] = {
    "minimax": lambda a: -(1 - sigmoid(a)),
    "non_saturating": lambda a: -(1 - sigmoid(a)),
    "hinge": lambda a: -float(a < 1),
    "wasserstein": lambda a: -1.0,
}


def sigmoid(a: float) -> float:
    return float(torch.tensor(a, dtype=torch.float64).sigmoid())


@pytest.mark.parametrize("logit", [-30.0, -2.0, 0.0, 2.0, 30.0])
@pytest.mark.parametrize("loss", GAMES)
def test_each_player_descends_as_its_closed_form_says(loss: Loss, logit: float) -> None:
    """By the logit a, the generator's slope is -sigmoid(a) in the game itself, -(1 - sigmoid(a)) where it
    does not saturate; the discriminator's at samples mirrors the one at data."""
    a = torch.tensor([logit], dtype=torch.float64, requires_grad=True)
    rest = torch.zeros(1, dtype=torch.float64)
    game = GAMES[loss]
    sides = {
        game.generator(a): GENERATOR_SLOPES[loss](logit),
        game.discriminator(a, rest): REAL_SLOPES[loss](logit),
        game.discriminator(rest, a): -REAL_SLOPES[loss](-logit),
    }
    for value_of_loss, expected in sides.items():
        (slope,) = torch.autograd.grad(value_of_loss, a)
        assert float(slope) == pytest.approx(expected, abs=1e-12)


def test_both_generator_losses_rest_where_the_game_does() -> None:
    """At p = q and D = 1/2 no move of mass between points helps, whichever loss."""
    logits = torch.zeros(10, dtype=torch.float64)
    for loss in ("minimax", "non_saturating"):
        each = torch.stack([GAMES[loss].generator(a[None]) for a in logits])
        assert each.std() < 1e-15


def test_the_best_critic_of_the_hinge_is_a_sign_and_its_loss_twice_the_overlap() -> None:
    """On a finite set min over D of the hinge is 2 sum min(p, q). Lim & Ye 2017, section 3."""
    p, q = masses(1), masses(2)
    sign = torch.sign(p - q)
    none = torch.zeros(1, dtype=torch.float64)
    real = torch.stack([hinge_loss(a[None], none - 1) for a in sign])
    fake = torch.stack([hinge_loss(none + 1, a[None]) for a in sign])
    loss = (p * real).sum() + (q * fake).sum()
    torch.testing.assert_close(loss, 2 * torch.minimum(p, q).sum())


def test_a_critic_of_slope_one_measures_the_distance_of_two_points() -> None:
    real, fake = torch.tensor([[3.0, 4.0]]), torch.zeros(1, 2)
    direction = real / 5

    def critic(y: Array) -> Array:
        return (y * direction).sum(1)

    assert -critic_loss(critic(real), critic(fake)) == pytest.approx(5.0)
    lengths = slopes(critic, between(real, fake, torch.tensor([0.3])))
    assert lipschitz_penalty(lengths) == pytest.approx(0.0, abs=1e-6)
    assert lipschitz_penalty(3 * lengths) == pytest.approx(4.0)
    assert slope_penalty(3 * lengths) == pytest.approx(4.5)


def test_a_penalty_pulls_the_weights_of_its_critic() -> None:
    weight = torch.tensor([3.0, 4.0], dtype=torch.float64, requires_grad=True)
    penalty = lipschitz_penalty(slopes(lambda y: y @ weight, torch.zeros(6, 2, dtype=torch.float64)))
    (pull,) = torch.autograd.grad(penalty, weight)
    torch.testing.assert_close(pull, 2 * (5 - 1) * weight.detach() / 5)


def test_a_critic_that_is_flat_has_a_penalty_that_is_a_number() -> None:
    weight = torch.zeros(2, requires_grad=True)
    (pull,) = torch.autograd.grad(lipschitz_penalty(slopes(lambda y: y @ weight, torch.ones(3, 2))), weight)
    assert pull.isfinite().all()


def test_points_between_lie_on_the_line_of_their_pair() -> None:
    real, fake = torch.rand(5, 1, 2, 2), torch.rand(5, 1, 2, 2)
    assert torch.equal(between(real, fake, torch.ones(5)), real)
    assert torch.equal(between(real, fake, torch.zeros(5)), fake)


@pytest.mark.parametrize("loss", GAMES)
def test_losses_stay_finite_when_one_side_has_won(loss: Loss) -> None:
    for logit in (-1e4, 1e4):
        a = torch.tensor([logit])
        assert GAMES[loss].discriminator(a, a).isfinite()
        assert GAMES[loss].generator(a).isfinite()


@pytest.mark.parametrize("net", ["mlp", "conv"])
def test_spectral_norm_keeps_every_layer_at_one(net: Literal["mlp", "conv"]) -> None:
    torch.manual_seed(0)
    config = GANConfig(latent_dim=4, net=net, hidden=(8, 12), discriminator="spectral")
    judge = GAN(config, PICTURES).double().train().discriminator
    for _ in range(200):  # each pass is a step of the power iteration
        judge(draw_rows(PICTURES, 2))
    weights = [m.weight.detach() for m in judge.modules() if isinstance(m, nn.Linear | nn.Conv2d)]
    assert len(weights) == 3
    for weight in weights:
        assert float(torch.linalg.matrix_norm(weight.flatten(1), 2)) == pytest.approx(1, abs=1e-3)


def test_a_class_is_heard_by_both_players() -> None:
    model = GAN(GANConfig(latent_dim=4, hidden=(4, 6), conditional=True), CLASSES).eval()
    z, x = torch.randn(1, 4, generator=source(6)).expand(3, -1), draw_rows(CLASSES, 1).float()
    labels = torch.arange(3)
    for rows in (
        model.decode(z, labels),
        model.discriminator(x.expand(3, -1, -1, -1), labels),
    ):
        assert not torch.equal(rows[0], rows[1])
        assert not torch.equal(rows[1], rows[2])


def test_rows_without_classes_cannot_be_conditioned_on() -> None:
    with pytest.raises(ValueError, match="data has no classes"):
        GAN(GANConfig(conditional=True), PICTURES)


def test_the_residual_of_a_code_is_how_far_its_sample_is_off() -> None:
    model = GAN(GANConfig(latent_dim=4, net="mlp", hidden=(8,), encoder=True), BOX).double().eval()
    x = draw_rows(BOX, 6)
    z, residual = model.encode(x)
    torch.testing.assert_close(residual, (model.decode(z) - x).abs().mean(1))


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
