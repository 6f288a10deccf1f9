"""The Open Inference Protocol v2 over the same engine, below ``/v2``: health, metadata, inference.

Clients and tools that are made for Triton or KServe work unchanged. A protocol model is an entry point or a
verb of a served model, such as ``flow-digits.log_weight`` and ``flow-digits.sample``; it takes the same
lanes, deadlines and counts as the verbs. What is refused has the protocol's form, ``{"error": "…"}``.
"""

from __future__ import annotations

from importlib.metadata import version as version_of
from typing import Any, Final

import orjson
from fastapi import APIRouter
from starlette.routing import Route as StarletteRoute

from service.codings import compressed, inflated
from service.engine import Engine, Served
from service.errors import EngineDead, NotReady, ServiceError
from service.exchange import Exchange, Scope
from service.lifecycle import Lifecycle
from service.offers import Found, Offer, find, offers
from service.schemas import Strict, refuse, show
from service.tensors import (
    BYTES,
    HEADER_LENGTH,
    Body,
    InferRequest,
    Parameters,
    Port,
    Value,
    read_body,
    value_of,
    write,
)
from service.watch import Receive, Watch
from service.wire import JSON, Reply, Send, problem

PREFIX: Final = "/v2"
PROTOCOL: Final = "open inference protocol"
INFER: Final = (
    "/v2/models/{model_name}/infer",
    "/v2/models/{model_name}/versions/{model_version}/infer",
)
FOR_ANY: Final = ("binary_data_output", "timeout")  # parameters of requests to whatever model


# What is said -----------------------------------------------------------------------------------------------


class ServerLive(Strict):
    live: bool


class ServerReady(Strict):
    ready: bool


class Server(Strict):
    name: str
    version: str
    extensions: list[str]


class TensorMetadata(Strict):
    """A tensor that a protocol model takes or gives; -1 in its shape is the number of rows."""

    name: str
    datatype: str
    shape: list[int]


class ModelMetadata(Strict):
    name: str
    versions: list[str]
    platform: str
    inputs: list[TensorMetadata]
    outputs: list[TensorMetadata]


class OutputConfig(Strict):
    """A tensor in the words of Triton's configuration, which leaves the number of rows out."""

    name: str
    data_type: str
    dims: list[int]


class InputConfig(OutputConfig):
    optional: bool


class ModelConfig(Strict):
    """What load tools ask Triton for.

    Attributes:
        max_batch_size: the most rows of one request, 0 where the first axis of an input is not the row.
        dynamic_batching: present, as the rows of many callers do share a batch.
    """

    name: str
    platform: str
    max_batch_size: int
    input: list[InputConfig]
    output: list[OutputConfig]
    dynamic_batching: dict[str, int]


class ModelReady(Strict):
    name: str
    ready: bool


class IndexedModel(Strict):
    """One version of a protocol model, or of a model that may not serve, with its reason."""

    name: str
    version: str
    state: str
    reason: str


class ProtocolError(Strict):
    error: str


def is_ours(path: str) -> bool:
    """Whether answers to this path have the protocol's form."""
    return path == PREFIX or path.startswith(f"{PREFIX}/")


def refusal(error: ServiceError) -> Reply:
    """The answer that is a reason, in the protocol's form."""
    return problem(error)._replace(media=JSON, body=orjson.dumps({"error": error.detail}))


# Inference --------------------------------------------------------------------------------------------------


def infer_routes(life: Lifecycle) -> list[StarletteRoute]:
    """Inference, with and without a version."""
    return [StarletteRoute(path, Infer(life), methods=["POST"]) for path in INFER]


class Infer:
    """The ASGI application behind inference."""

    def __init__(self, life: Lifecycle) -> None:
        self._life = life

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await InferExchange(self._life, scope, receive).exchange(send)


class InferExchange(Exchange):
    """One request of inference; it is counted under the verb or the entry point that it asks for."""

    __slots__ = ()

    def __init__(self, life: Lifecycle, scope: Scope, receive: Receive) -> None:
        super().__init__("infer", refusal, life, scope, receive)

    async def _work(self, watch: Watch) -> Reply:
        engine, settings = self._life.engine(), self._life.settings
        sent = await self._body()
        watch.body_read()
        path = self._scope["path_params"]
        served, part, offer = find(engine, path["model_name"], path.get("model_version"))
        self._visit.model, self._verb = served.name, part
        plain = await inflated(sent, self._header(b"content-encoding"), int(settings.max_body_mb * 1e6))
        body = read_body(plain, self._header(HEADER_LENGTH) or None)
        wanted = _wanted(body.request, offer)
        self._patience_s = _patience_s(body.request.parameters, self._patience_s)
        call = self._call(engine, served, settings.max_rows)
        found = await offer.answer(call, _values(body, offer), _theirs(body.request.parameters))
        reply = await _reply(body.request, served, part, found, wanted)
        return await compressed(reply, self._header(b"accept-encoding"))

    def _header(self, name: bytes) -> str:
        return self._headers.get(name, b"").decode("latin1").strip().lower()


