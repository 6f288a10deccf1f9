"""Exported models on disk: found, read, and checked against what their manifest says.

Nothing here runs a graph. What does not hold is an :class:`ArtifactError` whose sentence an operator can
act on; it names the model and the file.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from models.manifest import FILE_NAME, GraphFile, Manifest


class ArtifactError(Exception):
    """An artifact that must not be served, and why."""


@dataclass(frozen=True, slots=True)
class Artifact:
    """One version of one model, as it lies on disk.

    Attributes:
        digest: SHA-256 of the manifest, which holds those of all graphs: it names the content of the whole.
    """

    root: Path
    manifest: Manifest
    digest: str

    def read(self, file: GraphFile) -> bytes:
        """The content of a file, exactly as it was exported.

        Raises:
            ArtifactError: if the file is missing, cannot be read, or has changed.
        """
        content = _read(self.root / file.path)
        found = hashlib.sha256(content).hexdigest()
        if found != file.sha256:
            raise ArtifactError(
                f"{_label(self.root)}: {file.path} ({len(content)} bytes) has checksum {found[:12]}…, "
                f"the manifest says {file.sha256[:12]}… ({file.size_bytes} bytes)"
            )
        return content


def discover(root: Path) -> dict[tuple[str, str], Path]:
    """The folders below ``root`` that may be artifacts, by name and version: ``<name>/<version>/``.

    A folder without a manifest is an export that has not ended, and is passed over, as is anything hidden.
    """
    return {(path.parent.name, path.name): path for path in sorted(_folders(root))}


def _folders(root: Path) -> Iterator[Path]:
    for path in root.glob(f"*/*/{FILE_NAME}"):
        name, version = path.parts[-3:-1]
        if not name.startswith(".") and version.isdecimal():
            yield path.parent


def fingerprint(path: Path) -> str:
    """What :attr:`Artifact.digest` would be, without checking anything.

    Raises:
        ArtifactError: if the manifest cannot be read.
    """
    return hashlib.sha256(_read(path / FILE_NAME)).hexdigest()


def open_artifact(path: Path) -> Artifact:
    """Read an artifact and check every file of it.

    Raises:
        ArtifactError: if the manifest is not valid or belongs elsewhere, a law of its certificate did not
            hold, or a file is not what was exported.
    """
    content = _read(path / FILE_NAME)
    manifest = _parse(path, content)
    if (manifest.name, manifest.version) != path.parts[-2:]:
        raise ArtifactError(
            f"{_label(path)}: {FILE_NAME} describes {manifest.name}/{manifest.version}; "
            "name and version must be those of the folders"
        )
    for check in manifest.certificate.failures:
        raise ArtifactError(
            f"{_label(path)}: its certificate failed: {check.name} is {check.value:g} {check.unit} "
            f"on {check.rows} rows, allowed is {check.tolerance:g}"
        )
    artifact = Artifact(path, manifest, hashlib.sha256(content).hexdigest())
    for entry in manifest.entry_points.values():
        for file in entry.files.values():
            artifact.read(file)
    return artifact


def _parse(path: Path, content: bytes) -> Manifest:
    try:
        return Manifest.model_validate_json(content)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(map(str, first["loc"])) or "the whole"
        raise ArtifactError(f"{_label(path)}: {FILE_NAME} is not valid: {place}: {first['msg']}") from error


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        raise ArtifactError(f"{_label(path.parent)}: {path.name} is missing") from error
    except OSError as error:
        raise ArtifactError(f"{_label(path.parent)}: {path.name} cannot be read: {error.strerror}") from error


def _label(path: Path) -> str:
    return f"{path.parent.name}/{path.name}"
