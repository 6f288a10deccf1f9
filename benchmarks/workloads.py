"""What is asked: five workloads, and how a client words each of them for a server.

Everybody gets the same rows, with the same digits, and gives the same arrays. A dialect is what differs:
paths, the names of fields, and how binary travels.
"""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np

Array = np.ndarray[Any, Any]
Kind = Literal["vae", "gan", "encode", "loglik"]

JSON: Final = "application/json"
NPY: Final = "application/x-npy"
BYTES: Final = "application/octet-stream"

# Stands in a body for six digits that the load client counts up, so that no two requests are the same: a
# service that remembers the codes of rows that it has seen would otherwise answer from memory.
COUNTER: Final = "######"


@dataclass(frozen=True)
class Workload:
    """One call, again and again; ``rows`` in each request."""

    name: str
    kind: Kind
    rows: int
    binary: bool
    title: str


@dataclass(frozen=True)
class Request:
    """One POST."""

    path: str
    headers: dict[str, str]
    body: bytes


@dataclass(frozen=True)
class Dialect:
    """How a kind of server is asked, and what its answers mean.

    Attributes:
        request: words a workload; its rows are needed where the workload sends some.
        arrays: those in an answer's body: samples (n, 784); mean and std; or log-likelihoods (n).
    """

    request: Callable[[Workload, Array], Request]
    arrays: Callable[[Workload, bytes], tuple[Array, ...]]


WORKLOADS: Final = {
    workload.name: workload
    for workload in (
        Workload("W1", "vae", 1, False, "sample, VAE, 1 row, JSON"),
        Workload("W2", "vae", 64, True, "sample, VAE, 64 rows, npy"),
        Workload("W3", "loglik", 32, True, "log-likelihood, flow, 32 rows, npy"),
        Workload("W4", "encode", 1, False, "encode, VAE, 1 new row, JSON"),
        Workload("W5", "gan", 16, True, "sample, GAN, 16 pictures, npy"),
    )
}


def rows_json(rows: Array) -> str:
    """Rows as JSON with seven digits, the first number with six that count requests."""
    lines = [", ".join(f"{value:.7g}" for value in row) for row in rows]
    _, _, rest = lines[0].partition(", ")
    lines[0] = f"0.1{COUNTER}, {rest}"
    return "[" + ", ".join(f"[{line}]" for line in lines) + "]"


def first_body(body: bytes) -> bytes:
    """The body with the counter at its first value, as a single request sends it."""
    return body.replace(COUNTER.encode(), b"0" * len(COUNTER))


def as_sent(rows: Array) -> Array:
    """The rows as :func:`first_body` has them."""
    return np.array(json.loads(rows_json(rows).replace(COUNTER, "0" * len(COUNTER))), np.float32)


def _floats(content: bytes) -> Array:
    return np.frombuffer(content, np.float32)


# Ours ---------------------------------------------------------------------------------------------------


def _our_request(work: Workload, rows: Array) -> Request:
    accept = {"Accept": NPY} if work.binary else {}
    if work.kind == "loglik":
        body = io.BytesIO()
        np.save(body, rows)
        return Request("/loglik?model=flow", {"Content-Type": NPY, **accept}, body.getvalue())
    if work.kind == "encode":
        body_text = f'{{"model": "vae", "inputs": {rows_json(rows)}}}'
        return Request("/encode", {"Content-Type": JSON, **accept}, body_text.encode())
    body_text = json.dumps({"model": work.kind, "n": work.rows})
    return Request("/sample", {"Content-Type": JSON, **accept}, body_text.encode())


def _our_arrays(work: Workload, body: bytes) -> tuple[Array, ...]:
    if work.binary:
        array = np.load(io.BytesIO(body), allow_pickle=False)
        return (array if work.kind == "loglik" else array.reshape(len(array), -1),)
    said = json.loads(body)
    members = ("latents", "std") if work.kind == "encode" else ("samples",)
    return tuple(np.array(said[member], np.float32) for member in members)


# A route for each call, JSON or raw bytes -----------------------------------------------------------------


def _plain_request(work: Workload, rows: Array) -> Request:
    if work.kind == "loglik":
        return Request("/loglik", {"Content-Type": BYTES}, rows.tobytes())
    if work.kind == "encode":
        return Request("/encode", {"Content-Type": JSON}, f'{{"x": {rows_json(rows)}}}'.encode())
    body = {"n": work.rows, "format": "binary" if work.binary else "json"}
    return Request(f"/{work.kind}", {"Content-Type": JSON}, json.dumps(body).encode())


def _plain_arrays(work: Workload, body: bytes) -> tuple[Array, ...]:
    if work.binary:
        return (_floats(body) if work.kind == "loglik" else _floats(body).reshape(work.rows, -1),)
    said = json.loads(body)
    members = ("mean", "std") if work.kind == "encode" else ("samples",)
    return tuple(np.array(said[member], np.float32) for member in members)


def _base64_request(work: Workload, rows: Array) -> Request:
    """For a server that reads nothing but JSON."""
    if work.kind != "loglik":
        return _plain_request(work, rows)
    body = json.dumps({"x": base64.b64encode(rows.tobytes()).decode()})
    return Request("/loglik", {"Content-Type": JSON}, body.encode())


# BentoML: lists in JSON, one entry for each row or, in base64, for each request ---------------------------


def _bento_request(work: Workload, rows: Array) -> Request:
    if work.kind == "encode":
        return Request("/encode", {"Content-Type": JSON}, f'{{"x": {rows_json(rows)}}}'.encode())
    if work.kind == "loglik":
        body: dict[str, Any] = {"x": [base64.b64encode(rows.tobytes()).decode()]}
    else:
        body = {"n": [work.rows]}
    path = f"/{work.kind}" if work.binary else "/one"
    return Request(path, {"Content-Type": JSON}, json.dumps(body).encode())


def _bento_arrays(work: Workload, body: bytes) -> tuple[Array, ...]:
    said = json.loads(body)
    if not work.binary:
        array = np.array(said, np.float32)
        return (array[:, :16], array[:, 16:]) if work.kind == "encode" else (array,)
    array = _floats(base64.b64decode(said[0]))
    return (array if work.kind == "loglik" else array.reshape(work.rows, -1),)


OURS: Final = Dialect(_our_request, _our_arrays)
PLAIN: Final = Dialect(_plain_request, _plain_arrays)
BASE64: Final = Dialect(_base64_request, _plain_arrays)
BENTO: Final = Dialect(_bento_request, _bento_arrays)
