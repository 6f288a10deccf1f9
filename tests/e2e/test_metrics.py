"""A real Prometheus reads what the service measures, and its rules judge it; promtool has no complaint."""

from __future__ import annotations

import json
import math
import re
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import yaml

from service.keys import line, made
from tests import graphs
from tests.e2e.conftest import Start
from tests.e2e.load import Load
from tests.e2e.processes import ROOT, Running, Service, free_port, program, until

pytestmark = pytest.mark.prometheus

DASHBOARD = json.loads((ROOT / "deploy/grafana/dashboards/pushforward.json").read_text())
ALERTS = yaml.safe_load((ROOT / "deploy/alerts.yml").read_text())["groups"][0]["rules"]
THRESHOLD = re.compile(r"\s(?:[<>]=?|==)\s[\d.]+")

# The service of these tests has no GPU, and its panels say so instead.
NEED_A_GPU = [panel["title"] for panel in DASHBOARD["panels"] if panel["title"].startswith("GPU")]


def _exercise(service: Service) -> None:
    """Something for every metric to count."""
    service.post("sample", model="linear", n=5)
    for _ in range(2):
        ids = service.post("encode", model="linear", inputs=[[0.0, 1.0, 2.0]])["ids"]
    service.post("decode", model="linear", ids=ids)
    service.post("loglik", model="gaussian-vae", inputs=[[0.0] * 3], k=4)
    assert service.client.post("/sample", json={"model": "nobody"}).status_code == 404
    assert service.client.post("/sample", json={"model": "linear", "n": -1}).status_code == 422


def _usual(number: int) -> tuple[str, dict[str, Any]]:
    """What callers ask; the rows that they score are like those held out, and one call in 100 is mistyped."""
    matrix, shift = graphs.linear_map(3)
    rows = np.random.default_rng(number).normal(size=(8, 3)) @ matrix.T + shift
    calls: tuple[tuple[str, dict[str, Any]], ...] = (
        ("loglik", {"model": "linear", "inputs": rows.tolist()}),
        ("loglik", {"model": "gaussian-vae", "inputs": [[0.0] * 3], "k": 4}),
        ("encode", {"model": "linear", "inputs": [[0.0, 1.0, 2.0]]}),
        ("sample", {"model": "linear" if number % 25 else "nobody", "n": 5}),
    )
    return calls[number % len(calls)]


class Prometheus:
    """A prometheus that scrapes a service every second under the rules of ``deploy/alerts.yml``.

    Args:
        processes: that each have all the series of the service; none for series as they are.
    """

    def __init__(self, folder: Path, target: str, key: str, processes: Sequence[str]) -> None:
        self.url = f"http://127.0.0.1:{(port := free_port())}"
        labels = [{"process": process} for process in processes] or [{}]
        scrape: dict[str, Any] = {"job_name": "pushforward", "authorization": {"credentials": key}}
        scrape["static_configs"] = [{"targets": [target], "labels": each} for each in labels]
        config = {
            "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
            "rule_files": [str(ROOT / "deploy/alerts.yml")],
            "scrape_configs": [scrape],
        }
        (folder / "prometheus.yml").write_text(json.dumps(config))
        command = [program("prometheus"), f"--config.file={folder / 'prometheus.yml'}"]
        command += [f"--storage.tsdb.path={folder / 'tsdb'}", f"--web.listen-address=127.0.0.1:{port}"]
        self.running = Running(command, folder / "prometheus.log")

    def get(self, path: str, **params: str) -> dict[str, Any]:
        """The data of an answer, empty while it does not answer yet."""
        try:
            answer = httpx.get(f"{self.url}/api/v1/{path}", params=params).json()
        except (httpx.TransportError, json.JSONDecodeError):
            return {}
        assert answer["status"] == "success", answer
        return dict(answer["data"])

    def found(self, query: str) -> list[dict[str, Any]]:
        """The series that a query gives now."""
        return list(self.get("query", query=query).get("result", []))

    def values(self, query: str) -> list[float]:
        """What a query gives now, without what is no number."""
        return [value for each in self.found(query) if math.isfinite(value := float(each["value"][1]))]

    def answers(self, query: str) -> bool:
        """Whether a query gives a number, if need be a few scrapes later."""
        try:
            until(lambda: bool(self.values(query)), query, timeout_s=5)
        except AssertionError:
            return False
        return True

    def judged(self) -> dict[str, str]:
        """The state of every alert: inactive, pending or firing."""
        (group,) = self.get("rules")["groups"]
        assert {rule["health"] for rule in group["rules"]} == {"ok"}
        return {rule["name"]: rule["state"] for rule in group["rules"]}


@pytest.fixture(params=[(), ("0", "1")], ids=["as it is", "as two processes"])
def watched(
    start: Start, artifacts: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> Iterator[Prometheus]:
    """A Prometheus that has seen a service under traffic for some scrapes, and goes on seeing it."""
    key = made()
    service = start(artifacts, keys=line("somebody", key)).ready()
    prometheus = Prometheus(tmp_path, service.url.removeprefix("http://"), key, request.param)
    with Load(service.url, _usual, callers=2, key=key):
        until(lambda: bool(prometheus.values('up{job="pushforward"} == 1')), "the service is scraped")
        until(lambda: bool(prometheus.values("count_over_time(up[1m]) >= 4")), "some scrapes")
        yield prometheus
    prometheus.running.stop()


def test_promtool_has_no_complaint(start: Start, artifacts: Path) -> None:
    service = start(artifacts).ready()
    _exercise(service)
    service.post("loglik", model="linear", inputs=[[0.0] * 3])
    scraped = service.client.get("/metrics").text
    check = [program("promtool"), "check", "metrics"]
    verdict = subprocess.run(check, input=scraped, capture_output=True, text=True)
    assert (verdict.returncode, verdict.stdout + verdict.stderr) == (0, "")


def test_of_a_healthy_service_every_panel_and_every_alert_has_data_and_no_alert_stirs(
    watched: Prometheus,
) -> None:
    silent = [title for title, query in (*_panels(), *_conditions()) if not watched.answers(query)]
    assert not silent, f"without data: {silent}"
    told_apart = [title for title, query in _panels() if "process" in _labels(watched.found(query))]
    assert not told_apart, f"by process, not by replica: {told_apart}"
    assert watched.judged() == {rule["alert"]: "inactive" for rule in ALERTS}


def _labels(found: Sequence[dict[str, Any]]) -> set[str]:
    return {label for each in found for label in each["metric"]}


def _panels() -> list[tuple[str, str]]:
    return [
        (
            f"panel {panel['title']}: {target['expr']}",
            target["expr"].replace("$__rate_interval", "30s").replace("$model", ".*"),
        )
        for panel in DASHBOARD["panels"]
        if panel["title"] not in NEED_A_GPU
        for target in panel.get("targets", ())
    ]


def _conditions() -> list[tuple[str, str]]:
    """What alerts look at, whatever it is compared with."""
    return [(f"alert {rule['alert']}", THRESHOLD.sub("", rule["expr"])) for rule in ALERTS]


def test_panels_that_need_a_gpu_say_so_where_there_is_none() -> None:
    said = {
        p["title"]: p["fieldConfig"]["defaults"].get("noValue")
        for p in DASHBOARD["panels"]
        if "fieldConfig" in p
    }
    assert len(NEED_A_GPU) == 3
    assert {title for title, words in said.items() if words == "no model runs on a GPU"} == set(NEED_A_GPU)
