"""Scenarios of `make chaos`: real processes under real traffic, while something goes wrong."""

from __future__ import annotations

import functools
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests import graphs
from tests.e2e.conftest import Start, start

__all__ = ["Models", "Start", "start"]

Models = Callable[..., Path]


@pytest.fixture(autouse=True)
def _root(request: pytest.FixtureRequest) -> None:
    """Leave a test of the marker out where it would not be allowed what it does."""
    if request.node.get_closest_marker("root") and not _may_mount():
        pytest.skip("only root may make namespaces and mount")


@functools.cache
def _may_mount() -> bool:
    tried = ["unshare", "--pid", "--fork", "--mount", "mount", "-t", "tmpfs", "tmpfs", "/mnt"]
    return shutil.which("unshare") is not None and subprocess.run(tried, capture_output=True).returncode == 0


@pytest.fixture
def models(tmp_path: Path) -> Models:
    """A folder of artifacts that the scenario may spoil, with those that are named."""

    def build(*names: str) -> Path:
        for name in names:
            getattr(graphs, name)(tmp_path / "artifacts")
        return tmp_path / "artifacts"

    return build
