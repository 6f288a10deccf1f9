"""The hot verbs: one plain ASGI endpoint, parametrised by a row of a table.

It parses once, fixes the deadline, hands the call to an operation, and writes the answer once. A request
that waits is watched: a caller who hung up, or a deadline that passed, cancels the work.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import parse_qsl

import orjson
from pydantic import ValidationError

from models.manifest import DataSpace, Verb
from service import operations, schemas
from service.calls import Call
from service.errors import (
    BodyTooLarge,
    DeadlinePassed,
    Internal,
    NotAcceptable,
    ServiceError,
    UnsupportedMediaType,
)
from service.facts import require
from service.lifecycle import Lifecycle
from service.metrics import NO_MODEL
from service.streams import Stream, columns, send_stream
from service.watch import Receive, Watch
from service.wire import (
    CSV,
    JSON,
    NDJSON,
    NPY,
    NPZ,
    PNG,
    Answer,
    Array,
    Reply,
    Send,
    encode,
    is_pictures,
    preferred,
    problem,
    read_npy,
    send_reply,
)

MAX_PICTURES: Final = 1024
HUNG_UP: Final = 499  # the status under which callers who left are counted
TIMEOUT_HEADER: Final = b"x-request-timeout-ms"
LOG: Final = logging.getLogger("pushforward")

Scope = MutableMapping[str, Any]
Headers = dict[bytes, bytes]


@dataclass(frozen=True, slots=True)
class Route:
    """One verb of the contract.

    Attributes:
        request: the JSON body.
        query: the fields beside an npy body, ``None`` if the verb takes none.
        array: the field that an npy body is.
        operation: what answers.
        pictures: whether the answer may be a PNG.
        lines: whether the answer may be lines, one a row.
    """

    verb: Verb
    request: type[schemas.Request]
    operation: Callable[[Call, Any], Awaitable[Answer]]
    query: type[schemas.Request] | None = None
    array: str | None = None
    pictures: bool = True
    lines: bool = False

    @property
    def path(self) -> str:
        return f"/{self.verb}"


ROUTES: Final = (
    Route("sample", schemas.SampleRequest, operations.sample, lines=True),
    Route("encode", schemas.EncodeRequest, operations.encode, schemas.EncodeQuery, "inputs", pictures=False),
    Route("decode", schemas.DecodeRequest, operations.decode, schemas.DecodeQuery, "latents"),
    Route(
        "reconstruct", schemas.ReconstructRequest, operations.reconstruct, schemas.ReconstructQuery, "inputs"
    ),
    Route("interpolate", schemas.InterpolateRequest, operations.interpolate),
    Route("loglik", schemas.LoglikRequest, operations.loglik, schemas.LoglikQuery, "inputs", pictures=False),
)


class HungUp(Exception):
    """The caller left while the body was read."""


@dataclass(frozen=True, slots=True)
class Begun:
    """A stream whose first piece is there."""

    stream: Stream
    first: Array
    media: str


class Endpoint:
    """The ASGI application behind one verb."""

    def __init__(self, route: Route, life: Lifecycle) -> None:
        self._route = route
        self._life = life

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        exchange = Exchange(self._route, self._life, scope, receive)
        self._life.enter()
        try:
            await exchange.serve(send)
        finally:
            self._life.leave()
            exchange.count()


class Exchange:
    """One request and its answer."""

    __slots__ = ("_headers", "_life", "_model", "_receive", "_route", "_scope", "_started", "_status")

    def __init__(self, route: Route, life: Lifecycle, scope: Scope, receive: Receive) -> None:
        self._started = time.monotonic()
        self._route = route
        self._life = life
        self._scope = scope
        self._receive = receive
        self._headers: Headers = dict(scope["headers"])
        self._model = NO_MODEL
        self._status = HUNG_UP

    async def serve(self, send: Send) -> None:
        """Answer, whatever happens, unless nobody is there to be answered."""
        try:
            patience_s = self._patience_s()
        except ServiceError as error:
            await self._send(self._refusal(error), send)
            return
        watch = Watch(self._receive, self._started + patience_s)
        try:
            outcome = await self._outcome(watch, patience_s)
            if isinstance(outcome, Begun):
                await self._send_stream(outcome, watch, patience_s, send)
        finally:
            watch.stop()
        if isinstance(outcome, Reply):
            await self._send(outcome, send)

    async def _outcome(self, watch: Watch, patience_s: float) -> Reply | Begun | None:
        """The result or the reason why there is none; ``None`` if nobody waits for it."""
        try:
            return await self._work(watch, patience_s)
        except HungUp:
            return None
        except asyncio.CancelledError:
            if watch.ended is None:
                raise
            if watch.ended == "hung up":
                return None
            return self._refusal(DeadlinePassed(f"no answer within {patience_s * 1000:g} ms"))
        except ServiceError as error:
            return self._refusal(error)
        except Exception:
            LOG.exception("%s failed", self._route.path)
            return self._refusal(Internal("the service made a mistake; its log says which"))

    async def _work(self, watch: Watch, patience_s: float) -> Reply | Begun:
        engine = self._life.engine()
        body = await self._body()
        watch.body_read()
        request = self._parse(body)
        served = engine.find(request.model, request.version)
        self._model = request.model
        require(served, self._route.verb, engine.models)
        media = self._media(served.manifest.data)
        settings = self._life.settings
        max_rows = min(settings.max_rows, MAX_PICTURES) if media == PNG else settings.max_rows
        call = Call(served, self._life.store, self._started + patience_s, max_rows, engine.models)
        if isinstance(request, schemas.SampleRequest) and _in_pieces(media, call, request):
            stream = operations.sample_stream(call, request, patience_s)
            return Begun(stream, await anext(stream.pieces), media)
        return await encode(await self._route.operation(call, request), media)

    def _patience_s(self) -> float:
        """How long this caller waits; the service's own bound is the longest."""
        longest = self._life.settings.deadline_ms
        asked = self._headers.get(TIMEOUT_HEADER)
        if asked is None:
            return longest / 1000
        try:
            ms = float(asked)
        except ValueError:
            ms = 0.0
        if not 0 < ms < float("inf"):
            raise schemas.refuse(
                "header X-Request-Timeout-Ms", schemas.show(asked.decode("latin1")), "ms > 0"
            )
        return min(ms, longest) / 1000

    async def _body(self) -> bytes:
        """The whole body, as long as it fits."""
        limit = int(self._life.settings.max_body_mb * 1e6)
        announced = self._headers.get(b"content-length", b"0")
        if announced.isdigit() and int(announced) > limit:
            raise _too_large(f"{announced.decode('latin1')} bytes", limit)
        message = await self._receive()
        body: bytes = message.get("body", b"")
        if message.get("more_body"):
            body = await self._rest(body, limit)
        elif message["type"] == "http.disconnect":
            raise HungUp
        if len(body) > limit:
            raise _too_large(f"{len(body)} bytes", limit)
        return body

    async def _rest(self, first: bytes, limit: int) -> bytes:
        parts, size = [first], len(first)
        while True:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                raise HungUp
            parts.append(message.get("body", b""))
            size += len(parts[-1])
            if size > limit:
                raise _too_large(f"more than {limit} bytes", limit)
            if not message.get("more_body"):
                return b"".join(parts)

    def _parse(self, body: bytes) -> schemas.Request:
        if self._headers.get(b"content-encoding", b"identity") != b"identity":
            raise UnsupportedMediaType("the body is compressed; allowed: no Content-Encoding")
        media = self._headers.get(b"content-type", b"application/json")
        if media != b"application/json":
            media = media.split(b";")[0].strip().lower()
        if media == b"application/json":
            return self._parse_json(body)
        if media == NPY.encode() and self._route.query is not None:
            return self._parse_npy(body, self._route.query)
        allowed = f"{JSON} or {NPY}" if self._route.query else JSON
        seen = media.decode("latin1")[:80]
        raise UnsupportedMediaType(f"the body is {seen!r}; {self._route.path} allows {allowed}")

    def _parse_json(self, body: bytes) -> schemas.Request:
        model = self._route.request
        if self._scope["query_string"]:
            query = schemas.show(self._scope["query_string"].decode("latin1"))
            raise schemas.refuse("the query string", query, f"nothing beside a body of {JSON}")
        try:
            return model.model_validate_json(body)
        except ValidationError as error:
            raise schemas.invalid(error, _loaded(body), model.model_fields) from None

    def _parse_npy(self, body: bytes, model: type[schemas.Request]) -> schemas.Request:
        pairs = parse_qsl(self._scope["query_string"].decode("latin1"), keep_blank_values=True)
        fields = dict(pairs)
        if len(fields) < len(pairs):
            raise schemas.refuse("the query string", schemas.show([*fields]), "each field once")
        members = _nested(fields)
        try:
            query = model.model_validate_strings(members)
        except ValidationError as error:
            raise schemas.invalid(error, members, model.model_fields) from None
        assert self._route.array is not None
        given: dict[str, Any] = {name: getattr(query, name) for name in query.model_fields_set}
        given[self._route.array] = read_npy(body)
        return self._route.request.model_construct(**given)

    def _media(self, space: DataSpace) -> str:
        """The form of the answer, by the caller's taste."""
        accept = self._headers.get(b"accept")
        if accept is None or accept == b"*/*" or accept == b"application/json":
            return JSON
        offered = self._offered(space)
        media = preferred(accept.decode("latin1"), offered)
        if media is None:
            seen = schemas.show(accept.decode("latin1"))
            raise NotAcceptable(f"Accept is {seen}; allowed: {', '.join(offered)}", offered=list(offered))
        return media

    def _offered(self, space: DataSpace) -> tuple[str, ...]:
        """The forms of this model's answers, ours first."""
        pictures = (PNG,) if self._route.pictures and is_pictures(space) else ()
        table = (CSV,) if self._route.lines and columns(space) else ()
        return (JSON, NPY, NPZ, *pictures, *((NDJSON,) if self._route.lines else ()), *table)

    def _refusal(self, error: ServiceError) -> Reply:
        self._life.metrics.rejected(error.code)
        return problem(error)

    async def _send(self, reply: Reply, send: Send) -> None:
        self._status = reply.status
        await send_reply(reply, send)

    async def _send_stream(self, begun: Begun, watch: Watch, stall_s: float, send: Send) -> None:
        """From here on the only way to say that something failed is to break the connection off."""
        self._status = 200
        watch.forget_deadline()
        try:
            await send_stream(begun.stream, begun.first, begun.media, send, stall_s)
        except asyncio.CancelledError:
            self._status = HUNG_UP
            if watch.ended is None:
                raise
        except (ServiceError, TimeoutError) as error:
            self._status = HUNG_UP if isinstance(error, TimeoutError) else error.status
            LOG.warning("%s broken off: %s", self._route.path, error or "the caller takes no more bytes")
        finally:
            await begun.stream.pieces.aclose()

    def count(self) -> None:
        """Add this exchange to the metrics."""
        self._life.metrics.answered(self._route.verb, self._model, self._status, self._started)


def _in_pieces(media: str, call: Call, request: schemas.SampleRequest) -> bool:
    """Whether the answer is sent as it is made; lines always are."""
    return media in (NDJSON, CSV) or (media == NPY and operations.is_long(call, request))


def _too_large(seen: str, limit: int) -> BodyTooLarge:
    return BodyTooLarge(f"the body has {seen}; allowed: {limit}", limit=limit)


def _nested(fields: Mapping[str, str]) -> dict[str, Any]:
    """A query string's fields, where ``directions.bold=1`` is the member ``bold`` of ``directions``."""
    nested: dict[str, Any] = {name: value for name, value in fields.items() if "." not in name}
    for name in fields.keys() - nested.keys():
        outer, _, inner = name.partition(".")
        members = nested.setdefault(outer, {})
        if isinstance(members, str):
            raise schemas.refuse("the query string", schemas.show([*fields]), f"{outer} or {name}, not both")
        members[inner] = fields[name]
    return nested


def _loaded(body: bytes) -> Any:
    """The body as plain values, for the wording of a refusal only."""
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
