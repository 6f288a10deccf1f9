"""What callers may send: one frozen, strict model for each verb, and the arrays inside them.

pydantic's Rust core reads a body straight from its bytes. Shapes are the manifest's business, so nested
lists stay lists here until :func:`rows` turns them into an array of the shape that a tensor declares.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from contextlib import nullcontext
from functools import lru_cache
from typing import Annotated, Any, Final, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import (
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    GetCoreSchemaHandler,
    StringConstraints,
    Tag,
    TypeAdapter,
    ValidationError,
    WithJsonSchema,
    model_validator,
)
from pydantic_core import CoreSchema, ErrorDetails, PydanticCustomError, core_schema

from models.manifest import DType, Name, Version
from service.errors import InvalidInput

MAX_SAFE_INTEGER: Final = 2**53 - 1  # the largest that survives JSON in every client
MAX_STRENGTH: Final = 10  # along a direction, whose 1 is a large step already
MAX_FLOAT32: Final = 3.4028235e38  # as float32 prints its largest, a little above it in float64
ERRORS_SHOWN: Final = 8
VALUE_SHOWN: Final = 80

Array = NDArray[Any]
Index = Annotated[int, Field(ge=0, le=MAX_SAFE_INTEGER)]
ClassOf = Annotated[int, Field(ge=0, le=MAX_SAFE_INTEGER)] | Annotated[str, Field(max_length=200)]
Label = ClassOf | Annotated[list[ClassOf], Field(min_length=1)]
LatentId = Annotated[
    str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]{0,62}\.[1-9][0-9]{0,8}\.[a-z2-7]{32}$")
]
Strength = Annotated[float, Field(ge=-MAX_STRENGTH, le=MAX_STRENGTH)]
Directions = Annotated[dict[Name, Strength], Field(min_length=1, max_length=100)]

_NUMBERS = {"anyOf": [{"type": "number"}, {"type": "array", "minItems": 1}]}
_ROW = {"type": "array", "minItems": 1, "items": _NUMBERS}
Row = Annotated[list[Any], WithJsonSchema({**_ROW, "description": "one row, of the model's shape"})]


class _ListsOrArray:
    """What a body of JSON has as nested lists may come as an array from elsewhere."""

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        lists = handler(source)
        either = core_schema.union_schema([core_schema.is_instance_schema(np.ndarray), lists])
        return core_schema.json_or_python_schema(json_schema=lists, python_schema=either)


Rows = Annotated[
    list[Any],
    Field(min_length=1),
    _ListsOrArray(),
    WithJsonSchema(
        {"type": "array", "minItems": 1, "items": _ROW, "description": "rows, each of the model's shape"}
    ),
]


class Strict(BaseModel):
    """Nothing unknown, nothing coerced, no NaN."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class Request(Strict):
    """What every verb takes.

    Attributes:
        version: the newest if absent.
        label: the class, for models that take one: its number or its name, for all rows or one for each.
    """

    model: Name
    version: Version | None = None
    label: Label | None = None


class Moved(Request):
    """What verbs take that decode codes.

    Attributes:
        directions: strengths by the names that ``GET /models/{name}`` lists; codes are moved along them
            before they are decoded.
    """

    directions: Directions | None = None


class SampleRequest(Request):
    """Rows ``offset`` to ``offset + n`` of a seed; without one, a seed is drawn, and the answer names it.

    Attributes:
        temperature: multiplies the noise behind a row.
        truncation: the noise behind a row keeps within so many standard deviations, before it is multiplied.
    """

    n: Annotated[int, Field(ge=1, le=MAX_SAFE_INTEGER)] = 1
    seed: Index | None = None
    offset: Index = 0
    temperature: Annotated[float, Field(ge=0, le=10)] = 1.0
    truncation: Annotated[float, Field(gt=0, le=10)] | None = None


class EncodeQuery(Request):
    """``/encode`` without its array, which comes as npy."""


class EncodeRequest(EncodeQuery):
    inputs: Rows


class DecodeQuery(Moved):
    """``/decode`` without its array, which comes as npy."""


class DecodeRequest(DecodeQuery):
    """Latents as numbers or as the ids that ``/encode`` gave."""

    latents: Rows | None = None
    ids: Annotated[list[LatentId], Field(min_length=1)] | None = None

    @model_validator(mode="after")
    def _one_source(self) -> DecodeRequest:
        if (self.latents is None) == (self.ids is None):
            raise PydanticCustomError("one_source", "exactly one of latents and ids")
        return self


