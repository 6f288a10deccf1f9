"""The folder of an exported model: found, read, and its files held against their checksums.

Knows the contract only, no framework, so that processes which only run graphs start quickly.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from pydantic import ValidationError

from models.manifest import FILE_NAME, GraphFile, Manifest
from training import Mistake


def find(artifacts: Path, named: str) -> Path:
    """An artifact's folder by its path, its name, or ``name/version``; the newest version without one.

    Raises:
        Mistake: if there is none.
    """
    for home in (artifacts / named, Path(named)):
        if (home / FILE_NAME).is_file():
            return home
        if there := versions(home):
            return there[-1]
    raise Mistake(f"there is no artifact {named}, neither by that path nor in {artifacts}")


def versions(home: Path) -> list[Path]:
    """The finished versions of a model, oldest first."""
    places = (path.parent for path in home.glob(f"*/{FILE_NAME}") if path.parent.name.isdecimal())
    return sorted(places, key=lambda place: int(place.name))


def read_manifest(folder: Path) -> Manifest:
    """What the artifact in a folder says of itself.

    Raises:
        Mistake: if it is no manifest.
    """
    try:
        return Manifest.model_validate_json((folder / FILE_NAME).read_bytes())
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise Mistake(f"{folder / FILE_NAME} is not valid: {where}: {first['msg']}") from error


def checked(folder: Path, file: GraphFile) -> Path:
    """The path of a graph that is what was exported.

    Raises:
        Mistake: if it is missing, or its checksum is another one.
    """
    path = folder / file.path
    if not path.is_file() or hashlib.sha256(path.read_bytes()).hexdigest() != file.sha256:
        raise Mistake(f"{path} is missing, or not what {FILE_NAME} says; export the model again")
    return path
