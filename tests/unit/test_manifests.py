"""The manifests for Kubernetes and KServe, as far as they can be checked without a cluster."""

from __future__ import annotations

import copy
import json
import re
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml

from service.app import create_app
from service.metrics import Metrics
from service.settings import Settings
from tests.unit.kustomize import Manifest, containers, render

ROOT = Path(__file__).parents[2]
KUBERNETES, KSERVE = ROOT / "deploy/kubernetes", ROOT / "deploy/kserve"
SCHEMAS = {p.stem: json.loads(p.read_text()) for p in (ROOT / "deploy/schemas").glob("*.json")}
COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
OVERLAYS = ("cpu", "gpu")
# The oldest and the newest release whose schemas are at hand and that autoscaling/v2 and policy/v1 allow.
RELEASES = ("1.30", "1.37")
FILES = [
    path
    for path in sorted([*KUBERNETES.rglob("*.yaml"), *KSERVE.glob("*.yaml")])
    if "kind" in yaml.safe_load(path.read_text()) and path.name != "kustomization.yaml"
]


def _overlay(name: str) -> list[Manifest]:
    return render(KUBERNETES / "overlays" / name)


def _one(objects: list[Manifest], kind: str, name: str = "pushforward") -> Manifest:
    (found,) = (o for o in objects if (o["kind"], o["metadata"]["name"]) == (kind, name))
    return found


def _check(manifest: Manifest, release: str = RELEASES[-1]) -> None:
    """Raise what the schema of its kind has against it."""
    custom = {s["title"]: s for s in SCHEMAS.values()}.get(manifest["kind"])
    if custom is None:
        kubernetes_validate.validate(manifest, release, strict=True)
    else:
        jsonschema.validate(manifest, custom)


def _service_containers() -> list[tuple[Manifest, dict[str, Any]]]:
    """What runs the service: a pod's description, and the container in it."""
    runtime = yaml.safe_load((KSERVE / "serving-runtime.yaml").read_text())
    pods = [_one(_overlay(name), "Deployment") for name in OVERLAYS]
    return [(o, c) for o in (*pods, runtime) for c in containers(o)]


def _env(container: dict[str, Any]) -> dict[str, str]:
    return {e["name"]: e["value"] for e in container["env"] if "value" in e}


# Schemas ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("release", RELEASES)
@pytest.mark.parametrize("name", OVERLAYS)
def test_an_overlay_is_what_a_cluster_takes(name: str, release: str) -> None:
    for manifest in _overlay(name):
        _check(manifest, release)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_file_passes_its_schema_as_it_lies_there_and_a_slip_does_not(path: Path) -> None:
    manifest = yaml.safe_load(path.read_text())
    _check(manifest)
    slipped = copy.deepcopy(manifest)
    slipped["spec"]["replica"] = 2
    with pytest.raises((jsonschema.ValidationError, kubernetes_validate.ValidationError)):
        _check(slipped)


def test_a_custom_resource_lies_in_a_file_named_as_its_schema() -> None:
    named = {SCHEMAS[p.stem]["title"]: p.stem for p in FILES if p.stem in SCHEMAS}
    kinds = {path.stem: yaml.safe_load(path.read_text())["kind"] for path in FILES if path.stem in SCHEMAS}
    assert {stem: kind for kind, stem in named.items()} == kinds
    assert kinds.keys() == SCHEMAS.keys()


# References ---------------------------------------------------------------------------------------------


def test_every_file_is_part_of_something() -> None:
    used = set()
    for path in KUBERNETES.rglob("kustomization.yaml"):
        custom = yaml.safe_load(path.read_text())
        names = [*custom.get("resources", ()), *custom.get("components", ())]
        names += [patch["path"] for patch in custom.get("patches", ())]
        found = {(path.parent / name).resolve() for name in names}
        assert all(f.exists() for f in found), path
        used |= {f / "kustomization.yaml" if f.is_dir() else f for f in found}
    tops = {KUBERNETES / "overlays" / name / "kustomization.yaml" for name in OVERLAYS}
    assert used | tops == set(KUBERNETES.rglob("*.yaml"))


@pytest.mark.parametrize("name", OVERLAYS)
def test_selectors_find_their_pods_and_ports_have_names(name: str) -> None:
    objects = _overlay(name)
    pods = [o["spec"]["template"] for o in objects if o["kind"] == "Deployment"]
    for manifest in objects:
        for selector, ports in _selections(manifest):
            found = [pod for pod in pods if selector.items() <= pod["metadata"]["labels"].items()]
            assert len(found) == 1, f"{manifest['kind']} {manifest['metadata']['name']} selects {selector}"
            have = {p[key] for c in found[0]["spec"]["containers"] for p in c["ports"] for key in p}
            assert set(ports) <= have, manifest["metadata"]["name"]