class ReconstructQuery(Moved):
    """``/reconstruct`` without its array, which comes as npy."""


class ReconstructRequest(ReconstructQuery):
    inputs: Rows


class InputEnd(Strict):
    """A row of data, to be encoded."""

    input: Row


class LatentEnd(Strict):
    """A code."""

    latent: Row


class IdEnd(Strict):
    """A code that ``/encode`` gave this id."""

    id: LatentId


class AddressEnd(Strict):
    """The code behind row ``index`` of a seed of ``/sample``."""

    seed: Index
    index: Index


_ENDS: Final[dict[str, type[Strict]]] = {
    "input": InputEnd,
    "latent": LatentEnd,
    "id": IdEnd,
    "seed": AddressEnd,
    "index": AddressEnd,
}


def _kind_of_end(value: Any) -> str | None:
    """The class of an end, by the field that tells it apart."""
    if isinstance(value, Strict):
        return type(value).__name__
    found = (kind.__name__ for key, kind in _ENDS.items() if isinstance(value, dict) and key in value)
    return next(found, None)


End = Annotated[
    Annotated[InputEnd, Tag("InputEnd")]
    | Annotated[LatentEnd, Tag("LatentEnd")]
    | Annotated[IdEnd, Tag("IdEnd")]
    | Annotated[AddressEnd, Tag("AddressEnd")],
    Discriminator(
        _kind_of_end,
        custom_error_type="end",
        custom_error_message='one of {"input"}, {"latent"}, {"id"} and {"seed", "index"}',
    ),
]


class InterpolateRequest(Moved):
    """A walk between two codes; the ends themselves are its first and last step.

    Directions move every step alike, the ends too.
    """

    start: End
    end: End
    steps: Annotated[int, Field(ge=2, le=MAX_SAFE_INTEGER)] = 8
    path: Literal["slerp", "lerp"] | None = None


class LoglikQuery(Request):
    """``/loglik`` without its array, which comes as npy.

    Attributes:
        k: importance samples of an estimate; the calibration's number if absent.
        seed: of the noise behind an estimate; the calibration's if absent.
    """

    k: Annotated[int, Field(ge=1, le=MAX_SAFE_INTEGER)] | None = None
    seed: Index | None = None


class LoglikRequest(LoglikQuery):
    inputs: Rows


def refuse(field: str, value: str, allowed: str, **extra: Any) -> InvalidInput:
    """The 422 for one field: what was wrong, the value seen, what is allowed."""
    error = {"field": field, "value": value, "allowed": allowed}
    return InvalidInput(_sentence(error), errors=[error], **extra)


def invalid(error: ValidationError, root: Any, fields: Iterable[str] = (), prefix: str = "") -> InvalidInput:
    """pydantic's complaints as the 422 that callers see, one for each field, as JSON pointers.

    Args:
        root: what was validated, to tell its fields from the names of pydantic's choices.
        fields: the names that are allowed at the top.
        prefix: the pointer to ``root`` itself.
    """
    merged: dict[str, dict[str, str]] = {}
    for item in error.errors(include_url=False, include_context=False):
        found = _explain(item, root, fields, prefix)
        seen = merged.setdefault(found["field"], found)
        if seen is not found:
            seen["allowed"] += f", or {found['allowed']}"
    # Of pydantic's choices, the one that got furthest is the one that was meant.
    inner = {field for field in merged if not any(other.startswith(f"{field}/") for other in merged)}
    errors = [found for field, found in merged.items() if field in inner]
    return InvalidInput(_sentence(errors[0]), errors=errors[:ERRORS_SHOWN])


def _sentence(error: dict[str, str]) -> str:
    return f"{error['field'] or 'the body'} is {error['value']}; allowed: {error['allowed']}"


def _explain(item: ErrorDetails, root: Any, fields: Iterable[str], prefix: str) -> dict[str, str]:
    allowed = item["msg"].removeprefix("Input should be ")
    value = show(item["input"])
    match item["type"]:
        case "missing":
            value, allowed = "missing", "a value, this field is required"
        case "extra_forbidden" if len(item["loc"]) == 1 and fields:
            allowed = f"the fields {', '.join(fields)}"
        case "json_invalid":
            value, allowed = "not parseable", allowed.replace("Invalid JSON:", "JSON;")
    return {"field": prefix + _pointer(item["loc"], root), "value": value, "allowed": allowed}


