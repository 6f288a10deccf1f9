"""Bulk work: score, encode or draw any number of rows, in parts that are kept until the last one is done.

A job is cut into parts of some thousand rows. A part is a pure function of the job and its number, so it may
be computed in any process, twice, or again after a crash; it appears whole, with its checksum in its name.
What was stopped is gone on with by the same command. Which process computes what is the engine's business.
"""

from __future__ import annotations

import hashlib
import io
import json
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import numpy as np
from tqdm import tqdm

from models.manifest import Manifest
from models.noise import Address
from training import Mistake
from training.bar import bar
from training.folder import read_manifest
from training.jobs import ENTRY, SHOWN, Job, parts_folder, sha256, taken, told
from training.results import Columns, check_writable, replaced, write
from training.verbs import Draws, Runner, encode, sample, score

JOB: Final = "job.json"


# Computes some parts of a job into a folder, and tells the rows of each as it is done.
Engine = Callable[[Job, Path, Sequence[int]], Iterator[int]]


def run(job: Job, out: Path, engine: Engine) -> Counter[str]:
    """Compute a job, or what is missing of it, and write its result.

    Returns:
        How many rows have each status; of codes and samples, how many are not finite.

    Raises:
        Mistake: if ``out`` cannot be written, or the parts beside it are of another job.
    """
    check_writable(out)
    manifest, folder = read_manifest(Path(job.folder)), parts_folder(out)
    _settle(job, folder)
    there = _finished(job, folder)
    with _bar(job, manifest, there) as shown:
        for rows in engine(job, folder, [part for part in range(job.parts) if part not in there]):
            shown.update(rows)
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
        self._classes = told(job, space)

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
        x = taken(job, self._runner.manifest, self._rows, start, stop)
        if job.verb == "score":
            return score(self._runner, x, label, Draws(**job.options))
        return encode(self._runner, x, label)


# Parts ------------------------------------------------------------------------------------------------------


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
    if sha256(path).startswith(path.stem[-SHOWN:]):
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


def _bar(job: Job, manifest: Manifest, there: Mapping[int, Path]) -> tqdm[Any]:
    done = sum(stop - start for start, stop in map(job.span, there))
    return bar(f"{job.verb} {manifest.name}", "row", job.rows, done, unit_scale=True)
