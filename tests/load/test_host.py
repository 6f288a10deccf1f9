"""What the machine does: it stops the process as its first, sets the clock, has no space left."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests import graphs
from tests.e2e.conftest import Start
from tests.e2e.load import Load
from tests.e2e.processes import Redis, program, until
from tests.load.conftest import Models
from tests.load.vitals import family

pytestmark = pytest.mark.chaos

HERE = Path(__file__).parent


def _sample(number: int) -> tuple[str, dict[str, Any]]:
    return "sample", {"model": "linear", "n": 50, "seed": number % 20}


@pytest.mark.root
@pytest.mark.parametrize("processes", [1, pytest.param(2, marks=pytest.mark.long)])
def test_as_process_1_a_service_told_to_stop_answers_what_it_accepted(
    start: Start, models: Models, processes: int
) -> None:
    """As the first process of a container: no signal has a default, and orphans become its children."""
    under = [program("unshare"), "--pid", "--fork", "--mount-proc", "--kill-child"]
    service = start(models("linear_flow", "slow"), under=under, processes=processes).ready()
    until(lambda: "listening on" in service.running.log, "all are ready")
    first = list(family(service.running.process.pid))[1]
    assert Path(f"/proc/{first}/status").read_text().split("NSpid:")[1].split()[1] == "1"
    with Load(service.url, lambda i: ("sample", {"model": "slow", "seed": i}), 8) as load:
        until(lambda: len(load.calls) >= 8, "load")
        told = time.monotonic()
        os.kill(first, signal.SIGTERM)
        assert service.running.ended() == 0, service.running.log
    assert {call.status for call in load.calls if call.began < told} == {200}


@pytest.mark.redis
def test_a_clock_that_is_set_is_noticed_by_the_stamps_of_the_log_and_nothing_else(
    start: Start, models: Models, redis_server: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Deadlines, limits of keys, latents, batches: nothing goes by what the wall clock says."""
    with monkeypatch.context() as stepped:
        stepped.setenv("PYTHONPATH", str(HERE / "stepped"))
        service = start(models("linear_flow"), redis_url=redis_server.url, latent_ttl_s=60).ready()
    alone = [service.post(verb, **fields) for verb, fields in map(_sample, range(20))]
    encoded = service.post("encode", model="linear", inputs=[[1.0, 2.0, 3.0]])
    with Load(service.url, _sample, callers=4) as load:
        for _ in range(7):
            time.sleep(0.5)
            assert service.post("decode", model="linear", ids=encoded["ids"])["samples"]
    assert all(call.status == 200 and call.body == alone[call.number % 20] for call in load.calls)
    told = [json.loads(line)["time"] for line in service.running.log.splitlines()]
    assert max(told) - min(told) > 40 * 365 * 86_400
    assert service.stop() == 0


@pytest.fixture
def tiny(tmp_path: Path) -> Iterator[Path]:
    """A disk of its own that is soon full."""
    place = tmp_path / "tiny"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(place)], check=True)
    yield place
    subprocess.run(["umount", "--lazy", str(place)], check=True)


def _fill(place: Path) -> None:
    with (place / "filler").open("wb", buffering=0) as file:
        while True:
            try:
                file.write(b"x" * 4096)
            except OSError:
                return


@pytest.mark.root
@pytest.mark.parametrize("processes", [1, pytest.param(2, marks=pytest.mark.long)])
def test_a_full_disk_under_the_log_costs_lines_and_no_request(
    start: Start, models: Models, tiny: Path, tmp_path: Path, processes: int
) -> None:
    """Nor is it a failure of the process, which ends with 0."""
    shell = ["sh", "-c", f'exec "$@" 2>>{tiny}/log', "sh"]
    service = start(models("linear_flow"), under=shell, processes=processes).ready()
    alone = [service.post(verb, **fields) for verb, fields in map(_sample, range(20))]
    _fill(tiny)
    with Load(service.url, _sample, callers=4) as load:
        until(lambda: len(load.calls) > 300, "load", timeout_s=60)
        (tiny / "filler").unlink()
        before = (tiny / "log").stat().st_size
        until(lambda: (tiny / "log").stat().st_size > before + 10_000, "lines are written again")
        _fill(tiny)
        more = len(load.calls) + 100
        until(lambda: len(load.calls) > more, "load", timeout_s=60)
        told = time.monotonic()
        service.running.signal(signal.SIGTERM)
        assert service.running.ended() == 0
    for call in load.calls:
        assert call.status == 200 or call.ended > told
        assert call.status != 200 or call.body == alone[call.number % 20]


@pytest.mark.root
def test_a_model_that_did_not_fit_onto_the_disk_leaves_the_old_one_serving(
    start: Start, models: Models, tiny: Path
) -> None:
    graphs.linear_flow(tiny)
    service = start(tiny).ready()
    (tiny / "linear" / "2").mkdir()
    new = graphs.linear_flow(models("gaussian_vae"), version="2")
    _fill(tiny)
    for file in sorted(new.iterdir(), reverse=True):
        _write_what_fits(tiny / "linear" / "2" / file.name, file.read_bytes())
    service.client.post("/models/reload")
    assert service.post("sample", model="linear")["version"] == "1"
    assert service.status("/health/ready") == 200


def _write_what_fits(path: Path, content: bytes) -> None:
    with path.open("wb", buffering=0) as file:
        try:
            file.write(content)
        except OSError:
            return