def _pointer(loc: Sequence[str | int], root: Any) -> str:
    """The JSON pointer behind a location, in which pydantic also names the choices that it tried."""
    parts: list[str | int] = []
    for part in loc:
        if isinstance(root, dict) and (part in root or part == loc[-1]):
            root = root.get(part)
        elif isinstance(root, list) and isinstance(part, int):
            root = root[part] if part < len(root) else None
        else:
            continue
        parts.append(part)
    return "".join(f"/{part}" for part in parts)


def show(value: Any) -> str:
    """A value as the caller would recognise it, and short."""
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "null"}[value]
    if isinstance(value, list | dict):
        return f"{'an array' if isinstance(value, list) else 'an object'} of {len(value)}"
    text = repr(value).encode("utf-8", "replace").decode()
    return text if len(text) <= VALUE_SHOWN else f"{text[:VALUE_SHOWN]}…"


@lru_cache(maxsize=256)
def _nested(shape: tuple[int, ...]) -> TypeAdapter[list[Any]]:
    """Lists of numbers with every length given, but for the first."""
    inner: Any = Annotated[float, Field(ge=-MAX_FLOAT32, le=MAX_FLOAT32)]
    for length in reversed(shape):
        inner = Annotated[list[inner], Field(min_length=length, max_length=length, fail_fast=True)]
    whole = Annotated[list[inner], Field(min_length=1, fail_fast=True)]
    return TypeAdapter(whole, config=ConfigDict(strict=True, allow_inf_nan=False))


def rows(
    value: list[Any] | Array, shape: tuple[int, ...], dtype: DType, field: str, numeric: bool = False
) -> Array:
    """Rows as the graph takes them, (B, *shape), contiguous.

    Args:
        value: nested lists of a JSON body, or an array.
        shape: of one row, by the manifest.
        field: the name to blame.
        numeric: whether an array was written as lists of numbers, so that it is spoken of as such.

    Raises:
        InvalidInput: for another shape, or a value that is no finite number of this dtype.
    """
    if isinstance(value, np.ndarray):
        if not numeric:
            return _cast(_checked(value, shape, field), dtype, field)
        if dtype == "float32" and _is_sound(value, shape):
            return value.astype(np.float32)
        value = value.tolist()
    try:
        nested = _nested(shape).validate_python(value)
    except ValidationError as error:
        refused = invalid(error, value, prefix=f"/{field}")
        refused.extra["shape"] = ["n", *shape]
        refused.detail += f" (rows of {field} have the shape {list(shape)})"
        try:
            raise refused from None
        finally:
            del refused  # its traceback has this frame: a circle, which only the garbage collector finds
    if dtype == "float32":
        return np.array(nested, dtype=np.float32)
    return _cast(np.array(nested, dtype=np.float64), dtype, field)


def _is_sound(array: Array, shape: tuple[int, ...]) -> bool:
    """Whether there is nothing to say against numbers: if the sum of squares is small, then so is each."""
    return array.shape[1:] == shape and bool(np.vdot(array, array) < MAX_FLOAT32**2)


def _checked(array: Array, shape: tuple[int, ...], field: str) -> Array:
    if array.ndim != len(shape) + 1 or array.shape[1:] != shape or not len(array):
        raise refuse(f"/{field}", f"an array of shape {list(array.shape)}", f"the shape {['n', *shape]}")
    if array.dtype.kind not in "fiu":
        raise refuse(f"/{field}", f"an array of {array.dtype}", "float32, float64 and integers")
    return array


def _cast(array: Array, dtype: DType, field: str) -> Array:
    """The same numbers in the graph's dtype; fractions may round, whole numbers may not change."""
    with np.errstate(over="ignore", invalid="ignore") if array.dtype != dtype else nullcontext():
        cast = np.ascontiguousarray(array, dtype=dtype)
    if array.dtype.kind == "f" and dtype != "int64" and math.isfinite(np.vdot(cast, cast)):
        return cast  # so is every number
    exact = array.dtype.kind in "iu" or dtype == "int64"
    bad = ~np.isfinite(cast) | (cast != array) if exact else ~np.isfinite(cast)
    if bad.any():
        where = tuple(int(i) for i in np.argwhere(bad)[0])
        allowed = "whole numbers of int64" if dtype == "int64" else f"finite numbers that {dtype} holds"
        raise refuse("".join(f"/{part}" for part in (field, *where)), show(array[where].item()), allowed)
    return cast
