"""Numbers say what they are and are what they say, on models whose answers are known in closed form."""

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from models.families import build
from models.flow import FlowConfig
from models.gan import GANConfig
from models.manifest import DataSpace, Metric, Support
from models.posteriors import IAFConfig, PlanarStepsConfig
from models.vae import VAEConfig
from training import Mistake
from training.data import Splits
from training.evaluate import evaluate, held_out_scores
from training.fit import LOG
from training.recipe import FOLDER, BoundConfig, EvaluateConfig, read
from training.run import EVALUATION, Run

DIGITS = DataSpace(
    shape=(1, 4, 4), support=(Support(low=0, high=16, lattice=True),), levels=17, display=(0, 16)
)
RECIPE, GAME = (
    read(FOLDER / f"{name}-digits.toml").model_copy(update={"evaluate": EvaluateConfig(draws=16)})
    for name in ("vae", "gan")
)
PICTURED = {"samples", "interpolation", "curve"}
Make = Callable[..., Run]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """A run of an untrained model in a folder with a log of two epochs."""

    def made(config: VAEConfig | FlowConfig | GANConfig, space: DataSpace, **parts: object) -> Run:
        (tmp_path / LOG).write_text("epoch,seconds,valid_loss,train_x,valid_x\n1,1,3,4,5\n2,1,2,3,4\n")
        torch.manual_seed(0)
        rng = np.random.default_rng(0)
        rows = {
            name: rng.integers(0, 17, (n, *space.shape))
            if space.levels
            else rng.standard_normal((n, *space.shape))
            for name, n in (("train", 200), ("valid", 20), ("test", 60))
        }
        splits = Splits(**{name: x.astype(np.float32) for name, x in rows.items()}, space=space)
        model = build(config, space)
        model.fit_statistics(torch.from_numpy(splits.train))
        recipe = GAME if isinstance(config, GANConfig) else RECIPE
        return Run(tmp_path, recipe, model.eval(), replace(splits, **parts))

    return made


def test_a_flow_on_the_line_is_scored_exactly_and_against_its_source(make: Make) -> None:
    def truth(x: np.ndarray) -> np.ndarray:
        return -(x**2).sum(1) / 2 - math.log(2 * math.pi)

    run = make(FlowConfig(layers=2, hidden=(4,)), DataSpace(shape=(2,)), truth=truth)
    metrics = evaluate(run)
    # Untrained, the flow is the Gaussian that fits each dimension of the training rows.
    mean, std = run.splits.train.mean(0), run.splits.train.std(0)
    z = (run.splits.test - mean) / std
    expected = (-(z**2) / 2 - math.log(2 * math.pi) / 2 - np.log(std)).sum(1)
    assert metrics["log_likelihood"].value == pytest.approx(expected.mean(), abs=1e-5)
    assert metrics["log_likelihood"].standard_error == pytest.approx(
        expected.std(ddof=1) / math.sqrt(len(expected)), rel=1e-4
    )
    gap = metrics["ceiling"].value - metrics["log_likelihood"].value
    assert metrics["gap_to_ceiling"].value == pytest.approx(gap, abs=1e-9)
    assert (metrics["log_likelihood"].kind, metrics["log_likelihood"].unit) == ("exact", "nats")
    assert metrics["log_likelihood"].k is None


def test_a_flow_of_levels_gives_a_bound_in_nats_and_bits_that_more_draws_tighten(make: Make) -> None:
    metrics = evaluate(make(FlowConfig(layers=2, hidden=(4,)), DIGITS))
    one, many = metrics["log_likelihood"], metrics["log_likelihood_16"]
    assert (one.kind, one.k, many.kind, many.k) == ("lower_bound", 1, "lower_bound", 16)
    assert many.value > one.value
    assert metrics["bits_per_dim"].value == pytest.approx(-one.value / 16 / math.log(2))
    assert (metrics["bits_per_dim"].kind, metrics["bits_per_dim"].unit) == ("upper_bound", "bits/dim")
    # Uniform levels cost log2(17) bits at best, and a model fitted to their moments not much more.
    assert math.log2(17) < metrics["bits_per_dim_16"].value < math.log2(17) + 1


