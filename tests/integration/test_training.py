"""Training as it is used: every published recipe, a process that is killed, one command all the way."""

import gzip
import json
import os
import signal
import struct
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from models.manifest import FILE_NAME, Manifest
from training.cli import main
from training.evaluate import evaluate
from training.fit import LAST, LOG, fit
from training.recipe import Recipe, published, read
from training.run import Run

BINARIZED = "binarized.npz"
SMALL = """\
name = "small"
title = "A small VAE of digits"
seed = 4
expected = { minutes = 0.1, result = "a bound" }
data = { source = "digits" }
model = { family = "vae", latent_dim = 4, hidden = [32] }
objective = { kind = "bound", k = 2 }
fit = { epochs = 30, batch_size = 16, learning_rate = 1e-3, schedule = "cosine", threads = 1 }
"""


@pytest.fixture(scope="module")
def mnist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder like MNIST's, with few and random pictures."""
    folder = tmp_path_factory.mktemp("mnist")
    rng = np.random.default_rng(0)
    for stem, rows in (("train", 300), ("t10k", 40)):
        images, labels = rng.integers(0, 256, (rows, 28, 28)), rng.integers(0, 10, rows)
        for kind, array in (("images-idx3", images), ("labels-idx1", labels)):
            header = struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape)
            (folder / f"{stem}-{kind}-ubyte.gz").write_bytes(
                gzip.compress(header + array.astype(np.uint8).tobytes())
            )
    binary = {name: rng.integers(0, 2, (40, 784), np.uint8) for name in ("train", "valid", "test")}
    np.savez(folder / BINARIZED, **binary)
    return folder


def shortened(path: Path) -> Recipe:
    """The recipe for one epoch of few rows, two where the second is the encoder's."""
    held = json.loads(read(path).model_dump_json())
    held["fit"] |= {"epochs": 1, "batch_size": 128, "threads": 1}
    held["evaluate"]["draws"] = 2
    if held["objective"].get("encoder_epochs"):  # the game has an epoch, and the encoder after it
        held["fit"]["epochs"], held["objective"]["encoder_epochs"] = 2, 1
    few = {"toys": {"train": 256, "valid": 100, "test": 100}, "idx": {"valid": 40}}
    held["data"] |= few.get(held["data"]["source"], {})
    if held["model"]["family"] == "image_flow":  # whose MNIST takes seconds a step
        held["model"] |= {"steps": 1, "channels": 8, "blocks": 1}
    return Recipe.model_validate_json(json.dumps(held))


@pytest.mark.parametrize("path", published(), ids=lambda path: path.stem)
def test_a_published_recipe_trains_and_is_measured(path: Path, mnist: Path, tmp_path: Path) -> None:
    recipe = shortened(path)
    fit(recipe, tmp_path / "run", data_root=mnist / BINARIZED if recipe.data.source == "arrays" else mnist)
    run = Run.open(tmp_path / "run")
    metrics = evaluate(run)
    assert all(np.isfinite(metric.value) for metric in metrics.values())
    assert (tmp_path / "run" / "samples.png").is_file()
    assert metrics.keys() & {"log_likelihood", "elbo", "D(x)", "critic(x)"}


def test_a_killed_process_is_resumed_to_the_very_numbers_of_one_that_was_not(tmp_path: Path) -> None:
    (tmp_path / "small.toml").write_text(SMALL)
    fit(read(tmp_path / "small.toml"), tmp_path / "whole")
    command = [sys.executable, "-m", "training", "run", "small.toml", "--runs", "runs"]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    process = subprocess.Popen(command, cwd=tmp_path, env=environment, stderr=subprocess.DEVNULL)
    log = tmp_path / "runs" / "small" / LOG
    try:
        while not (log.exists() and len(log.read_text().splitlines()) > 3):
            assert process.poll() is None, "it ended before it could be killed"
            time.sleep(0.005)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert len(log.read_text().splitlines()) < 31
    arguments = ["run", str(tmp_path / "small.toml"), "--runs", str(tmp_path / "runs"), "--resume"]
    assert main(arguments) == 0
    whole, resumed = (
        torch.load(folder / LAST, weights_only=True)["state_dict"]
        for folder in (tmp_path / "whole", tmp_path / "runs" / "small")
    )
    assert all(torch.equal(value, resumed[name]) for name, value in whole.items())


def test_one_command_goes_from_a_recipe_to_an_artifact(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "small.toml").write_text(SMALL.replace("epochs = 30", "epochs = 2"))
    places = ["--runs", str(tmp_path / "runs"), "--artifacts", str(tmp_path / "artifacts")]
    assert main(["run", str(tmp_path / "small.toml"), *places, "--export"]) == 0
    assert main(["export", "small", *places]) == 0
    out = capsys.readouterr().out
    assert "small: trained in" in out
    assert "bits/dim (upper_bound)" in out
    for version in ("1", "2"):
        folder = tmp_path / "artifacts" / "small" / version
        assert str(folder) in out
        manifest = Manifest.model_validate_json((folder / FILE_NAME).read_text())
        assert manifest.provenance.metrics["elbo"].unit == "nats"
        assert manifest.calibration is not None
        assert manifest.calibration.k == 64
        assert len(manifest.calibration.scores) == 300
