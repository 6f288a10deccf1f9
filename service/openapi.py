"""The published contract: answers and problems as schemas, and the hot verbs in the OpenAPI document.

The verbs are no FastAPI routes, so their part of the document is made here, from the table that serves them.
"""

from __future__ import annotations

import re
from typing import Any, Final

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel, ConfigDict, Field
from pydantic.json_schema import models_json_schema

from models.manifest import (
    Certificate,
    DataSpace,
    Density,
    Grades,
    LatentSpace,
    Metric,
    Tensor,
    Verb,
)
from service.errors import PROBLEM_JSON
from service.protocol import INFER, PROTOCOL, ProtocolError
from service.routes import ROUTES, Route
from service.tensors import BINARY as TENSORS
from service.tensors import InferRequest, Parameters
from service.visit import OPEN
from service.wire import CSV, JSON, NDJSON, NPY, NPZ, PNG

REF: Final = "#/components/schemas/{model}"
BINARY: Final = {"schema": {"type": "string", "format": "binary"}}
LINES: Final = {
    "schema": {"type": "string", "description": "one row a line; CSV for tables, with their columns"}
}

Row = list[Any]


class Reported(BaseModel):
    """Base of what the service says."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Answered(Reported):
    """What begins every answer."""

    model: str
    version: str


class SampleAnswer(Answered):
    seed: int
    offset: int
    samples: list[Row]


class EncodeAnswer(Answered):
    """Each id names its model and version, and is remembered for its time to live.

    Attributes:
        residual: by how much a row and the sample of its code differ, where the way back was learned.
    """

    latents: list[Row]
    std: list[Row] | None = None
    residual: list[float] | None = None
    ids: list[str]
    cached: list[bool]


class SamplesAnswer(Answered):
    samples: list[Row]


class InterpolateAnswer(Answered):
    path: str
    t: list[float]
    samples: list[Row]


class LoglikAnswer(Answered):
    """Nats per row; what the numbers are is in ``kind``.

    Attributes:
        status: ``out_of_support`` goes with null, as log 0; ``extrapolating`` is below or above every
            held-out score; ``numeric`` is a row for which the graph gave no number.
        p_value: two-sided rank among held-out scores, never 0.
    """

    kind: Density
    unit: str
    k: int | None = None
    seed: int | None = None
    log_likelihood: list[float | None]
    bits_per_dim: list[float | None] | None = None
    standard_error: list[float | None] | None = None
    p_value: list[float | None] | None = None
    status: list[str]


class InferOutput(Reported):
    """A tensor of the protocol; its numbers are in ``data``, or bytes behind the JSON."""

    name: str
    datatype: str
    shape: list[int]
    parameters: Parameters | None = None
    data: list[Any] | None = None


class InferAnswer(Reported):
    """What inference by the Open Inference Protocol answers.

    Attributes:
        parameters: what a verb says beside its tensors, such as the seed, or the unit.
    """

    model_config = ConfigDict(protected_namespaces=())

    model_name: str
    model_version: str
    id: str | None = None
    parameters: Parameters | None = None
    outputs: list[InferOutput]


class Problem(BaseModel):
    """RFC 9457; ``code`` is stable, ``detail`` is for people."""

    model_config = ConfigDict(extra="allow")

    type: str
    title: str
    status: int
    code: str
    detail: str


class Summary(Reported):
    """One model, its newest version.

    Attributes:
        versions: all that are served, the newest first.
    """

    name: str
    version: str
    versions: list[str]
    family: str
    paper: str
    verbs: list[Verb]
    grades: Grades
    data_shape: list[int]
    latent_shape: list[int] | None


class Catalogue(Reported):
    models: list[Summary]


class Ports(Reported):
    """What an entry point takes and gives."""

    inputs: list[Tensor]
    outputs: list[Tensor]
    cost: float
    provider: str


class Limits(Reported):
    """What one request may ask for."""

    max_rows: int
    max_pictures: int
    max_body_bytes: int
    deadline_ms: float
    latent_ttl_s: int


class HeldOut(Reported):
    """The scores among which p-values are ranks.

    Attributes:
        edges: of the bins of their histogram, one more than there are counts.
        counts: scores in each bin.
    """

    rows: int
    k: int
    seed: int
    lowest: float
    highest: float
    edges: list[float]
    counts: list[int]


class Control(Reported):
    """What ``directions`` of a request may name: an attribute of the data, and how well it is held.

    Attributes:
        unit: what a step of strength 1 is.
        correlation: of the attribute of held-out rows with how far their codes lie along the direction.
        effect: pairs of a strength and the mean attribute of held-out rows decoded at it.
        judge: who told the attribute of decoded rows.
    """

    attribute: str
    unit: str
    source: str
    correlation: float
    effect: list[tuple[float, float]]
    judge: str


class Detail(Summary):
    """One version of a model, with what was measured of it at export."""

    digest: str
    data: DataSpace
    latent: LatentSpace | None
    entry_points: dict[str, Ports]
    limits: Limits
    calibration: HeldOut | None
    directions: dict[str, Control]
    certificate: Certificate
    metrics: dict[str, Metric]


class Health(Reported):
    """What a probe says.

    Attributes:
        models: served versions by name.
        refused: what may not serve, and why.
    """

    status: str
    models: dict[str, list[str]] = Field(default={})
    refused: dict[str, str] = Field(default={})


class Reloaded(Reported):
    """What a reload did, as ``name/version``; refused models have their reason."""

    loaded: list[str]
    retired: list[str]
    refused: dict[str, str]


ANSWERS: Final[dict[Verb, type[Answered]]] = {
    "sample": SampleAnswer,
    "encode": EncodeAnswer,
    "decode": SamplesAnswer,
    "reconstruct": SamplesAnswer,
    "interpolate": InterpolateAnswer,
    "loglik": LoglikAnswer,
}
REASONS: Final = {
    401: "no key, or an unknown one",
    404: "no such model, version or latent id",
    406: "no such form of the answer",
    409: "an id of another model or version",
    413: "can never fit",
    415: "no such form of the body",
    422: "not parseable, out of range, or a verb that the model lacks; names the field, the value, the rule",
    429: "the queue is full, or the key's limit is reached; Retry-After says when to come again",
    500: "the graph failed on the rows that are named",
    503: "not ready, draining, or the device failed",
    504: "the deadline passed",
}


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The refusals of a route, for its ``responses``."""
    content = {PROBLEM_JSON: {"schema": {"$ref": REF.format(model="Problem")}}}
    return {status: {"description": REASONS[status], "content": content} for status in statuses}