def _theirs(parameters: Parameters) -> Parameters:
    return {name: value for name, value in parameters.items() if name not in FOR_ANY}


def _patience_s(parameters: Parameters, longest_s: float) -> float:
    """How long this caller waits, by the parameter ``timeout`` in microseconds."""
    timeout = parameters.get("timeout")
    if timeout is None:
        return longest_s
    if isinstance(timeout, bool | str) or timeout <= 0:
        raise refuse("/parameters/timeout", show(timeout), "microseconds > 0")
    return min(timeout / 1e6, longest_s)


def _values(body: Body, offer: Offer) -> dict[str, Value]:
    """The inputs by name; all that are needed, and no others."""
    ports = {port.name: port for port in offer.inputs}
    for sent in body.request.inputs:
        if sent.name not in ports:
            raise refuse(f"/inputs/{sent.name}", "there", f"the inputs {', '.join(ports)}")
    given = {
        sent.name: value_of(sent, body.blobs.get(sent.name), ports[sent.name]) for sent in body.request.inputs
    }
    for name, port in ports.items():
        if name not in given and not port.optional:
            raise refuse(f"/inputs/{name}", "missing", f"{port.datatype} of shape {port.wording}")
    return given


def _wanted(request: InferRequest, offer: Offer) -> dict[str, bool]:
    """The outputs that are asked for, in that order, and which of them as bytes."""
    there = [port.name for port in offer.outputs]
    default = request.parameters.get("binary_data_output", False)
    if not isinstance(default, bool):
        raise refuse("/parameters/binary_data_output", show(default), "true or false")
    if not request.outputs:
        return dict.fromkeys(there, default)
    wanted: dict[str, bool] = {}
    for output in request.outputs:
        binary = output.parameters.get("binary_data", default)
        if output.name not in there or output.name in wanted:
            raise refuse("/outputs", show(output.name), f"each once, of {', '.join(there)}")
        if output.parameters.keys() - {"binary_data"} or not isinstance(binary, bool):
            raise refuse(
                f"/outputs/{output.name}/parameters", show(output.parameters), "binary_data, a boolean"
            )
        wanted[output.name] = binary
    return wanted


async def _reply(
    request: InferRequest, served: Served, part: str, found: Found, wanted: dict[str, bool]
) -> Reply:
    missing = wanted.keys() - found.outputs.keys() if request.outputs else None
    if missing:
        there = ", ".join(found.outputs)
        raise refuse("/outputs", show(sorted(missing)[0]), f"with these parameters, {there}")
    said = {
        "model_name": f"{served.name}.{part}",
        "model_version": served.version,
        "id": request.id,
        "parameters": found.parameters or None,
    }
    present = {name: value for name, value in said.items() if value is not None}
    outputs = {name: found.outputs[name] for name in wanted if name in found.outputs}
    return await write(present, outputs, wanted)


# Health and metadata ----------------------------------------------------------------------------------------


def router(life: Lifecycle) -> APIRouter:
    """What can be asked without inference."""
    router = APIRouter(prefix=PREFIX, tags=[PROTOCOL], responses=_REFUSALS)
    _add_server(router, life)
    _add_models(router, life)
    _add_configurations(router, life)
    return router


_REFUSALS: Final[dict[int | str, dict[str, object]]] = {
    status: {"model": ProtocolError, "description": why}
    for status, why in {
        401: "no key, or an unknown one",
        404: "no such model or version",
        422: "cannot be read",
        429: "the key's limit is reached",
        503: "not ready, draining, or the device failed",
    }.items()
}


