"""The six verbs, each a composition of a model's entry points; nothing here knows what family a model is.

sample = decode of noise; encode; reconstruct = decode of encode; interpolate = decode of a path between two
codes; loglik = log-mean-exp of log_weight. Noise travels as an address and is drawn where batches form. What
needs one run and nothing else is that run, with what its outputs come to.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from functools import lru_cache
from typing import Any, Final, TypeVar

import numpy as np
from numpy.typing import NDArray

from models import noise
from models.manifest import DType, EntryName, Manifest, Role
from models.noise import Address
from models.scores import DEFAULT_K, judged
from service.calls import Call, Outputs, Run, check_return, data, in_turns, latent, log_weights, run
from service.codes import recall, remembered
from service.errors import TooLarge
from service.facts import facts, labels, move, require
from service.paths import lerp, slerp
from service.schemas import (
    MAX_SAFE_INTEGER,
    AddressEnd,
    DecodeRequest,
    EncodeRequest,
    End,
    IdEnd,
    InputEnd,
    InterpolateRequest,
    Label,
    LoglikRequest,
    ReconstructRequest,
    SampleRequest,
    refuse,
    rows,
    show,
)
from service.streams import Stream, columns
from service.wire import Answer, is_pictures

WHOLE_BYTES: Final = 1 << 18  # an answer up to here is not sent in pieces
PIECE_BYTES: Final = 1 << 16  # of a stream; sending one keeps the event loop for a fraction of a millisecond
MAX_DRAWS: Final = 10_000_000  # rows times importance samples of one request; 80 MB of float64

Array = NDArray[Any]
Step = Answer | Awaitable[Answer]  # mostly one run, whose outputs are all that is waited for
T = TypeVar("T")


async def answered(step: Step) -> Answer:
    """What a verb comes to in the end."""
    return step if isinstance(step, Answer) else await step


def sample(call: Call, request: SampleRequest) -> Step:
    """Rows ``offset`` to ``offset + n`` of a seed."""
    at_most(call.max_rows, "/n", request.n, ", or any number streamed as npy, NDJSON or, for tables, CSV")
    seed, offset = _seed(call, request), request.offset
    label = _labels(call, ("decode",), request.label, request.n)

    def answer(outputs: Outputs) -> Answer:
        return _pictures(call, {**call.named(), "seed": seed, "offset": offset, "samples": outputs["data"]})

    return _samples(call, request, Address(seed, offset), request.n, label, answer)


def is_long(call: Call, request: SampleRequest) -> bool:
    """Whether the rows are better sent in pieces."""
    return request.n > _rows_of(call, WHOLE_BYTES)


def sample_stream(call: Call, request: SampleRequest, patience_s: float) -> Stream:
    """The same rows, however many, in pieces that are made as they are taken.

    Args:
        patience_s: how long one piece may take.
    """
    if isinstance(request.label, list):
        at_most(call.max_rows, "/n", request.n)
    seed = _seed(call, request)
    tensor = call.gives("decode", "data")
    fields = {**call.named(), "seed": seed, "offset": request.offset}
    pieces = _ahead(_pieces(call, request, seed, patience_s))
    shape = (request.n, *tensor.row_shape)
    return Stream(fields, shape, np.dtype(tensor.dtype), pieces, columns(call.manifest.data))


def encode(call: Call, request: EncodeRequest) -> Step:
    """Codes, with ids under which the service remembers them."""
    x = _data(call, "inputs", request.inputs)
    label = _labels(call, ("encode",), request.label, len(x))
    return remembered(call, [x] if label is None else [x, label])


def decode(call: Call, request: DecodeRequest) -> Step:
    """Samples of codes, given as numbers or by id."""
    by = move(call.served, request.directions)
    if request.ids is not None:
        return _decode_ids(call, request, request.ids, by)
    assert request.latents is not None
    z = _array(call, "decode", "latent", "latents", request.latents)
    return _decoded(call, request, _moved(z, by))


async def _decode_ids(call: Call, request: DecodeRequest, ids: list[str], by: Array | None) -> Answer:
    at_most(call.max_rows, "rows of /ids", len(ids))
    return await _decoded(call, request, _moved(await recall(call, ids), by))


def _decoded(call: Call, request: DecodeRequest, z: Array) -> Run[Answer]:
    def answer(outputs: Outputs) -> Answer:
        return _pictures(call, {**call.named(), "samples": outputs["data"]})

    label = _labels(call, ("decode",), request.label, len(z))
    return run(call, "decode", z, len(z), label, answer)


async def reconstruct(call: Call, request: ReconstructRequest) -> Answer:
    """Each row through its code and back."""
    x = _data(call, "inputs", request.inputs)
    label = _labels(call, ("encode", "decode"), request.label, len(x))
    by = move(call.served, request.directions)
    z = _moved(await run(call, "encode", x, len(x), label, latent), by)
    samples = await run(call, "decode", z, len(z), label, data)
    if by is None:
        check_return(call, x, samples)
    return _pictures(call, {**call.named(), "samples": samples})


async def interpolate(call: Call, request: InterpolateRequest) -> Answer:
    """Steps along a path between two codes; the first and the last are the ends themselves."""
    at_most(call.max_rows, "/steps", request.steps)
    label = _labels(call, ("decode",), request.label, request.steps)
    by = move(call.served, request.directions)
    ends = [_end(call, request.start, "start", request), _end(call, request.end, "end", request)]
    start, end = (z[0] for z in await in_turns(ends))
    path, t = _path(call.manifest, request), np.linspace(0.0, 1.0, request.steps)
    z = _moved(_walk(path, start, end, t), by)
    samples = await run(call, "decode", z, len(z), label, data)
    return _pictures(call, {**call.named(), "path": path, "t": t, "samples": samples}, columns=len(t))


def loglik(call: Call, request: LoglikRequest) -> Step:
    """The log-likelihood of each row, or an estimate of it with its error, and what it is worth."""
    x = _array(call, "log_weight", "data", "inputs", request.inputs)
    label = _labels(call, ("log_weight",), request.label, len(x))
    known, calibration = facts(call.served), call.manifest.calibration
    estimated = call.manifest.entry_points["log_weight"].input("noise") is not None
    k, seed = _draws(request, call.manifest) if estimated else (1, 0)
    at_most(MAX_DRAWS, "/k", k * len(x))
    held_out = known.scores if calibration and calibration.k == k else None

    def answer(log_w: Array) -> Answer:
        said = judged(call.manifest.data, log_w, held_out, estimated)
        call.served.scores.scored(said["log_likelihood"], said["status"], held_out is not None)
        origin = {"k": k, "seed": seed} if estimated else {}
        kind = {"kind": call.manifest.grades.density, "unit": "nats"}
        return Answer({**call.named(), **kind, **origin, **said}, "log_likelihood")

    return _log_weights_inside(call, x, label, k, seed, answer)


def _log_weights_inside(
    call: Call, x: Array, label: Array | None, k: int, seed: int, then: Callable[[Array], Answer]
) -> Step:
    """Draws of log_weight, (B, K), -inf for rows outside the support, which no graph has to see."""
    known = facts(call.served)
    if known.bounds.open:
        return log_weights(call, x, label, k, seed, then)
    log_w = np.full((len(x), k), -np.inf)
    inside = ~known.violations(x).any(axis=1)
    if not inside.any():
        return then(log_w)

    def over(of_inside: Array) -> Answer:
        log_w[inside] = of_inside
        return then(log_w)

    return log_weights(call, x[inside], None if label is None else label[inside], k, seed, over)


# What requests bring


def at_most(limit: int, field: str, value: int, otherwise: str = "") -> None:
    """Refuse a number that can never be served.

    Raises:
        TooLarge: naming the field.
    """
    if value > limit:
        raise TooLarge(f"{field} is {value}; allowed: at most {limit}{otherwise}", field=field, limit=limit)


def _labels(call: Call, entries: tuple[EntryName, ...], label: Label | None, count: int) -> Array | None:
    """The class of each row, ``None`` where nobody gives or takes one."""
    if label is None and facts(call.served).labelled.isdisjoint(entries):
        return None
    return labels(call.manifest, entries, label, count)


def _seed(call: Call, request: SampleRequest) -> int:
    """The seed asked for, or a new one, when the rest of the address is sound."""
    if request.offset + request.n > MAX_SAFE_INTEGER:
        raise refuse("/offset", show(request.offset), f"offset + n up to {MAX_SAFE_INTEGER}")
    if request.temperature != 1 or request.truncation is not None:
        _check_spread(call, request)
    return call.served.seed(request.n) if request.seed is None else request.seed


def _check_spread(call: Call, request: SampleRequest) -> None:
    prior = call.manifest.latent.prior if call.manifest.latent else None
    if request.temperature != 1 and prior not in ("standard_normal", "logistic"):
        raise refuse("/temperature", show(request.temperature), f"1 for a model whose prior is {prior}")
    if request.truncation is not None and prior != "standard_normal":
        raise refuse("/truncation", show(request.truncation), f"none for a model whose prior is {prior}")


def _array(call: Call, entry: EntryName, role: Role, field: str, value: list[Any] | Array) -> Array:
    at_most(call.max_rows, f"rows of /{field}", len(value))
    tensor = call.takes(entry, role)
    return rows(value, tensor.row_shape, tensor.dtype, field, call.numeric)


def _data(call: Call, field: str, value: list[Any] | Array) -> Array:
    """Rows to be encoded; they have to lie in the support."""
    x = _array(call, "encode", "data", field, value)
    facts(call.served).check(x, field)
    return x


def _draws(request: LoglikRequest, manifest: Manifest) -> tuple[int, int]:
    """Importance samples and the seed of their noise; by default those of the calibration."""
    calibration = manifest.calibration
    k = request.k or (calibration.k if calibration else DEFAULT_K)
    seed = request.seed if request.seed is not None else calibration.seed if calibration else 0
    return k, seed


async def _end(call: Call, end: End, name: str, request: InterpolateRequest) -> Array:
    """The code of one end of a walk, (1, ...)."""
    match end:
        case AddressEnd():
            return _drawn(call, end)
        case IdEnd():
            return await recall(call, [end.id])
        case InputEnd():
            require(call.served, "encode", call.others)
            x = _data(call, f"{name}/input", [end.input])
            return await _code(call, x, request)
    return _array(call, "decode", "latent", f"{name}/latent", [end.latent])


async def _code(call: Call, x: Array, request: InterpolateRequest) -> Array:
    """The code of one row, (1, ...); of a bijection one that leads back to the row."""
    label = _labels(call, ("encode",), request.label, 1)
    z = await run(call, "encode", x, 1, label, latent)
    if call.manifest.grades.latents == "bijection":
        check_return(call, x, await run(call, "decode", z, 1, label, data))
    return z


def _drawn(call: Call, end: AddressEnd) -> Array:
    """The code behind a row of ``/sample``, (1, ...)."""
    latent = call.manifest.latent
    assert latent is not None
    dtype = call.takes("decode", "latent").dtype
    return noise.draw([(Address(end.seed, end.index), 1)], latent.prior, latent.shape, dtype)


def _path(manifest: Manifest, request: InterpolateRequest) -> str:
    assert manifest.latent is not None
    return request.path or ("slerp" if manifest.latent.prior == "standard_normal" else "lerp")


def _walk(path: str, start: Array, end: Array, t: Array) -> Array:
    """Codes along a path, (S, ...), the ends bit for bit."""
    try:
        z = (slerp if path == "slerp" else lerp)(start, end, t).astype(start.dtype)
    except ValueError as error:
        raise refuse("/path", f"'slerp' with {error}", "ends on one great circle, or the path lerp") from None
    z[0], z[-1] = start, end
    return z


def _moved(z: Array, by: Array | None) -> Array:
    """Codes (B, ...), each moved by the same; added in float64, so rounded once."""
    return z if by is None else (z + by).astype(z.dtype)


def _pictures(call: Call, fields: dict[str, Any], columns: int | None = None) -> Answer:
    space = call.manifest.data
    return Answer(fields, "samples", space.display if is_pictures(space) else None, columns)


# Rows of a seed


def _samples(
    call: Call,
    request: SampleRequest,
    address: Address,
    count: int,
    label: Array | None,
    then: Callable[[Outputs], T],
    more: bool = False,
) -> Run[T]:
    truncation = math.inf if request.truncation is None else request.truncation
    codes = Address(address.seed, address.offset, noise.LATENT, request.temperature, 1, truncation)
    return run(call, "decode", codes, count, label, then, address, admitted=more)


async def _pieces(
    call: Call, request: SampleRequest, seed: int, patience_s: float
) -> AsyncGenerator[Array, None]:
    """The rows of a stream in order, some thousands at a time."""
    caller = call.visit.caller
    step = caller.at_once(_rows_of(call, PIECE_BYTES))
    for done in range(0, request.n, step):
        count = min(step, request.n - done)
        label = request.label[done : done + count] if isinstance(request.label, list) else request.label
        classes = _labels(call, ("decode",), label, count)
        if done:
            await caller.pause(count)
        piece = call._replace(deadline=time.monotonic() + patience_s)
        address = Address(seed, request.offset + done)
        yield await _samples(piece, request, address, count, classes, data, done > 0)


def _rows_of(call: Call, size: int) -> int:
    """How many samples there are in so many bytes."""
    tensor = call.gives("decode", "data")
    return max(1, size // _row_bytes(tensor.dtype, tensor.row_shape))


@lru_cache(maxsize=256)
def _row_bytes(dtype: DType, shape: tuple[int, ...]) -> int:
    return np.dtype(dtype).itemsize * math.prod(shape)


async def _ahead(pieces: AsyncGenerator[Array, None]) -> AsyncGenerator[Array, None]:
    """The same pieces; the next one is made while one is sent."""
    coming = asyncio.ensure_future(anext(pieces, None))
    try:
        while (piece := await coming) is not None:
            coming = asyncio.ensure_future(anext(pieces, None))
            yield piece
    finally:
        coming.cancel()
        await asyncio.wait([coming])  # and whatever it ended with is of no interest any more
        if not coming.cancelled():
            coming.exception()
