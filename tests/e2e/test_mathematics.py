"""The numbers that travel over HTTP are the numbers of the mathematics."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.e2e.conftest import Start
from tests.e2e.processes import Service
from training.run import Run

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def _scores(service: Service, model: str, rows: np.ndarray) -> np.ndarray:
    """Log-likelihoods of rows that are sent as npy, 50,000 at a time."""
    answers = []
    for start in range(0, len(rows), 50_000):
        body = io.BytesIO()
        np.save(body, rows[start : start + 50_000].astype(np.float32))
        headers = {"Content-Type": "application/x-npy", "Accept": "application/x-npy"}
        answer = service.client.post(
            "/loglik", params={"model": model}, content=body.getvalue(), headers=headers
        )
        assert answer.status_code == 200, answer.text
        answers.append(np.load(io.BytesIO(answer.content)))
    return np.concatenate(answers)


@pytest.mark.parametrize("runtime", ["onnx", "torchscript"])
def test_the_likelihood_of_a_flow_is_that_of_the_eager_model_in_float64(
    start: Start, demo: Path, runtime: str
) -> None:
    run = Run.open(demo / "runs/flow-digits")
    rows = run.splits.test
    with torch.no_grad():
        eager = run.model.double().log_weight(torch.from_numpy(rows).double()).numpy()
    service = start(demo / "artifacts", runtime=runtime).ready()
    assert np.abs(_scores(service, "flow-digits", rows) - eager).max() < 1e-4


def test_the_density_of_a_flow_has_mass_one(start: Start, demo: Path) -> None:
    service = start(demo / "artifacts").ready()
    drawn = np.load(io.BytesIO(service.npy("sample", model="flow-moons", n=100_000, seed=1)))
    low, high = drawn.min(0) - 1, drawn.max(0) + 1
    axes = [np.linspace(low[i], high[i], 500) for i in (0, 1)]
    cell = (axes[0][1] - axes[0][0]) * (axes[1][1] - axes[1][0])
    grid = np.stack(np.meshgrid(*axes), axis=-1).reshape(-1, 2)
    mass = np.exp(_scores(service, "flow-moons", grid)).sum() * cell
    assert mass == pytest.approx(1, abs=1e-3)


def test_the_bound_of_a_vae_rises_with_its_draws(start: Start, demo: Path) -> None:
    rows = Run.open(demo / "runs/vae-digits").splits.test[:50].tolist()
    service = start(demo / "artifacts").ready()

    def bound(k: int) -> float:
        # The rows of one call share their draws, so that a mean needs many seeds.
        fields = {"model": "vae-digits", "inputs": rows, "k": k}
        scores = [service.post("loglik", **fields, seed=seed)["log_likelihood"] for seed in range(24)]
        return float(np.mean(scores))

    assert bound(1) < bound(8) < bound(64)


def test_what_a_flow_encodes_it_decodes_again(start: Start, demo: Path) -> None:
    rows = Run.open(demo / "runs/flow-digits").splits.test[:50]
    service = start(demo / "artifacts").ready()
    again = service.post("reconstruct", model="flow-digits", inputs=rows.tolist())["samples"]
    assert np.abs(np.array(again) - rows).max() < 1e-3
