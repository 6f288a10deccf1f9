"""Gauges of a model that gives no likelihood: how its samples compare with rows of data.

Every function takes arrays and yields numbers with what they are. Distances are Euclidean, in the units that
the caller gives. ``collapse`` puts the worst that they can say into words.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor as Array

from models.gan import discriminator_loss
from models.manifest import Metric
from training.toys import Modes

Floats = NDArray[np.float64]
Named = Iterator[tuple[str, Metric]]

NEIGHBOURS: Final = 3  # Kynkäänniemi et al. 2019, section 3.1
NEAR_SD: Final = 3.0  # a Gaussian in the plane has 98.9 % of its mass that near
DUE: Final = 0.25  # the part of its mass that a mode needs to count as covered
# Of the test rows; samples that copied one row in twenty would still reach more.
FEW: Final = 0.05
CERTAIN: Final = 0.01  # a mean probability; near the game's end it is 1/2


def mean(values: Floats, unit: str, kind: str, k: int | None = None) -> Metric:
    """The mean of independent values, with its standard error."""
    error = float(values.std(ddof=1) / math.sqrt(len(values))) if len(values) > 1 else None
    return Metric(value=float(values.mean()), unit=unit, kind=kind, k=k, standard_error=error)


def game(on_real: Floats, on_fake: Floats) -> Named:
    """A discriminator's view, from its logits at test rows and at as many samples; near 1/2 it cannot tell.

    Reference: Goodfellow et al. 2014, arXiv 1406.2661, theorem 1: the best discriminator's value is
    2 JS(data, samples) - ln 4, so any other's value bounds JS from below, on average.
    """
    yield "D(x)", mean(_sigmoid(on_real), "probability", "gauge")
    yield "D(G(z))", mean(_sigmoid(on_fake), "probability", "gauge")
    value = -float(discriminator_loss(torch.from_numpy(on_real), torch.from_numpy(on_fake)))
    spread = np.log(_sigmoid(on_real)).var() + np.log(_sigmoid(-on_fake)).var()
    error = float(math.sqrt(spread / len(on_real)) / 2)
    yield "jensen_shannon", _nats((value + math.log(4)) / 2, error)


def duel(on_real: Floats, on_fake: Floats) -> Named:
    """A critic's view, which has no unit but its own; equal means it cannot tell."""
    yield "critic(x)", mean(on_real, "critic", "gauge")
    yield "critic(G(z))", mean(on_fake, "critic", "gauge")


def likeness(test: Array, fake: Array, train: Array) -> Named:
    """How samples compare with test rows, dimension by dimension and row by row; all (N, ...)."""
    for name, of in (("mean", torch.mean), ("std", torch.std)):
        off = (of(fake, dim=0) - of(test, dim=0)).square().mean().sqrt()
        yield f"{name}_error", Metric(value=float(off), unit="data units, RMS", kind="statistic")
    # Samples much nearer to training rows than test rows are would be copies.
    for name, rows in (("samples", fake), ("test", test)):
        nearest = _distances(rows, train, 1)[:, 0].numpy()
        yield f"nearest_train_{name}", mean(nearest, "data units", "statistic")


def support(real: Array, fake: Array) -> Named:
    """The part of samples within the neighbourhood of data, and of data within that of samples.

    Reference: Kynkäänniemi et al. 2019, arXiv 1904.06991, equation 2, on rows instead of features.
    """
    yield "precision", _share(_within(fake, real), "of samples", NEIGHBOURS)
    yield "recall", _share(_within(real, fake), "of test rows", NEIGHBOURS)


def two_sample(real: Array, fake: Array) -> Named:
    """What a classifier by nearest neighbours learns from half of the rows, and can tell of the other half.

    An accuracy of 1/2 is that of a coin. Whatever the classifier, its log score on rows that it did not see
    bounds the Jensen-Shannon divergence from below, on average.

    Reference: Lopez-Paz & Oquab 2017, arXiv 1610.06545, section 3.
    """
    n = min(len(real), len(fake)) // 2 * 2
    known, asked = (torch.cat([real[i:n:2], fake[i:n:2]]) for i in (0, 1))
    is_real = torch.arange(n) < n // 2
    k = math.isqrt(n) // 2 * 2 + 1  # odd, so that no vote is a draw
    votes = is_real[_neighbours(asked, known, k)].sum(1).numpy()
    p_real = (votes + 1) / (k + 2)
    p_right = np.where(is_real.numpy(), p_real, 1 - p_real)
    accuracy = _share(torch.from_numpy(p_right > 0.5), "of held-out rows", k)
    yield "two_sample_accuracy", accuracy
    # One-sided: under the null the accuracy is that of n tosses of a coin.
    score = (accuracy.value - 0.5) * 2 * math.sqrt(n)
    p_value = math.erfc(score / math.sqrt(2)) / 2
    yield "two_sample_p_value", Metric(value=p_value, unit="probability", kind="p-value", k=k)
    log_score = mean(np.log(p_right), "nats", "lower_bound", k)
    yield "two_sample_jensen_shannon", _nats(log_score.value + math.log(2), log_score.standard_error, k)


