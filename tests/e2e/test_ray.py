"""Two replicas under Ray Serve, from the committed configuration, beside the plain service."""

from __future__ import annotations

import os
import re
import secrets
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from tests.e2e.processes import ROOT, Redis, Running, Service, free_port, until

NPY = "application/x-npy"
ROWS = [[0.5, 0.25, 0.0], [-1.0, 0.75, 2.0], [9.0, 9.0, -9.0]]
ENDS = {"start": {"input": ROWS[0]}, "end": {"seed": 1, "index": 5}}
CALLS = [
    ("sample", {"model": "linear", "n": 5, "seed": 7, "offset": 3}),
    ("sample", {"model": "gaussian-vae", "n": 3, "seed": 7, "temperature": 0.5}),
    ("encode", {"model": "linear", "inputs": ROWS}),
    ("encode", {"model": "gaussian-vae", "inputs": ROWS}),
    ("interpolate", {"model": "linear", **ENDS}),
    ("interpolate", {"model": "gaussian-vae", **ENDS}),
    ("loglik", {"model": "linear", "inputs": ROWS}),
    ("loglik", {"model": "gaussian-vae", "inputs": ROWS, "k": 16, "seed": 2}),
]

pytestmark = [pytest.mark.redis, pytest.mark.slow, pytest.mark.timeout(180)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("ray")


@pytest.fixture(scope="module")
def redis(folder: Path) -> Iterator[Redis]:
    """Where the replicas keep latents together."""
    server = Redis(folder)
    yield server
    server.stop()


@pytest.fixture(scope="module")
def plain(folder: Path, prototypes: Path) -> Iterator[httpx.Client]:
    service = Service.start(prototypes, folder / "plain.log", device="cpu")
    yield service.ready().client
    service.stop()


@pytest.fixture(scope="module")
def replicas(folder: Path, prototypes: Path, redis: Redis) -> Iterator[httpx.Client]:
    """The committed configuration, on a free port and with the models of the test."""
    config = yaml.safe_load((ROOT / "deploy/ray/serve.yaml").read_text())
    config["http_options"]["port"] = port = free_port()
    (application,) = config["applications"]
    application["args"] |= {"artifacts": str(prototypes), "redis_url": redis.url, "device": "cpu"}
    application["deployments"][0]["ray_actor_options"] = {"num_cpus": 0.5}  # two fit on one core
    (folder / "serve.yaml").write_text(yaml.safe_dump(config))
    command = [str(Path(sys.executable).with_name("serve")), "run", str(folder / "serve.yaml")]
    # Ray makes sockets in its folder, whose paths may not be long.
    with tempfile.TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True) as short:
        cluster = Running(command, folder / "ray.log", _environment(short))
        try:
            with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30) as client:
                until(lambda: _ready(cluster, client), "the replicas are ready", timeout_s=150)
                yield client
        finally:
            cluster.stop()


def _environment(folder: str) -> dict[str, str]:
    """Of a cluster that keeps to loopback, and tells nobody that it runs."""
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(("PUSHFORWARD_", "REDIS_", "RAY_"))}
    ours = {
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # the only switch that makes a Linux node 127.0.0.1
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(32),
        "RAY_TMPDIR": folder,
    }
    return {**inherited, **ours}


def _ready(cluster: Running, client: httpx.Client) -> bool:
    assert cluster.alive, f"the cluster ended:\n{cluster.log}"
    try:
        return client.get("/health/ready").status_code == 200
    except httpx.TransportError:
        return False


def _who(client: httpx.Client) -> str:
    """The replica that answered: when its process began, to a hundredth of a second."""
    return re.findall(r"^process_start_time_seconds (\S+)", client.get("/metrics").text, re.MULTILINE)[0]


def _everyone(client: httpx.Client, ask: Callable[[], object]) -> list[object]:
    """What is answered while it is asked until both replicas must have been among the answerers."""
    seen: dict[str, int] = {}
    answers = []
    while len(seen) < 2 or min(seen.values()) < 3:
        who = _who(client)
        seen[who] = seen.get(who, 0) + 1
        answers.append(ask())
        assert len(answers) < 200, f"of two replicas these answered: {seen}"
    return answers


@pytest.mark.parametrize("accept", ["application/json", NPY])
@pytest.mark.parametrize(("verb", "fields"), CALLS)
def test_replicas_answer_with_the_bits_of_the_plain_service(
    replicas: httpx.Client, plain: httpx.Client, verb: str, fields: dict[str, Any], accept: str
) -> None:
    def ask(client: httpx.Client) -> bytes:
        answer = client.post(f"/{verb}", json=fields, headers={"Accept": accept})
        assert answer.status_code == 200, answer.text
        return _without_cache(answer)

    right = ask(plain)
    assert all(ask(replicas) == right for _ in range(4))


def _without_cache(answer: httpx.Response) -> bytes:
    """The body; whether a row came from a cache depends on who was asked before."""
    return re.sub(rb'"cached":\[[^]]*\]', b"", answer.content)


def test_both_replicas_answer_and_know_each_others_latents(replicas: httpx.Client) -> None:
    encoded = replicas.post("/encode", json={"model": "linear", "inputs": ROWS}).json()
    ids = {"model": "linear", "ids": encoded["ids"]}
    answers = _everyone(replicas, lambda: replicas.post("/decode", json=ids).text)
    assert len(set(answers)) == 1
    assert "samples" in str(answers[0])


def test_a_refusal_is_the_plain_services(replicas: httpx.Client, plain: httpx.Client) -> None:
    wrong = {"model": "nobody"}
    theirs, ours = (client.post("/sample", json=wrong) for client in (replicas, plain))
    assert theirs.status_code == ours.status_code == 404
    assert theirs.headers["content-type"] == "application/problem+json"
    assert theirs.json() == ours.json()


def test_a_long_stream_is_whole(replicas: httpx.Client, plain: httpx.Client) -> None:
    long = {"model": "linear", "n": 50_000, "seed": 3}
    theirs, ours = (
        client.post("/sample", json=long, headers={"Accept": NPY}) for client in (replicas, plain)
    )
    assert theirs.content == ours.content


def test_the_protocol_speaks_through_ray_too(replicas: httpx.Client) -> None:
    assert replicas.get("/v2/health/ready").status_code == 200
