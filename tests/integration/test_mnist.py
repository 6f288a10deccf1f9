"""Known figures of models that need no training, on the real MNIST: they pin dequantisation, logit and split.

``PUSHFORWARD_MNIST`` names a folder that holds, at any depth, the four IDX files, plain or .gz, and
``binarized_mnist.npz``, the fixed binarization of Salakhutdinov & Murray 2008 as train, valid and test.
Without them these tests are left out.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor as Array

from models.bijections import Bijection
from models.flow import Flow
from models.manifest import DataSpace
from training.data import ArrayData, IDXData, Quantised, Splits, load

pytestmark = pytest.mark.mnist
# Of Papamakarios, Pavlakou & Murray 2017, arXiv 1705.07057, whose rows are spread by numpy's RandomState(42).
MARGIN = 1e-6
PIXELS = 784


def file_of_mnist(name: str) -> Path:
    """A file below ``PUSHFORWARD_MNIST``."""
    root = os.environ.get("PUSHFORWARD_MNIST")
    if not root:
        pytest.skip("PUSHFORWARD_MNIST is unset: it names the folder of MNIST's files")
    found = sorted(Path(root).rglob(name))
    if not found:
        pytest.skip(f"PUSHFORWARD_MNIST is {root}, which holds no {name}")
    return found[0]


@pytest.fixture(scope="module")
def grey() -> Splits:
    """50,000, 10,000 and 10,000 pictures of 256 levels."""
    return load(IDXData(source="idx"), file_of_mnist("train-images?idx3-ubyte*").parent)


class Whitening(Bijection):
    """Rows to independent standard normals, if they are jointly Gaussian."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(size, dtype=torch.float64))
        self.register_buffer("triangle", torch.eye(size, dtype=torch.float64))

    def fit(self, x: Array) -> None:
        self.mean.copy_(x.mean(0))
        self.triangle.copy_(torch.linalg.cholesky(torch.cov(x.T, correction=0)))

    def forward(self, x: Array) -> tuple[Array, Array]:
        z = torch.linalg.solve_triangular(self.triangle, (x - self.mean).T, upper=False).T
        return z, -self.triangle.diagonal().log().sum()

    def inverse(self, z: Array) -> Array:
        return z @ self.triangle.T + self.mean


class GaussianFlow(Flow):
    """A Gaussian with any covariance, behind the preprocessing of every flow."""

    family = "gaussian"

    def __init__(self, data: DataSpace, margin: float | None) -> None:
        super().__init__(data, "no paper", Whitening(data.size), "standard_normal", margin)

    def fit_statistics(self, x: Array) -> None:
        self.preprocessing.fit(x.flatten(1))
        self.bijection.fit(self.preprocessing(x.flatten(1))[0])


@dataclass(frozen=True)
class Score:
    """The mean log-density of the test rows, in nats.

    Attributes:
        grey_levels: of density over grey levels, as flows report it.
        scaled: over what the bounded pixels become, which is logits, or places in [0, 1].
    """

    grey_levels: float
    scaled: float


def gaussian_score(grey: Splits, margin: float | None) -> Score:
    flow = GaussianFlow(grey.space, margin)
    train, _, test = spread(flow, grey)
    flow.fit_statistics(train)
    log_p = flow.log_weight(test).mean()
    bounded = flow.preprocessing.bijections[0]
    _, stretch = bounded(test.flatten(1))
    return Score(float(log_p), float(log_p - stretch.mean()))


def spread(flow: Flow, grey: Splits) -> Iterator[Array]:
    """Training, validation and test rows at the points of their bins that the paper drew."""
    noise = np.random.RandomState(42)
    for rows in (grey.train, grey.valid, grey.test):
        u = torch.from_numpy(noise.rand(len(rows), PIXELS)).view(rows.shape)
        yield flow.dequantise(torch.from_numpy(rows).double(), u)


@pytest.mark.slow
def test_a_gaussian_of_logits_scores_as_in_the_paper(grey: Splits) -> None:
    """Papamakarios et al. 2017, table 2: -1366.9 nats, and 2.01 bits/dim by its conversion."""
    score = gaussian_score(grey, MARGIN)
    assert score.scaled == pytest.approx(-1366.90, abs=0.1)
    assert grey.space.bits_per_dim(score.grey_levels) == pytest.approx(2.013, abs=5e-4)


@pytest.mark.slow
def test_a_gaussian_of_pixels_is_the_mark_that_nice_has_to_beat(grey: Splits) -> None:
    """With pixels in [0, 1], without a logit; Dinh et al. 2014 count so, and reach 1980.5 nats."""
    score = gaussian_score(grey, None)
    assert score.scaled == pytest.approx(1471.2, abs=1.0)
    assert score.grey_levels + PIXELS * np.log(256) == pytest.approx(score.scaled, abs=1e-6)


def test_independent_histograms_of_the_grey_levels_score_as_measured(grey: Splits) -> None:
    """Each level of each pixel counted once more than it was seen."""
    train, test = (rows.reshape(-1, PIXELS).astype(int) for rows in (grey.train, grey.test))
    counts = np.ones((PIXELS, 256))
    for pixel, seen in zip(counts, train.T, strict=True):
        pixel += np.bincount(seen, minlength=256)
    log_p = np.log(counts / counts.sum(1, keepdims=True))
    score = log_p[np.arange(PIXELS), test].sum(1).mean()
    assert grey.space.bits_per_dim(score) == pytest.approx(1.690, abs=5e-4)


def test_independent_pixels_of_the_fixed_binarization_score_as_measured() -> None:
    """Each value of each pixel counted once more than it was seen."""
    path = file_of_mnist("binarized_mnist.npz")
    binary = load(ArrayData(source="arrays", shape=(1, 28, 28), quantised=Quantised(levels=2)), path)
    train, test = (rows.reshape(-1, PIXELS).astype(float) for rows in (binary.train, binary.test))
    ink = (train.sum(0) + 1) / (len(train) + 2)
    score = (test * np.log(ink) + (1 - test) * np.log1p(-ink)).sum(1).mean()
    assert score == pytest.approx(-205.79, abs=0.01)
