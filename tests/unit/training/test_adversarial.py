"""The game from its first step to a generator at rest, and the encoder after it."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
import torch

from models.gan import GAN
from training import Mistake
from training.evaluate import evaluate
from training.export import export
from training.fit import LAST, LOG, fit
from training.objectives import generator
from training.recipe import Recipe
from training.run import Run

DIGITS = {"source": "digits"}
RING = {"source": "toys", "toy": "eight-gaussians", "train": 256, "valid": 32, "test": 128}
SMALL = {"epochs": 3, "batch_size": 64, "learning_rate": 1e-3, "threads": 1}


# What is measured of every game, with its unit and kind; and how the discriminator sees it.
GAUGES = {
    "precision": ("of samples", "statistic"),
    "recall": ("of test rows", "statistic"),
    "two_sample_accuracy": ("of held-out rows", "statistic"),
    "two_sample_p_value": ("probability", "p-value"),
    "two_sample_jensen_shannon": ("nats", "lower_bound"),
    "modes_covered": ("of 8 modes", "gauge"),
    "modes_missed": ("of 8 modes", "gauge"),
    "near_a_mode": ("of samples, within 3 sd", "statistic"),
}
PROBABILITIES = {
    "D(x)": ("probability", "gauge"),
    "D(G(z))": ("probability", "gauge"),
    "jensen_shannon": ("nats", "lower_bound"),
}
SCORES = {"critic(x)": ("critic", "gauge"), "critic(G(z))": ("critic", "gauge")}


def recipe(data: dict[str, object], model: dict[str, object], objective: dict[str, object]) -> Recipe:
    written = {
        "name": "small",
        "title": "small",
        "expected": {"minutes": 1.0, "result": "none"},
        "seed": 3,
        "data": data,
        "model": {"family": "gan", "latent_dim": 4, **model},
        "objective": {"kind": "adversarial", **objective},
        "fit": SMALL,
    }
    return Recipe.model_validate(written)


def whole() -> Recipe:
    """Everything at once: classes, an averaged generator, an encoder."""
    model = {"net": "conv", "hidden": [4, 8], "conditional": True, "encoder": True}
    return recipe(DIGITS, model, {"penalty": 0.2, "average": 0.9, "encoder_epochs": 1})


def parameters(run_dir: Path) -> dict[str, torch.Tensor]:
    return dict(torch.load(run_dir / LAST, weights_only=True)["state_dict"])


@pytest.mark.parametrize(
    "objective",
    [
        {"loss": "minimax", "penalty": 0.1},
        {"loss": "hinge", "average": 0.9},
        {"loss": "wasserstein", "penalty": 1.0, "critic_steps": 3},
    ],
    ids=lambda objective: objective["loss"],
)
def test_each_loss_is_played_and_gauged(objective: dict[str, object], tmp_path: Path) -> None:
    small = recipe(RING, {"net": "mlp", "hidden": [16], "discriminator": "spectral"}, objective)
    run = Run.open(fit(small, tmp_path / "run"))
    said = {name: (metric.unit, metric.kind) for name, metric in evaluate(run).items()}
    view = PROBABILITIES if objective["loss"] == "minimax" else SCORES
    assert said.items() >= {**GAUGES, **view}.items()
    assert not said.keys() & (PROBABILITIES | SCORES).keys() - view.keys()


def test_a_conditional_gan_with_an_encoder_trains_is_gauged_and_exported(tmp_path: Path) -> None:
    run = Run.open(fit(whole(), tmp_path / "run"))
    metrics = evaluate(run)
    assert {"label_accuracy_samples", "residual", "jensen_shannon"} <= metrics.keys()
    assert (run.folder / "reconstructions.png").is_file()
    folder = export(run, tmp_path / "artifacts")
    assert {f"{entry}.{form}" for entry in ("decode", "encode") for form in ("onnx", "ts")} <= {
        file.name for file in folder.iterdir()
    }


def test_the_generator_that_stays_is_the_average_with_statistics_of_its_own(tmp_path: Path) -> None:
    held = parameters(fit(whole(), tmp_path / "run"))
    averaged = {name: value for name, value in held.items() if name.startswith("averaged.module.")}
    learned = [name for name in averaged if name.endswith((".weight", ".bias"))]
    assert learned
    for name in learned:
        kept = held[name.replace("averaged.module.", "model.generator.")]
        assert torch.equal(kept, averaged[name])
    model = Run.open(tmp_path / "run").model
    assert isinstance(model, GAN)
    assert model.classes is not None
    z = torch.randn(4000, 4, generator=generator(8))
    told = model.told(z, torch.arange(4000) % 10)
    with torch.no_grad():
        seen = model.generator[1](model.generator[0](told))
    norm = model.generator[2]
    torch.testing.assert_close(norm.running_mean, seen.mean((0, 2, 3)), rtol=0.1, atol=0.01)
    torch.testing.assert_close(norm.running_var, seen.var((0, 2, 3)), rtol=0.1, atol=0.01)


def test_the_log_has_a_column_for_whatever_is_measured_later(tmp_path: Path) -> None:
    with (fit(whole(), tmp_path / "run") / LOG).open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["code_error"] == "nan" for row in rows] == [True, True, False]
    assert all(None not in row for row in rows)


def test_while_the_encoder_learns_both_players_rest(tmp_path: Path) -> None:
    longer = whole().model_dump(mode="json")
    longer["fit"]["epochs"] = 4
    longer["objective"]["encoder_epochs"] = 2
    fit(whole(), tmp_path / "run")
    fit(Recipe.model_validate_json(json.dumps(longer)), tmp_path / "longer")
    one, two = parameters(tmp_path / "run"), parameters(tmp_path / "longer")
    for name in one:
        if name.startswith(("model.generator.", "model.discriminator.")):
            assert torch.equal(one[name], two[name]), name
    encoder = [name for name in one if name.startswith("model.encoder.")]
    assert any(not torch.equal(one[name], two[name]) for name in encoder)


@pytest.mark.parametrize(
    ("model", "objective", "words"),
    [
        ({"encoder": True}, {}, "model.encoder is true and encoder_epochs 0 of 3"),
        ({}, {"encoder_epochs": 1}, "model.encoder is false and encoder_epochs 1 of 3"),
        ({"encoder": True}, {"encoder_epochs": 3}, "encoder_epochs 3 of 3"),
        ({}, {"loss": "wasserstein"}, "needs a bound on its slope"),
    ],
)
def test_a_game_that_cannot_be_played_is_refused(
    model: dict[str, object], objective: dict[str, object], words: str
) -> None:
    with pytest.raises(ValueError, match=words):
        recipe(DIGITS, model, objective)


def test_rows_without_classes_cannot_be_told_apart_by_class(tmp_path: Path) -> None:
    with pytest.raises(Mistake, match="data has no classes"):
        fit(recipe(RING, {"net": "mlp", "conditional": True}, {}), tmp_path / "run")
