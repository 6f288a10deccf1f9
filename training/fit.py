"""The training loop: Lightning's, fed so that a resumed run reaches the numbers of a run never stopped.

A run folder holds the recipe, a line of numbers for each epoch in ``log.csv``, pictures of samples after some
epochs, and the checkpoints. The order of rows is a permutation by (seed, epoch), noise is addressed by step,
and the rest is in the checkpoint.
"""

from __future__ import annotations

import csv
import json
import logging
import os
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import lightning.pytorch as pl
import numpy as np
import torch
from lightning.pytorch.callbacks import Callback, EarlyStopping, ModelCheckpoint
from lightning.pytorch.utilities import rank_zero_only
from torch import Tensor as Array
from tqdm import tqdm

from models.base import Model
from models.families import build
from models.flow import Flow
from training import Mistake
from training.bar import bar
from training.data import Splits, load
from training.objectives import MONITOR, Adversarial, Batch, Objective, generator, objective
from training.recipe import Recipe, parse
from training.snapshots import Snapshots
from training.watch import Watch

ORDER, STATISTICS = 2, 3  # what random numbers are for, beside the noise of the objectives
VALID_ROWS: Final = 1000
LAST, BEST = "checkpoints/last.ckpt", "checkpoints/best.ckpt"
RECIPE, STATE, LOG = "recipe.json", "run.json", "log.csv"


