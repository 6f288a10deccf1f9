"""Whether a generator collapses, said as it happens and not only when it is too late.

After each epoch as many samples as validation rows are drawn, and compared with them. How that is put into
words is the gauges' business; this file remembers what the run has reached, and speaks once.
"""

from __future__ import annotations

import sys
from typing import Any, Final

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Callback
from tqdm import tqdm

from training import gauges
from training.objectives import Adversarial, Batch, generator

ROWS: Final = 1000  # of validation, at most: distances of all pairs are cheap enough for every epoch
USE: Final = 5  # what the noise is for, beside those of training and of its pictures


class Watch(Callback):
    """Logs the validation rows that samples come near to, and says when they become few.

    Args:
        rows: of validation, with their classes where there are such.

    Attributes:
        best: the largest share of rows so far.
        collapsed: whether it has been said, and is still so.
    """

    def __init__(self, name: str, rows: Batch, seed: int) -> None:
        self.name = name
        self.rows = Batch(rows.x[:ROWS], None if rows.label is None else rows.label[:ROWS])
        self.seed = seed
        self.best = 0.0
        self.collapsed = False

    def state_dict(self) -> dict[str, Any]:
        return {"best": self.best, "collapsed": self.collapsed}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.best, self.collapsed = state_dict["best"], state_dict["collapsed"]

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert isinstance(pl_module, Adversarial)
        x, label = self.rows
        made = pl_module.kept(len(x), label, generator(self.seed, USE))
        scaled = [pl_module.model.scale(part.to(made)).flatten(1).double() for part in (x, made)]
        recall = dict(gauges.support(*scaled))["recall"]
        pl_module.note("valid_recall", torch.tensor(recall.value), len(x))

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        values = {name: float(value) for name, value in trainer.callback_metrics.items()}
        sentence = gauges.collapsing(values, self.best)
        self.best = max(self.best, values["valid_recall"])
        if sentence is not None and not self.collapsed and trainer.is_global_zero:
            tqdm.write(f"{self.name}: epoch {trainer.current_epoch + 1}: {sentence}", file=sys.stderr)
        self.collapsed = sentence is not None
