"""The hot verbs: one plain ASGI endpoint, parametrised by a row of a table.

It parses once, hands the call to an operation, and writes the answer once.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final
from urllib.parse import parse_qsl

import orjson
from pydantic import ValidationError

from models.manifest import DataSpace, Verb
from service import operations, schemas
from service.calls import Call
from service.errors import NotAcceptable, UnsupportedMediaType
from service.exchange import Begun, Exchange, Scope
from service.facts import require
from service.lifecycle import Lifecycle
from service.operations import Step, answered
from service.streams import Stream, is_table
from service.watch import Receive, Watch
from service.wire import (
    CSV,
    JSON,
    NDJSON,
    NPY,
    NPZ,
    PNG,
    Array,
    Reply,
    Send,
    encode,
    is_pictures,
    preferred,
    problem,
    read_npy,
    with_numbers,
)

MAX_PICTURES: Final = 1024
KNOWN_BYTES: Final = 256  # of a body that is remembered

Application = Callable[[Scope, Receive, Send], Awaitable[None]]


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
    operation: Callable[[Call, Any], Step]
    query: type[schemas.Request] | None = None
    array: str | None = None
    pictures: bool = True
    lines: bool = False

    @property
    def path(self) -> str:
        return f"/{self.verb}"

    def with_array(self, query: schemas.Request, array: Array) -> schemas.Request:
        """The request whose array did not come as JSON."""
        assert self.array is not None
        given: dict[str, Any] = {name: getattr(query, name) for name in query.model_fields_set}
        given[self.array] = array
        return self.request.model_validate(given)


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


class Endpoint:
    """The ASGI application behind one verb."""

    def __init__(self, route: Route, life: Lifecycle) -> None:
        self._route = route
        self._life = life

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        return VerbExchange(self._route, self._life, scope, receive).exchange(send)


class VerbExchange(Exchange):
    """One call of a verb."""

    __slots__ = ("_media", "_numeric", "_route")

    def __init__(self, route: Route, life: Lifecycle, scope: Scope, receive: Receive) -> None:
        super().__init__(route.verb, problem, life, scope, receive)
        self._route = route
        self._numeric = False
        self._media = JSON

    async def _work(self, watch: Watch) -> Reply | Begun:
        self._life.engine()  # before a body is waited for
        body = await self._body()
        watch.body_read()
        return await self._finish(self._begin(body))

    def _begin(self, body: bytes) -> Step | Stream:
        """Understand the request; what is to be waited for.

        Raises:
            ServiceError: the reason why there will be no answer.
        """
        engine, settings = self._life.engine(), self._life.settings
        request = self._parse(body)
        served = engine.find(request.model, request.version)
        self._visit.model = request.model
        require(served, self._route.verb, engine.models)
        media = self._media = self._preferred(served.manifest.data)
        max_rows = min(settings.max_rows, MAX_PICTURES) if media == PNG else settings.max_rows
        call = self._call(engine, served, max_rows, self._numeric)
        if isinstance(request, schemas.SampleRequest) and _in_pieces(media, call, request):
            return operations.sample_stream(call, request, self._patience_s)
        return self._route.operation(call, request)

    async def _finish(self, begun: Step | Stream) -> Reply | Begun:
        if isinstance(begun, Stream):
            return Begun(begun, await anext(begun.pieces), self._media)
        return await encode(await answered(begun), self._media)

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
        array = self._route.array
        if array is not None and (request := self._parse_numbers(body, array)) is not None:
            return request
        try:
            return _known(model, body) if len(body) <= KNOWN_BYTES else model.model_validate_json(body)
        except ValidationError as error:
            raise schemas.invalid(error, _loaded(body), model.model_fields) from None

    def _parse_numbers(self, body: bytes, field: str) -> schemas.Request | None:
        """The request, if all is well and its lists plainly numbers: these need no validation one by one.

        A number of its own for each costs more than to read and to encode a small row.
        """
        try:
            request = self._route.request.model_validate(with_numbers(body, field))
        except (ValueError, TypeError, KeyError):
            return None
        self._numeric = True
        return request

    def _parse_npy(self, body: bytes, model: type[schemas.Request]) -> schemas.Request:
        return self._route.with_array(_query(self._scope["query_string"], model), read_npy(body))

    def _preferred(self, space: DataSpace) -> str:
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
        table = (CSV,) if self._route.lines and is_table(space) else ()
        return (JSON, NPY, NPZ, *pictures, *((NDJSON,) if self._route.lines else ()), *table)


def _in_pieces(media: str, call: Call, request: schemas.SampleRequest) -> bool:
    """Whether the answer is sent as it is made; lines always are."""
    return media in (NDJSON, CSV) or (media == NPY and operations.is_long(call, request))


@lru_cache(maxsize=1024)
def _known(model: type[schemas.Request], body: bytes) -> schemas.Request:
    """What a small body says; a caller sends the same one again and again."""
    return model.model_validate_json(body)


@lru_cache(maxsize=256)
def _query(said: bytes, model: type[schemas.Request]) -> schemas.Request:
    """The fields beside an npy body; a caller sends the same ones again and again."""
    pairs = parse_qsl(said.decode("latin1"), keep_blank_values=True)
    fields = dict(pairs)
    if len(fields) < len(pairs):
        raise schemas.refuse("the query string", schemas.show([*fields]), "each field once")
    members = nested(fields)
    try:
        return model.model_validate_strings(members)
    except ValidationError as error:
        raise schemas.invalid(error, members, model.model_fields) from None


def nested(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Flat fields, where ``directions.bold=1`` is the member ``bold`` of ``directions``."""
    whole: dict[str, Any] = {name: value for name, value in fields.items() if "." not in name}
    for name in fields.keys() - whole.keys():
        outer, _, inner = name.partition(".")
        if outer in fields:
            raise schemas.refuse("the fields", schemas.show([*fields]), f"{outer} or {name}, not both")
        whole.setdefault(outer, {})[inner] = fields[name]
    return whole


def _loaded(body: bytes) -> Any:
    """The body as plain values, for the wording of a refusal only."""
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
