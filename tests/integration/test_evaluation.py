"""What ``evaluate`` says of a run, and draws of it."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from tests.integration.test_export import make_run
from training.run import Run


@pytest.fixture(scope="module")
def on_a_plane(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A VAE of digits with two latents and a posterior that is not Gaussian."""
    return make_run("vae-iaf", tmp_path_factory.mktemp("run"), draws=12)


def test_bounds_come_with_kind_unit_draws_and_error_in_their_order(on_a_plane: Run) -> None:
    metrics = on_a_plane.metrics
    bounds = [metrics[name] for name in ("elbo", "bound_5", "bound_12")]
    assert [bound.k for bound in bounds] == [1, 5, 12]
    assert {(bound.kind, bound.unit) for bound in bounds} == {("lower_bound", "nats")}
    # Of the same draws, so in order exactly and not only within errors.
    assert bounds[0].value < bounds[1].value < bounds[2].value
    assert all(bound.standard_error and bound.standard_error > 0 for bound in bounds)
    assert metrics["bits_per_dim_12"].value == pytest.approx(
        -bounds[2].value / 64 / 0.6931471805599453, rel=1e-6
    )


def test_latents_in_use_are_counted(on_a_plane: Run) -> None:
    active = on_a_plane.metrics["active_latents"]
    assert active.unit == "of 2 latents"
    assert active.value in (0, 1, 2)


def test_a_plane_of_latents_is_drawn_whole(on_a_plane: Run) -> None:
    drawn = {path.stem: path for path in on_a_plane.folder.glob("*.png")}
    assert drawn.keys() == {"samples", "interpolation", "reconstructions", "traversal", "manifold", "curve"}
    with Image.open(drawn["manifold"]) as image:
        assert image.width == image.height == 20 * 50 + 2


def test_a_model_of_classes_draws_a_column_for_each(tmp_path: Path) -> None:
    run = make_run("vae-classes", tmp_path)
    with Image.open(run.folder / "samples.png") as image:
        assert image.width == 10 * 50 + 2
    assert not (run.folder / "manifold.png").exists()