def _selections(manifest: Manifest) -> list[tuple[dict[str, str], list[Any]]]:
    """Labels that it selects pods by, with the ports that it expects there."""
    spec = manifest["spec"]
    match manifest["kind"]:
        case "Service":
            return [(spec["selector"], [port["targetPort"] for port in spec["ports"]])]
        case "Deployment" | "PodDisruptionBudget":
            return [(spec["selector"]["matchLabels"], [])]
        case "NetworkPolicy":
            there = [
                (peer["podSelector"]["matchLabels"], _ports([rule]))
                for rule in spec.get("egress", ())
                for peer in rule.get("to", ())
                if "podSelector" in peer
            ]
            return [(spec["podSelector"]["matchLabels"], _ports(spec["ingress"])), *there]
    return []


def _ports(rules: list[dict[str, Any]]) -> list[Any]:
    return [port["port"] for rule in rules for port in rule["ports"]]


@pytest.mark.parametrize("name", OVERLAYS)
def test_whoever_watches_or_scales_names_what_is_there(name: str) -> None:
    objects = _overlay(name)
    service, monitor = _one(objects, "Service"), _one(objects, "ServiceMonitor")
    assert monitor["spec"]["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
    (endpoint,) = monitor["spec"]["endpoints"]
    assert endpoint["port"] in {port["name"] for port in service["spec"]["ports"]}
    scalers = [o for o in objects if o["kind"] in ("HorizontalPodAutoscaler", "ScaledObject")]
    assert [o["spec"]["scaleTargetRef"]["name"] for o in scalers] == ["pushforward"]
    assert "replicas" not in _one(objects, "Deployment")["spec"], "two would count the replicas"


# The service's own words ----------------------------------------------------------------------------------


def test_the_variables_are_settings_and_make_some() -> None:
    for manifest, container in _service_containers():
        given = {e["name"] for e in container["env"]}
        fields = {name.removeprefix("PUSHFORWARD_").lower() for name in given}
        assert fields <= Settings.model_fields.keys(), manifest["metadata"]["name"]
        values = {name.removeprefix("PUSHFORWARD_").lower(): v for name, v in _env(container).items()}
        settings = Settings.model_validate(values)
        assert settings.port in {port["containerPort"] for port in container["ports"]}
        # Nobody listens to the world without keys.
        assert {"PUSHFORWARD_KEYS", "PUSHFORWARD_KEYS_FILE"} & given
        assert not settings.open


@pytest.mark.parametrize("name", OVERLAYS)
def test_files_lie_where_the_settings_look(name: str) -> None:
    pod = _one(_overlay(name), "Deployment")["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    settings = Settings.model_validate(
        {n.removeprefix("PUSHFORWARD_").lower(): v for n, v in _env(container).items()}
    )
    mounts = {m["mountPath"]: m for m in container["volumeMounts"]}
    assert {m["name"] for m in mounts.values()} == {v["name"] for v in pod["volumes"]}
    assert mounts[str(settings.artifacts)]["readOnly"]
    assert settings.keys_file is not None
    assert mounts[str(settings.keys_file.parent)]["readOnly"]


@pytest.mark.parametrize("name", OVERLAYS)
def test_redis_is_the_one_of_compose_and_found_by_its_name(name: str) -> None:
    objects = _overlay(name)
    (container,) = containers(_one(objects, "Deployment", "pushforward-redis"))
    assert container["image"] == COMPOSE["services"]["redis"]["image"]
    assert container["args"] == COMPOSE["services"]["redis"]["command"]
    port = _one(objects, "Service", "pushforward-redis")["spec"]["ports"][0]["port"]
    (service,) = containers(_one(objects, "Deployment"))
    assert _env(service)["PUSHFORWARD_REDIS_URL"] == f"redis://pushforward-redis:{port}/0"


def test_probes_ask_what_the_service_answers_without_a_key(tmp_path: Path) -> None:
    offered = set(create_app(Settings(artifacts=tmp_path, redis_url=None)).openapi()["paths"])
    for _, container in _service_containers():
        ports = {p[key] for p in container["ports"] for key in p}
        asked = {key: probe["httpGet"] for key, probe in container.items() if key.endswith("Probe")}
        assert {"livenessProbe", "readinessProbe"} <= asked.keys()
        for kind, get in asked.items():
            assert get["port"] in ports
            assert get["path"] in offered | {"/v2/health/live", "/v2/health/ready"}
            assert get["path"].endswith("/ready" if kind == "readinessProbe" else "/live")


def test_there_is_time_for_the_sleep_and_the_drain() -> None:
    isvc = yaml.safe_load((KSERVE / "inference-service.yaml").read_text())
    for manifest, container in _service_containers():
        pod = manifest["spec"].get("template", {}).get("spec") or isvc["spec"]["predictor"]
        word, sleep_s = container["lifecycle"]["preStop"]["exec"]["command"]
        drain_s = float(_env(container).get("PUSHFORWARD_DRAIN_S", Settings.model_fields["drain_s"].default))
        assert word == "sleep"
        assert pod["terminationGracePeriodSeconds"] > float(sleep_s) + drain_s


@pytest.mark.parametrize("name", OVERLAYS)
def test_a_service_called_like_our_variables_makes_none(name: str) -> None:
    objects = _overlay(name)
    assert Settings.model_config["env_prefix"] == "PUSHFORWARD_"
    assert _one(objects, "Service")["metadata"]["name"].upper() + "_PORT" == "PUSHFORWARD_PORT"
    assert _one(objects, "Deployment")["spec"]["template"]["spec"]["enableServiceLinks"] is False


def test_no_container_is_root_or_writes_to_its_image() -> None:
    pods = [_one(_overlay("cpu"), "Deployment", n) for n in ("pushforward", "pushforward-redis")]
    runtime = yaml.safe_load((KSERVE / "serving-runtime.yaml").read_text())
    for manifest in (*pods, runtime):
        pod = manifest["spec"].get("template", {}).get("spec", {})
        for container in containers(manifest):
            security = pod.get("securityContext", {}) | container["securityContext"]
            assert security["runAsNonRoot"]
            assert security["runAsUser"] > 0
            assert security["readOnlyRootFilesystem"]
            assert security["allowPrivilegeEscalation"] is False
            assert security["capabilities"] == {"drop": ["ALL"]}


def test_images_are_the_ones_that_compose_builds() -> None:
    ours = {name: containers(_one(_overlay(name), "Deployment"))[0]["image"] for name in OVERLAYS}
    assert ours["cpu"] == COMPOSE["services"]["service"]["image"]
    assert ours["gpu"] == COMPOSE["services"]["service-gpu"]["image"]
    user = re.findall(r"^USER (\d+):", (ROOT / "deploy/Dockerfile").read_text(), re.MULTILINE)
    for _, container in _service_containers():
        assert container["image"] in ours.values()
    pod = _one(_overlay("cpu"), "Deployment")["spec"]["template"]["spec"]
    assert user == [str(pod["securityContext"]["runAsUser"])]


def test_replicas_are_asked_for_by_full_batches_of_rows_that_are_counted() -> None:
    counted = {family.name for family in Metrics().registry.collect()}
    full = str(Settings.model_fields["max_batch_rows"].default)
    hpa = _one(_overlay("cpu"), "HorizontalPodAutoscaler")["spec"]
    pods = next(m["pods"] for m in hpa["metrics"] if m["type"] == "Pods")
    assert pods["target"] == {"type": "AverageValue", "averageValue": full}
    keda = _one(_overlay("gpu"), "ScaledObject")["spec"]["triggers"][0]["metadata"]
    isvc = yaml.safe_load((KSERVE / "inference-service.yaml").read_text())["spec"]["predictor"]
    (kserve,) = (m["external"] for m in isvc["autoScaling"]["metrics"])
    assert keda["threshold"] == kserve["target"]["value"] == full
    queries = pods["metric"]["name"], keda["query"], kserve["metric"]["query"]
    assert {re.findall(r"pushforward_\w+", query)[0] for query in queries} <= counted


def test_a_replica_on_a_gpu_has_one_and_insists_on_it() -> None:
    (container,) = containers(_one(_overlay("gpu"), "Deployment"))
    assert container["resources"]["limits"]["nvidia.com/gpu"] == "1"
    assert _env(container)["PUSHFORWARD_DEVICE"] == "cuda"
    assert "nvidia.com/gpu" not in containers(_one(_overlay("cpu"), "Deployment"))[0]["resources"]["limits"]
