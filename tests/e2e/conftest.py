"""What a scenario is made of: a folder of real artifacts, services on it, and the servers around them."""

from __future__ import annotations

import itertools
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from tests import graphs
from tests.e2e.processes import ROOT, Redis, Service

Start = Callable[..., Service]
DEMO: list[str] = re.findall(r"^DEMO +:= (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)[0].split()


@pytest.fixture(scope="session")
def prototypes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One artifact of each kind, built once."""
    root = tmp_path_factory.mktemp("prototypes")
    for build in (graphs.linear_flow, graphs.gaussian_vae, graphs.poison, graphs.slow):
        build(root)
    return root


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory, testrun_uid: str) -> Path:
    """The demo models of ``make serve``, fitted for a moment: ``runs`` and ``artifacts``.

    Processes that test side by side share them: whoever comes first trains, the others wait.
    """
    own = tmp_path_factory.getbasetemp()
    folder = (own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) / f"demo-{testrun_uid}"
    with FileLock(f"{folder}.lock"):
        if not folder.exists():
            folder.mkdir()
            _train(folder)
    return folder


def _train(folder: Path) -> None:
    recipes = [str(_hurried(name, folder)) for name in DEMO]
    command = [sys.executable, "-m", "training", "run", *recipes, "--export"]
    command += ["--runs", str(folder / "runs"), "--artifacts", str(folder / "artifacts")]
    trained = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert trained.returncode == 0, trained.stdout + trained.stderr


@pytest.fixture
def artifacts(prototypes: Path, tmp_path: Path) -> Path:
    """A folder of artifacts that the test may spoil."""
    return Path(shutil.copytree(prototypes, tmp_path / "artifacts"))


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start services, which are ended with the test; the knobs are fields of the settings."""
    started: list[Service] = []
    numbers = itertools.count(1)

    def begin(artifacts: Path, **knobs: Any) -> Service:
        service = Service.start(artifacts, tmp_path / f"service-{next(numbers)}.log", **knobs)
        started.append(service)
        return service

    yield begin
    for service in started:
        service.stop()


@pytest.fixture
def redis_server(tmp_path: Path) -> Iterator[Redis]:
    """A real redis-server."""
    server = Redis(tmp_path)
    yield server
    server.stop()


def _toml(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key} = {_toml(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_toml, value)) + "]"
    return {True: "true", False: "false"}[value] if isinstance(value, bool) else repr(value)


def _hurried(name: str, folder: Path) -> Path:
    """The recipe, with one epoch."""
    recipe = tomllib.loads((ROOT / f"training/recipes/{name}.toml").read_text())
    recipe["fit"]["epochs"] = 1
    path = folder / f"{name}.toml"
    path.write_text("\n".join(f"{key} = {_toml(value)}" for key, value in recipe.items()))
    return path
