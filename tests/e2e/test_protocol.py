"""Triton's and KServe's own clients against a real service: they work unchanged, to the bit of the verbs."""

from __future__ import annotations

import asyncio
import gc
import io
import os
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tritonclient.http as triton
import tritonclient.http.aio as triton_aio
from numpy.typing import NDArray
from tritonclient.utils import InferenceServerException

from tests import graphs
from tests.e2e.processes import Service

ROWS = np.random.default_rng(0).normal(size=(300, 3)).astype(np.float32)
KSERVE = Path(sys.prefix) / "kserve"  # where make puts it: its requirements and ours do not fit together

Array = NDArray[Any]


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service on an exact model, an estimated one, and one that takes labels."""
    folder = tmp_path_factory.mktemp("protocol")
    for build in (graphs.linear_flow, graphs.gaussian_vae, graphs.conditional):
        build(folder / "artifacts")
    running = Service.start(folder / "artifacts", folder / "service.log", device="cpu")
    try:
        yield running.ready()
    finally:
        running.stop()


class Sync:
    """Triton's client, each call awaited so that the same scenario drives both."""

    def __init__(self, address: str) -> None:
        self._client = triton.InferenceServerClient(address)

    def __getattr__(self, name: str) -> Callable[..., Awaitable[Any]]:
        async def call(*args: Any, **named: Any) -> Any:
            return getattr(self._client, name)(*args, **named)

        return call

    async def close(self) -> None:
        self._client.close()


class Aio:
    """Triton's client for asyncio."""

    def __init__(self, address: str) -> None:
        self._client = triton_aio.InferenceServerClient(address)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)


Scenario = Callable[[Any, Service], Awaitable[None]]


async def healthy(client: Any, service: Service) -> None:
    assert await client.is_server_live()
    assert await client.is_server_ready()
    assert await client.is_model_ready("linear.sample")
    assert await client.is_model_ready("linear.sample", "1")
    assert not await client.is_model_ready("linear.sample", "2")
    assert not await client.is_model_ready("nothing.sample")


async def described(client: Any, service: Service) -> None:
    server = await client.get_server_metadata()
    assert "binary_tensor_data" in server["extensions"]
    model = await client.get_model_metadata("gaussian-vae.log_weight", "1")
    assert [port["name"] for port in model["inputs"]] == ["x", "eps"]
    assert model["inputs"][0] == {"name": "x", "datatype": "FP32", "shape": [-1, 3]}
    config = await client.get_model_config("linear.loglik")
    assert config["max_batch_size"] == 100_000
    assert config["input"] == [{"name": "inputs", "data_type": "TYPE_FP32", "dims": [3], "optional": False}]
    assert config["output"][-1] == {"name": "status", "data_type": "TYPE_STRING", "dims": [1]}
    assert (await client.get_model_config("linear.sample", "1"))["max_batch_size"] == 0
    index = await client.get_model_repository_index()
    assert {"name": "linear.loglik", "version": "1", "state": "READY", "reason": ""} in index


async def exact(client: Any, service: Service) -> None:
    """JSON and bytes, both ways, compressed and not, with and without a version: the same bits."""
    expected = np.load(io.BytesIO(service.npy("loglik", model="linear", inputs=ROWS.tolist())))
    for sent_as_bytes in (True, False):
        for got_as_bytes in (True, False, None):
            for coding in (None, "gzip", "deflate"):
                inputs = [triton.InferInput("inputs", [*ROWS.shape], "FP32")]
                inputs[0].set_data_from_numpy(ROWS, binary_data=sent_as_bytes)
                asked = triton.InferRequestedOutput("log_likelihood", binary_data=bool(got_as_bytes))
                answer = await client.infer(
                    "linear.loglik",
                    inputs,
                    model_version="1" if sent_as_bytes else "",
                    outputs=None if got_as_bytes is None else [asked],
                    request_id="an id",
                    request_compression_algorithm=coding,
                    response_compression_algorithm=coding,
                )
                assert answer.as_numpy("log_likelihood").tobytes() == expected.tobytes()
                assert answer.get_response()["id"] == "an id"
                outputs = [output["name"] for output in answer.get_response()["outputs"]]
                assert outputs == ["log_likelihood"] or got_as_bytes is None


