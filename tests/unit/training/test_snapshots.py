"""Samples are drawn as the model learns, from the same noise each time, and training does not notice."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from models.families import build
from models.gan import GANConfig
from models.manifest import DataSpace, Support
from tests.unit.training.test_fit import MODELS, Killed, kill_after, recipe
from training.data import load
from training.fit import fit
from training.recipe import Recipe
from training.snapshots import Snapshots, draw

DIGITS = DataSpace(shape=(1, 8, 8), support=(Support(low=0, high=16),), levels=17, display=(0, 16))


def test_a_run_keeps_pictures_of_its_first_epochs_and_its_last(tmp_path: Path) -> None:
    fit(recipe("vae", epochs=12), tmp_path / "run")
    assert names(tmp_path / "run") == ["001.png", "010.png", "012.png"]


@pytest.mark.parametrize("family", MODELS)
def test_a_resumed_run_keeps_its_pictures_and_draws_the_very_ones_of_a_run_never_stopped(
    family: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fit(recipe(family), tmp_path / "whole")
    with monkeypatch.context() as patch:
        kill_after(patch, steps=10)
        with pytest.raises(Killed):
            fit(recipe(family), tmp_path / "stopped")
    kept = (tmp_path / "stopped" / "epochs" / "001.png").stat().st_mtime_ns
    fit(recipe(family), tmp_path / "stopped", resume=True)
    assert (tmp_path / "stopped" / "epochs" / "001.png").stat().st_mtime_ns == kept
    assert names(tmp_path / "whole") == names(tmp_path / "stopped") == ["001.png", "004.png"]
    for name in names(tmp_path / "whole"):
        one, other = (tmp_path / run / "epochs" / name for run in ("whole", "stopped"))
        assert one.read_bytes() == other.read_bytes()


def test_a_model_in_training_is_left_as_it_is(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = build(GANConfig(family="gan", latent_dim=3, hidden=(4, 4)), DIGITS).train()
    before, noise = copy.deepcopy(model.state_dict()), torch.random.get_rng_state()
    Snapshots(tmp_path, np.zeros((1, 1, 8, 8), np.float32), seed=1).keep(model, 7)
    assert names(tmp_path) == ["007.png"]
    assert all(module.training for module in model.modules())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert torch.equal(noise, torch.random.get_rng_state())


def test_a_model_told_the_class_has_a_column_for_each() -> None:
    config = {"family": "vae", "latent_dim": 2, "hidden": [4], "conditional": True}
    held = json.loads(recipe("vae").model_dump_json())
    held |= {"data": {"source": "digits"}, "model": config}
    told = Recipe.model_validate_json(json.dumps(held))
    splits = load(told.data)
    image = draw(build(told.model, splits.space).eval(), splits.valid, seed=0)
    assert image.size == (10 * 50 + 2, 8 * 50 + 2)


def test_rows_of_one_dimension_are_not_drawn(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.random.default_rng(0).standard_normal((100, 1)))
    held = {**recipe("vae", epochs=1).model_dump(), "data": {"source": "arrays"}}
    fit(Recipe.model_validate(held), tmp_path / "run", data_root=tmp_path / "x.npy")
    assert not (tmp_path / "run" / "epochs").exists()


def names(folder: Path) -> list[str]:
    paths = sorted((folder / "epochs").iterdir())
    for path in paths:
        with Image.open(path) as image:
            assert image.width > 100
    return [path.name for path in paths]