def coverage(samples: Floats, modes: Modes) -> Named:
    """How many of the known modes are visited, and how many samples lie near one."""
    distances = np.linalg.norm(samples[:, None] - modes.centres, axis=-1)  # (N, M)
    near = distances.min(axis=1) <= NEAR_SD * modes.sd
    count, total = (
        np.bincount(distances.argmin(axis=1)[near], minlength=len(modes.centres)),
        len(modes.centres),
    )
    covered = int((count / len(samples) >= DUE / total).sum())
    yield "modes_covered", Metric(value=covered, unit=f"of {total} modes", kind="gauge")
    yield "modes_missed", Metric(value=total - covered, unit=f"of {total} modes", kind="gauge")
    yield "near_a_mode", _share(torch.from_numpy(near), f"of samples, within {NEAR_SD:g} sd")


def obedience(samples: Array, label: Array, train: Array, train_label: Array, name: str) -> Named:
    """Whether a row looks like its class: the nearest training row is of the same one."""
    nearest = _neighbours(samples, train, 1)[:, 0]
    yield f"label_accuracy_{name}", _share(train_label[nearest] == label, f"of {name}")


def collapsing(values: Mapping[str, float], best: float) -> str | None:
    """A sentence, if an epoch's numbers say that samples leave out much of the data, or are given away.

    Args:
        values: the means of an epoch: ``valid_recall``, and a discriminator's view where it has one.
        best: the largest recall of the epochs before.
    """
    recall = values["valid_recall"]
    if recall < best / 2 and best > 4 * FEW:
        return f"collapsed: samples come near to {recall:.1%} of validation rows, and did to {best:.1%}"
    if values.get("D(x)", 0.0) > 1 - CERTAIN and values.get("D(G(z))", 1.0) < CERTAIN:
        return "saturated: the discriminator tells every sample from data, and the generator learns little"
    return None


def collapse(metrics: Mapping[str, Metric]) -> str | None:
    """A sentence, if the numbers say that samples leave out much of the data."""
    missed, covered, recall = (metrics.get(name) for name in ("modes_missed", "modes_covered", "recall"))
    if missed is not None and covered is not None and missed.value > 0:
        return f"collapsed: {covered.value:.0f} {covered.unit} are visited, the others hardly or never"
    if recall is not None and recall.value < FEW:
        return f"collapsed: samples come near to {recall.value:.1%} {recall.unit}, and vary too little"
    return None


def _within(rows: Array, others: Array) -> Array:
    """Whether each row lies no farther from some other than that one's k-th neighbour of its kind, (N,)."""
    # A row is its own nearest neighbour.
    reach = _distances(others, others, NEIGHBOURS + 1)[:, -1]
    return torch.cat([(torch.cdist(part, others) <= reach).any(1) for part in rows.split(256)])


def _distances(rows: Array, others: Array, k: int) -> Array:
    """To the k nearest of the others, ascending, (N, k)."""
    nearest = [torch.cdist(part, others).topk(k, largest=False).values for part in rows.split(256)]
    return torch.cat(nearest)


def _neighbours(rows: Array, others: Array, k: int) -> Array:
    """Which of the others are the k nearest, (N, k)."""
    nearest = [torch.cdist(part, others).topk(k, largest=False).indices for part in rows.split(256)]
    return torch.cat(nearest)


def _share(hit: Array, unit: str, k: int | None = None) -> Metric:
    return mean(hit.double().numpy(), unit, "statistic", k)


def _nats(value: float, error: float | None, k: int | None = None) -> Metric:
    return Metric(value=value, unit="nats", kind="lower_bound", k=k, standard_error=error)


def _sigmoid(logits: Floats) -> Floats:
    return 1 / (1 + np.exp(-logits))
