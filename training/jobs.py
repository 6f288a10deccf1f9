"""A job of bulk work: which rows go through which entry point, and that all of them may.

Everything that could be wrong is found here, before the first row is computed: hours later would be late.
"""

from __future__ import annotations

import hashlib
import math
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from models.manifest import FILE_NAME, DataSpace, EntryName, Law, Manifest
from models.noise import LAST, Address
from models.support import Bounds
from training import Mistake
from training.folder import read_manifest
from training.given import classes_of
from training.results import check_writable
from training.tables import fitted, open_rows
from training.verbs import Draws

Verb = Literal["score", "encode", "draw"]

ENTRY: Final[dict[Verb, EntryName]] = {"score": "log_weight", "encode": "encode", "draw": "decode"}
SCALED: Final = ("standard_normal", "logistic")  # priors that a temperature means something for
PART_ROWS: Final = 4096
PART_BYTES: Final = 64 << 20  # of data in a part, at most
SHOWN: Final = 16  # digits of a checksum in the name of a file


@dataclass(frozen=True)
class Classes:
    """The class of every row, or a file with that of each."""

    same: int | None = None
    file: str | None = None


@dataclass(frozen=True)
class Job:
    """What is computed, of how many rows.

    Attributes:
        folder: the artifact.
        rows: how many, in all.
        part_rows: of each part but the last.
        options: of the verb: ``k`` and ``seed`` of a score, the address of a draw.
        classes: for a model that is told them.
        source: the file of rows, ``None`` where rows are drawn.
        content: SHA-256 of every file that the job reads, by what it is.
    """

    verb: Verb
    folder: str
    rows: int
    part_rows: int
    options: Mapping[str, float | int]
    classes: Classes
    source: str | None = None
    content: Mapping[str, str] = field(default_factory=dict)

    @property
    def parts(self) -> int:
        """How many there are."""
        return -(-self.rows // self.part_rows)

    def span(self, part: int) -> tuple[int, int]:
        """The first row of a part, and the one after its last."""
        return part * self.part_rows, min(self.rows, (part + 1) * self.part_rows)

    def held(self, folder: Path, space: DataSpace) -> NDArray[Any] | None:
        """The rows of the source, opened; text is turned into numbers once, in the folder of the parts."""
        if self.source is None:
            return None
        return open_rows(Path(self.source), space, _stage(folder, self.content))


def of_rows(
    verb: Literal["score", "encode"],
    folder: Path,
    source: Path,
    out: Path,
    label: str | None = None,
    options: Mapping[str, int | None] | None = None,
) -> Job:
    """The job of scoring or encoding the rows of a file.

    Args:
        out: beside which the parts will be.
        label: a class, by name or number, or a file with that of each row.
        options: ``k`` and ``seed`` of a score, where they are not the calibration's.

    Raises:
        Mistake: if the model has no such verb or classes, or a row of the file is not what it takes.
    """
    check_writable(out)
    manifest = _able(verb, folder)
    classes = _classes(manifest, ENTRY[verb], label)
    content = _content(folder, classes) | {"rows": sha256(source)}
    with _begun(parts_folder(out)) as parts:
        job = Job(
            verb=verb,
            folder=str(folder.resolve()),
            rows=len(open_rows(source, manifest.data, _stage(parts, content))),
            part_rows=_part_rows(manifest),
            options=asdict(Draws.of(manifest, **(options or {}))) if verb == "score" else {},
            classes=classes,
            source=str(source.resolve()),
            content=content,
        )
        _check_rows(job, manifest, parts)
    return job


def of_draw(folder: Path, rows: int, address: Address, label: str | None = None) -> Job:
    """The job of drawing samples, ``rows`` of them from an address on.

    Raises:
        Mistake: if the model cannot, or not with such an address.
    """
    manifest = _able("draw", folder)
    _check_address(manifest, rows, address)
    classes = _classes(manifest, "decode", label)
    said = {name: getattr(address, name) for name in ("seed", "offset", "scale")}
    drawn_in = {} if math.isinf(address.truncation) else {"truncation": address.truncation}
    job = Job(
        verb="draw",
        folder=str(folder.resolve()),
        rows=rows,
        part_rows=_part_rows(manifest),
        options=said | drawn_in,
        classes=classes,
        content=_content(folder, classes),
    )
    told(job, manifest.data)
    return job


def _able(verb: Verb, folder: Path) -> Manifest:
    manifest = read_manifest(folder)
    if ENTRY[verb] not in manifest.entry_points:
        grades = ", ".join(f"{part} {grade}" for part, grade in manifest.grades.model_dump().items())
        raise Mistake(f"{manifest.name} cannot {verb}: its grades are {grades}")
    return manifest


def _part_rows(manifest: Manifest) -> int:
    row_bytes = manifest.data.size * np.dtype(manifest.data.dtype).itemsize
    return max(1, min(PART_ROWS, PART_BYTES // row_bytes))


def _classes(manifest: Manifest, entry: EntryName, label: str | None) -> Classes:
    """The classes that were asked for."""
    takes, names = manifest.entry_points[entry].input("label") is not None, manifest.data.labels or ()
    if takes != (label is not None):
        raise Mistake(
            f"{manifest.name} takes {'a' if takes else 'no'} class; "
            f"--label is {label}, allowed is {', '.join(names) + ', or a file' if takes else 'none'}"
        )
    if label is None:
        return Classes()
    if Path(label).suffix in (".npy", ".csv"):
        return Classes(file=str(Path(label).resolve()))
    if label in names or (label.isdecimal() and int(label) < len(names)):
        return Classes(same=names.index(label) if label in names else int(label))
    raise Mistake(f"--label is {label}; allowed are {', '.join(names)}, their numbers, or a file of these")


def _check_address(manifest: Manifest, rows: int, address: Address) -> None:
    """Hold an address to what ``/sample`` allows."""
    prior = manifest.latent.prior if manifest.latent else None
    last, scales = LAST - rows, address.scale == 1 or prior in SCALED
    for option, value, allowed, holds in (
        ("-n", rows, f"1 to {LAST}", 1 <= rows <= LAST),
        ("--seed", address.seed, f"0 to {LAST}", 0 <= address.seed <= LAST),
        ("--offset", address.offset, f"0 to {last}", 0 <= address.offset <= last),
        ("--temperature", address.scale, "0 to 10", 0 <= address.scale <= 10),
        ("--truncation", address.truncation, "above 0", address.truncation > 0),
        ("--temperature", address.scale, f"1 for a prior that is {prior}", scales),
        ("--truncation", address.truncation, f"none for a prior that is {prior}", _reaches(address, prior)),
    ):
        if not holds:
            raise Mistake(f"{option} is {value:g}; allowed is {allowed}")


def _reaches(address: Address, prior: Law | None) -> bool:
    return math.isinf(address.truncation) or prior == "standard_normal"


def _check_rows(job: Job, manifest: Manifest, folder: Path) -> None:
    """Look at all rows and classes before the first is computed: hours later would be late."""
    told(job, manifest.data)
    rows, bounds = job.held(folder, manifest.data), Bounds.of(manifest.data.support)
    assert rows is not None
    for start, stop in map(job.span, range(job.parts)):
        x = taken(job, manifest, rows, start, stop)
        outside = bounds.violations(x).any(axis=1)
        if job.verb == "encode" and outside.any():
            row = start + int(np.flatnonzero(outside)[0])
            raise Mistake(f"{job.source}: row {row} lies outside the support of {manifest.name}")


def parts_folder(out: Path) -> Path:
    """Where the parts of a result are until it is whole."""
    return out.with_name(f"{out.name}.parts")


def _stage(folder: Path, content: Mapping[str, str]) -> Path:
    """Where the numbers of a text file are kept; of another text, elsewhere."""
    return folder / f"rows-{content['rows'][:SHOWN]}.npy"


@contextmanager
def _begun(folder: Path) -> Iterator[Path]:
    """A folder that is gone again if it is new and the block fails."""
    new = not folder.exists()
    folder.mkdir(exist_ok=True)
    try:
        yield folder
    except BaseException:
        if new:
            shutil.rmtree(folder)
        raise


def told(job: Job, space: DataSpace) -> Callable[[int, int], NDArray[Any] | None]:
    """The classes of the rows from one to before another."""
    if job.classes.file is not None:
        each = classes_of(Path(job.classes.file), space, job.rows)
        return lambda start, stop: each[start:stop]
    same = job.classes.same
    return lambda start, stop: None if same is None else np.full(stop - start, same)


def taken(job: Job, manifest: Manifest, rows: NDArray[Any], start: int, stop: int) -> NDArray[Any]:
    """Rows of the source as the graph takes them."""
    tensor = manifest.entry_points[ENTRY[job.verb]].input("data")
    assert tensor is not None
    assert job.source is not None
    return fitted(rows[start:stop], tensor, Path(job.source), start)


def _content(folder: Path, classes: Classes) -> dict[str, str]:
    files = {"artifact": folder / FILE_NAME}
    if classes.file is not None:
        files["classes"] = Path(classes.file)
    return {what: sha256(path) for what, path in files.items()}


def sha256(path: Path) -> str:
    """The checksum of a file, in hexadecimal digits."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise Mistake(f"{path} cannot be read: {error.strerror}") from error
