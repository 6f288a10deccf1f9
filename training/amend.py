"""The next version of an artifact: the same graphs, and a direction more.

Versions never change, so a direction that is fitted later makes a new one. Nothing else does: what the
certificate, the probes and the held-out scores say of the graphs still holds.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Final

import numpy as np
from pydantic import TypeAdapter, ValidationError

from models.base import Signature
from models.manifest import FILE_NAME, DataSpace, Format, GraphFile, Manifest, Name
from training import Mistake, directions
from training.artifact import one_thread, publish, staged, step
from training.attributes import Examples, Floats, Labelled, learned, of_data
from training.card import CARD
from training.data import load
from training.folder import checked, read_manifest
from training.given import classes_of, column, numbers
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
    manifest = read_manifest(folder)
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
        shaped = _shaped(numbers(x), manifest.data, x)
        known = None if classes is None else classes_of(classes, manifest.data, len(shaped))
        every = Examples(shaped, column(y, len(shaped)), known)
        order = np.argsort(every.y, kind="stable")
        held_out = np.arange(len(order)) % HELD_OUT == HELD_OUT // 2
        fitted, judged = every.take(order[~held_out]), every.take(order[held_out])
        return Labelled(name, fitted, judged, learned(fitted, judged))

    return rows


def _shaped(values: Floats, data: DataSpace, path: Path) -> np.ndarray:
    if values.shape[1:] not in (data.shape, (data.size,)):
        raise Mistake(f"{path} has shape {list(values.shape)}; allowed is {['N', *data.shape]}, or flat rows")
    return values.reshape(len(values), *data.shape).astype(np.float32)


# The artifact ----------------------------------------------------------------------------------------------


def _check_name(name: str) -> None:
    try:
        TypeAdapter(Name).validate_python(name)
    except ValidationError as error:
        raise Mistake(
            f"{name!r} is no name for a direction; allowed are small letters, digits and dashes"
        ) from error


def _open(folder: Path, manifest: Manifest) -> Subject:
    """The artifact as what its graphs can be tried on; of each entry point, in its first format."""

    def graph(files: dict[Format, GraphFile]) -> dict[Format, Graph]:
        form, file = next(iter(files.items()))
        return {form: RUN[form](checked(folder, file))}

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
