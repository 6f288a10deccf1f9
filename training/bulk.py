"""Bulk work: score, encode or draw any number of rows, in parts that are kept until the last one is done.

A job is cut into parts of some thousand rows. A part is a pure function of the job and its number, so it may
be computed in any process, twice, or again after a crash; it appears whole, with its checksum in its name.
What was stopped is gone on with by the same command. Which process computes what is the engine's business.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
import shutil
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from models.manifest import FILE_NAME, DataSpace, EntryName, Law, Manifest
from models.noise import LAST, Address
from models.support import Bounds
from training import Mistake
from training.folder import read_manifest
from training.given import classes_of
from training.results import Columns, check_writable, replaced, write
from training.tables import fitted, open_rows
from training.verbs import Draws, Runner, encode, sample, score

Verb = Literal["score", "encode", "draw"]

ENTRY: Final[dict[Verb, EntryName]] = {"score": "log_weight", "encode": "encode", "draw": "decode"}
PART_ROWS: Final = 4096
PART_BYTES: Final = 64 << 20  # of data in a part, at most
SCALED: Final = ("standard_normal", "logistic")  # priors that a temperature means something for
SHOWN: Final = 16  # digits of a checksum in the name of a file
JOB: Final = "job.json"


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
        return open_rows(Path(self.source), space, folder / f"rows-{self.content['rows'][:SHOWN]}.npy")


# Computes some parts of a job into a folder, and tells the rows of each as it is done.
Engine = Callable[[Job, Path, Sequence[int]], Iterator[int]]


def run(job: Job, out: Path, engine: Engine) -> Counter[str]:
    """Compute a job, or what is missing of it, and write its result.

    Returns:
        How many rows have each status; of codes and samples, how many are not finite.

    Raises:
        Mistake: if ``out`` cannot be written, the job's rows are not what the model takes, or the parts
            beside ``out`` are of another job.
    """
    check_writable(out)
    manifest, folder = read_manifest(Path(job.folder)), parts_folder(out)
    _settle(job, folder)
    _check_rows(job, manifest, folder)
    there = _finished(job, folder)
    with _bar(job, manifest, there) as bar:
        for rows in engine(job, folder, [part for part in range(job.parts) if part not in there]):
            bar.update(rows)
    return _put_together(job, manifest, folder, out)


def local(job: Job, folder: Path, parts: Sequence[int]) -> Iterator[int]:
    """The engine that is this process: one part after another."""
    worker = Worker(job, folder)
    for part in parts:
        yield worker(part)


class Worker:
    """Computes parts of one job, whichever it is given, and keeps them in a folder."""

    def __init__(self, job: Job, folder: Path) -> None:
        self._job, self._folder = job, folder
        self._runner = Runner(Path(job.folder), ENTRY[job.verb])
        space = self._runner.manifest.data
        self._rows = job.held(folder, space)
        self._classes = _told(job, space)

    def __call__(self, part: int) -> int:
        """Compute a part.

        Returns:
            Its number of rows.
        """
        start, stop = self._job.span(part)
        _keep(self._folder, part, self._columns(start, stop))
        return stop - start

    def _columns(self, start: int, stop: int) -> Columns:
        job, label = self._job, self._classes(start, stop)
        if self._rows is None:
            return sample(self._runner, stop - start, Address(**job.options).skip(start), label)
        x = _taken(job, self._runner.manifest, self._rows, start, stop)
        if job.verb == "score":
            return score(self._runner, x, label, Draws(**job.options))
        return encode(self._runner, x, label)


def _told(job: Job, space: DataSpace) -> Callable[[int, int], NDArray[Any] | None]:
    """The classes of the rows from one to before another."""
    if job.classes.file is not None:
        each = classes_of(Path(job.classes.file), space, job.rows)
        return lambda start, stop: each[start:stop]
    same = job.classes.same
    return lambda start, stop: None if same is None else np.full(stop - start, same)


def _taken(job: Job, manifest: Manifest, rows: NDArray[Any], start: int, stop: int) -> NDArray[Any]:
    """Rows of the source as the graph takes them."""
    tensor = manifest.entry_points[ENTRY[job.verb]].input("data")
    assert tensor is not None
    assert job.source is not None
    return fitted(rows[start:stop], tensor, Path(job.source), start)


# Jobs -------------------------------------------------------------------------------------------------------


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
        Mistake: if the model has no such verb or classes, or the file cannot be read.
    """
    check_writable(out)
    manifest = _able(verb, folder)
    classes = _classes(manifest, ENTRY[verb], label)
    digest = _sha256(source)
    stage = parts_folder(out) / f"rows-{digest[:SHOWN]}.npy"
    stage.parent.mkdir(exist_ok=True)
    rows = len(open_rows(source, manifest.data, stage))
    return Job(
        verb=verb,
        folder=str(folder.resolve()),
        rows=rows,
        part_rows=_part_rows(manifest),
        options=asdict(Draws.of(manifest, **(options or {}))) if verb == "score" else {},
        classes=classes,
        source=str(source.resolve()),
        content=_content(folder, classes) | {"rows": digest},
    )


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
    return Job(
        verb="draw",
        folder=str(folder.resolve()),
        rows=rows,
        part_rows=_part_rows(manifest),
        options=said | drawn_in,
        classes=classes,
        content=_content(folder, classes),
    )


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
    last = LAST - rows
    for option, value, allowed, holds in (
        ("-n", rows, f"1 to {LAST}", 1 <= rows <= LAST),
        ("--seed", address.seed, f"0 to {LAST}", 0 <= address.seed <= LAST),
        ("--offset", address.offset, f"0 to {last}", 0 <= address.offset <= last),
        ("--temperature", address.scale, "0 to 10", 0 <= address.scale <= 10),
        ("--truncation", address.truncation, "above 0", address.truncation > 0),
        (
            "--temperature",
            address.scale,
            f"1 for a prior that is {prior}",
            address.scale == 1 or prior in SCALED,
        ),
        ("--truncation", address.truncation, f"none for a prior that is {prior}", _reaches(address, prior)),
    ):
        if not holds:
            raise Mistake(f"{option} is {value:g}; allowed is {allowed}")