@dataclass(frozen=True)
class Batches:
    """Rows of a tensor in memory, cut into batches: far cheaper than collating them one by one.

    Attributes:
        labels: the class of each row, (N,), int64, where the data have classes.
        order: which rows, (N,), int64.
    """

    x: Array
    labels: Array | None
    order: Array
    size: int

    def __len__(self) -> int:
        return -(-len(self.order) // self.size)

    def __iter__(self) -> Iterator[Batch]:
        for part in self.order.split(self.size):
            yield Batch(self.x[part], None if self.labels is None else self.labels[part])


class Feed(pl.LightningDataModule):
    """Training batches in an order by (seed, epoch), whole ones only; validation batches as they lie.

    Several processes share every batch, in equal parts: a step learns from the same rows as one would.
    """

    def __init__(self, splits: Splits, batch_size: int, seed: int) -> None:
        super().__init__()
        self.train, self.valid = torch.from_numpy(splits.train), torch.from_numpy(splits.valid)
        self.labels = {name: torch.from_numpy(rows) for name, rows in (splits.labels or {}).items()}
        self.batch_size = min(batch_size, len(self.train))
        self.seed = seed

    @property
    def batches(self) -> int:
        """How many batches an epoch has."""
        return len(self.train) // self.batch_size

    def train_dataloader(self) -> Batches:
        assert self.trainer is not None
        shuffled = np.random.default_rng((self.seed, ORDER, self.trainer.current_epoch))
        order = shuffled.permutation(len(self.train))[: self.batches * self.batch_size]
        shared = order.reshape(self.batches, self.trainer.world_size, -1)  # (batch, process, row)
        ours = torch.from_numpy(shared[:, self.trainer.global_rank].ravel())
        return Batches(self.train, self.labels.get("train"), ours, shared.shape[2])

    def val_dataloader(self) -> Batches:
        assert self.trainer is not None
        ours = torch.arange(len(self.valid))[self.trainer.global_rank :: self.trainer.world_size]
        return Batches(self.valid, self.labels.get("valid"), ours, VALID_ROWS)


def fit(
    recipe: Recipe, run_dir: Path, resume: bool = False, data_root: Path | None = None, devices: int = 1
) -> Path:
    """Train a recipe's model, or go on where a stopped run left off.

    Args:
        run_dir: a new folder, unless ``resume``.
        resume: continue the run in ``run_dir``, if there is one; a finished one is left as it is.
        data_root: where the data lie, for sources that live in files.
        devices: processes that share every batch, each with a GPU of its own where there are any. The first
            starts the others, with the command that it was started with; they end with the training.

    Returns:
        ``run_dir``.

    Raises:
        Mistake: if the folder holds another run, the data cannot be read, model and data do not fit, or the
            rows cannot be shared by so many.
    """
    splits = load(recipe.data, data_root)
    feed = Feed(splits, recipe.fit.batch_size, recipe.seed)
    _check_devices(devices, feed)
    if leads():
        if _prepare(recipe, run_dir, resume).finished:
            return run_dir
        RunState(data_root, finished=False).write(run_dir)
    task = objective(recipe, _initial(recipe, splits), recipe.fit.epochs * feed.batches)
    snapshots = Snapshots(run_dir, splits.valid, recipe.seed)
    if devices > 1 and recipe.fit.threads is not None:
        # Otherwise Lightning deals all cores out to the processes.
        os.environ.setdefault("OMP_NUM_THREADS", str(recipe.fit.threads))
    with _quiet(), _deterministic(), _threads(recipe.fit.threads):
        trainer = _trainer(recipe, run_dir, task, [snapshots, *_watch(recipe, task, feed)], devices)
        last = run_dir / LAST
        trainer.fit(task, datamodule=feed, ckpt_path=last if last.exists() else None, weights_only=True)
    if leads():
        snapshots.keep(task.model, int(task.steps) // feed.batches)
        RunState(data_root, finished=True).write(run_dir)
    return run_dir


def leads() -> bool:
    """Whether this is the first of the processes that share a training, or the only one."""
    return rank_zero_only.rank == 0


def _check_devices(devices: int, feed: Feed) -> None:
    most = torch.cuda.device_count() if torch.cuda.is_available() else len(feed.valid)
    if not 1 <= devices <= most:
        raise Mistake(f"devices is {devices}; allowed are 1 to {most} here")
    if feed.batch_size % devices:
        raise Mistake(
            f"devices is {devices}, which share batches of {feed.batch_size} rows in equal parts; "
            "allowed are divisors of that"
        )


@dataclass(frozen=True)
class RunState:
    """What a run folder says beside the recipe, in ``run.json``; it never leaves this machine.

    Attributes:
        data_root: where the data lie, if in files.
        finished: whether training came to its end.
    """

    data_root: Path | None
    finished: bool

    @staticmethod
    def read(run_dir: Path) -> RunState | None:
        """The state of a run folder, ``None`` if it is no such folder yet."""
        path = run_dir / STATE
        if not path.is_file():
            return None
        held = json.loads(path.read_text())
        return RunState(held["data_root"] and Path(held["data_root"]), held["finished"])

    def write(self, run_dir: Path) -> None:
        root = self.data_root and str(self.data_root.resolve())
        (run_dir / STATE).write_text(json.dumps({"data_root": root, "finished": self.finished}) + "\n")


def _prepare(recipe: Recipe, run_dir: Path, resume: bool) -> RunState:
    """Make the folder, or check that it may be continued."""
    state = RunState.read(run_dir)
    if state is None:
        run_dir.mkdir(parents=True, exist_ok=True)
        (run_dir / RECIPE).write_text(recipe.model_dump_json(indent=2) + "\n")
        return RunState(None, finished=False)
    if not resume:
        raise Mistake(
            f"{run_dir} holds a run already; continue it with --resume, remove it, or choose another --runs"
        )
    before = parse((run_dir / RECIPE).read_text(), source=str(run_dir / RECIPE))
    if _learned(before) != _learned(recipe):
        raise Mistake(f"{run_dir} is of another {recipe.name}; remove it, or choose another --runs")
    return state


def _learned(recipe: Recipe) -> dict[str, Any]:
    """The parts of a recipe that decide what is learned."""
    return recipe.model_dump(exclude={"title", "expected", "evaluate"})


def _initial(recipe: Recipe, splits: Splits) -> Model:
    """The untrained model: parameters by the recipe's seed, statistics by the training rows."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        try:
            model = build(recipe.model, splits.space)
        except ValueError as error:
            raise Mistake(f"model and data of {recipe.name} do not fit: {error}") from error
    model.fit_statistics(_as_learned(model, torch.from_numpy(splits.train), recipe.seed))
    return model


def _as_learned(model: Model, x: Array, seed: int) -> Array:
    """Rows as an objective feeds them: a flow's are spread over their bins."""
    if not isinstance(model, Flow):
        return x
    return model.dequantise(x, torch.rand(x.shape, generator=generator(seed, STATISTICS)))


def _watch(recipe: Recipe, task: Objective, feed: Feed) -> Iterator[Callback]:
    if isinstance(task, Adversarial):
        yield Watch(recipe.name, Batch(feed.valid, feed.labels.get("valid")), recipe.seed)


def _trainer(
    recipe: Recipe, run_dir: Path, task: Objective, first: Sequence[Callback], devices: int
) -> pl.Trainer:
    manual = not task.automatic_optimization
    # Each step of a game leaves the other player's weights alone.
    shared = "ddp_find_unused_parameters_true" if manual else "ddp"
    return pl.Trainer(
        max_epochs=recipe.fit.epochs,
        accelerator="auto",
        devices=devices,
        strategy="auto" if devices == 1 else shared,
        use_distributed_sampler=False,
        callbacks=[*first, *_callbacks(recipe, run_dir, task)],
        reload_dataloaders_every_n_epochs=1,
        gradient_clip_val=None if manual else recipe.fit.clip_norm,
        num_sanity_val_steps=0,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=run_dir,
    )


def _callbacks(recipe: Recipe, run_dir: Path, task: Objective) -> Iterator[Callback]:
    folder = run_dir / "checkpoints"
    yield EpochLog(run_dir / LOG)
    yield Progress(recipe.name)
    if recipe.fit.patience is not None:
        yield EarlyStopping(MONITOR, patience=recipe.fit.patience, check_on_train_epoch_end=True)
    if task.chooses:
        yield ModelCheckpoint(folder, "best", monitor=MONITOR, enable_version_counter=False)
    # At the end of each epoch, after the best: what it saves knows of everything that is resumed.
    yield ModelCheckpoint(folder, "last", save_on_train_epoch_end=True, enable_version_counter=False)


class EpochLog(Callback):
    """A line of ``log.csv`` for each epoch: its number, its seconds, and the mean of every quantity.

    What is measured from a later epoch on is ``nan`` before it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.started = 0.0

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Drop what was logged after the checkpoint that this run goes on from."""
        if not trainer.is_global_zero or not self.path.exists():
            return
        header, *lines = self.path.read_text().splitlines(keepends=True)
        kept = [line for line in lines if int(line.split(",", 1)[0]) <= trainer.current_epoch]
        self.path.write_text("".join((header, *kept)))

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.started = time.monotonic()

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if not trainer.is_global_zero:
            return
        values = {name: float(value) for name, value in trainer.callback_metrics.items()}
        seconds = round(time.monotonic() - self.started, 3)
        row = {"epoch": trainer.current_epoch + 1, "seconds": seconds, **values}
        rows = [*self._rows(), row]
        with self.path.open("w", newline="") as file:
            writer = csv.DictWriter(file, dict.fromkeys(name for row in rows for name in row), restval="nan")
            writer.writeheader()
            writer.writerows(rows)

    def _rows(self) -> list[dict[str, Any]]:
        if not self.path.exists():
            return []
        with self.path.open(newline="") as file:
            return list(csv.DictReader(file))


class Progress(Callback):
    """One bar for the whole run, with the gauges of the objective."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.bar: tqdm[Any] | None = None

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        total = int(trainer.num_training_batches) * (trainer.max_epochs or 0)
        quiet = not trainer.is_global_zero
        self.bar = bar(self.name, "step", total, int(pl_module.steps), disable=quiet)

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any) -> None:
        assert self.bar is not None
        assert isinstance(pl_module, Objective)
        shown = {name: f"{float(value):.4g}" for name, value in pl_module.gauges.items()}
        self.bar.set_postfix(shown, refresh=False)
        self.bar.update()

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert self.bar is not None
        self.bar.close()

    def on_exception(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException
    ) -> None:
        if self.bar is not None:
            self.bar.close()


@contextmanager
def _quiet() -> Iterator[None]:
    """Lightning without its greetings; its warnings stay, but for two that are not ours to heed."""
    logger = logging.getLogger("lightning.pytorch")
    level = logger.level
    logger.setLevel(logging.WARNING)
    try:
        with warnings.catch_warnings():
            # Lightning 2.6 itself makes a LeafSpec, which torch 2.13 calls deprecated.
            warnings.filterwarnings("ignore", r"`isinstance\(treespec, LeafSpec\)`", FutureWarning)
            # On purpose: that is where a run is resumed.
            warnings.filterwarnings("ignore", "Checkpoint directory .* exists and is not empty")
            yield
    finally:
        logger.setLevel(level)


@contextmanager
def _deterministic() -> Iterator[None]:
    """Only kernels that give the same bits at every run."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # without it CUDA's matrix products refuse
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)


@contextmanager
def _threads(count: int | None) -> Iterator[None]:
    """So many CPU threads, which also fixes in which order sums are added up."""
    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)
