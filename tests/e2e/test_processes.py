"""Several processes behind one port are one service: to callers, to who scrapes it, and to who stops it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families as families

from service.keys import line, made
from tests import graphs
from tests.e2e.conftest import Start
from tests.e2e.load import Load
from tests.e2e.processes import ROOT, Service, program, until

pytestmark = pytest.mark.chaos

Begin = Callable[..., "Pair"]
ROWS = [[float(row), 1.0, 2.0] for row in range(40)]
TAKEN = 3  # the exit code of a service whose port is taken


def children(service: Service) -> list[int]:
    """The pids of the processes that a service has started."""
    supervisor = service.running.process.pid
    found = Path(f"/proc/{supervisor}/task/{supervisor}/children").read_text()
    return [int(pid) for pid in found.split()]


class Pair:
    """A service of two processes, and a connection to each of them."""

    def __init__(self, service: Service, key: str = "") -> None:
        self.service = service.ready()
        self.headers = {"X-API-Key": key} if key else {}
        self._open = ExitStack()

    def processes(self) -> list[int]:
        """The pids of the processes that serve."""
        return children(self.service)

    def clients(self) -> list[httpx.Client]:
        """A client with an open connection to each process, by trying: Linux deals them out."""
        found: dict[str, httpx.Client] = {}
        for _ in range(200):
            client = httpx.Client(base_url=self.service.url, headers=self.headers, timeout=30)
            self._open.enter_context(client)
            found.setdefault(process(client), client)
            if len(found) == 2:
                break
        assert len(found) == 2, "one process has all connections"
        return list(found.values())

    def close(self) -> None:
        """Hang up."""
        self._open.close()


def process(client: httpx.Client) -> str:
    """Who answers: the part of a request's id that all ids of a process have."""
    return client.get("/health/live").headers["x-request-id"].split("-")[0]


def ask(client: httpx.Client, verb: str, **fields: object) -> dict[str, object]:
    answer = client.post(f"/{verb}", json=fields)
    assert answer.status_code == 200, f"{answer.status_code}: {answer.text}"
    return dict(answer.json())


