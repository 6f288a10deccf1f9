"""A flow of pictures, trained for an epoch, keeps its word as graphs, at every row count and on hard rows."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest
import torch

from models.manifest import FILE_NAME, EntryName, Manifest
from training.evaluate import evaluate
from training.export import export
from training.fit import fit
from training.graphs import RUN, Graph, run_eager
from training.recipe import FOLDER, EvaluateConfig, Recipe, read
from training.run import Run

pytestmark = pytest.mark.timeout(400)  # the first test of each model waits for its export

NEVER_TRACED = (1, 3, 37)


def small(name: str) -> Recipe:
    """A published recipe with a smaller model and one epoch."""
    recipe = read(FOLDER / f"{name}.toml")
    return recipe.model_copy(
        update={
            "model": recipe.model.model_copy(update={"steps": 1, "channels": 4}),
            "fit": recipe.fit.model_copy(update={"epochs": 1}),
            "evaluate": EvaluateConfig(draws=2),
        }
    )


@pytest.fixture(scope="module", params=["realnvp-digits", "glow-digits"])
def exported(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, Path]:
    home = tmp_path_factory.mktemp(request.param)
    run = Run.open(fit(small(request.param), home / "run"))
    evaluate(run)
    return run, export(run, home / "artifacts")


@pytest.mark.parametrize(("form", "suffix"), [("onnx", ".onnx"), ("torchscript", ".ts")])
@pytest.mark.parametrize(("entry", "allowed"), [("decode", 1e-3), ("encode", 1e-3), ("log_weight", 1e-5)])
def test_graphs_are_the_model_in_float64_at_row_counts_never_traced(
    exported: tuple[Run, Path], entry: EntryName, allowed: float, form: str, suffix: str
) -> None:
    run, folder = exported
    graph, exact = RUN[form](folder / f"{entry}{suffix}"), double(run, entry)
    for count in NEVER_TRACED:
        rows = codes(count) if entry == "decode" else run.splits.test[:count]
        np.testing.assert_allclose(graph((rows,))[0], exact((rows,))[0], rtol=1e-6, atol=allowed)


def test_its_certificate_says_so(exported: tuple[Run, Path]) -> None:
    manifest = Manifest.model_validate_json((exported[1] / FILE_NAME).read_bytes())
    assert manifest.certificate.failures == ()
    measured = {check.name for check in manifest.certificate.checks}
    assert {"log|det| against autograd", "round trip onnx", "round trip torchscript"} <= measured
    assert {f"parity log_weight.log_w {form}" for form in ("onnx", "torchscript")} <= measured


@pytest.mark.parametrize(("form", "suffix"), [("onnx", ".onnx"), ("torchscript", ".ts")])
def test_hard_rows_get_a_number_and_never_a_plausible_one(
    exported: tuple[Run, Path], form: str, suffix: str
) -> None:
    run, folder = exported
    graph = RUN[form](folder / f"log_weight{suffix}")
    digits = run.splits.test[:8]
    usual = graph((digits,))[0]
    for rows in (10 * digits, 100 * digits, np.full_like(digits, 1e30), np.full_like(digits, -1e30)):
        found = graph((rows,))[0]
        assert np.isfinite(found).all()
        assert found.max() < usual.min() - 100
    rows = edges(run)
    np.testing.assert_allclose(graph((rows,))[0], double(run, "log_weight")((rows,))[0], rtol=1e-6)


def double(run: Run, entry: EntryName) -> Graph:
    """The model itself in float64."""
    return run_eager(copy.deepcopy(run.model).double(), entry, torch.float64)


def codes(count: int) -> np.ndarray:
    return np.random.default_rng(1).standard_normal((count, 64)).astype(np.float32)


def edges(run: Run) -> np.ndarray:
    """At either end of what samples may be, on the last number inside, and beside zero."""
    support, shape = run.model.data.support[0], run.model.data.shape
    low, high = np.float32(support.low), np.float32(support.high)
    inside = np.nextafter(low, high), np.nextafter(high, low)
    values = np.array([low, high, *inside, np.float32(1e-40), np.float32(-1e-40)], np.float32)
    return np.broadcast_to(values[:, None, None, None], (len(values), *shape)).copy()
