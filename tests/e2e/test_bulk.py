"""Bulk work on Ray has the bits of the service, also when a worker is killed in the middle of it."""

from __future__ import annotations

import io
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.e2e.processes import Running, Service, until

MODEL, K = "gaussian-vae", 300  # enough work for a part to take a moment
ROWS, PART_ROWS = 20_000, 4096


def descendants(pid: int) -> list[int]:
    """The processes that a process has started, and those that they have."""
    parents = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            after_name = path.read_text().rpartition(")")[2].split()
        except OSError:  # it has ended
            continue
        parents[int(path.parent.name)] = int(after_name[1])
    found = [pid]
    for each in found:
        found += [child for child, parent in parents.items() if parent == each]
    return found[1:]


def workers(job: Running) -> list[int]:
    """The processes in which Ray Data computes the parts of a job."""

    def computes(pid: int) -> bool:
        try:
            return b"MapWorker" in Path(f"/proc/{pid}/cmdline").read_bytes()
        except OSError:
            return False

    return [pid for pid in descendants(job.process.pid) if computes(pid)]


def answered(service: Service, rows: np.ndarray) -> dict[str, np.ndarray]:
    """What ``/loglik`` says of rows, every member as an array."""
    body = io.BytesIO()
    np.save(body, rows)
    headers = {"Content-Type": "application/x-npy", "Accept": "application/x-npz"}
    query = {"model": MODEL, "k": K}
    answer = service.client.post("/loglik", params=query, content=body.getvalue(), headers=headers)
    assert answer.status_code == 200, answer.text
    with np.load(io.BytesIO(answer.content)) as held:
        return dict(held)


@pytest.mark.slow
@pytest.mark.timeout(500)
def test_scores_on_ray_are_those_of_the_service_also_after_a_worker_was_killed(
    artifacts: Path, start: Callable[..., Service], tmp_path: Path
) -> None:
    rows = np.random.default_rng(0).normal(size=(ROWS, 3)).astype(np.float32)
    np.save(tmp_path / "rows.npy", rows)
    service, out = start(artifacts), tmp_path / "scores.npz"
    command = [sys.executable, "-m", "training", "score", MODEL, str(tmp_path / "rows.npy"), "--k", str(K)]
    command += ["--engine", "ray", "--artifacts", str(artifacts), "--out", str(out)]
    job = Running(command, tmp_path / "job.log")
    try:
        parts = out.with_name("scores.npz.parts")
        until(lambda: any(parts.glob("0*.npz")) or not job.alive, "a first part", timeout_s=240)
        victims = workers(job)
        assert victims, job.log
        os.kill(victims[0], signal.SIGKILL)
        assert job.ended(200) == 0, job.log
    finally:
        job.stop()
    service.ready()
    pieces = [answered(service, rows[at : at + PART_ROWS]) for at in range(0, ROWS, PART_ROWS)]
    with np.load(out) as held:
        assert set(held.files) == {"log_likelihood", "standard_error", "status"}
        for name in held.files:
            whole = np.concatenate([piece[name] for piece in pieces]).astype(held[name].dtype)
            assert held[name].tobytes() == whole.tobytes(), name
