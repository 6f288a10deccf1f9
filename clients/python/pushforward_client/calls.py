"""The calls, without a network: what is asked, and how the answers are read.

Each call is a generator that yields what to ask and is sent the response. The two clients, which wait in
different ways, make their methods of these functions, so that parameters and documentation stand here alone.
Rows are asked for in slices, which is exact because the answer for a row does not depend on the others.
"""

from __future__ import annotations

import inspect
import io
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias, TypeGuard, TypeVar, get_args

import httpx
import numpy as np
from numpy.typing import ArrayLike, NDArray

from pushforward_client.answers import Likelihood, Model, Walk
from pushforward_client.errors import UnexpectedAnswer
from pushforward_client.latents import Address, Latents

JSON: Final = "application/json"
NPY: Final = "application/x-npy"
NPZ: Final = "application/x-npz"
PNG: Final = "image/png"

SLICE_ROWS: Final = 8192
SLICE_BYTES: Final = 8 << 20
MAX_DRAWS: Final = 10_000_000  # rows times importance samples of one request, by the service's contract

Array = NDArray[Any]
Label = int | str | Sequence[int | str]
End = Latents | Address | str | ArrayLike
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Ask:
    """One request.

    Attributes:
        fields: of the body, or of the query string beside an array; ``None`` is left out.
        array: the body, as npy.
    """

    path: str
    accept: str
    fields: Mapping[str, Any] = field(default_factory=dict)
    array: Array | None = None
    method: str = "POST"

    def arguments(self) -> dict[str, Any]:
        """For ``httpx``."""
        given = {name: value for name, value in self.fields.items() if value is not None}
        headers = {"Accept": self.accept}
        if self.method == "GET":
            return {"params": given, "headers": headers}
        if self.array is None:
            return {"json": given, "headers": headers}
        return {
            "content": _saved(self.array),
            "params": _query(given),
            "headers": {**headers, "Content-Type": NPY},
        }


Flow: TypeAlias = Generator[Ask, httpx.Response, T]


def method_signature(flow: Callable[..., Flow[Any]]) -> inspect.Signature:
    """What ``help`` says of a method that runs a call: it gives what the call ends with."""
    said = inspect.signature(flow, eval_str=True)
    _, _, answer = get_args(said.return_annotation)
    client = inspect.Parameter("self", inspect.Parameter.POSITIONAL_ONLY)
    return said.replace(parameters=[client, *said.parameters.values()], return_annotation=answer)


def models() -> Flow[list[Model]]:
    """All models, by their newest versions."""
    found = _json((yield Ask("/models", JSON, method="GET")))
    return [_model(about) for about in found["models"]]


def describe(model: str, version: str | None = None) -> Flow[Model]:
    """One model, with everything that the service says of it in ``about``."""
    return _model(_json((yield Ask(f"/models/{model}", JSON, {"version": version}, method="GET"))))


def encode(
    model: str, inputs: ArrayLike, label: Label | None = None, version: str | None = None
) -> Flow[Latents]:
    """The codes of rows."""
    parts = []
    for rows, classes in slices(inputs, label):
        answer = _npz((yield _of_rows("/encode", NPZ, rows, model=model, label=classes, version=version)))
        version = str(answer["version"])
        parts.append(answer)
    return Latents(
        model,
        _joined(parts, "latents"),
        version,
        std=_joined(parts, "std") if "std" in parts[0] else None,
        residual=_joined(parts, "residual") if "residual" in parts[0] else None,
        ids=tuple(_joined(parts, "ids").tolist()),
        cached=_joined(parts, "cached"),
    )


def decode(
    model: str,
    latents: Latents | Sequence[str] | ArrayLike,
    label: Label | None = None,
    version: str | None = None,
) -> Flow[Array]:
    """The samples of codes, given as latents, as ids or as numbers."""
    strengths: Mapping[str, float] | None = None
    if isinstance(latents, Latents):
        version = _same_space(model, latents, version)
        strengths, latents = latents.strengths or None, latents.vectors
    fields = {"model": model, "directions": strengths}
    if _are_ids(latents):
        asked = Ask(
            "/decode", NPY, {**fields, "ids": list(latents), "label": plain(label), "version": version}
        )
        return _npy((yield asked))
    parts = []
    for rows, classes in slices(latents, label):
        response = yield _of_rows("/decode", NPY, rows, "latents", **fields, label=classes, version=version)
        version = _version(response)
        parts.append(_npy(response))
    return np.concatenate(parts)


