"""A trained run, read back from its folder: the recipe, the best model, the data, the numbers."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import torch

from models.base import Model
from models.families import build
from models.manifest import DataSpace, Metric
from training import Mistake
from training.data import Splits, load
from training.fit import BEST, LAST, RECIPE, RunState
from training.recipe import Recipe, parse

EVALUATION: Final = "evaluation.json"
MODEL: Final = "model."  # where an objective keeps its model


@dataclass(frozen=True)
class Run:
    """A finished run.

    Attributes:
        folder: where it lies.
        recipe: what was trained.
        model: float32, on the CPU, in eval mode, from the best checkpoint, or the last where nothing chose.
        splits: the data that it was trained and chosen on, and the test rows that it never saw.
    """

    folder: Path
    recipe: Recipe
    model: Model
    splits: Splits

    @property
    def metrics(self) -> dict[str, Metric]:
        """What ``evaluate`` measured.

        Raises:
            Mistake: if it has not been run.
        """
        return measured(self.folder)

    @staticmethod
    def open(folder: Path, data_root: Path | None = None) -> Run:
        """Read a run back.

        Args:
            data_root: where the data lie now, if they have moved.

        Raises:
            Mistake: if the folder holds no run, one that has not finished, or the data cannot be read.
        """
        recipe, state = finished(folder)
        splits = load(recipe.data, data_root or state.data_root)
        return Run(folder, recipe, _trained(folder, recipe, splits.space), splits)


def finished(folder: Path) -> tuple[Recipe, RunState]:
    """What was trained in a folder, without model and data.

    Raises:
        Mistake: if it holds no run, or one that has not finished.
    """
    state = RunState.read(folder)
    if state is None:
        raise Mistake(f"{folder} holds no run; make one with `python -m training run RECIPE`")
    if not state.finished:
        raise Mistake(f"{folder} has not finished; go on with `python -m training run RECIPE --resume`")
    return parse((folder / RECIPE).read_text(), source=str(folder / RECIPE)), state


def measured(folder: Path) -> dict[str, Metric]:
    """What ``evaluate`` found of the run in a folder.

    Raises:
        Mistake: if it has not been run.
    """
    path = folder / EVALUATION
    if not path.is_file():
        raise Mistake(f"{path} is missing; run `python -m training evaluate {folder}`")
    return {name: Metric.model_validate(held) for name, held in json.loads(path.read_text()).items()}


def _trained(folder: Path, recipe: Recipe, space: DataSpace) -> Model:
    path = folder / BEST if (folder / BEST).is_file() else folder / LAST
    held = torch.load(path, map_location="cpu", weights_only=True)["state_dict"]
    state = {name.removeprefix(MODEL): value for name, value in held.items() if name.startswith(MODEL)}
    with torch.random.fork_rng(devices=[]):  # the initial parameters are drawn, and then replaced
        model = build(recipe.model, space)
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        raise Mistake(f"{path} is of another version of {recipe.model.family}; train it again") from error
    return model.eval()
