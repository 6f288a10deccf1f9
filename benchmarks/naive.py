"""What most people would write: one FastAPI route for each call, and one ONNX Runtime call for each request.

Run by ``ratio.py`` beside the service, on the same graphs: ``uvicorn benchmarks.naive:app``. Artifacts are
where the variable ``PUSHFORWARD_ARTIFACTS`` says.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from fastapi import FastAPI
from pydantic import BaseModel

ARTIFACTS = Path(os.environ.get("PUSHFORWARD_ARTIFACTS", "artifacts"))

app = FastAPI()


def session(model: str, entry_point: str) -> onnxruntime.InferenceSession:
    """The newest version's graph, on one thread, as the service runs it."""
    newest = max((ARTIFACTS / model).iterdir(), key=lambda version: int(version.name))
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(newest / f"{entry_point}.onnx", options)


class SampleRequest(BaseModel):
    model: str
    n: int = 1
    seed: int = 0


class LoglikRequest(BaseModel):
    model: str
    inputs: list[list[float]]


decode = session("vae-digits", "decode")
log_weight = session("flow-moons", "log_weight")


@app.post("/sample")
def sample(request: SampleRequest) -> dict[str, list[Any]]:
    shape = [request.n, *decode.get_inputs()[0].shape[1:]]
    z = np.random.default_rng(request.seed).standard_normal(shape, dtype=np.float32)
    return {"samples": decode.run(None, {decode.get_inputs()[0].name: z})[0].tolist()}


@app.post("/loglik")
def loglik(request: LoglikRequest) -> dict[str, list[Any]]:
    x = np.asarray(request.inputs, np.float32)
    return {"log_likelihood": log_weight.run(None, {log_weight.get_inputs()[0].name: x})[0].tolist()}
