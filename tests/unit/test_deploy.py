"""The deploy files, as far as they can be checked without running them."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from grafana_foundation_sdk.models.dashboard import Dashboard

from deploy.grafana import dashboard
from service.settings import Settings

ROOT = Path(__file__).parents[2]
DOCKERFILE = (ROOT / "deploy/Dockerfile").read_text()
COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
DASHBOARD = json.loads(dashboard.TARGET.read_text())
EXPRESSIONS = [target["expr"] for panel in DASHBOARD["panels"] for target in panel.get("targets", ())]


def _stages() -> dict[str, str]:
    """The stages of the Dockerfile by name."""
    parts = re.split(r"^FROM (\S+) AS (\S+)$", DOCKERFILE, flags=re.MULTILINE)[1:]
    return dict(zip(parts[1::3], parts[2::3], strict=True))


def test_the_variables_of_the_image_are_settings() -> None:
    named = set(re.findall(r"PUSHFORWARD_([A-Z_]+)[=]", DOCKERFILE))
    assert named
    assert {name.lower() for name in named} <= Settings.model_fields.keys()


def test_the_image_does_not_run_as_root_and_says_how_it_feels() -> None:
    base = _stages()["base"]
    assert re.search(r"^USER \d+:\d+$", base, re.MULTILINE)
    (check,) = re.findall(r"HEALTHCHECK .*\\\n +CMD (.*)$", base, re.MULTILINE)
    program, flag, code = json.loads(check)
    assert (program, flag) == ("python", "-c")
    assert "/health/ready" in code
    compile(code, "HEALTHCHECK", "exec")


@pytest.mark.parametrize("target", ["cpu", "gpu"])
def test_a_final_image_takes_an_environment_and_no_installer(target: str) -> None:
    stages = _stages()
    assert f"COPY --from=build-{target} /app /app" in stages[target]
    assert f'".[{target}]"' in stages[f"build-{target}"]
    assert "pip uninstall" in stages["base"]
    assert "pip" not in stages[target]


def test_the_image_is_built_from_files_that_the_context_has() -> None:
    allowed = {
        line[1:].rstrip("/") for line in (ROOT / ".dockerignore").read_text().split() if line[0] == "!"
    }
    copied = re.findall(r"^COPY (?!--from)(.+) \S+$", DOCKERFILE, re.MULTILINE)
    wanted = {name for line in copied for name in line.split()}
    assert wanted == allowed
    assert all((ROOT / name).exists() for name in wanted)


def test_compose_waits_longer_than_the_drain() -> None:
    for name in ("service", "service-gpu"):
        grace = COMPOSE["services"][name]["stop_grace_period"]
        assert float(grace.removesuffix("s")) > Settings.model_fields["drain_s"].default


def test_compose_mounts_models_read_only_and_publishes_on_loopback() -> None:
    for name, service in COMPOSE["services"].items():
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", ())), name
        binds = [mount for mount in service.get("volumes", ()) if mount.startswith("./")]
        assert all(mount.endswith(":ro") for mount in binds), name


def test_the_image_asks_for_keys_and_compose_opens_what_only_loopback_reaches() -> None:
    assert "PUSHFORWARD_HOST=0.0.0.0" in _stages()["base"]
    assert "PUSHFORWARD_OPEN" not in _stages()["base"]
    for name in ("service", "service-gpu"):
        assert COMPOSE["services"][name]["environment"]["PUSHFORWARD_OPEN"] == "true"


def test_compose_mounts_files_that_exist() -> None:
    mounts = [mount for service in COMPOSE["services"].values() for mount in service.get("volumes", ())]
    sources = {mount.split(":")[0] for mount in mounts if mount.startswith("./deploy")}
    assert sources
    assert all((ROOT / source).exists() for source in sources)


def test_prometheus_looks_for_the_services_of_compose() -> None:
    config = yaml.safe_load((ROOT / "deploy/prometheus.yml").read_text())
    (lookup,) = config["scrape_configs"][0]["dns_sd_configs"]
    assert set(lookup["names"]) == {name for name in COMPOSE["services"] if name.startswith("service")}


def test_prometheus_finds_its_rules_where_compose_puts_them() -> None:
    config = yaml.safe_load((ROOT / "deploy/prometheus.yml").read_text())
    mounts = dict(mount.split(":")[:2] for mount in COMPOSE["services"]["prometheus"]["volumes"])
    folder = mounts["./deploy/prometheus.yml"].rsplit("/", 1)[0]
    assert [f"{folder}/{name}" for name in config["rule_files"]] == [mounts["./deploy/alerts.yml"]]


def test_the_dashboard_is_the_one_that_is_built() -> None:
    assert dashboard.TARGET.read_text() == dashboard.built(), "run: python -m deploy.grafana.dashboard"


def test_the_dashboard_is_of_the_schema_of_grafana_and_every_panel_has_a_place_and_a_description() -> None:
    panels = Dashboard.from_json(DASHBOARD).panels or []
    assert len({panel.id_val for panel in panels}) == len(DASHBOARD["panels"])
    drawn = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
    assert all(panel["description"] and panel["targets"] for panel in drawn)
    cells = [cell for panel in drawn for cell in _cells(panel["gridPos"])]
    assert len(cells) == len(set(cells))
    assert max(x for x, _ in cells) < 24


def _cells(place: dict[str, int]) -> Iterator[tuple[int, int]]:
    """What a panel covers of the grid."""
    for x in range(place["x"], place["x"] + place["w"]):
        for y in range(place["y"], place["y"] + place["h"]):
            yield x, y


def test_the_dashboard_reads_the_datasource_that_is_provisioned() -> None:
    provisioned = yaml.safe_load(
        (ROOT / "deploy/grafana/provisioning/datasources/prometheus.yml").read_text()
    )
    uids = {source["uid"] for source in provisioned["datasources"]}
    assert {panel["datasource"]["uid"] for panel in DASHBOARD["panels"] if "targets" in panel} == uids


@pytest.mark.prometheus
def test_promtool_accepts_the_configuration_and_every_query_of_the_dashboard(tmp_path: Path) -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not installed here (make test installs it as root on Debian)")
    rules = [
        {"record": f"panel:{i}", "expr": expression.replace("$__rate_interval", "1m").replace("$model", ".*")}
        for i, expression in enumerate(EXPRESSIONS)
    ]
    (tmp_path / "rules.yml").write_text(json.dumps({"groups": [{"name": "panels", "rules": rules}]}))
    for check in (["config", "deploy/prometheus.yml"], ["rules", str(tmp_path / "rules.yml")]):
        verdict = subprocess.run([promtool, "check", *check], cwd=ROOT, capture_output=True, text=True)
        assert verdict.returncode == 0, verdict.stdout + verdict.stderr
