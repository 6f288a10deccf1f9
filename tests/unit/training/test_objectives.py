"""Objectives raise what they say they raise, and their noise is addressed, not drawn from a global stream."""

import math

import pytest
import torch
from torch import Tensor as Array

from models.families import Config, build
from models.flow import CouplingFlow, FlowConfig
from models.gan import GAN, GANConfig
from models.manifest import DataSpace
from models.vae import VAE, VAEConfig
from training import Mistake
from training.objectives import (
    Adversarial,
    Batch,
    ByScore,
    Plan,
    evidence_bound,
    generator,
    importance,
    log_density,
    objective,
)
from training.recipe import FOLDER, AdversarialConfig, FitConfig, Recipe, read

PLANE = DataSpace(shape=(2,))
RECIPE = read(FOLDER / "vae-digits.toml")
FIT = FitConfig(epochs=2, batch_size=4, learning_rate=0.1, schedule="cosine")
VAE_CONFIG = VAEConfig(latent_dim=2, likelihood="gaussian", hidden=(8,))
CONFIGS = {
    "vae": VAE_CONFIG,
    "flow": FlowConfig(layers=2, hidden=(8,)),
    "gan": GANConfig(latent_dim=2, net="mlp", hidden=(8,)),
}


def built(config: Config) -> torch.nn.Module:
    torch.manual_seed(0)
    return build(config, PLANE).double().requires_grad_(False)


def recipe_for(family: str, kind: dict[str, object]) -> Recipe:
    held = RECIPE.model_dump()
    return Recipe.model_validate({**held, "model": CONFIGS[family].model_dump(), "objective": kind})


def rows(n: int) -> Array:
    return torch.randn(n, 2, dtype=torch.float64, generator=generator(9))


def test_the_learning_rate_rises_and_then_follows_its_schedule() -> None:
    weight = torch.nn.Linear(1, 1)
    rates = {}
    for warm_up in (0, 4):
        plan = Plan(FIT.model_copy(update={"warm_up": warm_up}), total_steps=10, seed=0)
        optimizer, schedule = plan.adam(weight)
        rates[warm_up] = []
        for _ in range(10):
            rates[warm_up].append(optimizer.param_groups[0]["lr"])
            optimizer.step()
            schedule.step()
    assert rates[0][0] == FIT.learning_rate
    risen = [rate / full for rate, full in zip(rates[4], rates[0], strict=True)]
    assert risen == pytest.approx([0.25, 0.5, 0.75] + 7 * [1.0])


def test_noise_is_the_same_at_the_same_address_and_another_elsewhere() -> None:
    drawn = {
        address: torch.randn(4, generator=generator(*address))
        for address in [(1, 0, 1), (1, 0, 2), (1, 1, 1)]
    }
    assert torch.equal(drawn[1, 0, 1], torch.randn(4, generator=generator(1, 0, 1)))
    assert not torch.equal(drawn[1, 0, 1], drawn[1, 0, 2])
    assert not torch.equal(drawn[1, 0, 1], drawn[1, 1, 1])


def test_the_evidence_bound_agrees_with_the_mean_of_the_log_weights() -> None:
    vae = built(VAE_CONFIG)
    assert isinstance(vae, VAE)
    batch = Batch(rows(1).expand(40_000, 2), None)
    closed, sampled = evidence_bound(vae)(batch, generator(1)), importance(vae, 1)(batch, generator(2))
    error = math.sqrt((closed.var() + sampled.var()).item() / 40_000)
    assert float(closed.mean() - sampled.mean()) == pytest.approx(0, abs=4 * error)
    assert closed.var() < sampled.var()


def test_beta_weighs_the_divergence_alone() -> None:
    vae = built(VAE_CONFIG)
    assert isinstance(vae, VAE)
    batch = Batch(rows(5), None)
    one, two, three = (evidence_bound(vae, beta)(batch, generator(1)) for beta in (1.0, 2.0, 3.0))
    assert torch.allclose(one - two, two - three, atol=1e-12)
    assert bool((one > two).all())


def test_more_importance_samples_tighten_the_bound() -> None:
    vae = built(VAE_CONFIG)
    assert isinstance(vae, VAE)
    batch = Batch(rows(500), None)
    bounds = [float(importance(vae, k)(batch, generator(3)).mean()) for k in (1, 5, 50)]
    assert bounds == sorted(bounds)


def test_continuous_rows_are_scored_where_they_are() -> None:
    flow = built(CONFIGS["flow"])
    assert isinstance(flow, CouplingFlow)
    assert torch.equal(log_density(flow)(Batch(rows(3), None), generator(1)), flow.log_weight(rows(3)))


def test_cosine_takes_the_rate_to_zero_over_all_steps() -> None:
    plan = Plan(FIT, total_steps=10, seed=0)
    module = torch.nn.Linear(1, 1)
    optimizer, schedule = plan.adam(module)
    rates = []
    for _ in range(11):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    assert rates[0] == pytest.approx(0.1)
    assert rates[5] == pytest.approx(0.05)
    assert rates[10] == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize(
    ("family", "kind", "expected"),
    [
        ("vae", {"kind": "bound"}, ByScore),
        ("vae", {"kind": "bound", "k": 5}, ByScore),
        ("flow", {"kind": "likelihood"}, ByScore),
        ("gan", {"kind": "adversarial"}, Adversarial),
    ],
)
def test_each_family_has_its_objective(family: str, kind: dict[str, object], expected: type) -> None:
    model = build(CONFIGS[family], PLANE)
    assert isinstance(objective(recipe_for(family, kind), model, 10), expected)


@pytest.mark.parametrize(
    ("family", "kind"), [("vae", "likelihood"), ("flow", "bound"), ("gan", "bound"), ("flow", "adversarial")]
)
def test_an_objective_that_a_family_lacks_is_refused(family: str, kind: str) -> None:
    model = build(CONFIGS[family], PLANE)
    with pytest.raises(Mistake, match=f"objective.kind is {kind}; a {model.family} is not trained by it"):
        objective(recipe_for(family, {"kind": kind}), model, 10)


def test_a_game_holds_the_two_players_apart() -> None:
    gan = build(CONFIGS["gan"], PLANE)
    assert isinstance(gan, GAN)
    game = Adversarial(gan, Plan(FIT, 10, seed=0), AdversarialConfig(kind="adversarial"))
    optimizers, _ = game.configure_optimizers()
    players = [{id(p) for group in o.param_groups for p in group["params"]} for o in optimizers]
    assert not players[0] & players[1]
    assert players[0] | players[1] == {id(p) for p in gan.parameters()}
