"""Rows in files: npy, CSV and pictures in, npy and CSV out."""

from __future__ import annotations

import csv
import math
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, TextIO

import numpy as np
from numpy.typing import NDArray

from pushforward_client.answers import Model
from pushforward_client.errors import PushforwardError

Array = NDArray[Any]


class Unreadable(PushforwardError):
    """A file that does not hold the rows that it should."""


def read(path: Path, model: Model) -> Array:
    """The rows of a file, (B, ...), by the ending of its name.

    Raises:
        Unreadable: if it holds none that the model could take.
    """
    try:
        if path.suffix == ".npy":
            return np.asarray(np.load(path, allow_pickle=False, mmap_mode="r"))
        if path.suffix == ".csv":
            return _read_csv(path, model)
        if path.suffix == ".png":
            return _read_picture(path, model)[None]
    except (OSError, ValueError) as error:
        raise Unreadable(f"{path} cannot be read: {error}") from None
    raise Unreadable(f"{path} ends in {path.suffix or 'nothing'}; allowed: .npy, .csv and .png")


def _read_csv(path: Path, model: Model) -> Array:
    """Lines of numbers, in the model's columns where the first line names them."""
    with path.open(newline="") as file:
        lines = [line for line in csv.reader(file) if line]
    head = lines.pop(0) if lines and not _are_numbers(lines[0]) else None
    if not lines:
        raise ValueError("it is empty; allowed: a line for each row")
    width = len(head or lines[0])
    places = _places(head, model.columns) if head and model.columns else range(width)
    rows = np.array([_numbers(line, width, places) for line in lines])
    return rows.reshape(-1, *model.data_shape) if rows.shape[1] == math.prod(model.data_shape) else rows


def _numbers(line: Sequence[str], width: int, places: Sequence[int]) -> list[float]:
    chosen = [line[place] for place in places] if len(line) == width else []
    if not _are_numbers(chosen):
        raise ValueError(f"a line is {','.join(line)[:80]!r}; allowed: {width} cells, numbers where read")
    return [float(cell) for cell in chosen]


def _are_numbers(line: Sequence[str]) -> bool:
    try:
        return bool([float(cell) for cell in line])
    except ValueError:
        return False


def _places(head: Sequence[str], columns: Sequence[str]) -> list[int]:
    """Where the model's columns are; others are left out."""
    missing = [name for name in columns if name not in head]
    if missing:
        raise ValueError(f"it has no column {missing[0]!r}; its columns are {', '.join(head)}")
    return [head.index(name) for name in columns]


def _read_picture(path: Path, model: Model) -> Array:
    """A picture in the model's size and units, (C, H, W)."""
    try:
        from PIL import Image
    except ImportError:
        raise Unreadable(f"{path} needs Pillow: pip install 'pushforward-client[cli]'") from None
    display = model.about["data"]["display"]
    if len(model.data_shape) != 3 or display is None:
        raise ValueError(f"it is a picture; rows of {model.name} have the shape {list(model.data_shape)}")
    channels, height, width = model.data_shape
    with Image.open(path) as image:
        grey = image.convert("L" if channels == 1 else "RGB").resize((width, height), Image.Resampling.BOX)
    low, high = display
    shown = low + np.asarray(grey, np.float64).reshape(height, width, channels) * ((high - low) / 255)
    lattice = model.about["data"]["support"][0]["lattice"]
    return np.asarray(np.rint(shown) if lattice else shown).transpose(2, 0, 1)


class Table:
    """A CSV that grows: a line of names, then one for each row."""

    def __init__(self, file: TextIO) -> None:
        self._writer = csv.writer(file, lineterminator="\n")
        self._begun = False

    def append(self, columns: Mapping[str, Array]) -> None:
        """Write some rows, given by column; a float is as short as it can be and still reads back."""
        if not self._begun:
            self._writer.writerow(columns)
            self._begun = True
        self._writer.writerows(zip(*(_text(column) for column in columns.values()), strict=True))


def _text(column: Array) -> list[str]:
    found: list[str] = column.astype(str).tolist()
    return found


def flat(rows: Array, model: Model | None, letter: str) -> dict[str, Array]:
    """The columns of rows (B, ...), named as the model names them, or by letter and number."""
    table = rows.reshape(len(rows), -1)
    named = model.columns if model and model.columns and len(model.columns) == table.shape[1] else None
    return {
        name: table[:, i] for i, name in enumerate(named or [f"{letter}{i}" for i in range(table.shape[1])])
    }


@contextmanager
def table(path: Path | None) -> Iterator[Table]:
    """A CSV in a file, or on the standard output."""
    with nullcontext(sys.stdout) if path is None else path.open("w", newline="") as file:
        yield Table(file)
