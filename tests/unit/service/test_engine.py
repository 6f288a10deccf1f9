"""The engine serves what is right, says why it refuses the rest, and changes models under load."""

from __future__ import annotations

import asyncio
import gc
import json
import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models.noise import Address, draw
from service.backends import DeviceLost, DeviceMissing
from service.engine import Engine
from service.errors import CapabilityAbsent, Draining, EngineDead, UnknownModel, UnknownVersion
from service.lane import LaneObserver, NoObserver
from service.settings import Settings
from tests import graphs
from tests.unit.service.by_hand import looped


def knobs(root: Path, **more: Any) -> Settings:
    return Settings(artifacts=root, **{"device": "cpu", "max_batch_rows": 8, **more})


def soon() -> float:
    return time.monotonic() + 30


async def decode(engine: Engine, name: str = "linear", version: str | None = None) -> np.ndarray[Any, Any]:
    rows = await engine.find(name, version).run("decode", (Address(1),), rows=2, deadline=soon())
    return rows.outputs[0]


@looped
async def test_every_kind_of_model_is_served(tmp_path: Path) -> None:
    for make in (
        graphs.linear_flow,
        graphs.gaussian_vae,
        graphs.conditional,
        graphs.image_gan,
        graphs.poison,
    ):
        make(tmp_path)
    engine = await Engine.open(knobs(tmp_path))
    names = ["conditional", "gaussian-vae", "image-gan", "linear", "poison"]
    assert [served.name for served in engine.models()] == names
    assert (engine.refused, engine.trouble, engine.alive) == ({}, None, True)
    matrix, shift = graphs.linear_map(3)
    z = draw([(Address(1), 2)], "standard_normal", (3,))
    np.testing.assert_allclose(await decode(engine), z @ matrix.T + shift, rtol=1e-6)
    label = graphs.i64([0, 2])
    rows = await engine.find("conditional").run("decode", (Address(1), label), rows=2, deadline=soon())
    z = draw([(Address(1), 2)], "standard_normal", (2,))
    np.testing.assert_allclose(rows.outputs[0], z + graphs.f32([[0, 0], [0, 4]]), rtol=1e-6)
    with pytest.raises(CapabilityAbsent, match="image-gan has no encode; it has decode"):
        await engine.find("image-gan").run("encode", (), rows=1, deadline=soon())
    await engine.close(1)
    with pytest.raises(UnknownModel):
        engine.find("linear")
    assert engine.trouble == "the service is stopping"


@looped
async def test_the_newest_version_answers_unless_another_is_named(tmp_path: Path) -> None:
    for version in ("2", "10", "9"):
        graphs.linear_flow(tmp_path, version=version)
    engine = await Engine.open(knobs(tmp_path))
    assert [served.version for served in engine.models()] == ["10", "9", "2"]
    assert engine.find("linear").version == "10"
    assert engine.find("linear", "2").version == "2"
    with pytest.raises(UnknownVersion, match="linear has no version 3; it has 10, 9, 2"):
        engine.find("linear", "3")
    with pytest.raises(UnknownModel, match="there is no model 'cubic'; there are linear"):
        engine.find("cubic")
    await engine.close(0)


@looped
async def test_without_models_it_says_why_nothing_can_be_answered(tmp_path: Path) -> None:
    engine = await Engine.open(knobs(tmp_path / "nowhere"))
    assert engine.trouble == f"no model is served: {tmp_path / 'nowhere'} holds none"
    await engine.close(0)


