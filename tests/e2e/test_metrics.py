"""A real Prometheus reads what the service measures, and promtool has no complaint."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import httpx
import pytest

from tests.e2e.conftest import Start
from tests.e2e.processes import ROOT, Running, Service, free_port, program, until

pytestmark = pytest.mark.prometheus


def _exercise(service: Service) -> None:
    """Something for every metric to count."""
    service.post("sample", model="linear", n=5)
    for _ in range(2):
        ids = service.post("encode", model="linear", inputs=[[0.0, 1.0, 2.0]])["ids"]
    service.post("decode", model="linear", ids=ids)
    service.post("loglik", model="gaussian-vae", inputs=[[0.0] * 3], k=4)
    assert service.client.post("/sample", json={"model": "nobody"}).status_code == 404
    assert service.client.post("/sample", json={"model": "linear", "n": -1}).status_code == 422


def test_promtool_has_no_complaint(start: Start, artifacts: Path) -> None:
    service = start(artifacts).ready()
    _exercise(service)
    scraped = service.client.get("/metrics").text
    check = [program("promtool"), "check", "metrics"]
    verdict = subprocess.run(check, input=scraped, capture_output=True, text=True)
    assert (verdict.returncode, verdict.stdout + verdict.stderr) == (0, "")


def test_a_prometheus_scrapes_the_service_and_every_panel_of_the_dashboard_has_data(
    start: Start, artifacts: Path, tmp_path: Path
) -> None:
    service = start(artifacts).ready()
    _exercise(service)
    port = free_port()
    config = {
        "global": {"scrape_interval": "1s"},
        "scrape_configs": [
            {
                "job_name": "pushforward",
                "static_configs": [{"targets": [service.url.removeprefix("http://")]}],
            }
        ],
    }
    (tmp_path / "prometheus.yml").write_text(json.dumps(config))
    command = [program("prometheus"), f"--config.file={tmp_path / 'prometheus.yml'}"]
    command += [f"--storage.tsdb.path={tmp_path / 'tsdb'}", f"--web.listen-address=127.0.0.1:{port}"]
    prometheus = Running(command, tmp_path / "prometheus.log")
    try:
        until(lambda: _ask(port, 'up{job="pushforward"} == 1'), "the service is scraped")
        until(lambda: _ask(port, "count_over_time(up[1m]) >= 4"), "some scrapes")
        silent = [title for title, query in _panels() if not _answers(service, port, query)]
        assert not silent, f"panels without data: {silent}"
    finally:
        prometheus.stop()


def _answers(service: Service, port: int, query: str) -> bool:
    """Whether the query has a series; what counts rarely is counted once more."""

    def answered() -> bool:
        _exercise(service)
        return _ask(port, query)

    try:
        until(answered, query, timeout_s=5)
    except AssertionError:
        return False
    return True


def _panels() -> list[tuple[str, str]]:
    dashboard = json.loads((ROOT / "deploy/grafana/dashboards/pushforward.json").read_text())
    return [
        (
            f"{panel['title']}: {target['expr']}",
            target["expr"].replace("$__rate_interval", "30s").replace("$model", ".*"),
        )
        for panel in dashboard["panels"]
        for target in panel.get("targets", ())
    ]


def _ask(port: int, query: str) -> bool:
    """Whether a query gives any series."""
    try:
        response = httpx.get(f"http://127.0.0.1:{port}/api/v1/query", params={"query": query})
    except httpx.TransportError:
        return False
    if response.status_code == 503:  # it listens before it can answer
        return False
    answer = response.json()
    assert answer["status"] == "success", answer
    return bool(answer["data"]["result"])
