"""A run reaches the same numbers whether it was stopped or not, and its folder says where it stands."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor as Array

from models.families import build
from training import Mistake
from training.data import load
from training.fit import BEST, LAST, LOG, Batches, Feed, RunState, fit
from training.objectives import TRAIN, Objective, objective
from training.recipe import Recipe
from training.run import Run

TOY = {"source": "toys", "toy": "moons", "train": 130, "valid": 40, "test": 20}
MODELS = {
    "vae": (
        {"family": "vae", "latent_dim": 2, "likelihood": "gaussian", "hidden": [8]},
        {"kind": "bound", "k": 3},
    ),
    "flow": ({"family": "flow", "layers": 2, "hidden": [8]}, {"kind": "likelihood"}),
    "gan": ({"family": "gan", "latent_dim": 2, "net": "mlp", "hidden": [8]}, {"kind": "adversarial"}),
}


class Killed(Exception):
    """What a machine that goes down does to a run."""


@dataclass
class Seat:
    """What a feed asks of a trainer: which of the processes this is, in which epoch."""

    global_rank: int
    world_size: int
    current_epoch: int = 3


def recipe(family: str = "flow", **fit_options: object) -> Recipe:
    model, kind = MODELS[family]
    held = {
        "name": family,
        "title": "Small",
        "expected": {"minutes": 0.1, "result": "numbers"},
        "seed": 5,
        "data": TOY,
        "model": model,
        "objective": kind,
        "fit": {
            "epochs": 4,
            "batch_size": 32,
            "learning_rate": 0.01,
            "schedule": "cosine",
            "threads": 1,
            **fit_options,
        },
    }
    return Recipe.model_validate_json(json.dumps(held))


def kill_after(monkeypatch: pytest.MonkeyPatch, steps: int) -> None:
    """Let a training go down in the step after so many."""
    whole = Objective.training_noise

    def step(self: Objective) -> torch.Generator:
        if int(self.steps) == steps:
            raise Killed
        return whole(self)

    monkeypatch.setattr(Objective, "training_noise", step)


def weights(folder: Path, name: str = LAST) -> dict[str, Array]:
    return torch.load(folder / name, weights_only=True)["state_dict"]


def logged(folder: Path) -> list[list[str]]:
    """The log without its seconds."""
    lines = [line.split(",") for line in (folder / LOG).read_text().splitlines()]
    assert lines[0][1] == "seconds"
    return [[cell for i, cell in enumerate(line) if i != 1] for line in lines]


@pytest.mark.parametrize("family", MODELS)
def test_a_resumed_run_reaches_the_very_numbers_of_a_run_never_stopped(
    family: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fit(recipe(family), tmp_path / "whole")
    with monkeypatch.context() as patch:
        kill_after(patch, steps=10)  # four batches an epoch: in the middle of the third
        with pytest.raises(Killed):
            fit(recipe(family), tmp_path / "stopped")
    assert not RunState.read(tmp_path / "stopped").finished
    fit(recipe(family), tmp_path / "stopped", resume=True)
    whole, resumed = weights(tmp_path / "whole"), weights(tmp_path / "stopped")
    assert all(torch.equal(value, resumed[name]) for name, value in whole.items())
    assert logged(tmp_path / "whole") == logged(tmp_path / "stopped")


def test_the_same_seed_gives_the_same_run_and_another_seed_another(tmp_path: Path) -> None:
    for name, seed in (("a", 5), ("b", 5), ("c", 6)):
        fit(recipe(epochs=1).model_copy(update={"seed": seed}), tmp_path / name)
    a, b, c = (weights(tmp_path / name) for name in "abc")
    assert all(torch.equal(value, b[name]) for name, value in a.items())
    assert any(not torch.equal(value, c[name]) for name, value in a.items())


def test_the_random_numbers_of_others_are_left_alone(tmp_path: Path) -> None:
    before, threads = torch.random.get_rng_state(), torch.get_num_threads()
    fit(recipe(epochs=1), tmp_path / "run")
    Run.open(tmp_path / "run")
    assert torch.equal(before, torch.random.get_rng_state())
    assert torch.get_num_threads() == threads
    assert not torch.are_deterministic_algorithms_enabled()


def test_training_betters_the_score_and_keeps_the_best(tmp_path: Path) -> None:
    fit(recipe(epochs=8, learning_rate=0.003), tmp_path / "run")
    header, *lines = logged(tmp_path / "run")
    scores = [float(line[header.index("valid_log_likelihood")]) for line in lines]
    assert len(scores) == 8
    assert max(scores) > scores[0]
    chosen = int(weights(tmp_path / "run", BEST)["steps"]) // 4
    assert scores[chosen - 1] == max(scores)


def test_a_run_stops_when_nothing_gets_better(tmp_path: Path) -> None:
    fit(recipe(epochs=60, patience=2, learning_rate=0.9, schedule="constant"), tmp_path / "run")
    lines = logged(tmp_path / "run")
    assert len(lines) < 60
    assert RunState.read(tmp_path / "run").finished


def test_a_finished_run_is_not_trained_again(tmp_path: Path) -> None:
    fit(recipe(epochs=1), tmp_path / "run")
    before = (tmp_path / "run" / LAST).stat().st_mtime_ns
    fit(recipe(epochs=1), tmp_path / "run", resume=True)
    assert (tmp_path / "run" / LAST).stat().st_mtime_ns == before


def test_a_run_is_neither_overwritten_nor_continued_by_another_recipe(tmp_path: Path) -> None:
    fit(recipe(epochs=1), tmp_path / "run")
    with pytest.raises(Mistake, match="holds a run already; continue it with --resume"):
        fit(recipe(epochs=1), tmp_path / "run")
    with pytest.raises(Mistake, match="is of another flow"):
        fit(recipe(epochs=2), tmp_path / "run", resume=True)


def test_a_model_that_does_not_fit_the_data_is_refused(tmp_path: Path) -> None:
    wrong = recipe("vae").model_dump()
    wrong["model"]["likelihood"] = "bernoulli"
    with pytest.raises(Mistake, match="model and data of vae do not fit: data has levels None"):
        fit(Recipe.model_validate(wrong), tmp_path / "run")


@pytest.mark.parametrize("name", [LAST, BEST])
def test_checkpoints_hold_tensors_and_numbers_and_no_code(tmp_path: Path, name: str) -> None:
    fit(recipe(epochs=1), tmp_path / "run")
    assert "optimizer_states" in torch.load(tmp_path / "run" / name, weights_only=True)


def test_an_epoch_sees_every_whole_batch_once_and_each_epoch_in_another_order() -> None:
    splits = load(recipe().data)
    feed = Feed(splits, batch_size=32, seed=5)

    feed.trainer = Seat(0, 1, current_epoch=0)  # type: ignore[assignment]
    first = torch.cat([batch.x for batch in feed.train_dataloader()]).numpy()
    feed.trainer = Seat(0, 1, current_epoch=1)  # type: ignore[assignment]
    second = torch.cat([batch.x for batch in feed.train_dataloader()]).numpy()
    assert feed.batches == 4
    assert len(first) == len(np.unique(first, axis=0)) == 128
    assert not np.array_equal(first, second)


def test_batches_cover_their_rows_in_order() -> None:
    x = torch.arange(10)
    batches = Batches(x, 10 * x, torch.tensor([3, 1, 4, 1, 5]), size=2)
    assert [batch.x.tolist() for batch in batches] == [[3, 1], [4, 1], [5]]
    assert [batch.label.tolist() for batch in batches] == [[30, 10], [40, 10], [50]]
    assert len(batches) == 3
    assert [batch.label for batch in Batches(x, None, x, size=5)] == [None, None]


# The folder as Run reads it ------------------------------------------------------------------------


def test_a_run_gives_back_recipe_model_and_data(tmp_path: Path) -> None:
    fit(recipe(epochs=1), tmp_path / "run")
    run = Run.open(tmp_path / "run")
    assert run.recipe == recipe(epochs=1)
    assert not run.model.training
    held = weights(tmp_path / "run", BEST)
    assert all(torch.equal(value, held[f"model.{name}"]) for name, value in run.model.state_dict().items())
    with pytest.raises(Mistake, match=r"evaluation\.json is missing; run"):
        _ = run.metrics


def test_a_folder_without_a_finished_run_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(Mistake, match="holds no run; make one"):
        Run.open(tmp_path)
    with monkeypatch.context() as patch:
        kill_after(patch, steps=2)
        with pytest.raises(Killed):
            fit(recipe(), tmp_path / "run")
    with pytest.raises(Mistake, match="has not finished; go on with"):
        Run.open(tmp_path / "run")


def test_a_run_remembers_where_its_data_lie(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.random.default_rng(0).standard_normal((100, 2)))
    held = {**recipe(epochs=1).model_dump(), "data": {"source": "arrays"}}
    fit(Recipe.model_validate(held), tmp_path / "run", data_root=tmp_path / "x.npy")
    assert len(Run.open(tmp_path / "run").splits.train) == 80
    (tmp_path / "x.npy").rename(tmp_path / "y.npy")
    with pytest.raises(Mistake, match=r"x\.npy does not exist"):
        Run.open(tmp_path / "run")
    assert len(Run.open(tmp_path / "run", tmp_path / "y.npy").splits.train) == 80
    assert str(tmp_path) not in (tmp_path / "run" / "recipe.json").read_text()


@pytest.mark.parametrize("processes", [2, 4])
def test_processes_share_the_rows_of_every_batch_and_of_the_validation(processes: int) -> None:
    splits = load(recipe().data)

    def seated(rank: int, world: int) -> Feed:
        feed = Feed(splits, 32, seed=5)
        feed.trainer = Seat(rank, world)  # type: ignore[assignment]
        return feed

    alone, shared = seated(0, 1), [seated(rank, processes) for rank in range(processes)]
    for whole, *parts in zip(
        alone.train_dataloader(), *(feed.train_dataloader() for feed in shared), strict=True
    ):
        assert [len(part.x) for part in parts] == [32 // processes] * processes
        torch.testing.assert_close(torch.cat([part.x for part in parts]), whole.x, rtol=0, atol=0)
    seen = torch.cat([batch.x for feed in shared for batch in feed.val_dataloader()])
    assert sorted(seen.tolist()) == sorted(splits.valid.tolist())


def test_every_process_has_noise_of_its_own_and_the_first_that_of_a_process_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    task = objective(recipe("vae"), build(recipe("vae").model, load(recipe().data).space), 10)
    alone = torch.rand(4, generator=task.noise(TRAIN, 1))
    drawn = []
    for rank in range(3):
        monkeypatch.setattr(Objective, "global_rank", rank)
        drawn.append(torch.rand(4, generator=task.noise(TRAIN, 1)))
    assert torch.equal(drawn[0], alone)
    assert len({tuple(each.tolist()) for each in drawn}) == 3


@pytest.mark.parametrize(("devices", "words"), [(3, "batches of 32 rows"), (0, "devices is 0")])
def test_rows_that_cannot_be_shared_are_refused(devices: int, words: str, tmp_path: Path) -> None:
    with pytest.raises(Mistake, match=words):
        fit(recipe(), tmp_path / "run", devices=devices)
    assert not (tmp_path / "run").exists()
