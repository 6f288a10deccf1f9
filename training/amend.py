"""The next version of an artifact: the same graphs, and a direction more.

Versions never change, so a direction that is fitted later makes a new one. Nothing else does: what the
certificate, the probes and the held-out scores say of the graphs still holds.
"""

from __future__ import annotations

import csv
import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter, ValidationError

from models.base import Signature
from models.manifest import FILE_NAME, DataSpace, Format, GraphFile, Manifest, Name
from training import Mistake, directions
from training.artifact import one_thread, publish, staged, step
from training.attributes import Examples, Floats, Labelled, learned, of_data
from training.card import CARD
from training.data import load
from training.graphs import RUN, Graph
from training.recipe import parse
from training.subject import Subject

# Every fourth row in the order of the labels is held out, so that both parts have all kinds.
HELD_OUT: Final = 4


def add_direction(folder: Path, name: str, rows: Callable[[Manifest], Labelled]) -> Path:
    """Make the next version of a model, with a direction more or, under a known name, another one.

    Args:
        folder: an artifact, of whichever version.
        rows: what to fit it from.

    Returns:
        The new artifact's folder.

    Raises:
        Mistake: if the name is not one, the folder holds no sound artifact, or the direction does not hold.
    """
    _check_name(name)
    manifest = _read(folder)
    labelled = rows(manifest)
    with one_thread(), staged(folder.parent) as stage:
        subject = _open(folder, manifest)
        with step(f"fit the direction {name}"):
            found = manifest.directions | {name: directions.fit(subject, labelled)}
        for path in folder.iterdir():
            if path.is_file() and path.name not in (FILE_NAME, CARD):
                shutil.copyfile(path, stage / path.name)
        held_out = labelled.held_out
        directions.draw(subject, found, held_out.x, held_out.classes, stage)
        parts = dict(manifest)
        return publish(
            stage, lambda version: Manifest.model_validate({**parts, "version": version, "directions": found})
        )


def find(artifacts: Path, named: str) -> Path:
    """An artifact's folder by its path, its name, or ``name/version``; the newest version without one.

    Raises:
        Mistake: if there is none.
    """
    for home in (artifacts / named, Path(named)):
        if (home / FILE_NAME).is_file():
            return home
        versions = [path.parent for path in home.glob(f"*/{FILE_NAME}") if path.parent.name.isdecimal()]
        if versions:
            return max(versions, key=lambda version: int(version.name))
    raise Mistake(f"there is no artifact {named}, neither by that path nor in {artifacts}")


# Rows to fit from -------------------------------------------------------------------------------------------


def from_recipe(attribute: str, data_root: Path | None) -> Callable[[Manifest], Labelled]:
    """The rows that the artifact's own recipe names, with an attribute that is measured or known of them."""

    def rows(manifest: Manifest) -> Labelled:
        try:
            recipe = parse(json.dumps(manifest.provenance.recipe), source=f"the recipe of {manifest.name}")
        except Mistake as error:
            raise Mistake(f"{error}; for a model from elsewhere, give --rows and --labels") from error
        splits = load(recipe.data, data_root)
        if splits.space.shape != manifest.data.shape:
            raise Mistake(
                f"the data have rows of shape {list(splits.space.shape)}, "
                f"{manifest.name} takes {list(manifest.data.shape)}"
            )
        return of_data(attribute, splits)

    return rows


def from_files(name: str, x: Path, y: Path, classes: Path | None) -> Callable[[Manifest], Labelled]:
    """Labelled rows, ``.npy`` or ``.csv``: one label for each row, 0 and 1 or numbers of any kind."""

    def rows(manifest: Manifest) -> Labelled:
        shaped = _shaped(_numbers(x), manifest.data, x)
        known = None if classes is None else _classes(classes, manifest.data, len(shaped))
        every = Examples(shaped, _column(y, len(shaped)), known)
        order = np.argsort(every.y, kind="stable")
        held_out = np.arange(len(order)) % HELD_OUT == HELD_OUT // 2
        fitted, judged = every.take(order[~held_out]), every.take(order[held_out])
        return Labelled(name, fitted, judged, learned(fitted, judged))

    return rows


def _shaped(values: Floats, data: DataSpace, path: Path) -> np.ndarray:
    if values.shape[1:] not in (data.shape, (data.size,)):
        raise Mistake(f"{path} has shape {list(values.shape)}; allowed is {['N', *data.shape]}, or flat rows")
    return values.reshape(len(values), *data.shape).astype(np.float32)


def _column(path: Path, count: int) -> Floats:
    values = _numbers(path)
    if values.shape not in ((count,), (count, 1)):
        raise Mistake(f"{path} has shape {list(values.shape)}; needed is one number for each of {count} rows")
    return values.reshape(count)


def _classes(path: Path, data: DataSpace, count: int) -> NDArray[np.int64]:
    values, most = _column(path, count), len(data.labels or ()) - 1
    wrong = (values < 0) | (values > most) | (values != np.rint(values))
    if wrong.any():
        raise Mistake(f"{path} holds {values[wrong][0]:g}; allowed are the classes 0 to {most}")
    return values.astype(np.int64)


def _numbers(path: Path) -> Floats:
    """The finite numbers of a file, rows first."""
    try:
        held = _csv(path) if path.suffix == ".csv" else np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError, csv.Error) as error:
        raise Mistake(f"{path} cannot be read as .npy or .csv: {error}") from error
    if not isinstance(held, np.ndarray) or held.dtype.kind not in "buif" or held.ndim < 1:
        raise Mistake(f"{path} holds no array of numbers")
    if not np.isfinite(held).all():
        raise Mistake(f"{path} holds NaN or infinity; needed are finite numbers")
    return held.astype(np.float64)


def _csv(path: Path) -> Floats:
    with path.open(newline="", encoding="utf-8-sig") as file:
        lines = [line for line in csv.reader(file) if line]
    has_head = bool(lines) and not _is_number(lines[0][0])
    return np.array([[float(cell) for cell in line] for line in lines[has_head:]])


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


# The artifact ----------------------------------------------------------------------------------------------


def _check_name(name: str) -> None:
    try:
        TypeAdapter(Name).validate_python(name)
    except ValidationError as error:
        raise Mistake(
            f"{name!r} is no name for a direction; allowed are small letters, digits and dashes"
        ) from error


def _read(folder: Path) -> Manifest:
    try:
        return Manifest.model_validate_json((folder / FILE_NAME).read_bytes())
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise Mistake(f"{folder / FILE_NAME} is not valid: {where}: {first['msg']}") from error


def _open(folder: Path, manifest: Manifest) -> Subject:
    """The artifact as what its graphs can be tried on; of each entry point, in its first format."""

    def graph(files: dict[Format, GraphFile]) -> dict[Format, Graph]:
        form, file = next(iter(files.items()))
        return {form: RUN[form](_checked(folder, file))}

    points = manifest.entry_points
    return Subject(
        data=manifest.data,
        latent=manifest.latent,
        grades=manifest.grades,
        signatures={
            entry: Signature(point.inputs, point.outputs, point.cost) for entry, point in points.items()
        },
        graphs={entry: graph(point.files) for entry, point in points.items()},
    )


def _checked(folder: Path, file: GraphFile) -> Path:
    path = folder / file.path
    if not path.is_file() or hashlib.sha256(path.read_bytes()).hexdigest() != file.sha256:
        raise Mistake(f"{path} is missing, or not what {FILE_NAME} says; export the model again")
    return path
