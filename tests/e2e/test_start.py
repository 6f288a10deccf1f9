"""What stops the service from starting is a sentence and an exit code."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.e2e.conftest import Start
from tests.e2e.processes import ROOT, until


def _run(*flags: str, **variables: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "service", *flags]
    environment = os.environ | variables
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60)


def test_a_port_that_is_taken_is_named(start: Start, artifacts: Path) -> None:
    first = start(artifacts).ready()
    second = _run("--port", first.url.rsplit(":", 1)[1], "--artifacts", str(artifacts))
    assert second.returncode != 0
    assert "address already in use" in second.stderr
    assert "Traceback" not in second.stderr
    assert first.post("sample", model="linear")["samples"]


def test_a_setting_that_is_wrong_is_named() -> None:
    ended = _run(PUSHFORWARD_QUEUE_MS="soon")
    assert ended.returncode == 2
    assert "queue_ms" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_service_without_models_is_alive_and_not_ready_until_it_has_one(
    start: Start, artifacts: Path, tmp_path: Path
) -> None:
    service = start(tmp_path / "empty")
    until(lambda: service.status("/health/live") == 200, "alive")
    assert service.status("/health/ready") == 503
    artifacts.rename(tmp_path / "empty")
    assert service.client.post("/models/reload").status_code == 200
    service.ready()
    assert service.post("sample", model="linear")["samples"]
