"""Rows that are encoded once: their codes are remembered by the row, and by the id that a caller is given."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any, Final, TypeVar

from numpy.typing import NDArray

from models.manifest import Manifest, Role
from service.calls import Call, Outputs, Run, run, whole
from service.errors import LatentSpaceMismatch, UnknownLatent
from service.latents import (
    SLICE_KEYS,
    concatenated,
    id_key,
    latent_ids,
    paced,
    recalled,
    row_keys,
    separated,
    split_id,
)
from service.wire import Answer

BESIDE_CODES: Final[tuple[Role, ...]] = ("std", "residual")
IDS_NAMED: Final = 100  # of those that are unknown, in an answer

Array = NDArray[Any]
Values = Sequence[bytes | None]
T = TypeVar("T")


def remembered(call: Call, inputs: list[Array]) -> Answer | Awaitable[Answer]:
    """The codes of rows, of which only those are encoded that are not remembered.

    Args:
        inputs: data (B, ...), and its classes (B,) if the model takes them.
    """
    space = call.space
    if call.store.is_far or len(inputs[0]) > SLICE_KEYS:
        return _looked_up(call, space, inputs)
    keys = row_keys(space, "encode", *inputs)
    held = call.store.held(keys)

    def answer(outputs: Outputs) -> Answer:
        found, new = _together(call, keys, held, outputs, concatenated(*outputs.values()))
        codes = found["latent"]
        ids = latent_ids(call.manifest.name, call.manifest.version, space, codes)
        call.store.keep({**new, **_by_id(space, ids, concatenated(codes))})
        return _answer(call, found, ids, held)

    return _encoded(call, inputs, held, answer) if None in held else answer({})


async def _looked_up(call: Call, space: str, inputs: list[Array]) -> Answer:
    """The same, where it takes a while."""
    keys = await paced(partial(row_keys, space, "encode"), inputs)
    held = await call.store.get(keys)
    outputs = await _encoded(call, inputs, held, whole) if None in held else {}
    made = await paced(concatenated, list(outputs.values())) if outputs else []
    found, new = _together(call, keys, held, outputs, made)
    codes = found["latent"]
    ids = await paced(partial(latent_ids, call.manifest.name, call.manifest.version, space), [codes])
    await call.store.put({**new, **_by_id(space, ids, await paced(concatenated, [codes]))})
    return _answer(call, found, ids, held)


def _encoded(call: Call, inputs: list[Array], held: Values, then: Callable[[Outputs], T]) -> Run[T]:
    """The outputs of encode for the rows that are not remembered."""
    missing = [row for row, value in enumerate(held) if value is None]
    if len(missing) < len(held):
        inputs = [array[missing] for array in inputs]
    label = inputs[1] if len(inputs) > 1 else None
    return run(call, "encode", inputs[0], len(missing), label, then, places=missing)


def _together(
    call: Call, keys: Sequence[bytes], held: Values, outputs: Outputs, made: Sequence[bytes]
) -> tuple[Outputs, dict[bytes, bytes]]:
    """The outputs of all rows, and what to remember of those that are new.

    Args:
        made: the bytes of each new row of the outputs.
    """
    if len(made) == len(held):
        return outputs, dict(zip(keys, made, strict=True))
    missing = [key for key, value in zip(keys, held, strict=True) if value is None]
    new = dict(zip(missing, made, strict=True))
    values = [new[key] if value is None else value for key, value in zip(keys, held, strict=True)]
    tensors = call.manifest.entry_points["encode"].outputs
    arrays = separated(values, [(tensor.row_shape, tensor.dtype) for tensor in tensors])
    return {tensor.role: array for tensor, array in zip(tensors, arrays, strict=True)}, new


def _by_id(space: str, ids: Sequence[str], codes: Sequence[bytes]) -> dict[bytes, bytes]:
    return {id_key(space, latent_id): code for latent_id, code in zip(ids, codes, strict=True)}


def _answer(call: Call, outputs: Outputs, ids: list[str], held: Values) -> Answer:
    fields = {**call.named(), "latents": outputs["latent"]}
    for role in BESIDE_CODES:
        if role in outputs:
            fields[role] = outputs[role]
    fields["ids"], fields["cached"] = ids, [value is not None for value in held]
    return Answer(fields, "latents")


async def recall(call: Call, ids: Sequence[str]) -> Array:
    """The codes of ids, (B, ...).

    Raises:
        LatentSpaceMismatch: if one is of another model.
        UnknownLatent: naming those that nobody remembers.
    """
    for latent_id in ids:
        _same_space(call.manifest, latent_id)
    space = call.space
    values = await call.store.find([id_key(space, latent_id) for latent_id in ids])
    held = await paced(partial(recalled, space), [ids, values])
    unknown = [latent_id for latent_id, value in zip(ids, held, strict=True) if value is None]
    if unknown:
        raise UnknownLatent(
            f"the id {unknown[0]} is not known here, or no longer; encode the row again",
            ids=unknown[:IDS_NAMED],
        )
    tensor = call.gives("encode", "latent")
    return separated([value for value in held if value is not None], [(tensor.row_shape, tensor.dtype)])[0]


def _same_space(manifest: Manifest, latent_id: str) -> None:
    model, version, _ = split_id(latent_id)
    if (model, version) != (manifest.name, manifest.version):
        raise LatentSpaceMismatch(
            f"the id {latent_id} is of {model} version {version}; "
            f"allowed: ids of {manifest.name} version {manifest.version}, which answers this request",
            id=latent_id,
        )