def gone(pid: int) -> bool:
    """Whether a process has ended; a zombie has."""
    try:
        return ") Z " in Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return True


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One that is ready at once."""
    return graphs.linear_flow(tmp_path_factory.mktemp("models")).parents[1]


@pytest.fixture(scope="module")
def pair(models: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    """One for the tests that leave it as it is."""
    service = Service.start(models, tmp_path_factory.mktemp("log") / "service.log", processes=2)
    pair = Pair(service)
    yield pair
    pair.close()
    assert service.stop() == 0, service.running.log


@pytest.fixture
def begin(start: Start) -> Iterator[Begin]:
    """One for the tests that do something to it."""
    begun: list[Pair] = []

    def begin(artifacts: Path, key: str = "", **knobs: Any) -> Pair:
        begun.append(Pair(start(artifacts, processes=2, **knobs), key))
        return begun[-1]

    yield begin
    for pair in begun:
        pair.close()


def test_both_give_the_same_bytes_for_the_same_address(pair: Pair) -> None:
    answers = {
        client.post("/sample", json={"model": "linear", "n": 300, "seed": 7, "offset": 11}).content
        for client in pair.clients()
    }
    assert len(answers) == 1


def test_what_one_has_encoded_the_other_decodes_and_then_knows_itself(pair: Pair) -> None:
    one, other = pair.clients()
    ids = ask(one, "encode", model="linear", inputs=ROWS)["ids"]
    assert isinstance(ids, list)
    right = ask(one, "decode", model="linear", ids=ids)
    before = pair.service.metric("pushforward_cache_lookups_total", tier="sibling", result="hit")
    for _ in range(2):
        assert ask(other, "decode", model="linear", ids=ids) == right
    after = pair.service.metric("pushforward_cache_lookups_total", tier="sibling", result="hit")
    assert after - before == len(ROWS)
    between = {"start": {"id": ids[0]}, "end": {"id": ids[1]}, "steps": 3, "path": "lerp"}
    assert ask(other, "interpolate", model="linear", **between) == ask(
        one, "interpolate", model="linear", **between
    )
    nobodys = [ids[0].rsplit(".", 1)[0] + "." + 32 * "a"]
    refused = other.post("/decode", json={"model": "linear", "ids": nobodys})
    assert (refused.status_code, refused.json()["code"]) == (404, "unknown_latent")


def test_a_scrape_of_either_has_the_series_of_both_and_they_add_up(pair: Pair) -> None:
    clients = pair.clients()

    def answered() -> dict[str, float]:
        scraped = [client.get("/metrics").text for client in clients]
        found = [
            {
                sample.labels["process"]: sample.value
                for family in families(text)
                for sample in family.samples
                if sample.name == "pushforward_requests_total" and sample.labels["verb"] == "loglik"
            }
            for text in scraped
        ]
        assert found[0] == found[1]
        return found[0]

    assert answered() == {}
    for client, times in zip(clients, (3, 5), strict=True):
        for _ in range(times):
            ask(client, "loglik", model="linear", inputs=ROWS[:1])
    assert sorted(answered().values()) == [3, 5]
    assert answered().keys() == {"0", "1"}


@pytest.mark.prometheus
def test_promtool_has_no_complaint_about_two(pair: Pair) -> None:
    scraped = pair.service.client.get("/metrics").text
    check = [program("promtool"), "check", "metrics"]
    verdict = subprocess.run(check, input=scraped, capture_output=True, text=True)
    assert (verdict.returncode, verdict.stdout + verdict.stderr) == (0, "")
    unlabelled = [
        sample for family in families(scraped) for sample in family.samples if "process" not in sample.labels
    ]
    assert not unlabelled
    assert pair.service.metric("pushforward_process_up") == 2


def test_who_is_stuck_is_left_out_of_a_scrape_and_has_no_latents(pair: Pair) -> None:
    stuck = pair.processes()[1]
    clients = pair.clients()
    os.kill(stuck, signal.SIGSTOP)
    try:
        answers = {}
        for client in clients:
            try:
                answers[client] = client.get("/metrics", timeout=3).text
            except httpx.ReadTimeout:
                continue
        ((client, scraped),) = answers.items()
        assert 'pushforward_process_up{process="1"} 0.0' in scraped
        assert 'pushforward_ready{process="0"} 1.0' in scraped
        assert 'pushforward_ready{process="1"}' not in scraped
        began = time.monotonic()
        nobodys = [f"linear.1.{32 * 'b'}"]
        assert client.post("/decode", json={"model": "linear", "ids": nobodys}).status_code == 404
        assert time.monotonic() - began < 1
    finally:
        os.kill(stuck, signal.SIGCONT)
    until(lambda: pair.service.metric("pushforward_process_up") == 2, "it answers again")


@pytest.mark.parametrize("processes", [1, 2])
def test_a_port_that_two_share_is_taken(pair: Pair, models: Path, processes: int) -> None:
    port = pair.service.url.rsplit(":", 1)[1]
    command = [sys.executable, "-m", "service", "--port", port, "--artifacts", str(models)]
    command += ["--processes", str(processes)]
    refused = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert refused.returncode == TAKEN
    assert "address already in use" in refused.stderr
    assert "Traceback" not in refused.stderr


def test_the_start_is_told_once_and_every_line_is_whole(pair: Pair) -> None:
    said = [json.loads(line) for line in pair.service.running.log.splitlines()]
    assert [event["event"] for event in said if event["event"].startswith(("listening", "try: "))] == [
        f"listening on {pair.service.url}",
        f"try: curl -s {pair.service.url}/sample -H 'Content-Type: application/json' "
        '-d \'{"model": "linear", "n": 2, "seed": 7}\'',
    ]
    ids = [event["request"] for event in said if event["event"] == "request"]
    assert len(set(ids)) == len(ids)


def test_one_that_is_killed_is_started_again_and_meanwhile_nobody_is_refused(
    begin: Begin, models: Path
) -> None:
    pair = begin(models)
    victim, survivor = pair.processes()
    clients = pair.clients()
    names = {client: process(client) for client in clients}
    ids = [ask(client, "encode", model="linear", inputs=[ROWS[i]])["ids"] for i, client in enumerate(clients)]
    os.kill(victim, signal.SIGKILL)
    death = f"process 0 (pid {victim}) was ended by SIGKILL; it is started again"
    until(lambda: death in pair.service.running.log, "it is dead")
    (living,) = (
        latent for latent, client in zip(ids, clients, strict=True) if process(client) == names[client]
    )
    answers = 0
    while "answers again" not in pair.service.running.log:
        with httpx.Client(base_url=pair.service.url, timeout=30) as client:
            ask(client, "sample", model="linear")
            answers += 1
    assert answers > 10
    assert survivor in pair.processes()
    for client in pair.clients():
        ask(client, "decode", model="linear", ids=living)
    assert pair.service.running.log.count("listening on") == 1
    assert pair.service.stop() == 0


def test_one_that_cannot_be_kept_ends_all(begin: Begin, models: Path) -> None:
    pair = begin(models)
    survivor = pair.processes()[1]
    killed: set[int] = set()

    def kill_the_other() -> bool:
        for pid in pair.processes() if pair.service.running.alive else []:
            if pid not in {survivor, *killed}:
                os.kill(pid, signal.SIGKILL)
                killed.add(pid)
        return not pair.service.running.alive

    until(kill_the_other, "it gives up")
    assert pair.service.running.ended() == 1
    assert len(killed) == 4
    assert gone(survivor)
    last = [line for line in pair.service.running.log.splitlines() if "so all end" in line]
    assert len(last) == 1


def test_none_outlives_the_one_that_started_it(
    begin: Begin, models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with TemporaryDirectory() as tmp:
        monkeypatch.setenv("TMPDIR", tmp)
        pair = begin(models)
        processes = pair.processes()
        (folder,) = Path(tmp).glob("pushforward-*")
        assert folder.stat().st_mode & 0o777 == 0o700
        pair.service.running.signal(signal.SIGKILL)
        until(lambda: all(gone(pid) for pid in processes), "they end", timeout_s=10)
        assert not folder.exists()
    assert pair.service.status("/health/live") == 0


def test_told_to_stop_both_answer_what_they_accepted_and_all_end_with_zero(
    begin: Begin, models: Path
) -> None:
    pair = begin(models)
    with Load(pair.service.url, lambda i: ("sample", {"model": "linear", "n": 200, "seed": i}), 8) as load:
        until(lambda: len(load.calls) > 200, "load")
        told = time.monotonic()
        pair.service.running.signal(signal.SIGTERM)
        assert pair.service.running.ended() == 0, pair.service.running.log
    assert {call.status for call in load.calls if call.began < told} == {200}
    assert {call.status for call in load.calls} <= {200, 503, 0}


def test_a_signal_to_take_what_is_new_does_not_end_one_that_is_not_ready_for_it(
    start: Start, models: Path
) -> None:
    service = start(models, processes=2)
    until(lambda: len(children(service)) == 2, "they are started")
    service.running.signal(signal.SIGHUP)
    service.ready()
    until(lambda: service.running.log.count("reloaded: new [], gone []") == 2, "both have taken it in")


def test_what_is_new_reaches_both_and_a_limit_holds_over_both(
    begin: Begin, tmp_path: Path, models: Path
) -> None:
    artifacts = Path(shutil.copytree(models, tmp_path / "artifacts"))
    key, other = made(), made()
    file = tmp_path / "keys.toml"
    file.write_text(line("designer", key))
    pair = begin(artifacts, key, keys_file=file)
    clients = pair.clients()

    graphs.linear_flow(artifacts, version="2")
    assert clients[0].post("/models/reload").json() == {"loaded": ["linear/2"], "retired": [], "refused": {}}
    assert [ask(client, "sample", model="linear")["version"] for client in clients] == ["2", "2"]

    shutil.rmtree(artifacts / "linear" / "2")
    limited = line("limited", other).replace(" }", ", requests_per_s = 5 }")
    file.write_text(line("designer", key) + "\n" + limited)
    pair.service.running.signal(signal.SIGHUP)
    until(_of_both(clients, lambda client: ask(client, "sample", model="linear")["version"] == "1"), "models")
    keyed = {"X-API-Key": other}
    allowed, began = 0, time.monotonic()
    for client in clients * 30:
        allowed += client.get("/models", headers=keyed).status_code == 200
    elapsed_s = time.monotonic() - began
    assert 5 <= allowed <= 5 + 5 * elapsed_s + 1, f"in {elapsed_s:.1f} s"


def _of_both(clients: list[httpx.Client], holds: Callable[[httpx.Client], bool]) -> Callable[[], bool]:
    return lambda: all(holds(client) for client in clients)


def test_keys_that_cannot_be_read_are_told_once(start: Start, models: Path) -> None:
    service = start(models, processes=2, keys="designer = 3")
    assert service.running.ended() == 2
    (line,) = service.running.log.splitlines()
    assert "designer" in json.loads(line)["event"]


def test_a_device_that_is_not_there_ends_all(
    start: Start, models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")  # CUDA's own; there may be one
    service = start(models, processes=2, device="cuda")
    assert service.running.ended() == 1
    assert "device is cuda" in service.running.log
    assert "it was never ready, so all end" in service.running.log