def document(app: FastAPI, keys: bool) -> dict[str, Any]:
    """The OpenAPI document, made once.

    Args:
        keys: whether callers need one.
    """
    if app.openapi_schema is None:
        schema = get_openapi(
            title=app.title, version=app.version, description=app.description, routes=app.routes
        )
        for route in ROUTES:
            schema["paths"][route.path] = {"post": _operation(route)}
        for path in INFER:
            schema["paths"][path] = {"post": _inference(path)}
        schema["components"]["schemas"] |= _schemas()
        if keys:
            _close(schema)
        app.openapi_schema = schema
    return app.openapi_schema


def _close(schema: dict[str, Any]) -> None:
    """Say where the key goes, and what happens without; only the probes need none."""
    schema["components"]["securitySchemes"] = {
        "bearer": {"type": "http", "scheme": "bearer"},
        "key": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
    }
    refusals = {str(status): said for status, said in problems(401, 429).items()}
    for path, operations in schema["paths"].items():
        for operation in () if path.startswith(OPEN) else operations.values():
            operation["security"] = [{"bearer": []}, {"key": []}]
            operation["responses"] = {**refusals, **operation["responses"]}


def _schemas() -> dict[str, Any]:
    models: list[type[BaseModel]] = [Problem, *(route.request for route in ROUTES), *ANSWERS.values()]
    models += [InferRequest, InferAnswer, ProtocolError]
    modes = [(model, "validation") for model in models]
    _, schema = models_json_schema(modes, ref_template=REF)  # type: ignore[arg-type]
    return dict(schema["$defs"])


def _operation(route: Route) -> dict[str, Any]:
    summary = (route.operation.__doc__ or "").splitlines()[0]
    return {
        "operationId": route.verb,
        "tags": ["verbs"],
        "summary": summary,
        "requestBody": {"required": True, "content": _bodies(route)},
        "responses": {"200": _success(route), **{str(k): v for k, v in problems(*REASONS).items()}},
    }


def _bodies(route: Route) -> dict[str, Any]:
    bodies: dict[str, Any] = {JSON: {"schema": {"$ref": REF.format(model=route.request.__name__)}}}
    if route.query is not None:
        fields = (_as_query(name) for name in route.query.model_fields)
        schema = {
            **BINARY["schema"],
            "description": f"{route.array} as one array; the query string: {', '.join(fields)}",
        }
        bodies[NPY] = {"schema": schema}
    return bodies


def _as_query(field: str) -> str:
    """How a field is written in a query string."""
    return "directions.<name>=<strength>" if field == "directions" else field


def _success(route: Route) -> dict[str, Any]:
    content: dict[str, Any] = {
        JSON: {"schema": {"$ref": REF.format(model=ANSWERS[route.verb].__name__)}},
        NPY: BINARY,
        NPZ: BINARY,
    }
    if route.pictures:
        content[PNG] = BINARY
    if route.lines:
        content |= {NDJSON: LINES, CSV: LINES}
    return {"description": "the answer, in the form that Accept asks for", "content": content}


def _inference(path: str) -> dict[str, Any]:
    names = re.findall(r"{(\w+)}", path)
    text = {"type": "string"}
    refused = {"content": {JSON: {"schema": {"$ref": REF.format(model=ProtocolError.__name__)}}}}
    return {
        "operationId": "_".join(["infer", *names]),
        "tags": [PROTOCOL],
        "summary": "One answer of a protocol model, which is a verb or an entry point of a model",
        "parameters": [{"name": name, "in": "path", "required": True, "schema": text} for name in names],
        "requestBody": {"required": True, "content": _tensors(InferRequest)},
        "responses": {
            "200": {"description": "the answer", "content": _tensors(InferAnswer)},
            **{str(status): {"description": REASONS[status], **refused} for status in REASONS},
        },
    }


def _tensors(model: type[BaseModel]) -> dict[str, Any]:
    return {JSON: {"schema": {"$ref": REF.format(model=model.__name__)}}, TENSORS: BINARY}