def test_a_vae_gives_its_elbo_and_tighter_bounds_each_with_its_error(make: Make) -> None:
    metrics = evaluate(make(VAEConfig(latent_dim=3, hidden=(8,)), DIGITS))
    assert metrics["elbo"].value < metrics["bound_5"].value < metrics["bound_16"].value
    assert metrics["bits_per_dim"].value == pytest.approx(-metrics["elbo"].value / 16 / math.log(2))
    for name, k in (("elbo", 1), ("bound_5", 5), ("bound_16", 16)):
        assert (metrics[name].kind, metrics[name].unit, metrics[name].k) == ("lower_bound", "nats", k)
        assert 0 < (metrics[name].standard_error or 0) < 5


@pytest.mark.parametrize("flow", [None, IAFConfig(), PlanarStepsConfig()], ids=["gaussian", "iaf", "planar"])
def test_bounds_are_those_of_beta_1_however_the_model_was_trained(
    make: Make, flow: IAFConfig | PlanarStepsConfig | None
) -> None:
    run = make(VAEConfig(latent_dim=3, hidden=(8,), posterior=flow), DIGITS)
    numbers = []
    for beta in (1.0, 4.0):
        objective = BoundConfig(kind="bound", beta=beta)
        numbers.append(evaluate(replace(run, recipe=run.recipe.model_copy(update={"objective": objective}))))
    assert numbers[0] == numbers[1]


def test_a_latent_is_active_where_its_mean_moves(make: Make) -> None:
    run = make(VAEConfig(latent_dim=3, likelihood="gaussian", hidden=()), DataSpace(shape=(2,)))
    encoder = run.model.encoder[-1]
    torch.nn.init.zeros_(encoder.weight)
    encoder.weight.data[0, 0] = 1.0  # the mean's variance is then that of standardised rows, about 1
    encoder.weight.data[1, 1] = 0.05  # 0.0025, below the 0.01 of Burda et al.
    metric = evaluate(run)["active_latents"]
    assert (metric.value, metric.unit) == (1, "of 3 latents")


