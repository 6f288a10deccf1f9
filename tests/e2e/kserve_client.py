"""KServe's REST client against a service, in a process of its own: URL, and a file with rows and scores.

Prints a word for each scenario that has passed.
"""

from __future__ import annotations

import asyncio
import sys

import httpx
import numpy as np
import pytest
from kserve import InferenceRESTClient, InferInput, InferRequest, RESTConfig
from kserve.protocol.infer_type import RequestedOutput


async def main(url: str, file: str) -> None:
    expected = np.load(file)
    async with InferenceRESTClient(RESTConfig(protocol="v2")) as client:
        await _health(client, url)
        for binary in (False, True):
            await _scores(client, url, expected["rows"], expected["scores"], binary)
        await _sample(client, url)
        await _errors(client, url)


async def _health(client: InferenceRESTClient, url: str) -> None:
    assert await client.is_server_live(url)
    assert await client.is_server_ready(url)
    assert await client.is_model_ready(url, "linear.loglik")
    assert not await client.is_model_ready(url, "nothing.loglik")
    print("health")


async def _scores(
    client: InferenceRESTClient, url: str, rows: np.ndarray, scores: np.ndarray, binary: bool
) -> None:
    """The numbers of ``/loglik``, bit for bit, with tensors as JSON or as bytes both ways."""
    sent = InferInput("inputs", [*rows.shape], "FP32")
    sent.set_data_from_numpy(rows, binary_data=binary)
    outputs = [RequestedOutput("log_likelihood", {"binary_data": binary})]
    request = InferRequest("linear.loglik", [sent], request_id="7", request_outputs=outputs)
    answer = await client.infer(url, request, model_name="linear.loglik")
    assert answer.id == "7"
    assert answer.model_name == "linear.loglik"
    assert np.asarray(answer.outputs[0].as_numpy(), "<f8").tobytes() == scores.tobytes()
    print("binary" if binary else "json")


async def _sample(client: InferenceRESTClient, url: str) -> None:
    n = InferInput("n", [1], "INT64", data=[3])
    request = InferRequest("linear.sample", [n], parameters={"seed": 7})
    first, again = [await client.infer(url, request, model_name="linear.sample") for _ in range(2)]
    assert first.outputs[0].as_numpy().shape == (3, 3)
    assert first.outputs[0].as_numpy().tolist() == again.outputs[0].as_numpy().tolist()
    print("sample")


async def _errors(client: InferenceRESTClient, url: str) -> None:
    wrong = InferInput("inputs", [1, 2], "FP32", data=[0.0, 0.0])
    with pytest.raises(httpx.HTTPStatusError) as refused:
        await client.infer(url, InferRequest("linear.loglik", [wrong]), model_name="linear.loglik")
    assert refused.value.response.status_code == 422
    assert "allowed: [n, 3]" in refused.value.response.json()["error"]
    print("errors")


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