def reconstruct(
    model: str,
    inputs: ArrayLike,
    label: Label | None = None,
    directions: Mapping[str, float] | None = None,
    version: str | None = None,
) -> Flow[Array]:
    """Rows through their codes and back, moved along directions on the way."""
    parts = []
    for rows, classes in slices(inputs, label):
        fields = {"model": model, "label": classes, "directions": directions or None, "version": version}
        response = yield _of_rows("/reconstruct", NPY, rows, **fields)
        version = _version(response)
        parts.append(_npy(response))
    return np.concatenate(parts)


def interpolate(
    model: str,
    start: End,
    end: End,
    steps: int = 8,
    path: str | None = None,
    label: Label | None = None,
    directions: Mapping[str, float] | None = None,
    version: str | None = None,
) -> Flow[Walk]:
    """A walk between two codes; an end is a code, an :class:`Address`, an id, or a row of data."""
    for point in (start, end):
        if isinstance(point, Latents):
            version = _same_space(model, point, version)
    fields = {"model": model, "version": version, "steps": steps, "path": path, "label": plain(label)}
    ends = {"start": _end("start", start), "end": _end("end", end), "directions": directions or None}
    answer = _npz((yield Ask("/interpolate", NPZ, {**fields, **ends})))
    return Walk(model, str(answer["version"]), str(answer["path"]), answer["t"], answer["samples"])


