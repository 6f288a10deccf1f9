"""How an artifact's folder comes to be: described, filled, and put in place whole or not at all.

Both ways to an artifact end here: ``export`` with a model of ours, ``pack`` with somebody else's graphs.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import platform
import shutil
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from importlib.metadata import version as installed
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnxruntime
import torch
from PIL import Image

from models.manifest import (
    FILE_NAME,
    Calibration,
    Certificate,
    EntryName,
    EntryPoint,
    Format,
    GraphFile,
    Manifest,
    Metric,
    Probe,
    Provenance,
)
from training import pictures
from training.card import CARD, card, is_picture
from training.certificate import parity_name, tolerance
from training.graphs import SUFFIX
from training.subject import Subject

SAMPLES: Final = "samples.png"
SHOWN: Final = 64
PROBE_ROWS: Final = 2
# p-values are ranks among the scores; a thousand of them tell 0.1 % apart.
MOST_SCORES: Final = 1000
RUNTIMES: Final = ("torch", "onnx", "onnxscript", "numpy")


@contextlib.contextmanager
def staged(home: Path) -> Iterator[Path]:
    """A hidden folder beside the versions of a model, gone if the block fails."""
    folder = home / f".{uuid.uuid4().hex}"
    folder.mkdir(parents=True)
    try:
        yield folder
    except BaseException:
        shutil.rmtree(folder)
        with contextlib.suppress(OSError):  # other versions live there
            home.rmdir()
        raise


def publish(folder: Path, describe: Callable[[str], Manifest]) -> Path:
    """Give a staged folder the next version, its card and, last, its manifest; then move it into place.

    Args:
        folder: from :func:`staged`, holding the graphs.
        describe: the manifest of a version.

    Returns:
        The artifact's folder.
    """
    home = folder.parent
    while True:
        manifest = describe(_next_version(home))
        (folder / CARD).write_text(card(manifest), encoding="utf-8")
        (folder / FILE_NAME).write_text(_readable(manifest), encoding="utf-8")
        _sync(*folder.iterdir(), folder)
        place = home / manifest.version
        try:
            folder.rename(place)
        except OSError:
            if not place.exists():
                raise
            continue  # another export was faster; take the version after its
        _sync(home)
        return place


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Run torch on one thread: for a few rows more are slower, and the bits then depend on how many."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


@contextlib.contextmanager
def step(what: str) -> Iterator[None]:
    """Tell what is being done, and how long it took."""
    print(f"  {what:<32}", end="", flush=True)
    started = time.monotonic()
    try:
        yield
    except BaseException:
        print("failed")
        raise
    print(f"{time.monotonic() - started:6.1f} s")


# Parts of the manifest --------------------------------------------------------------------------------


def entry_points(
    subject: Subject,
    folder: Path,
    certificate: Certificate,
    seconds: Mapping[EntryName, Mapping[Format, float]] | None = None,
) -> dict[EntryName, EntryPoint]:
    """Every entry point with its files: ``decode.onnx``, ``decode.ts`` and so on.

    Args:
        seconds: how long each file took to write, where we wrote it.
    """

    def file(entry: EntryName, form: Format) -> GraphFile:
        held = (folder / f"{entry}{SUFFIX[form]}").read_bytes()
        return GraphFile(
            path=f"{entry}{SUFFIX[form]}",
            sha256=hashlib.sha256(held).hexdigest(),
            size_bytes=len(held),
            max_deviation=_deviation(subject, entry, form, certificate),
            export_s=None if seconds is None else round(seconds[entry][form], 3),
        )

    return {
        entry: EntryPoint(
            inputs=signature.inputs,
            outputs=signature.outputs,
            cost=signature.cost,
            files={form: file(entry, form) for form in subject.graphs[entry]},
        )
        for entry, signature in subject.signatures.items()
    }


def probes(subject: Subject) -> dict[EntryName, Probe]:
    """Two typical rows for each entry point, and what its first format answers."""
    return {entry: _probe(subject, entry) for entry in subject.graphs}


def calibration(scores: np.ndarray, k: int) -> Calibration:
    """Held-out scores, ascending; of many, as many quantiles as matter."""
    ascending = np.sort(scores[np.isfinite(scores)]).astype(float)
    if len(ascending) > MOST_SCORES:
        ascending = ascending[np.linspace(0, len(ascending) - 1, MOST_SCORES).round().astype(int)]
    return Calibration(scores=tuple(ascending.tolist()), k=k)


def provenance(recipe: dict[str, Any], seed: int | None, metrics: dict[str, Metric]) -> Provenance:
    """Where the model comes from, with the versions of what made it, now."""
    tools = {"python": platform.python_version(), "onnxruntime": onnxruntime.__version__}
    return Provenance(
        recipe=recipe,
        seed=seed,
        tools=tools | {name: installed(name) for name in RUNTIMES},
        created_at=datetime.now(UTC).isoformat(timespec="seconds"),
        metrics=metrics,
    )


def draw_samples(subject: Subject, folder: Path) -> None:
    """``samples.png``, where rows are pictures or points of the plane."""
    data = subject.data
    if "decode" not in subject.graphs:
        return
    if data.display and is_picture(data):
        pictures.grid(subject.samples(SHOWN), data.display, columns=8).save(folder / SAMPLES)
    elif data.shape == (2,):
        _plane(subject.samples(4096)).save(folder / SAMPLES)


def _plane(points: np.ndarray) -> Image.Image:
    return pictures.scatter(points, pictures.window(points))


def _deviation(subject: Subject, entry: EntryName, form: Format, certificate: Certificate) -> float | None:
    names = {parity_name(entry, tensor, form) for tensor in subject.signatures[entry].outputs}
    return max((check.value for check in certificate.checks if check.name in names), default=None)


def _probe(subject: Subject, entry: EntryName) -> Probe:
    signature = subject.signatures[entry]
    inputs = tuple(rows[:PROBE_ROWS] for rows in subject.rows(entry, "typical"))
    outputs = subject.run(entry, inputs)
    # A float32 becomes the JSON number that is exactly it, so a probe can be held against bits.
    return Probe(
        inputs={tensor.name: rows.tolist() for tensor, rows in zip(signature.inputs, inputs, strict=True)},
        outputs={tensor.name: rows.tolist() for tensor, rows in zip(signature.outputs, outputs, strict=True)},
        tolerance=max(
            tolerance(subject, tensor, rows) for tensor, rows in zip(signature.outputs, outputs, strict=True)
        ),
    )


def _next_version(home: Path) -> str:
    taken = [int(place.name) for place in home.iterdir() if place.name.isdecimal()]
    return str(max(taken, default=0) + 1)


def _readable(manifest: Manifest) -> str:
    """JSON with a line for each part: probes and scores are thousands of numbers."""
    parts = manifest.model_dump(mode="json").items()
    lines = (f"{json.dumps(key)}: {json.dumps(value, ensure_ascii=False)}" for key, value in parts)
    return "{\n" + ",\n".join(lines) + "\n}\n"


def _sync(*paths: Path) -> None:
    """See files and folders onto the disk."""
    for path in paths:
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
