"""Scenarios of `make chaos`: real processes under real traffic, while something goes wrong."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests import graphs
from tests.e2e.conftest import Start, start

__all__ = ["Models", "Start", "start"]

Models = Callable[..., Path]


@pytest.fixture
def models(tmp_path: Path) -> Models:
    """A folder of artifacts that the scenario may spoil, with those that are named."""

    def build(*names: str) -> Path:
        for name in names:
            getattr(graphs, name)(tmp_path / "artifacts")
        return tmp_path / "artifacts"

    return build