def loglik(
    model: str,
    inputs: ArrayLike,
    k: int | None = None,
    seed: int | None = None,
    label: Label | None = None,
    version: str | None = None,
) -> Flow[Likelihood]:
    """The log-likelihood of rows, or an estimate of it with its error, in nats."""
    parts = []
    for rows, classes in slices(inputs, label, MAX_DRAWS // max(1, k or 1)):
        fields = {"model": model, "k": k, "seed": seed, "label": classes, "version": version}
        answer = _npz((yield _of_rows("/loglik", NPZ, rows, **fields)))
        version = str(answer["version"])
        parts.append(answer)
    first = parts[0]
    optional = {
        name: _joined(parts, name) for name in ("bits_per_dim", "standard_error", "p_value") if name in first
    }
    return Likelihood(
        model,
        str(first["version"]),
        str(first["kind"]),
        str(first["unit"]),
        _joined(parts, "log_likelihood"),
        _joined(parts, "status"),
        k=int(first["k"]) if "k" in first else None,
        seed=int(first["seed"]) if "seed" in first else None,
        **optional,
    )


def picture(verb: str, model: str, **fields: Any) -> Flow[bytes]:
    """What a verb answers, drawn by the service as a grid of pictures: the bytes of a PNG.

    Args:
        fields: as the HTTP contract names them.
    """
    drawn = {name: _drawable(name, value) for name, value in fields.items()}
    response = yield Ask(f"/{verb}", PNG, {"model": model, **drawn})
    if not response.content.startswith(b"\x89PNG"):
        raise _unexpected(response, PNG)
    return response.content


def _drawable(name: str, value: Any) -> Any:
    """A field as JSON holds it."""
    if name in ("start", "end"):
        return _end(name, value)
    value = value.vectors if isinstance(value, Latents) else value
    return value.tolist() if isinstance(value, np.ndarray) else value


# Rows out


def slices(rows: ArrayLike, label: Label | None, most: int = SLICE_ROWS) -> Iterator[tuple[Array, Any]]:
    """Rows some at a time, with the label of all, or the labels of each.

    Raises:
        ValueError: if there are none.
    """
    array = np.asarray(rows)
    if array.ndim < 1 or not len(array):
        raise ValueError(f"rows have the shape {list(array.shape)}; allowed: (rows, ...), at least one")
    step = max(1, min(SLICE_ROWS, most, SLICE_BYTES * len(array) // max(1, array.nbytes)))
    classes = plain(label)
    for start in range(0, len(array), step):
        rows_here = slice(start, start + step)
        yield array[rows_here], classes[rows_here] if isinstance(classes, list) else classes


def plain(label: Any) -> Any:
    """A label, or a list of labels, as JSON holds them."""
    if label is None or isinstance(label, int | str):
        return label
    return np.asarray(label).tolist()


def _of_rows(path: str, accept: str, rows: Array, name: str = "inputs", **fields: Any) -> Ask:
    """Rows as npy; labels of each do not fit into a query string, so that then all is JSON."""
    if isinstance(fields.get("label"), list):
        return Ask(path, accept, {**fields, name: rows.tolist()})
    return Ask(path, accept, fields, rows)


def _saved(array: Array) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    return buffer.getvalue()


def _query(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Fields of a query string, where members of ``directions`` have a name each."""
    others = {name: value for name, value in fields.items() if name != "directions"}
    return others | {f"directions.{name}": value for name, value in fields.get("directions", {}).items()}


def _are_ids(latents: Any) -> TypeGuard[Sequence[str]]:
    return not isinstance(latents, np.ndarray | str) and len(latents) > 0 and isinstance(latents[0], str)


def _same_space(model: str, latents: Latents, version: str | None) -> str | None:
    """The version that codes belong to.

    Raises:
        ValueError: if they are not of this model and version.
    """
    if latents.model != model or (version and latents.version and version != latents.version):
        raise ValueError(
            f"the codes are of {latents.model} version {latents.version}; "
            f"allowed: codes of {model} version {version or latents.version}"
        )
    return latents.version or version


def _end(name: str, end: End) -> dict[str, Any]:
    """One end of a walk, as JSON holds it."""
    if isinstance(end, Address):
        return {"seed": end.seed, "index": end.index}
    if isinstance(end, str):
        return {"id": end}
    if not isinstance(end, Latents):
        return {"input": np.asarray(end).tolist()}
    if len(end) != 1:
        raise ValueError(f"{name} has {len(end)} codes; allowed: 1, such as latents[0]")
    if end.strengths:
        raise ValueError(f"{name} is moved; allowed: codes as they are, and directions for the whole walk")
    return {"latent": end.vectors[0].tolist()}


# Answers in


def _model(about: Mapping[str, Any]) -> Model:
    grades, latent = about["grades"], about["latent_shape"]
    return Model(
        name=about["name"],
        version=about["version"],
        versions=tuple(about["versions"]),
        family=about["family"],
        verbs=tuple(about["verbs"]),
        density=grades["density"],
        latents=grades["latents"],
        generator=grades["generator"],
        data_shape=tuple(about["data_shape"]),
        latent_shape=None if latent is None else tuple(latent),
        about=about,
    )


def _json(response: httpx.Response) -> dict[str, Any]:
    try:
        return dict(response.json())
    except (ValueError, TypeError):
        raise _unexpected(response, JSON) from None


def _npz(response: httpx.Response) -> dict[str, Array]:
    try:
        with np.load(io.BytesIO(response.content), allow_pickle=False) as members:
            return dict(members)
    except Exception:  # whatever a page of somebody else's does to the reader
        raise _unexpected(response, NPZ) from None


def _npy(response: httpx.Response) -> Array:
    try:
        return np.asarray(np.load(io.BytesIO(response.content), allow_pickle=False))
    except Exception:
        raise _unexpected(response, NPY) from None


def _unexpected(response: httpx.Response, asked: str) -> UnexpectedAnswer:
    return UnexpectedAnswer(
        f"{response.url} answered {len(response.content)} bytes of "
        f"{response.headers.get('content-type')} that are not the {asked} asked for"
    )


def _version(response: httpx.Response) -> str:
    return str(response.headers["X-Pushforward-Version"])


def _joined(parts: Sequence[Mapping[str, Array]], name: str) -> Array:
    return np.concatenate([part[name] for part in parts])
