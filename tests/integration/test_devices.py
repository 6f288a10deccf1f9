"""A training in two processes learns what one process learns, and leaves one run behind."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
from pathlib import Path

import pytest

RECIPE = """\
name = "small"
title = "Small"
seed = 1
expected = { minutes = 0.1, result = "numbers" }
data = { source = "toys", toy = "moons", train = 400, valid = 101, test = 50 }
model = { family = "flow", layers = 2, hidden = [8] }
objective = { kind = "likelihood" }
fit = { epochs = 2, batch_size = 40, learning_rate = 0.01, threads = 1 }
"""
GAME = RECIPE.replace(
    'family = "flow", layers = 2, hidden = [8]', 'family = "gan", latent_dim = 2, net = "mlp"'
).replace('kind = "likelihood"', 'kind = "adversarial", penalty = 0.1, average = 0.9')
ROOT = Path(__file__).parents[2]


def train(recipe: str, folder: Path, devices: int) -> Path:
    folder.mkdir()
    (folder / "small.toml").write_text(recipe)
    command = [sys.executable, "-m", "training", "run", str(folder / "small.toml"), "--runs", str(folder)]
    # Two processes of this machine talk over its loopback.
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(
        [*command, "--devices", str(devices)], cwd=ROOT, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("small: trained in") == 1
    return folder / "small"


def logged(run: Path) -> list[dict[str, str]]:
    with (run / "log.csv").open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_two_processes_learn_from_the_same_rows_as_one(tmp_path: Path) -> None:
    alone, shared = (train(RECIPE, tmp_path / str(devices), devices) for devices in (1, 2))
    assert len(logged(shared)) == 2
    for one, two in zip(logged(alone), logged(shared), strict=True):
        assert one.keys() == two.keys()
        for name in one.keys() - {"seconds"}:
            assert float(two[name]) == pytest.approx(float(one[name]), rel=1e-5), name
    files = [sorted(path.name for path in run.rglob("*")) for run in (alone, shared)]
    assert files[0] == files[1]


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_two_processes_play_a_game_to_its_end(tmp_path: Path) -> None:
    rows = logged(train(GAME, tmp_path / "2", 2))
    assert [row["epoch"] for row in rows] == ["1", "2"]