def edit(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    manifest = json.loads((folder / "manifest.json").read_text())
    change(manifest)
    (folder / "manifest.json").write_text(json.dumps(manifest))


def expect_another_output(folder: Path) -> None:
    edit(folder, lambda m: m["probes"]["decode"]["outputs"]["x"][0].__setitem__(0, 9.0))


def ask_the_probe_in_another_shape(folder: Path) -> None:
    edit(folder, lambda m: m["probes"]["decode"]["inputs"].update(z=[[1.0, 2.0], [3.0]]))


def forget_an_input_of_the_probe(folder: Path) -> None:
    edit(folder, lambda m: m["probes"]["decode"].update(inputs={}))


def lose_a_graph(folder: Path) -> None:
    (folder / "decode.onnx").unlink()


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (expect_another_output, r"decode: the probe failed: x is \[2, 3\] \[.*, expected is \[2, 3\] \[9, "),
        (ask_the_probe_in_another_shape, "decode: the probe cannot be read: "),
        (forget_an_input_of_the_probe, r"decode: the probe cannot be read: KeyError\('z'\)"),
        (lose_a_graph, r"decode\.onnx is missing"),
    ],
)
@looped
async def test_a_spoilt_model_is_refused_with_a_sentence_and_the_others_serve(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, spoil: Callable[[Path], None], sentence: str
) -> None:
    spoil(graphs.linear_flow(tmp_path))
    graphs.gaussian_vae(tmp_path)
    engine = await Engine.open(knobs(tmp_path))
    assert [served.name for served in engine.models()] == ["gaussian-vae"]
    (refusal,) = engine.refused.values()
    with pytest.raises(AssertionError, match=rf"^linear/1: {sentence}"):
        raise AssertionError(refusal)
    assert f"refused {refusal}" in caplog.text
    assert len(await decode(engine, "gaussian-vae")) == 2
    await engine.close(0)


@looped
async def test_a_format_that_was_not_exported_is_a_reason(tmp_path: Path) -> None:
    graphs.linear_flow(tmp_path)
    engine = await Engine.open(knobs(tmp_path, runtime="torchscript"))
    refusal = "linear/1: decode: there is no torchscript file; there are onnx"
    assert engine.refused == {"linear/1": refusal}
    assert engine.trouble == f"no model is served: {refusal}"
    await engine.close(0)


@looped
async def test_a_device_that_is_demanded_and_missing_stops_the_start(tmp_path: Path) -> None:
    graphs.linear_flow(tmp_path)
    try:
        engine = await Engine.open(knobs(tmp_path, device="cuda"))
    except DeviceMissing as error:
        assert "device is cuda" in str(error)  # noqa: PT017
    else:
        assert engine.find("linear").provider == "CUDAExecutionProvider"
        await engine.close(0)


@looped
async def test_a_reload_takes_up_what_is_new_and_lets_go_of_what_is_gone(tmp_path: Path) -> None:
    first = graphs.linear_flow(tmp_path)
    engine = await Engine.open(knobs(tmp_path))
    kept = engine.find("linear")
    change = await engine.reload()
    assert (change.loaded, change.retired, change.refused) == ([], [], {})
    assert engine.find("linear") is kept
    graphs.linear_flow(tmp_path, version="2")
    assert (await engine.reload()).loaded == ["linear/2"]
    assert engine.find("linear").version == "2"
    assert engine.find("linear", "1") is kept
    shutil.rmtree(first)
    assert (await engine.reload()).retired == ["linear/1"]
    with pytest.raises(UnknownVersion):
        engine.find("linear", "1")
    await engine.close(0)


@looped
async def test_a_version_that_was_exported_again_is_taken_up_and_a_spoilt_one_is_not(tmp_path: Path) -> None:
    folder = graphs.linear_flow(tmp_path)
    engine = await Engine.open(knobs(tmp_path))
    edit(folder, lambda m: m.update(paper="another"))
    assert (await engine.reload()).loaded == ["linear/1"]
    served = engine.find("linear")
    assert served.manifest.paper == "another"
    expect_another_output(folder)
    assert list((await engine.reload()).refused) == ["linear/1"]
    assert engine.find("linear") is served
    assert len(await decode(engine)) == 2
    assert engine.trouble is None
    await engine.close(0)


