"""A real process behind keys: what it refuses to begin, whom it lets in, what it writes and what it sends."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tests import graphs
from tests.e2e.conftest import Start
from tests.e2e.processes import ROOT, Service, free_port, until
from tests.e2e.visitor import chromium

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


class Collector(ThreadingHTTPServer):
    """Takes traces as any collector does, over HTTP and protobuf."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Take)
        self.spans: list[Any] = []
        self.services: set[str] = set()
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1/traces"

    def take(self, body: bytes) -> None:
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            self.services |= {
                attribute.value.string_value
                for attribute in resource.resource.attributes
                if attribute.key == "service.name"
            }
            for scope in resource.scope_spans:
                self.spans += scope.spans


class _Take(BaseHTTPRequestHandler):
    server: Collector

    def do_POST(self) -> None:
        self.server.take(self.rfile.read(int(self.headers["Content-Length"])))
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: object) -> None: ...


@pytest.fixture
def artifacts(tmp_path: Path) -> Path:
    """One that is ready at once."""
    return graphs.linear_flow(tmp_path / "artifacts").parents[1]


@pytest.fixture
def collector() -> Iterator[Collector]:
    with Collector() as server:
        yield server
        server.shutdown()


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "service", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)


def new_key(name: str) -> tuple[str, str]:
    """A key and its line, as the command prints them."""
    made = run("key", name)
    assert made.returncode == 0, made.stderr
    key, line = made.stdout.splitlines()
    return key, line


def events(service: Service) -> list[dict[str, Any]]:
    """The log, every line of which has to be one JSON object."""
    return [json.loads(line) for line in service.running.log.splitlines()]


def _asked(event: dict[str, Any]) -> bool:
    """Whether it is of a request that the test made: a probe is told too, where it came too early."""
    return event["event"] == "request" and not event["path"].startswith("/health/")


def test_a_process_without_keys_refuses_to_listen_where_others_are(artifacts: Path) -> None:
    refused = run("--host", "0.0.0.0", "--port", str(free_port()), "--artifacts", str(artifacts))
    assert refused.returncode == 2
    (line,) = refused.stderr.splitlines()
    for word in ("host is 0.0.0.0", "no keys", "127.0.0.1", "PUSHFORWARD_KEYS_FILE", "PUSHFORWARD_OPEN=true"):
        assert word in json.loads(line)["event"]


def test_keys_that_cannot_be_read_end_the_process_with_their_name(artifacts: Path, start: Start) -> None:
    service = start(artifacts, keys="designer = 3")
    assert service.running.ended() == 2
    assert "designer" in events(service)[-1]["event"]


def test_no_key_is_made_for_a_name_that_no_label_could_hold() -> None:
    refused = run("key", "The Designer")
    assert (refused.returncode, refused.stdout) == (2, "")
    assert "The Designer" in refused.stderr


def test_keys_are_made_given_and_taken_back_while_the_process_runs(
    artifacts: Path, start: Start, tmp_path: Path
) -> None:
    (one, line_one), (two, line_two) = new_key("one"), new_key("two")
    file = tmp_path / "keys.toml"
    file.write_text(line_one)
    service = start(artifacts, keys_file=file).ready()

    def status(key: str) -> int:
        return service.client.get("/models", headers={"Authorization": f"Bearer {key}"}).status_code

    assert (status(one), status(two), service.status("/models")) == (200, 401, 401)
    file.write_text(line_two)
    service.running.signal(signal.SIGHUP)
    until(lambda: status(two) == 200, "the new key opens")
    assert status(one) == 401
    file.write_text("two = ")
    service.running.signal(signal.SIGHUP)
    until(lambda: "stay as they were" in service.running.log, "the fault is told")
    assert status(two) == 200
    assert one not in service.running.log


