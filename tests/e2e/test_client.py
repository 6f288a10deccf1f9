"""The client and its command against real services: lines that break, replicas that die, full queues."""

from __future__ import annotations

import asyncio
import hashlib
import io
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from benchmarks.proxy import CuttingProxy
from pushforward_client import AsyncClient, Client, Patience, QueueFull, Unauthenticated, Unresumable
from service.keys import line, made
from tests.e2e.conftest import Start
from tests.e2e.processes import ROOT, Running, Service, until

ROWS = 300_000  # of twelve bytes: some pieces of the service's
CUTS = (1_500_000, 1_111_111)
COMMAND = [sys.executable, "-m", "pushforward_client"]


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _port(service: Service) -> int:
    return int(service.url.rpartition(":")[2])


@pytest.fixture(scope="module")
def shared(prototypes: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service that nobody ends."""
    service = Service.start(prototypes, tmp_path_factory.mktemp("shared") / "log").ready()
    yield service
    service.stop()


@pytest.fixture(scope="module")
def whole(shared: Service) -> bytes:
    """The file that a caller gets whose line holds."""
    return shared.npy("sample", model="linear", n=ROWS, seed=5)


def test_a_line_that_is_cut_twice_gives_the_same_file(shared: Service, whole: bytes, tmp_path: Path) -> None:
    with CuttingProxy(_port(shared), CUTS) as line, Client(line.url) as client:
        client.sample("linear", n=ROWS, seed=5).save(tmp_path / "cut.npy")
    assert line.broken == 2
    assert _sha256((tmp_path / "cut.npy").read_bytes()) == _sha256(whole)


def test_coroutines_get_over_it_too(shared: Service, whole: bytes) -> None:
    async def download(url: str) -> list[np.ndarray]:
        async with AsyncClient(url) as client:
            return [rows async for rows in client.sample("linear", n=ROWS, seed=5)]

    with CuttingProxy(_port(shared), CUTS) as line:
        chunks = asyncio.run(download(line.url))
    assert line.broken == 2
    assert len(chunks) >= 3
    assert np.array_equal(np.concatenate(chunks), np.load(io.BytesIO(whole)))


def test_a_download_outlives_the_replica_that_it_began_on(
    start: Start, artifacts: Path, shared: Service
) -> None:
    first, second = start(artifacts).ready(), shared
    with CuttingProxy(_port(first), ()) as line, Client(line.url) as client:
        chunks = []
        for rows in client.sample("linear", n=2 * ROWS, seed=5):
            chunks.append(rows)
            if len(chunks) == 1:
                line.port = _port(second)
                first.running.signal(signal.SIGKILL)
    last = second.npy("sample", model="linear", n=5, seed=5, offset=2 * ROWS - 5)
    assert np.array_equal(np.concatenate(chunks)[-5:], np.load(io.BytesIO(last)))


def test_a_caller_who_has_enough_leaves_nothing_behind(shared: Service) -> None:
    with Client(shared.url) as client:
        for rows in client.sample("linear", n=2**40, seed=5):
            assert len(rows)
            break
        until(lambda: shared.metric("pushforward_queue_rows", model="linear") == 0, "the queue is empty")
        until(lambda: shared.metric("pushforward_requests_in_flight") <= 1, "only the scrape is in flight")


def test_a_full_queue_is_waited_for(start: Start, artifacts: Path) -> None:
    service = start(artifacts, queue_ms=1).ready()
    answers, together = [], threading.Barrier(6)

    def ask(i: int) -> None:
        with Client(service.url, patience=Patience(60, retries=50)) as client:
            client.models()  # to be connected
            together.wait(60)
            answers.append(client.sample("slow", n=100, seed=i).array())

    callers = [threading.Thread(target=ask, args=(i,)) for i in range(6)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join(60)
    assert len(answers) == 6
    assert service.metric("pushforward_rejections_total", reason="queue_full") > 0
    with Client(service.url, patience=Patience(60, retries=0)) as hasty, pytest.raises(QueueFull) as full:
        _all_at_once(hasty, 6)
    assert full.value.retry_after_s
    assert full.value.retry_after_s >= 1


def _all_at_once(client: Client, callers: int) -> None:
    """Ask from many threads, and raise what the first of them got."""
    errors: list[Exception] = []

    def ask() -> None:
        try:
            client.sample("slow", n=100, seed=1).array()
        except QueueFull as error:
            errors.append(error)

    threads = [threading.Thread(target=ask) for _ in range(callers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    raise errors[0]


def test_the_key_of_a_caller_is_sent_along(
    start: Start, artifacts: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = made()
    service = start(artifacts, keys=line("somebody", key)).ready()
    with Client(service.url) as stranger, pytest.raises(Unauthenticated):
        stranger.models()
    with Client(service.url, key=key) as somebody:
        assert somebody.models()
    monkeypatch.setenv("PUSHFORWARD_KEY", key)
    with Client(service.url) as somebody:
        assert somebody.sample("linear", n=200_000, seed=1).array().shape == (200_000, 3)


# The command


def _environment(url: str) -> dict[str, str]:
    beside = str(Path(sys.executable).parent)
    return {**os.environ, "PUSHFORWARD_URL": url, "PATH": f"{beside}{os.pathsep}{os.environ['PATH']}"}


def test_a_killed_command_goes_on_when_it_is_given_again(
    shared: Service, whole: bytes, tmp_path: Path
) -> None:
    out, part = tmp_path / "rows.npy", tmp_path / "rows.npy.part"
    command = [*COMMAND, *f"sample linear -n {ROWS} --seed 5 -o".split(), str(out)]
    environment = _environment(shared.url)
    killed = Running(command, tmp_path / "log", environment)
    until(lambda: part.exists() and part.stat().st_size > 1_000_000, "some rows are there")
    killed.signal(signal.SIGKILL)
    killed.ended()
    assert not out.exists()
    with Client(shared.url) as client, pytest.raises(Unresumable, match="its seed is 5, asked for is 6"):
        client.sample("linear", n=ROWS, seed=6).save(out)
    asked = shared.metric("pushforward_batch_rows_sum", model="linear")
    subprocess.run(command, env=environment, check=True, cwd=ROOT)
    assert (_sha256(out.read_bytes()), part.exists()) == (_sha256(whole), False)
    assert shared.metric("pushforward_batch_rows_sum", model="linear") - asked < ROWS


def test_a_command_that_cannot_be_done_says_why_in_one_line(shared: Service) -> None:
    for arguments, why in (
        (["sample", "nope", "-o", "x.npy"], "there is no model 'nope'"),
        (["sample", "linear", "-o", "x.txt"], "a name that ends in .npy or .csv"),
        (["loglik", "linear", "--csv", "none.csv"], "none.csv cannot be read"),
        (["interpolate", "linear", "1:0", "nonsense"], "allowed: .npy, .csv and .png"),
    ):
        command = [*COMMAND, *arguments]
        done = subprocess.run(command, env=_environment(shared.url), capture_output=True, text=True, cwd=ROOT)
        assert done.returncode == 1
        assert done.stderr.startswith("pushforward: ")
        assert why in done.stderr
        assert done.stderr.count("\n") == 1, done.stderr


def test_a_reader_who_has_enough_is_no_error(shared: Service) -> None:
    pipe = ["bash", "-o", "pipefail", "-c", 'pushforward sample linear -n "$1" | head -n 1', "-", str(ROWS)]
    done = subprocess.run(pipe, env=_environment(shared.url), capture_output=True, text=True, cwd=ROOT)
    assert (done.returncode, done.stdout, done.stderr) == (0, "x0,x1,x2\n", "")