@looped
async def test_no_request_is_dropped_while_versions_come_and_go(tmp_path: Path) -> None:
    graphs.linear_flow(tmp_path)
    engine = await Engine.open(knobs(tmp_path))
    stop, answers = False, []
    answered = {version: asyncio.Event() for version in ("1", "2", "3")}

    async def call() -> None:
        while not stop:
            served = engine.find("linear")
            rows = await served.run("decode", (Address(1),), rows=20, deadline=soon())
            await asyncio.sleep(0)
            again = await served.run("encode", rows.outputs, rows=20, deadline=soon())
            answers.append((served.version, again.outputs[0].tobytes()))
            answered[served.version].set()

    callers = [asyncio.ensure_future(call()) for _ in range(8)]
    for version in ("2", "3"):
        graphs.linear_flow(tmp_path, version=version)
        shutil.rmtree(tmp_path / "linear" / str(int(version) - 1))
        await engine.reload()
        await answered[version].wait()
    stop = True
    await asyncio.gather(*callers)
    assert len({codes for _, codes in answers}) == 1
    await engine.close(1)


@looped
async def test_a_version_that_was_taken_away_answers_who_holds_it_and_then_frees_its_threads(
    tmp_path: Path,
) -> None:
    closed: list[str] = []

    class Seen(NoObserver):
        def lane(self, *lane: Any) -> LaneObserver:
            model, version, entry, _, waiting, fullness = lane
            assert (waiting(), fullness()) == (0, 0)
            watcher = NoObserver()
            watcher.closed = lambda: closed.append(f"{model}/{version}/{entry}")  # type: ignore[method-assign]
            return watcher

    folder = graphs.linear_flow(tmp_path)
    engine = await Engine.open(knobs(tmp_path), Seen())
    held = engine.find("linear")
    shutil.rmtree(folder)
    await engine.reload()
    rows = await held.run("decode", (Address(1),), rows=2, deadline=soon())
    assert len(rows.outputs[0]) == 2
    assert threads_of("linear/1") == 3
    del held
    gc.collect()
    assert sorted(closed) == ["linear/1/decode", "linear/1/encode", "linear/1/log_weight"]
    await until(lambda: threads_of("linear/1") == 0)
    await engine.close(0)


def threads_of(model: str) -> int:
    return sum(thread.name.startswith(model) for thread in threading.enumerate())


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not holds():  # noqa: ASYNC110 - threads set no event
            await asyncio.sleep(0.01)


@looped
async def test_closing_answers_what_is_queued(tmp_path: Path) -> None:
    graphs.slow(tmp_path, ms=5)
    engine = await Engine.open(knobs(tmp_path))
    served = engine.find("slow")
    calls = [
        asyncio.ensure_future(served.run("decode", (Address(i),), rows=3, deadline=soon())) for i in range(20)
    ]
    await asyncio.sleep(0)
    await engine.close(20)
    assert all(len(call.result().outputs[0]) == 3 for call in calls)
    with pytest.raises(Draining):
        await served.run("decode", (Address(1),), rows=1, deadline=soon())
    assert engine.oldest_batch_s == 0


@looped
async def test_a_reload_that_ends_after_closing_brings_nothing_back(tmp_path: Path) -> None:
    engine = await Engine.open(knobs(tmp_path))
    graphs.linear_flow(tmp_path)
    reloading = asyncio.ensure_future(engine.reload())
    await asyncio.sleep(0)
    await engine.close(0)
    assert (await reloading).loaded == []
    assert engine.models() == []


@looped
async def test_when_one_lane_loses_the_device_all_models_say_so(tmp_path: Path) -> None:
    graphs.linear_flow(tmp_path)
    graphs.gaussian_vae(tmp_path)
    engine = await Engine.open(knobs(tmp_path))
    lost = engine.find("linear")

    def fail(inputs: Any) -> Any:
        raise DeviceLost("CUDA failure 700")

    lost._lanes["decode"]._stage._graph = fail  # type: ignore[assignment]
    with pytest.raises(EngineDead, match="CUDA failure 700"):
        await decode(engine)
    assert not engine.alive
    assert engine.died.is_set()
    assert engine.trouble == "the device is lost"
    with pytest.raises(EngineDead):
        await decode(engine, "gaussian-vae")
    await engine.close(0)
