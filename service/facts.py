"""What a manifest says, as requests ask for it: verbs, support, classes, directions, scores."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.manifest import EntryName, Manifest, Support, Verb
from models.support import Bounds
from service.engine import Served
from service.errors import CapabilityAbsent
from service.schemas import Label, refuse, show

Array = NDArray[Any]


@dataclass(frozen=True, slots=True)
class Facts:
    """Worked out once for each served model.

    Attributes:
        scores: of held-out rows, ascending, in nats, or ``None``.
        typical_size: of the largest number in the rows of data that the probe of encode holds, at least tiny.
        labelled: the entry points that take a class.
        directions: what strength 1 adds to a code, of the latents' shape, by name; float64.
    """

    verbs: tuple[Verb, ...]
    support: tuple[Support, ...]
    bounds: Bounds
    scores: Array | None
    typical_size: float
    labelled: frozenset[EntryName]
    directions: dict[str, Array]

    def violations(self, x: Array) -> Array:
        """Which numbers of x (B, ...) lie outside the support, (B, D)."""
        return self.bounds.violations(x)

    def check(self, x: Array, field: str) -> None:
        """Refuse data outside the support, naming the first number.

        Raises:
            InvalidInput: if there is one.
        """
        if self.bounds.open:
            return
        bad = self.violations(x)
        if not bad.any():
            return
        row, dimension = (int(i) for i in np.argwhere(bad)[0])
        place = np.unravel_index(dimension, x.shape[1:])
        allowed = _allowed(self.support[dimension if len(self.support) > 1 else 0])
        where = "".join(f"/{i}" for i in (field, row, *place))
        raise refuse(where, show(x[row].ravel()[dimension].item()), allowed)


def _allowed(support: Support) -> str:
    numbers = "whole numbers" if support.lattice else "numbers"
    low = "" if support.low is None else f" from {support.low:g}"
    return numbers + low + ("" if support.high is None else f" up to {support.high:g}")


def facts(served: Served) -> Facts:
    """The facts of a served model."""
    found: Facts | None = served.worked_out.get(Facts)
    if found is None:
        found = served.worked_out[Facts] = _facts(served.manifest)
    return found


def _facts(manifest: Manifest) -> Facts:
    support, calibration = manifest.data.support, manifest.calibration
    return Facts(
        verbs=verbs(manifest),
        support=support,
        bounds=Bounds.of(support),
        scores=np.array(calibration.scores) if calibration else None,
        typical_size=_typical_size(manifest),
        labelled=frozenset(name for name, point in manifest.entry_points.items() if point.input("label")),
        directions=_directions(manifest),
    )


def _typical_size(manifest: Manifest) -> float:
    encode = manifest.entry_points.get("encode")
    tensor = encode.input("data") if encode else None
    size = 0.0 if tensor is None else float(np.abs(manifest.probes["encode"].inputs[tensor.name]).max())
    return max(size, float(np.finfo(np.float32).tiny))  # something to divide by


def _directions(manifest: Manifest) -> dict[str, Array]:
    shape = manifest.latent.shape if manifest.latent else ()
    return {
        name: np.array(direction.vector).reshape(shape) for name, direction in manifest.directions.items()
    }


def verbs(manifest: Manifest) -> tuple[Verb, ...]:
    """What callers may ask of a model; codes can only be decoded where the generator takes one."""
    decode = manifest.entry_points.get("decode")
    codes = decode is not None and decode.input("latent") is not None
    return tuple(
        verb for verb in manifest.verbs if codes or verb not in ("decode", "reconstruct", "interpolate")
    )


def require(served: Served, verb: Verb, others: Callable[[], Iterable[Served]]) -> None:
    """Refuse a verb that the model lacks, naming its grades and the models that have it.

    Args:
        others: the models that could be asked instead.

    Raises:
        CapabilityAbsent: if so.
    """
    if verb in facts(served).verbs:
        return
    manifest = served.manifest
    able = sorted({other.manifest.name for other in others() if verb in facts(other).verbs})
    grades = manifest.grades.model_dump()
    raise CapabilityAbsent(
        f"{manifest.name} cannot {verb}: its grades are "
        f"{', '.join(f'{part} {grade}' for part, grade in grades.items())}; "
        f"models that can: {', '.join(able) or 'none'}",
        grades=grades,
        verbs=facts(served).verbs,
        models=able,
    )


def labels(manifest: Manifest, entries: Sequence[EntryName], label: Label | None, count: int) -> Array | None:
    """The class of each row, (B, ...), where one of the entry points takes it, else ``None``.

    Raises:
        InvalidInput: for a label that the model does not take, a missing one, or one that is no class.
    """
    points = (manifest.entry_points[entry] for entry in entries)
    tensor = next((found for point in points if (found := point.input("label"))), None)
    if tensor is None:
        if label is not None:
            raise refuse("/label", show(label), f"no label, {manifest.name} takes none")
        return None
    numbers = _classes(manifest, label, count)
    return np.array(numbers, tensor.dtype).reshape(count, *tensor.row_shape)


def _classes(manifest: Manifest, label: Label | None, count: int) -> list[int]:
    names = manifest.data.labels
    if label is None:
        raise refuse("/label", "missing", f"a class of {manifest.name}: {_named(names)}")
    if not isinstance(label, list):
        return [_class(label, names, "/label")] * count
    if len(label) != count:
        raise refuse("/label", show(label), f"one label, or one for each of the {count} rows")
    return [_class(item, names, f"/label/{row}") for row, item in enumerate(label)]


def _class(label: int | str, names: tuple[str, ...] | None, field: str) -> int:
    if isinstance(label, str) and names is not None and label in names:
        return names.index(label)
    if isinstance(label, int) and (names is None or label < len(names)):
        return label
    raise refuse(field, show(label), _named(names))


def _named(names: tuple[str, ...] | None) -> str:
    return "a number" if names is None else f"0 to {len(names) - 1}, or {', '.join(names)}"[:200]


def move(served: Served, wanted: Mapping[str, float] | None) -> Array | None:
    """What is added to every code, of the latents' shape, float64: the directions by their strengths.

    Raises:
        InvalidInput: if the model has none, or none of that name.
    """
    known, name = facts(served).directions, served.manifest.name
    if wanted is None:
        return None
    if not known:
        raise refuse("/directions", show(dict(wanted)), f"no directions, {name} has none")
    for unknown in wanted.keys() - known.keys():
        raise refuse(
            f"/directions/{unknown}", show(wanted[unknown]), f"the directions of {name}: {', '.join(known)}"
        )
    # In the order of the manifest, so that the bits do not depend on the caller's.
    steps = [wanted[each] * vector for each, vector in known.items() if each in wanted]
    return np.asarray(np.sum(steps, axis=0))
