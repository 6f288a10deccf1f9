"""Numbers that somebody gives in a small file, ``.npy`` or ``.csv``: rows, labels, classes."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from models.manifest import DataSpace
from training import Mistake

Floats = NDArray[np.float64]


def column(path: Path, count: int) -> Floats:
    """One number for each row."""
    values = numbers(path)
    if values.shape not in ((count,), (count, 1)):
        raise Mistake(f"{path} has shape {list(values.shape)}; needed is one number for each of {count} rows")
    return values.reshape(count)


def classes_of(path: Path, data: DataSpace, count: int) -> NDArray[np.int64]:
    """The class of each row."""
    values, most = column(path, count), len(data.labels or ()) - 1
    wrong = (values < 0) | (values > most) | (values != np.rint(values))
    if wrong.any():
        raise Mistake(f"{path} holds {values[wrong][0]:g}; allowed are the classes 0 to {most}")
    return values.astype(np.int64)


def numbers(path: Path) -> Floats:
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
    has_head = bool(lines) and not is_number(lines[0][0])
    return np.array([[float(cell) for cell in line] for line in lines[has_head:]])


def is_number(cell: str) -> bool:
    """Whether a cell of text is a number."""
    try:
        float(cell)
    except ValueError:
        return False
    return True