def test_every_line_of_the_log_is_json_and_each_request_has_one(artifacts: Path, start: Start) -> None:
    key, line = new_key("designer")
    service = start(artifacts, keys=line).ready()
    headers = {"X-Request-Id": "order-1", "X-API-Key": key}
    body = {"model": "linear", "n": 5, "seed": 1}
    assert service.client.post("/sample", json=body, headers=headers).status_code == 200
    assert service.client.post("/sample", json=body).status_code == 401
    assert service.client.post("/nothing%0A%1B%5B31m", headers=headers).status_code == 404
    assert service.stop() == 0
    sampled, refused, missed = (event for event in events(service) if _asked(event))
    expected = {"request": "order-1", "method": "POST", "path": "/sample", "status": 200, "rows": 5}
    assert expected.items() <= sampled.items()
    assert (sampled["model"], sampled["key"]) == ("linear", "designer")
    assert 0 <= sampled["queue_ms"] <= sampled["ms"] < 60_000
    assert (refused["status"], refused["key"], refused["rows"]) == (401, "", 0)
    assert refused["request"] != "order-1"
    assert missed["path"] == "/nothing\n\x1b[31m"
    assert key not in service.running.log


def test_a_browser_asks_for_the_key_once_and_the_page_works(artifacts: Path, start: Start) -> None:
    key, line = new_key("designer")
    service = start(artifacts, keys=line).ready()
    with chromium() as browser:
        page = browser.new_context(http_credentials={"username": "me", "password": key}).new_page()
        with page.expect_response(lambda answer: answer.url.endswith("/sample")) as sampled:
            page.goto(service.url)
        assert sampled.value.status == 200


def test_people_read_sentences(artifacts: Path, start: Start) -> None:
    service = start(artifacts, log_format="text").ready()
    service.post("sample", model="linear", n=5)
    assert service.stop() == 0
    assert "INFO listening on http://127.0.0.1" in service.running.log
    assert "200 POST /sample, linear, 5 rows, " in service.running.log


def test_a_trace_is_the_caller_s_and_tells_the_queue_from_the_run(
    artifacts: Path, start: Start, collector: Collector
) -> None:
    service = start(artifacts, otlp_url=collector.url).ready()
    parent = {"traceparent": f"00-{TRACE}-{PARENT}-01", "X-Request-Id": "order-1"}
    body = {"model": "linear", "inputs": [[0.5, 0.25, 1.0]]}
    assert service.client.post("/reconstruct", json=body, headers=parent).status_code == 200
    unsampled = {"traceparent": f"00-{'1' * 32}-{PARENT}-00"}
    assert service.client.post("/reconstruct", json=body, headers=unsampled).status_code == 200
    assert service.stop() == 0
    assert collector.services == {"pushforward"}
    spans = {span.name: span for span in collector.spans if span.trace_id.hex() == TRACE}
    steps = {f"{step} {entry}" for step in ("queue", "run") for entry in ("encode", "decode")}
    assert spans.keys() == {"POST /reconstruct", *steps}
    whole = spans["POST /reconstruct"]
    assert whole.parent_span_id.hex() == PARENT
    said = {a.key: a.value for a in whole.attributes}
    assert said["http.response.status_code"].int_value == 200
    assert said["pushforward.request_id"].string_value == "order-1"
    assert (said["pushforward.model"].string_value, said["pushforward.rows"].int_value) == ("linear", 2)
    ordered = [spans[f"{step} {entry}"] for entry in ("encode", "decode") for step in ("queue", "run")]
    assert all(step.parent_span_id == whole.span_id for step in ordered)
    times = [time for step in ordered for time in (step.start_time_unix_nano, step.end_time_unix_nano)]
    assert times == sorted(times)
    assert whole.start_time_unix_nano <= times[0]
    assert times[-1] <= whole.end_time_unix_nano
    assert not any(span.trace_id.hex() == "1" * 32 for span in collector.spans)
    traced = [event for event in events(service) if event.get("trace") == TRACE]
    assert [event["request"] for event in traced] == ["order-1"]


def test_a_collector_that_is_away_costs_nobody_an_answer(artifacts: Path, start: Start) -> None:
    service = start(artifacts, otlp_url=f"http://127.0.0.1:{free_port()}/v1/traces").ready()
    for seed in range(20):
        service.post("sample", model="linear", n=1, seed=seed)
    assert service.stop() == 0
