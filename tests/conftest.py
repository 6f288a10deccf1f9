"""Fixtures of more than one folder: a real redis-server, and real artifacts of a few nodes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.processes import Redis


@pytest.fixture
def redis_server(tmp_path: Path) -> Iterator[Redis]:
    """A real redis-server on a free port."""
    server = Redis(tmp_path)
    yield server
    server.stop()