def _add_server(router: APIRouter, life: Lifecycle) -> None:
    @router.get("/health/live")
    async def server_live() -> ServerLive:
        """200 unless the process has to be replaced."""
        if life.dead:
            raise EngineDead("the device failed; the process is ending")
        return ServerLive(live=True)

    @router.get("/health/ready")
    async def server_ready() -> ServerReady:
        """200 when every model that is served is warm and has passed its probe."""
        reason = life.why_not_ready()
        if reason is not None:
            raise NotReady(f"not ready: {reason}")
        return ServerReady(ready=True)

    @router.get("")
    async def server_metadata() -> Server:
        """Who answers, and which extensions of the protocol it speaks."""
        return Server(
            name="pushforward",
            version=version_of("pushforward"),
            extensions=["binary_tensor_data", "parameters", "model_configuration"],
        )


def _add_models(router: APIRouter, life: Lifecycle) -> None:
    @router.post("/repository/index")
    async def repository_index() -> list[IndexedModel]:
        """Every version of every protocol model, and what may not serve."""
        return _index(life.engine(), life.refused)

    @router.get("/models/{model_name}")
    async def model_metadata(model_name: str) -> ModelMetadata:
        """The tensors that a protocol model takes and gives."""
        return _metadata(life.engine(), model_name, None)

    @router.get("/models/{model_name}/versions/{model_version}")
    async def model_version_metadata(model_name: str, model_version: str) -> ModelMetadata:
        """The same of one version."""
        return _metadata(life.engine(), model_name, model_version)

    @router.get("/models/{model_name}/ready")
    async def model_ready(model_name: str) -> ModelReady:
        """200 when the protocol model may be asked."""
        return _ready(life, model_name, None)

    @router.get("/models/{model_name}/versions/{model_version}/ready")
    async def model_version_ready(model_name: str, model_version: str) -> ModelReady:
        """The same of one version."""
        return _ready(life, model_name, model_version)


def _add_configurations(router: APIRouter, life: Lifecycle) -> None:
    max_rows = life.settings.max_rows

    @router.get("/models/{model_name}/config")
    async def model_config(model_name: str) -> ModelConfig:
        """The same as the metadata, as Triton's tools read it."""
        return _config(find(life.engine(), model_name, None), max_rows)

    @router.get("/models/{model_name}/versions/{model_version}/config")
    async def model_version_config(model_name: str, model_version: str) -> ModelConfig:
        """The same of one version."""
        return _config(find(life.engine(), model_name, model_version), max_rows)


def _config(found: tuple[Served, str, Offer], max_rows: int) -> ModelConfig:
    served, part, offer = found
    by_row = all(port.shape[0] == -1 for port in offer.inputs)
    return ModelConfig(
        name=f"{served.name}.{part}",
        platform=offer.platform,
        max_batch_size=max_rows if by_row else 0,
        input=[InputConfig(**_configured(port, by_row), optional=port.optional) for port in offer.inputs],
        output=[OutputConfig(**_configured(port, by_row)) for port in offer.outputs],
        dynamic_batching={},
    )


def _configured(port: Port, by_row: bool) -> dict[str, Any]:
    data_type = "TYPE_STRING" if port.datatype == BYTES else f"TYPE_{port.datatype}"
    # A tensor of one number for each row has no axis left, which Triton writes as one of length 1.
    dims = (port.shape[1:] or (1,)) if by_row else port.shape
    return {"name": port.name, "data_type": data_type, "dims": list(dims)}


def _ready(life: Lifecycle, name: str, version: str | None) -> ModelReady:
    find(life.engine(), name, version)
    if (reason := life.why_not_ready()) is not None:
        raise NotReady(f"not ready: {reason}")
    return ModelReady(name=name, ready=True)


def _metadata(engine: Engine, name: str, version: str | None) -> ModelMetadata:
    served, part, offer = find(engine, name, version)
    others = (other for other in engine.models() if other.name == served.name)
    return ModelMetadata(
        name=f"{served.name}.{part}",
        versions=[other.version for other in others if part in offers(other)],
        platform=offer.platform,
        inputs=[_described(port) for port in offer.inputs],
        outputs=[_described(port) for port in offer.outputs],
    )


def _described(port: Port) -> TensorMetadata:
    return TensorMetadata(name=port.name, datatype=port.datatype, shape=list(port.shape))


def _index(engine: Engine, refused: dict[str, str]) -> list[IndexedModel]:
    served = [
        IndexedModel(name=f"{one.name}.{part}", version=one.version, state="READY", reason="")
        for one in engine.models()
        for part in offers(one)
    ]
    labels = ((label.partition("/"), reason) for label, reason in refused.items())
    return served + [
        IndexedModel(name=name, version=version, state="UNAVAILABLE", reason=reason)
        for (name, _, version), reason in labels
    ]
