"""Pictures of samples while a model learns: ``epochs/001.png`` and so on in the run folder.

The noise is the same each time, so what changes from picture to picture is the model.
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Final

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Callback
from PIL.Image import Image

from models.base import Model
from training import pictures
from training.data import Rows
from training.objectives import Objective
from training.samples import samples, takes_classes

FOLDER: Final = "epochs"
EPOCHS: Final = (1, 10, 25)  # most of what there is to see happens early
LINES: Final = 8
POINTS: Final = 4096
NOISE: Final = 4  # what the noise is for, beside those of training


class Snapshots(Callback):
    """Draws the model after the first epochs that matter; the last one is asked for when training ends.

    Args:
        folder: of the run.
        rows: of data, (N, *shape); a window for points of the plane is put around them.
    """

    def __init__(self, folder: Path, rows: Rows, seed: int) -> None:
        self.folder = folder / FOLDER
        self.rows = rows
        self.seed = seed

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert isinstance(pl_module, Objective)
        if trainer.is_global_zero and trainer.current_epoch + 1 in EPOCHS:
            self.keep(pl_module.model, trainer.current_epoch + 1)

    def keep(self, model: Model, epoch: int) -> None:
        """Draw the model as it is, which leaves it as it is; rows of one dimension give no picture."""
        if model.data.size == 1:
            return
        self.folder.mkdir(exist_ok=True)
        draw(copy.deepcopy(model).eval(), self.rows, self.seed).save(self.folder / f"{epoch:03d}.png")


def draw(model: Model, rows: Rows, seed: int) -> Image:
    """Samples side by side, classes in columns; rows that are no pictures as dots, by two dimensions."""
    if model.data.display is not None:
        columns = len(model.data.labels or ()) if takes_classes(model) else LINES
        return pictures.grid(_shown(model, LINES * columns, seed), model.data.display, columns)
    dots = _shown(model, POINTS, seed).reshape(POINTS, -1)
    return pictures.scatter(dots[:, :2], pictures.window(rows.reshape(len(rows), -1)[:, :2]))


def _shown(model: Model, n: int, seed: int) -> Rows:
    with torch.no_grad():
        shown: Rows = samples(model, n, seed, NOISE).numpy()
    return shown
