"""What most people would write: FastAPI, a model for each body, one ONNX Runtime call for each request.

No batches, addresses, deadlines or limits. ``uvicorn benchmarks.peers.naive:app --workers N``
"""

from __future__ import annotations

import numpy as np
from fastapi import FastAPI, Request, Response
from pydantic import BaseModel

from benchmarks.peers.graphs import Graphs

app = FastAPI()
graphs = Graphs()


class SampleRequest(BaseModel):
    n: int = 1
    format: str = "json"


class Samples(BaseModel):
    samples: list[list[float]]


class EncodeRequest(BaseModel):
    x: list[list[float]]


class Codes(BaseModel):
    mean: list[list[float]]
    std: list[list[float]]


@app.post("/vae", response_model=Samples)
async def vae(request: SampleRequest) -> Response | Samples:
    return draw("vae", request)


@app.post("/gan", response_model=Samples)
async def gan(request: SampleRequest) -> Response | Samples:
    return draw("gan", request)


def draw(kind: str, request: SampleRequest) -> Response | Samples:
    samples = graphs.sample(kind, request.n)
    if request.format == "binary":
        return Response(samples.tobytes(), media_type="application/octet-stream")
    return Samples(samples=samples.tolist())


@app.post("/encode")
async def encode(request: EncodeRequest) -> Codes:
    mean, std = graphs.encode(np.asarray(request.x, np.float32))
    return Codes(mean=mean.tolist(), std=std.tolist())


@app.post("/loglik")
async def loglik(request: Request) -> Response:
    x = np.frombuffer(await request.body(), np.float32).reshape(-1, 784)
    return Response(graphs.loglik(x).tobytes(), media_type="application/octet-stream")
