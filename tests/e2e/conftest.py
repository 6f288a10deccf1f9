"""What a scenario is made of: a folder of real artifacts, services on it, and the servers around them."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests import graphs
from tests.e2e.processes import Redis, Service

Start = Callable[..., Service]


@pytest.fixture(scope="session")
def prototypes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One artifact of each kind, built once."""
    root = tmp_path_factory.mktemp("prototypes")
    for build in (graphs.linear_flow, graphs.gaussian_vae, graphs.poison, graphs.slow):
        build(root)
    return root


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
