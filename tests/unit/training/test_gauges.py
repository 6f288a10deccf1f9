"""Gauges read what they should on samples that are right, copied, collapsed or beside the data."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor as Array

from models.manifest import Metric
from training import gauges
from training.toys import MODES, TOYS

RING = MODES["eight-gaussians"]


def normal(n: int, seed: int, shift: float = 0.0, scale: float = 1.0) -> Array:
    noise = torch.randn(n, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return scale * noise + shift


def within(metric: Metric, expected: float, errors: float = 4) -> bool:
    assert metric.standard_error is not None
    return abs(metric.value - expected) <= errors * metric.standard_error


def ring(modes: int, n: int = 1000) -> np.ndarray:
    """Rows of the first few modes only."""
    rows = TOYS["eight-gaussians"].draw(8 * n, np.random.default_rng(1))
    nearest = np.linalg.norm(rows[:, None] - RING.centres, axis=-1).argmin(1)
    return rows[nearest < modes][:n]


@pytest.mark.parametrize("modes", [1, 3, 7, 8])
def test_coverage_counts_the_modes_that_samples_visit(modes: int) -> None:
    found = dict(gauges.coverage(ring(modes), RING))
    assert found["modes_covered"].value == modes
    assert found["modes_missed"].value == 8 - modes
    assert found["near_a_mode"].value == pytest.approx(1 - math.exp(-9 / 2), abs=0.01)


@pytest.mark.parametrize("wider", [1.0, 2.0, 6.0])
def test_on_the_narrow_ring_samples_have_to_be_as_narrow(wider: float) -> None:
    """Of modes that are wider than the data's by a factor w, 1 - exp(-(3 / w)² / 2) lies within 3 sd."""
    ring, rng = MODES["ring"], np.random.default_rng(4)
    rows = ring.centres[rng.integers(0, 8, 4000)] + wider * ring.sd * rng.standard_normal((4000, 2))
    found = dict(gauges.coverage(rows, ring))
    due = 1 - math.exp(-((3 / wider) ** 2) / 2)
    assert within(found["near_a_mode"], due)
    assert found["modes_covered"].value == (8 if due > 0.5 else 0)


def test_rows_far_from_every_mode_cover_none() -> None:
    found = dict(gauges.coverage(np.zeros((100, 2)), RING))
    assert found["modes_covered"].value == 0
    assert found["near_a_mode"].value == 0


def test_a_mode_with_a_hundredth_of_its_share_is_missed() -> None:
    rows = np.concatenate([ring(7, 1750), RING.centres[7:].repeat(3, axis=0)])
    assert dict(gauges.coverage(rows, RING))["modes_covered"].value == 7


def test_collapse_is_said_in_a_sentence_and_health_is_not() -> None:
    assert gauges.collapse(dict(gauges.coverage(ring(8), RING))) is None
    sentence = gauges.collapse(dict(gauges.coverage(ring(3), RING)))
    assert sentence == "collapsed: 3 of 8 modes are visited, the others hardly or never"
    good = dict(gauges.support(normal(300, 1), normal(300, 2)))
    assert gauges.collapse(good) is None
    point = dict(gauges.support(normal(300, 1), normal(300, 2, scale=0.001)))
    assert "samples come near to" in str(gauges.collapse(point))
    assert gauges.collapse({}) is None


def test_samples_of_the_source_itself_have_precision_and_recall_of_one() -> None:
    found = dict(gauges.support(normal(500, 1), normal(500, 2)))
    assert found["precision"].value > 0.9
    assert found["recall"].value > 0.9


def test_samples_of_half_of_the_data_are_precise_and_recall_half() -> None:
    real, fake = normal(1000, 1), normal(2000, 2)
    found = dict(gauges.support(real, fake[fake[:, 0] > 0][:900]))
    assert found["precision"].value > 0.9
    assert found["recall"].value == pytest.approx(0.5, abs=0.1)


def test_samples_of_more_than_the_data_recall_them_and_are_half_precise() -> None:
    real, fake = normal(2000, 1), normal(1000, 2)
    found = dict(gauges.support(real[real[:, 0] > 0][:900], fake))
    assert found["precision"].value == pytest.approx(0.5, abs=0.1)
    assert found["recall"].value > 0.9


def test_between_equals_a_classifier_is_a_coin() -> None:
    found = dict(gauges.two_sample(normal(1000, 1), normal(1000, 2)))
    assert within(found["two_sample_accuracy"], 0.5)
    assert found["two_sample_p_value"].value > 0.001
    assert found["two_sample_jensen_shannon"].value < 0.02


def test_what_lies_apart_is_told_apart_with_nearly_ln_2_nats() -> None:
    found = dict(gauges.two_sample(normal(1000, 1), normal(1000, 2, shift=10)))
    assert found["two_sample_accuracy"].value == 1
    assert found["two_sample_p_value"].value < 1e-9
    assert found["two_sample_jensen_shannon"].value == pytest.approx(math.log(2), abs=0.05)


def test_a_classifier_s_score_bounds_the_divergence_of_two_gaussians_from_below() -> None:
    """JS(N(0, I), N(shift, I)) is an integral along the line between the two."""
    shift, x = 1.0, torch.linspace(-12, 12, 20_001, dtype=torch.float64)
    p, q = (torch.exp(-((x - m) ** 2) / 2) / math.sqrt(2 * math.pi) for m in (0.0, shift * math.sqrt(2)))
    m = (p + q) / 2
    exact = float(torch.trapezoid(p * torch.log(p / m) + q * torch.log(q / m), x) / 2)
    bound = dict(gauges.two_sample(normal(1500, 1), normal(1500, 2, shift=shift)))[
        "two_sample_jensen_shannon"
    ]
    assert bound.standard_error is not None
    assert 0.5 * exact < bound.value < exact + 4 * bound.standard_error


def test_the_discriminator_s_view_of_a_known_divergence() -> None:
    """At the best discriminator the estimate is JS itself: here of (3/4, 1/4) from (1/4, 3/4)."""
    logits = np.log(np.array([3.0] * 3 + [1 / 3]))
    on_real, on_fake = np.tile(logits, 500), np.tile(-logits, 500)
    found = dict(gauges.game(on_real, on_fake))
    exact = 0.75 * math.log(1.5) + 0.25 * math.log(0.5)
    assert found["jensen_shannon"].value == pytest.approx(exact, abs=1e-12)
    assert found["D(x)"].value == pytest.approx(0.625)
    assert found["D(G(z))"].value == pytest.approx(0.375)


def test_a_critic_s_view_has_no_probability() -> None:
    found = dict(gauges.duel(np.array([5.0, 7.0]), np.array([-1.0, 0.0])))
    assert {name: metric.value for name, metric in found.items()} == {"critic(x)": 6, "critic(G(z))": -0.5}


def test_copies_of_training_rows_are_nearer_to_them_than_test_rows_are() -> None:
    train = normal(300, 1)
    found = dict(gauges.likeness(normal(200, 2), train[:200] + 1e-6, train))
    assert found["nearest_train_samples"].value < 0.1 * found["nearest_train_test"].value


def test_a_row_obeys_its_label_when_its_neighbour_is_of_that_class() -> None:
    train = torch.cat([normal(50, 1), normal(50, 2, shift=20)])
    label = torch.arange(100) // 50
    told = torch.tensor([0, 0, 1, 1])
    samples = torch.tensor([[0.0, 0], [20, 20], [20, 20], [19, 21]], dtype=torch.float64)
    found = dict(gauges.obedience(samples, told, train, label, "samples"))
    assert found["label_accuracy_samples"].value == 0.75
