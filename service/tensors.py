"""The protocol's tensors: named arrays as JSON or as bytes behind it, read once and written once.

A body is JSON, or JSON whose length a header gives with the bytes of tensors behind it, back to back,
little-endian and row-major.

Reference: Open Inference Protocol, REST, version 2, and its extension for binary tensor data.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain
from typing import Annotated, Any, Final

import numpy as np
import orjson
from numpy.typing import NDArray
from pydantic import ConfigDict, Field, TypeAdapter, ValidationError

from service.errors import InvalidInput
from service.schemas import MAX_SAFE_INTEGER, Strict, invalid, refuse, show
from service.wire import JSON, Reply, json_array

HEADER_LENGTH: Final = b"inference-header-content-length"
BINARY: Final = "application/octet-stream"
BYTES: Final = "BYTES"
NUMBERS: Final[dict[str, np.dtype[Any]]] = {
    **{f"INT{bits}": np.dtype(f"<i{bits // 8}") for bits in (8, 16, 32, 64)},
    **{f"UINT{bits}": np.dtype(f"<u{bits // 8}") for bits in (8, 16, 32, 64)},
    **{f"FP{bits}": np.dtype(f"<f{bits // 8}") for bits in (16, 32, 64)},
}
DATATYPES: Final = {dtype: name for name, dtype in NUMBERS.items()} | {np.dtype(bool): "BOOL"}
MAX_TEXT: Final = 200  # of one element of BYTES, such as the name of a class

Array = NDArray[Any]
Value = Array | list[str]
Parameter = bool | Annotated[int, Field(ge=-MAX_SAFE_INTEGER, le=MAX_SAFE_INTEGER)] | float | str
Parameters = dict[str, Parameter]


class Named(Strict):
    """An output that is asked for: as JSON, or with ``binary_data`` as bytes."""

    name: str
    parameters: Parameters = Field(default={})


class Sent(Named):
    """An input: numbers in ``data``, flat or nested, or ``binary_data_size`` bytes behind the JSON."""

    shape: Annotated[
        list[Annotated[int, Field(ge=1, le=MAX_SAFE_INTEGER)]], Field(min_length=1, max_length=8)
    ]
    datatype: str
    data: list[Any] | None = None


class InferRequest(Strict):
    """A request of inference.

    Attributes:
        id: comes back with the answer.
        model_name, model_version: as some clients repeat them; those of the path count.
        outputs: all, as JSON, if absent.
    """

    model_config = ConfigDict(protected_namespaces=())

    id: str | None = None
    model_name: str | None = None
    model_version: str | None = None
    parameters: Parameters = Field(default={})
    inputs: list[Sent]
    outputs: list[Named] | None = None


@dataclass(frozen=True, slots=True)
class Port:
    """A tensor that a protocol model takes or gives.

    Attributes:
        shape: -1 where any number of rows may be.
        optional: whether a request may leave it out; an input only.
        texts: whether an input may also be BYTES.
    """

    name: str
    datatype: str
    shape: tuple[int, ...]
    optional: bool = False
    texts: bool = False

    @property
    def wording(self) -> str:
        """Its shape, as a refusal says it."""
        return str(list(self.shape)).replace("-1", "n")


@dataclass(frozen=True, slots=True)
class Body:
    """A request whose JSON is read, and the bytes of its binary tensors, by name."""

    request: InferRequest
    blobs: Mapping[str, memoryview]


def read_body(body: bytes, header_length: str | None) -> Body:
    """Read the JSON, and cut off the tensors behind it.

    Args:
        header_length: the header that says where the JSON ends; absent if it is all.

    Raises:
        InvalidInput: if the parts do not add up.
    """
    end = len(body) if header_length is None else _length(header_length, len(body))
    try:
        request = InferRequest.model_validate_json(body[:end])
    except ValidationError as error:
        raise invalid(error, _loaded(body[:end]), InferRequest.model_fields) from None
    names = [sent.name for sent in request.inputs]
    if len(set(names)) < len(names):
        raise refuse("/inputs", show(names), "each name once")
    return Body(request, _cut(request.inputs, memoryview(body)[end:]))


def _length(header: str, longest: int) -> int:
    if not (header.isascii() and header.isdigit() and len(header) < 16 and int(header) <= longest):
        raise refuse(
            "header Inference-Header-Content-Length", show(header), f"0 to {longest}, the body's bytes"
        )
    return int(header)


def _loaded(body: bytes) -> Any:
    """The JSON as plain values, for the wording of a refusal only."""
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        return None


def _cut(inputs: Sequence[Sent], rest: memoryview) -> dict[str, memoryview]:
    blobs, start = {}, 0
    for sent in inputs:
        size = sent.parameters.get("binary_data_size")
        if size is None:
            continue
        if type(size) is not int or size < 0 or sent.data is not None:
            where = f"/inputs/{sent.name}/parameters/binary_data_size"
            raise refuse(where, show(size), "a number of bytes, and no data beside it")
        blobs[sent.name] = rest[start : start + size]
        start += size
    if start != len(rest):
        raise InvalidInput(f"{len(rest)} bytes lie behind the JSON; its inputs announce {start}")
    return blobs


# One input --------------------------------------------------------------------------------------------------


def value_of(sent: Sent, blob: memoryview | None, port: Port) -> Value:
    """The numbers or texts of an input, (*shape), numbers in the datatype that was sent.

    Raises:
        InvalidInput: for another shape or datatype, or for data that does not fill it.
    """
    where = f"/inputs/{sent.name}"
    if unknown := sent.parameters.keys() - {"binary_data_size"}:
        raise refuse(f"{where}/parameters", show(sorted(unknown)[0]), "binary_data_size")
    if not _fits(sent.shape, port.shape):
        raise refuse(f"{where}/shape", str(sent.shape), port.wording)
    if port.texts and sent.datatype == BYTES:
        return _texts(sent, blob, where)
    if sent.datatype not in NUMBERS:
        allowed = ", ".join([*NUMBERS, *([BYTES] if port.texts else [])])
        raise refuse(
            f"{where}/datatype", show(sent.datatype), f"{port.datatype}, or numbers that fit: {allowed}"
        )
    return _numbers(sent, where) if blob is None else _from_bytes(sent, blob, where)


def _fits(shape: Sequence[int], wanted: Sequence[int]) -> bool:
    return len(shape) == len(wanted) and all(w in (-1, n) for n, w in zip(shape, wanted, strict=True))


def _from_bytes(sent: Sent, blob: memoryview, where: str) -> Array:
    dtype = NUMBERS[sent.datatype]
    expected = math.prod(sent.shape) * dtype.itemsize
    if len(blob) != expected:
        allowed = f"{expected}, {sent.shape} of {sent.datatype}"
        raise refuse(f"{where}/parameters/binary_data_size", str(len(blob)), allowed)
    # The JSON in front has any length, and graphs want their numbers where the processor does.
    return np.require(np.frombuffer(blob, dtype).reshape(sent.shape), requirements="A")


def _numbers(sent: Sent, where: str) -> Array:
    if sent.datatype == "FP16":
        raise refuse(f"{where}/datatype", "FP16 in JSON", "FP16 as binary data, or FP32")
    try:
        checked = _list_of(sent.datatype).validate_python(_flat(sent, where))
    except ValidationError as error:
        raise invalid(error, sent.data, prefix=f"{where}/data") from None
    return np.array(checked, NUMBERS[sent.datatype]).reshape(sent.shape)


def _flat(sent: Sent, where: str) -> list[Any]:
    """The data in one list, row-major, as long as the shape says."""
    if sent.data is None:
        raise refuse(f"{where}/data", "missing", "numbers, or binary_data_size bytes behind the JSON")
    level = sent.data
    if len(sent.shape) > 1 and level and isinstance(level[0], list):
        for length in sent.shape[1:]:
            if not all(type(part) is list and len(part) == length for part in level):
                raise refuse(f"{where}/data", "not of that shape", f"{sent.shape}, nested or flat")
            level = list(chain.from_iterable(level))
    if len(level) != math.prod(sent.shape):
        raise refuse(f"{where}/data", show(sent.data), f"{math.prod(sent.shape)} values, {sent.shape}")
    return level


@lru_cache(maxsize=len(NUMBERS) + 1)
def _list_of(datatype: str) -> TypeAdapter[list[Any]]:
    config = ConfigDict(strict=True, allow_inf_nan=False)
    if datatype == BYTES:
        return TypeAdapter(list[Annotated[str, Field(max_length=MAX_TEXT)]], config=config)
    dtype = NUMBERS[datatype]
    if dtype.kind == "f":
        bound = float(str(np.finfo(dtype).max))  # as it is printed, a little above it in float64
        return TypeAdapter(list[Annotated[float, Field(ge=-bound, le=bound)]], config=config)
    low, high = int(np.iinfo(dtype).min), int(np.iinfo(dtype).max)
    return TypeAdapter(list[Annotated[int, Field(ge=low, le=high)]], config=config)


def _texts(sent: Sent, blob: memoryview | None, where: str) -> list[str]:
    flat = _flat(sent, where) if blob is None else _unpacked(sent, bytes(blob), where)
    try:
        return list(_list_of(BYTES).validate_python(flat))
    except ValidationError as error:
        raise invalid(error, flat, prefix=f"{where}/data") from None


def _unpacked(sent: Sent, blob: bytes, where: str) -> list[str]:
    """Texts, each behind its length as four bytes."""
    texts: list[str] = []
    start = 0
    for _ in range(math.prod(sent.shape)):
        stop = start + 4 + int.from_bytes(blob[start : start + 4], "little")
        if stop > len(blob) or start + 4 > len(blob):
            raise refuse(f"{where}/data", f"{len(blob)} bytes", f"{sent.shape} texts, each behind its length")
        texts.append(blob[start + 4 : stop].decode(errors="replace"))
        start = stop
    if start != len(blob):
        raise refuse(f"{where}/data", f"{len(blob)} bytes", f"{start}, the texts and their lengths")
    return texts


# The answer -------------------------------------------------------------------------------------------------


async def write(said: Mapping[str, Any], outputs: Mapping[str, Value], binary: Mapping[str, bool]) -> Reply:
    """The answer: JSON, and behind it the tensors that were asked for as bytes.

    Args:
        said: the members beside the outputs.
        binary: for each output whether it is bytes.
    """
    described, blobs = [], []
    for name, value in outputs.items():
        tensor: dict[str, Any] = {"name": name, **_described(value)}
        if binary[name]:
            blobs.append(_bytes_of(value))
            tensor["parameters"] = {"binary_data_size": len(blobs[-1])}
        else:
            tensor["data"] = (
                value if isinstance(value, list) else orjson.Fragment(await json_array(value.ravel()))
            )
        described.append(tensor)
    head = orjson.dumps({**said, "outputs": described})
    if not blobs:
        return Reply(200, JSON, head)
    return Reply(200, BINARY, b"".join([head, *blobs]), [(HEADER_LENGTH, b"%d" % len(head))])


def _described(value: Value) -> dict[str, Any]:
    if isinstance(value, list):
        return {"datatype": BYTES, "shape": [len(value)]}
    return {"datatype": DATATYPES[value.dtype], "shape": list(value.shape)}


def _bytes_of(value: Value) -> bytes:
    if isinstance(value, list):
        parts = (text.encode() for text in value)
        return b"".join(chain.from_iterable((len(part).to_bytes(4, "little"), part) for part in parts))
    return np.ascontiguousarray(value).tobytes()
