"""What the Open Inference Protocol can be asked of a model: one protocol model for each entry point and verb.

An entry point is the pure function of the manifest, its tensors under the manifest's names and its noise an
input. A verb is the operation that the HTTP verb is, with tensors for what has rows and parameters for the
rest. ``encode`` and ``decode`` are entry points here; a walk between two codes is none, because its ends
take several forms.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from models.manifest import EntryName, EntryPoint, Manifest, Tensor, Verb
from service import schemas
from service.calls import Call, run_on, weights, whole
from service.engine import Engine, Served
from service.errors import UnknownModel
from service.facts import facts, labels
from service.operations import answered, at_most
from service.routes import ROUTES, Route, nested
from service.schemas import invalid, refuse, show
from service.tensors import BYTES, DATATYPES, Parameters, Port, Value

# The verbs that are offered, and the entry points that each runs.
ENTRIES: Final[dict[Verb, tuple[EntryName, ...]]] = {
    "sample": ("decode",),
    "reconstruct": ("encode", "decode"),
    "loglik": ("log_weight",),
}
OF_THE_PATH: Final = ("model", "version")

Array = NDArray[Any]


@dataclass(frozen=True, slots=True)
class Found:
    """What a protocol model answers: tensors with one entry a row, and scalars."""

    outputs: dict[str, Value]
    parameters: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Offer:
    """One protocol model.

    Attributes:
        platform: as the protocol spells who runs it.
        outputs: some may be absent from an answer, as a p-value at another k than the calibration's.
        answer: what does the work, given the inputs by name and the parameters.
    """

    platform: str
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    answer: Callable[[Call, Mapping[str, Value], Parameters], Awaitable[Found]]


_OFFERS: WeakKeyDictionary[Served, dict[str, Offer]] = WeakKeyDictionary()


def offers(served: Served) -> dict[str, Offer]:
    """The protocol models of a served model, by what follows its name and a dot."""
    found = _OFFERS.get(served)
    if found is None:
        found = _OFFERS[served] = _offers(served)
    return found


def find(engine: Engine, name: str, version: str | None) -> tuple[Served, str, Offer]:
    """The protocol model of a name such as ``flow-digits.loglik``: whose it is, which part, and the offer.

    Raises:
        UnknownModel, UnknownVersion: naming those that there are.
    """
    model, _, part = name.rpartition(".") if "." in name else (name, "", "")
    served = engine.find(model, version)
    offer = offers(served).get(part)
    if offer is None:
        there = ", ".join(f"{served.name}.{one}" for one in offers(served))
        raise UnknownModel(f"there is no protocol model {show(name)}; of {served.name} there are {there}")
    return served, part, offer


def _offers(served: Served) -> dict[str, Offer]:
    manifest = served.manifest
    entries = {str(entry): _entry_offer(served, entry) for entry in manifest.entry_points}
    routes = {route.verb: route for route in ROUTES}
    verbs = [verb for verb in ENTRIES if verb in facts(served).verbs]
    return entries | {str(verb): _verb_offer(manifest, routes[verb]) for verb in verbs}


# Entry points -----------------------------------------------------------------------------------------------


def _entry_offer(served: Served, entry: EntryName) -> Offer:
    manifest = served.manifest
    point = manifest.entry_points[entry]
    outputs = (_weight(point),) if entry == "log_weight" else point.outputs
    return Offer(
        "pytorch_torchscript" if served.provider.startswith("TorchScript") else "onnx_onnxv1",
        tuple(_port(tensor, manifest) for tensor in point.inputs),
        tuple(_port(tensor, manifest) for tensor in outputs),
        partial(_run_entry, entry),
    )


def _port(tensor: Tensor, manifest: Manifest) -> Port:
    texts = tensor.role == "label" and manifest.data.labels is not None
    return Port(tensor.name, DATATYPES[np.dtype(tensor.dtype)], (-1, *tensor.row_shape), texts=texts)


async def _run_entry(
    entry: EntryName, call: Call, tensors: Mapping[str, Value], parameters: Parameters
) -> Found:
    if parameters:
        raise refuse(
            f"/parameters/{next(iter(parameters))}", "there", "no parameters, an entry point has none"
        )
    point = call.manifest.entry_points[entry]
    count = len(tensors[point.inputs[0].name])
    at_most(call.max_rows, f"rows of /inputs/{point.inputs[0].name}", count)
    inputs = tuple(_input(call, entry, tensor, tensors[tensor.name], count) for tensor in point.inputs)
    if entry == "log_weight":
        return await weights(call, inputs, count, lambda log_w: Found({_weight(point).name: log_w}, {}))
    named = {tensor.role: tensor.name for tensor in point.outputs}
    outputs = await run_on(call, entry, inputs, count, whole)
    return Found({named[role]: output for role, output in outputs.items()}, {})


def _weight(point: EntryPoint) -> Tensor:
    tensor = point.output("log_weight")
    assert tensor is not None
    return tensor


def _input(call: Call, entry: EntryName, tensor: Tensor, value: Value, count: int) -> Array:
    if len(value) != count:
        first = call.manifest.entry_points[entry].inputs[0].name
        raise refuse(f"/inputs/{tensor.name}/shape", f"{len(value)} rows", f"{count}, as many as {first} has")
    if tensor.role == "label":
        classes = labels(call.manifest, (entry,), _classes(tensor.name, value), count)
        assert classes is not None
        return classes
    array = schemas.rows(np.asarray(value), tensor.row_shape, tensor.dtype, tensor.name)
    if tensor.role == "data":
        facts(call.served).check(array, tensor.name)
    return array


def _classes(name: str, value: Value) -> list[int | str]:
    """Classes, or a count, as requests say them: a number or a name each."""
    if isinstance(value, list):
        return [*value]
    if value.dtype.kind not in "iu":
        raise refuse(
            f"/inputs/{name}/datatype", show(DATATYPES[value.dtype]), "INT64, or other whole numbers"
        )
    return [int(number) for number in value.ravel()]


# Verbs ------------------------------------------------------------------------------------------------------


def _verb_offer(manifest: Manifest, route: Route) -> Offer:
    outputs = _scores(manifest) if route.verb == "loglik" else (_data_port(manifest, "decode", "samples"),)
    names = [port.name for port in outputs]
    return Offer("pushforward_verb", _asked(manifest, route.verb), outputs, partial(_run_verb, route, names))


def _asked(manifest: Manifest, verb: Verb) -> tuple[Port, ...]:
    """What has rows in a request of a verb."""
    entries = ENTRIES[verb]
    if verb == "sample":
        main = Port("n", "INT64", (1,), optional=True)
    else:
        main = _data_port(manifest, entries[0], "inputs")
    if not any(manifest.entry_points[entry].input("label") for entry in entries):
        return (main,)
    texts = manifest.data.labels is not None
    return main, Port("label", "INT64", (-1,), optional=True, texts=texts)


def _data_port(manifest: Manifest, entry: EntryName, name: str) -> Port:
    point = manifest.entry_points[entry]
    tensor = point.input("data") or point.output("data")
    assert tensor is not None
    return Port(name, DATATYPES[np.dtype(tensor.dtype)], (-1, *tensor.row_shape))


def _scores(manifest: Manifest) -> tuple[Port, ...]:
    """Everything that ``/loglik`` says of each row of this model."""
    said = {
        "log_likelihood": True,
        "bits_per_dim": manifest.data.levels is not None,
        "standard_error": manifest.entry_points["log_weight"].input("noise") is not None,
        "p_value": manifest.calibration is not None,
    }
    numbers = tuple(Port(name, "FP64", (-1,)) for name, there in said.items() if there)
    return *numbers, Port("status", BYTES, (-1,))


async def _run_verb(
    route: Route, names: Sequence[str], call: Call, tensors: Mapping[str, Value], parameters: Parameters
) -> Found:
    answer = await answered(route.operation(call, _request(route, call.manifest.name, tensors, parameters)))
    fields = {name: value for name, value in answer.fields.items() if name not in OF_THE_PATH}
    outputs = {name: fields.pop(name) for name in names if name in fields}
    return Found(outputs, fields)


def _request(
    route: Route, model: str, tensors: Mapping[str, Value], parameters: Parameters
) -> schemas.Request:
    """The request of the verb, as its HTTP route would have read it."""
    schema = route.query or route.request
    fields = nested(parameters)
    small = {name: _plain(name, value) for name, value in tensors.items() if name != route.array}
    allowed = [name for name in schema.model_fields if name not in OF_THE_PATH]
    for name in fields:
        if name not in allowed or name in small:
            raise refuse(f"/parameters/{name}", show(fields[name]), f"each once, of {', '.join(allowed)}")
    try:
        query = schema.model_validate({"model": model, **fields, **small})
    except ValidationError as error:
        raise invalid(error, fields | small, prefix="/parameters") from None
    if route.array is None:
        return query
    return route.with_array(query, np.asarray(tensors[route.array]))


def _plain(name: str, value: Value) -> Any:
    """``n`` or the labels as JSON would have said them."""
    found = _classes(name, value)
    return found[0] if len(found) == 1 else found