def test_rows_of_known_factors_have_their_information_measured_with_an_error(make: Make) -> None:
    factors = {"test": {"size": np.arange(60) % 2, "place": np.arange(60) // 2 % 3}}
    metrics = evaluate(make(VAEConfig(latent_dim=3, hidden=(8,)), DIGITS, factors=factors))
    of_factors = {name: metrics[name] for name in metrics if "information" in name or "gap" in name}
    assert {name: metric.unit for name, metric in of_factors.items()} == {
        "information_size": "nats",
        "gap_size": "of the factor's entropy",
        "information_place": "nats",
        "gap_place": "of the factor's entropy",
        "mutual_information_gap": "of the factors' entropy",
    }
    for metric in of_factors.values():
        assert metric.kind == "estimate"
        assert 0 <= metric.value < 0.5
        assert 0 < (metric.standard_error or 0) < 0.5


@pytest.mark.parametrize(("slope", "known"), [(0.0, 0.0), (0.01, 0.0), (100.0, math.log(2))])
def test_a_mean_that_moves_within_the_noise_knows_nothing(make: Make, slope: float, known: float) -> None:
    level = np.arange(2000) % 2
    rows = {"test": level[:, None].repeat(2, axis=1).astype(np.float32), "factors": {"test": {"of": level}}}
    run = make(VAEConfig(latent_dim=1, likelihood="gaussian", hidden=()), DataSpace(shape=(2,)), **rows)
    encoder = run.model.encoder[-1]
    torch.nn.init.zeros_(encoder.weight)
    torch.nn.init.zeros_(encoder.bias)
    encoder.weight.data[0] = slope  # of the mean; the standard deviation is 1
    assert evaluate(run)["information_of"].value == pytest.approx(known, abs=0.01)


def test_a_gan_is_gauged_by_its_discriminator_and_its_samples(make: Make) -> None:
    run = make(GANConfig(latent_dim=3, hidden=(4, 8)), DIGITS)
    metrics = evaluate(run)
    assert 0 <= metrics["D(x)"].value <= 1
    assert 0 <= metrics["D(G(z))"].value <= 1
    assert metrics["jensen_shannon"].value <= math.log(2)
    assert metrics["nearest_train_test"].value > 0
    # Untrained, it draws grey; the test rows are spread evenly over the levels.
    assert metrics["std_error"].value == pytest.approx(math.sqrt((17**2 - 1) / 12), abs=0.7)


def test_a_discriminator_that_cannot_tell_measures_no_divergence(make: Make) -> None:
    run = make(GANConfig(latent_dim=3, hidden=(4, 8)), DIGITS)
    for parameter in run.model.discriminator.parameters():
        torch.nn.init.zeros_(parameter)
    metrics = evaluate(run)
    assert metrics["D(x)"].value == metrics["D(G(z))"].value == 0.5
    assert metrics["jensen_shannon"].value == pytest.approx(0, abs=1e-7)


@pytest.mark.parametrize(
    ("config", "space", "names"),
    [
        (VAEConfig(latent_dim=3, hidden=(8,)), DIGITS, PICTURED | {"reconstructions", "traversal"}),
        (FlowConfig(layers=2, hidden=(4,)), DIGITS, PICTURED),
        (FlowConfig(layers=2, hidden=(4,)), DataSpace(shape=(2,)), {"samples", "curve"}),
        (FlowConfig(layers=2, hidden=(4,), prior="logistic"), DataSpace(shape=(3,)), {"samples", "curve"}),
    ],
    ids=["vae", "flow", "plane", "table"],
)
def test_the_numbers_and_pictures_lie_in_the_folder(
    make: Make, config: VAEConfig | FlowConfig, space: DataSpace, names: set[str]
) -> None:
    run = make(config, space)
    metrics = evaluate(run)
    assert run.metrics == metrics
    held = json.loads((run.folder / EVALUATION).read_text())
    assert {name: Metric.model_validate(metric) for name, metric in held.items()} == metrics
    assert {path.stem for path in run.folder.glob("*.png")} == names
    for path in run.folder.glob("*.png"):
        with Image.open(path) as image:
            assert min(image.size) > 150


def test_a_second_evaluation_gives_the_same_numbers(make: Make) -> None:
    run = make(VAEConfig(latent_dim=3, hidden=(8,)), DIGITS)
    assert evaluate(run) == evaluate(run)


# Held-out scores -------------------------------------------------------------------------------------------


def test_the_held_out_scores_of_a_flow_are_its_log_weights(make: Make) -> None:
    run = make(FlowConfig(layers=2, hidden=(4,)), DIGITS)
    scores, k = held_out_scores(run)
    with torch.no_grad():
        expected = run.model.log_weight(torch.from_numpy(run.splits.test))
    assert (scores.dtype, k) == (np.float64, 1)
    assert np.allclose(scores, expected.numpy(), atol=1e-4)


def test_the_held_out_scores_of_a_vae_are_bounds_of_64_draws(make: Make) -> None:
    run = make(VAEConfig(latent_dim=3, hidden=(8,)), DIGITS)
    scores, k = held_out_scores(run)
    assert (len(scores), k) == (60, 64)
    assert np.array_equal(scores, held_out_scores(run)[0])
    assert scores.mean() > evaluate(run)["elbo"].value


def test_at_most_a_thousand_rows_are_scored_and_they_are_spread_over_the_test_rows(make: Make) -> None:
    test = np.arange(6000, dtype=np.float32).reshape(3000, 2) / 6000
    run = make(FlowConfig(layers=2, hidden=(4,)), DataSpace(shape=(2,)), test=test)
    scores, _ = held_out_scores(run)
    with torch.no_grad():
        ends = run.model.log_weight(torch.from_numpy(test[[0, -1]])).numpy()
    assert len(scores) == 1000
    assert np.allclose(scores[[0, -1]], ends, atol=1e-4)


def test_a_model_without_scores_says_so(make: Make) -> None:
    with pytest.raises(Mistake, match="a gan has no log_weight"):
        held_out_scores(make(GANConfig(latent_dim=3, hidden=(4, 8)), DIGITS))