def _reaches(address: Address, prior: Law | None) -> bool:
    return math.isinf(address.truncation) or prior == "standard_normal"


def _check_rows(job: Job, manifest: Manifest, folder: Path) -> None:
    """Look at all rows and classes before the first is computed: hours later would be late."""
    told, rows = _told(job, manifest.data), job.held(folder, manifest.data)
    told(0, 0)
    if rows is None:
        return
    bounds = Bounds.of(manifest.data.support)
    for start, stop in map(job.span, range(job.parts)):
        x = _taken(job, manifest, rows, start, stop)
        outside = bounds.violations(x).any(axis=1) if job.verb == "encode" else np.zeros(0, bool)
        if outside.any():
            row = start + int(np.flatnonzero(outside)[0])
            raise Mistake(f"{job.source}: row {row} lies outside the support of {manifest.name}")


# Parts ------------------------------------------------------------------------------------------------------


def parts_folder(out: Path) -> Path:
    """Where the parts of a result are until it is whole."""
    return out.with_name(f"{out.name}.parts")


def _settle(job: Job, folder: Path) -> None:
    """Make the folder of a job, or see that it is of the same one."""
    folder.mkdir(exist_ok=True)
    path = folder / JOB
    said = json.dumps(asdict(job), indent=1)
    if not path.exists():
        with replaced(path) as file:
            file.write(said.encode())
    elif path.read_text() != said:
        raise Mistake(f"{folder} is of another job; remove it, or choose another --out")


def _keep(folder: Path, part: int, columns: Columns) -> None:
    """Write a part, its checksum in its name."""
    packed = io.BytesIO()
    np.savez(packed, allow_pickle=False, **columns)
    held = packed.getvalue()
    with replaced(folder / f"{part:06d}-{hashlib.sha256(held).hexdigest()[:SHOWN]}.npz") as file:
        file.write(held)


def _finished(job: Job, folder: Path) -> dict[int, Path]:
    """The parts that are there, by number; one that has changed since is none."""
    found = {int(path.name[:6]): path for path in sorted(folder.glob("[0-9]*-*.npz"))}
    return {part: path for part, path in found.items() if part < job.parts and _is_whole(path)}


def _is_whole(path: Path) -> bool:
    if _sha256(path).startswith(path.stem[-SHOWN:]):
        return True
    path.unlink()
    return False


def _put_together(job: Job, manifest: Manifest, folder: Path, out: Path) -> Counter[str]:
    """Write the result, and let go of the parts."""
    paths = [path for _, path in sorted(_finished(job, folder).items())]
    if len(paths) < job.parts:
        raise Mistake(
            f"{job.parts - len(paths)} parts of {folder} are damaged; the same command makes them again"
        )

    def parts() -> Iterator[Columns]:
        for path in paths:
            with np.load(path, allow_pickle=False) as held:
                yield dict(held)

    write(out, parts, job.rows, manifest.data)
    tally = sum(map(_tally, parts()), Counter[str]())
    shutil.rmtree(folder)
    return tally


def _tally(columns: Columns) -> Counter[str]:
    if "status" in columns:
        return Counter(columns["status"].tolist())
    sound = [np.isfinite(values).reshape(len(values), -1).all(axis=1) for values in columns.values()]
    finite = np.logical_and.reduce(sound)
    return Counter({"finite": int(finite.sum()), "not finite": int((~finite).sum())})


def _content(folder: Path, classes: Classes) -> dict[str, str]:
    files = {"artifact": folder / FILE_NAME}
    if classes.file is not None:
        files["classes"] = Path(classes.file)
    return {what: _sha256(path) for what, path in files.items()}


def _sha256(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise Mistake(f"{path} cannot be read: {error.strerror}") from error


def _bar(job: Job, manifest: Manifest, there: Mapping[int, Path]) -> tqdm[Any]:
    done = sum(stop - start for start, stop in map(job.span, there))
    # A file or a pipe gets a line now and then, not a thousand of them.
    pause = 0.2 if sys.stderr.isatty() else 5.0
    name = f"{job.verb} {manifest.name}"
    return tqdm(total=job.rows, initial=done, desc=name, unit="row", unit_scale=True, mininterval=pause)