async def estimated(client: Any, service: Service) -> None:
    expected = service.post("loglik", model="gaussian-vae", inputs=ROWS[:5].tolist(), k=8, seed=3)
    inputs = [triton.InferInput("inputs", [5, 3], "FP32")]
    inputs[0].set_data_from_numpy(ROWS[:5])
    answer = await client.infer("gaussian-vae.loglik", inputs, parameters={"k": 8, "seed": 3})
    assert answer.as_numpy("log_likelihood").tolist() == expected["log_likelihood"]
    assert answer.as_numpy("standard_error").tolist() == expected["standard_error"]
    assert [text.decode() for text in answer.as_numpy("status")] == expected["status"]
    said = answer.get_response()["parameters"]
    assert said == {"kind": "lower_bound", "unit": "nats", "k": 8, "seed": 3}


async def sampled(client: Any, service: Service) -> None:
    expected = np.load(io.BytesIO(service.npy("sample", model="linear", n=500, seed=7, offset=100)))
    by_parameter = await client.infer("linear.sample", [], parameters={"n": 500, "seed": 7, "offset": 100})
    n = triton.InferInput("n", [1], "INT64")
    n.set_data_from_numpy(np.array([500]), binary_data=False)
    by_tensor = await client.infer("linear.sample", [n], parameters={"seed": 7, "offset": 100})
    for answer in (by_parameter, by_tensor):
        assert answer.as_numpy("samples").tobytes() == expected.tobytes()
        assert answer.get_response()["parameters"] == {"seed": 7, "offset": 100}


async def labelled(client: Any, service: Service) -> None:
    fields = {"inputs": ROWS[:3, :2].tolist(), "label": [2, 0, 1]}
    expected = np.load(io.BytesIO(service.npy("encode", model="conditional", **fields)))
    rows = triton.InferInput("x", [3, 2], "FP32")
    rows.set_data_from_numpy(np.ascontiguousarray(ROWS[:3, :2]))
    for sent_as_bytes in (True, False):
        names = triton.InferInput("label", [3], "BYTES")
        texts = np.array([b"north", b"origin", b"east"], dtype=np.object_)
        names.set_data_from_numpy(texts, binary_data=sent_as_bytes)
        answer = await client.infer("conditional.encode", [rows, names])
        assert answer.as_numpy("z").tobytes() == expected.tobytes()


async def refused(client: Any, service: Service) -> None:
    rows = triton.InferInput("inputs", [1, 2], "FP32")
    rows.set_data_from_numpy(np.zeros((1, 2), np.float32))
    with pytest.raises(InferenceServerException, match=r"shape is \[1, 2\]; allowed: \[n, 3\]") as wrong:
        await client.infer("linear.loglik", [rows])
    assert wrong.value.status() == "422"
    with pytest.raises(InferenceServerException, match="there is no model 'nothing'") as nothing:
        await client.infer("nothing.loglik", [rows])
    assert nothing.value.status() == "404"
    with pytest.raises(InferenceServerException, match="sead"):
        await client.infer("linear.sample", [], parameters={"sead": 1})
    with pytest.raises(InferenceServerException, match="no version 9"):
        await client.get_model_metadata("linear.sample", "9")


@pytest.mark.filterwarnings("ignore:Unclosed connection:ResourceWarning")  # of bodies that Aio never reads
@pytest.mark.parametrize("make", [Sync, Aio])
@pytest.mark.parametrize("scenario", [healthy, described, exact, estimated, sampled, labelled, refused])
def test_a_client_made_for_triton_works_unchanged(
    service: Service, make: Callable[[str], Any], scenario: Scenario
) -> None:
    async def run() -> None:
        client = make(service.url.removeprefix("http://"))
        try:
            await scenario(client, service)
        finally:
            await client.close()

    asyncio.run(run())
    gc.collect()  # while this test's filter holds


def test_kserves_own_client_works_unchanged(service: Service, tmp_path: Path) -> None:
    if not KSERVE.exists():
        pytest.skip(f"KServe's client is not in {KSERVE} (make test installs it)")
    expected = np.load(io.BytesIO(service.npy("loglik", model="linear", inputs=ROWS.tolist())))
    np.savez(tmp_path / "expected.npz", rows=ROWS, scores=expected)
    script = Path(__file__).with_name("kserve_client.py")
    path = {**os.environ, "PYTHONPATH": str(KSERVE)}
    command = [sys.executable, str(script), service.url, str(tmp_path / "expected.npz")]
    done = subprocess.run(command, env=path, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.split() == ["health", "json", "binary", "sample", "errors"]
