"""Probes tell the truth, models describe themselves, and the end is orderly."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path

import httpx
import pytest

from service.app import create_app
from service.settings import Settings
from tests import graphs
from tests.integration.conftest import Client, reason, serving

pytestmark = pytest.mark.anyio


async def test_a_process_that_loads_is_alive_and_not_ready(artifacts: Path) -> None:
    app = create_app(Settings(artifacts=artifacts, redis_url=None))
    client = Client(app)
    async with app.router.lifespan_context(app), client.http:
        assert (await client.get("/health/live")).status_code == 200
        reason(await client.get("/health/ready"), 503, "not_ready")
        reason(await client.post("/sample", json={"model": "linear"}), 503, "not_ready")
        reason(await client.get("/models"), 503, "not_ready")
        assert "pushforward_ready 0" in (await client.get("/metrics")).text
        await app.state.life.opened.wait()
        ready = (await client.get("/health/ready")).json()
        assert ready["status"] == "ready"
        assert ready["models"]["twice"] == ["2", "1"]
        assert "pushforward_ready 1" in (await client.get("/metrics")).text


async def test_without_a_model_nobody_is_ready(tmp_path: Path) -> None:
    async with serving(tmp_path) as client:
        reason(await client.get("/health/ready"), 503, "not_ready")
        assert (await client.get("/models")).json() == {"models": []}
        graphs.linear_flow(tmp_path)
        assert (await client.post("/models/reload")).json()["loaded"] == ["linear/1"]
        assert (await client.get("/health/ready")).status_code == 200
        await client.ask("sample", model="linear")


async def test_readiness_says_who_was_refused_and_the_others_serve(artifacts: Path, tmp_path: Path) -> None:
    shutil.copytree(artifacts / "linear", tmp_path / "linear")
    shutil.copytree(artifacts / "poison", tmp_path / "poison")
    graph = tmp_path / "poison" / "1" / "decode.onnx"
    graph.write_bytes(graph.read_bytes() + b"\0")
    async with serving(tmp_path) as client:
        ready = (await client.get("/health/ready")).json()
        assert ready["models"] == {"linear": ["1"]}
        assert "decode.onnx" in ready["refused"]["poison/1"]
        await client.refused("sample", 404, "unknown_model", model="poison")


async def test_a_stopping_process_is_unready_at_once_and_answers_what_it_accepted(artifacts: Path) -> None:
    async with serving(artifacts) as client:
        life = client.app.state.life
        accepted = [
            asyncio.create_task(client.post("/sample", json={"model": "slow", "seed": i})) for i in range(12)
        ]
        await asyncio.sleep(0.01)
        drained = asyncio.create_task(life.drain())
        await asyncio.sleep(0)
        reason(await client.get("/health/ready"), 503, "not_ready")
        assert (await client.get("/health/live")).status_code == 200
        await drained
        assert [(await answer).status_code for answer in accepted] == [200] * 12
        late = await client.post("/sample", json={"model": "linear"})
        reason(late, 503, "draining")
        assert late.headers["connection"] == "close"


async def test_a_drain_has_an_end(artifacts: Path) -> None:
    async with serving(artifacts, drain_s=0.05) as client:
        stuck = [asyncio.create_task(client.ask("sample", model="slow", n=1)) for _ in range(30)]
        await asyncio.sleep(0.01)
        async with asyncio.timeout(1):
            await client.app.state.life.drain()
        for task in stuck:
            task.cancel()
        await asyncio.gather(*stuck, return_exceptions=True)


async def test_a_dead_device_is_neither_live_nor_ready(quick: Path) -> None:
    async with serving(quick) as client:
        life = client.app.state.life
        life.engine().died.set()
        reason(await client.get("/health/live"), 503, "engine_dead")
        reason(await client.get("/health/ready"), 503, "not_ready")
        reason(await client.post("/sample", json={"model": "linear"}), 503, "engine_dead")
        assert life.dead
        await life.died()


async def test_an_engine_that_cannot_start_is_a_failure_of_the_process(quick: Path) -> None:
    async with serving(quick, device="cuda") as client:
        if client.app.state.life.failure is None:
            pytest.skip("there is a CUDA device here")
        assert client.app.state.life.dead
        assert (await client.get("/health/live")).status_code == 503


async def test_the_catalogue_is_computed_from_the_manifests(client: Client) -> None:
    models = {model["name"]: model for model in (await client.get("/models")).json()["models"]}
    assert models["twice"]["versions"] == ["2", "1"]
    assert models["image-gan"]["verbs"] == ["sample", "decode", "interpolate"]
    assert models["image-gan"]["data_shape"] == [1, 8, 8]
    assert set(models["linear"]["verbs"]) == {
        "sample",
        "encode",
        "decode",
        "reconstruct",
        "interpolate",
        "loglik",
    }
    assert models["gaussian-vae"]["grades"]["density"] == "lower_bound"


async def test_a_model_shows_its_certificate_and_its_limits(client: Client) -> None:
    model = (await client.get("/models/linear")).json()
    assert model["certificate"]["checks"][0]["name"] == "parity"
    assert model["limits"]["max_rows"] == 100_000
    assert model["entry_points"]["decode"]["provider"] == "CPUExecutionProvider"
    assert model["entry_points"]["log_weight"]["outputs"][0]["unit"] == "nats"
    assert model["calibration"]["rows"] == 200
    old = (await client.get("/models/twice?version=1")).json()
    assert (old["version"], old["versions"]) == ("1", ["2", "1"])


async def test_a_path_that_raises_is_a_500_without_a_traceback(quick: Path) -> None:
    async with serving(quick) as client:
        app = client.app

        @app.get("/broken")
        async def broken() -> None:
            raise RuntimeError("a secret of the inside")

        problem = reason(await client.get("/broken"), 500, "internal")
        assert "secret" not in str(problem)


async def test_a_verb_that_raises_is_a_500_without_a_traceback(
    quick: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with serving(quick) as client:

        def broken(*_: object) -> None:
            raise RuntimeError("a secret of the inside")

        monkeypatch.setattr(client.app.state.life.engine(), "find", broken)
        answer: httpx.Response = await client.post("/sample", json={"model": "linear"})
        assert "secret" not in str(reason(answer, 500, "internal"))
