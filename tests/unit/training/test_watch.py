"""A collapse is said while it happens, and at the end of the run that ended in one."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from training import gauges
from training.evaluate import evaluate
from training.fit import LOG, fit
from training.recipe import Recipe
from training.run import Run


def ring(objective: dict[str, object], model: dict[str, object], fit: dict[str, object]) -> Recipe:
    written = {
        "name": "ring",
        "title": "ring",
        "expected": {"minutes": 0.1, "result": "as the test says"},
        "seed": 5,
        "data": {"source": "toys", "toy": "eight-gaussians", "train": 1024, "valid": 256, "test": 512},
        "model": {"family": "gan", "latent_dim": 2, "net": "mlp", **model},
        "objective": {"kind": "adversarial", **objective},
        "fit": {"batch_size": 64, "threads": 1, "betas": (0.5, 0.9), **fit},
    }
    return Recipe.model_validate(written)


def recalls(folder: Path) -> list[float]:
    with (folder / LOG).open(newline="") as file:
        return [float(row["valid_recall"]) for row in csv.DictReader(file)]


def test_a_run_that_jumps_from_mode_to_mode_says_so_at_once_and_in_the_end(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A hinge on a small spectrally normed critic at a tenfold learning rate: so with every seed tried."""
    jumping = ring(
        {"loss": "hinge"},
        {"hidden": [32], "discriminator": "spectral"},
        {"epochs": 12, "learning_rate": 1e-2},
    )
    folder = fit(jumping, tmp_path / "run")
    said = [line for line in capsys.readouterr().err.splitlines() if "collapsed" in line]
    assert said
    assert said[0].startswith("ring: epoch ")
    reached = recalls(folder)
    assert any(now < max(reached[:epoch], default=0) / 2 for epoch, now in enumerate(reached))
    assert "collapsed" in str(gauges.collapse(evaluate(Run.open(folder))))


def test_a_run_that_only_gets_better_says_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    calm = ring(
        {"penalty": 0.2, "average": 0.9},
        {"hidden": [32]},
        {"epochs": 6, "learning_rate": 1e-3},
    )
    folder = fit(calm, tmp_path / "run")
    assert "ring: epoch" not in capsys.readouterr().err
    assert all(0 <= recall <= 1 for recall in recalls(folder))


@pytest.mark.parametrize(
    ("values", "best", "words"),
    [
        ({"valid_recall": 0.3}, 0.9, "samples come near to 30.0% of validation rows, and did to 90.0%"),
        ({"valid_recall": 0.5}, 0.9, None),
        ({"valid_recall": 0.0}, 0.15, None),  # as before learning: nothing has fallen
        ({"valid_recall": 0.9, "D(x)": 0.999, "D(G(z))": 0.001}, 0.9, "tells every sample from data"),
        ({"valid_recall": 0.9, "D(x)": 0.999, "D(G(z))": 0.5}, 0.9, None),
        ({"valid_recall": 0.9, "critic(x)": 40.0, "critic(G(z))": -40.0}, 0.9, None),
    ],
)
def test_an_epoch_is_put_into_words(values: dict[str, float], best: float, words: str | None) -> None:
    sentence = gauges.collapsing(values, best)
    assert (sentence is None) == (words is None)
    assert words is None or words in str(sentence)
