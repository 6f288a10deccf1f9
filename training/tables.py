"""Files of many rows, whatever their size: read a slice at a time.

``.npy``, ``.csv`` with or without a header, and ``.parquet`` where pyarrow is installed. Small files of
labels are the business of ``given``.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from itertools import chain, islice
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from models.manifest import DataSpace, Tensor
from training import Mistake
from training.given import is_number
from training.results import npy_head, pyarrow_parquet, replaced

Array = NDArray[Any]

LINES: Final = 10_000  # of text in memory at once


def open_rows(path: Path, space: DataSpace, stage: Path) -> Array:
    """The rows of a file, (N, ...), as they are needed.

    Args:
        stage: where the numbers of a text or a Parquet file are kept, unless they are already.

    Raises:
        Mistake: if the file cannot be read, or holds no rows of numbers.
    """
    readers = {".npy": None, ".csv": _from_csv, ".parquet": _from_parquet}
    if path.suffix not in readers:
        raise Mistake(f"{path} ends in {path.suffix or 'nothing'}; allowed are {', '.join(readers)}")
    reader = readers[path.suffix]
    try:
        if reader is not None and not stage.exists():
            _stack(reader(path, space), stage)
        rows: Array = np.load(path if reader is None else stage, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError, csv.Error) as error:
        if isinstance(error, Mistake):
            raise
        raise Mistake(f"{path} cannot be read as {path.suffix}: {error}") from error
    if rows.dtype.kind not in "fiu" or rows.ndim < 1 or not len(rows):
        raise Mistake(f"{path} holds {rows.dtype} of shape {list(rows.shape)}; needed are rows of numbers")
    return rows


def fitted(rows: Array, tensor: Tensor, path: Path, first: int = 0) -> Array:
    """Rows as a graph takes them, (B, ...) of its dtype; flat rows are given their shape.

    Args:
        first: the number of the first row in its file, to blame.

    Raises:
        Mistake: for another shape, or a value that is no finite number of this dtype.
    """
    shape = tensor.row_shape
    if rows.shape[1:] not in (shape, (int(np.prod(shape)),)):
        raise Mistake(f"{path} has rows of shape {list(rows.shape[1:])}; allowed are {list(shape)}, or flat")
    with np.errstate(over="ignore", invalid="ignore"):
        cast = np.ascontiguousarray(rows, tensor.dtype)
    whole = rows.dtype.kind in "iu" or tensor.dtype == "int64"
    bad = ~np.isfinite(cast) | (cast != rows) if whole else ~np.isfinite(cast)
    if bad.any():
        place = tuple(np.argwhere(bad)[0])
        wanted = "whole numbers of int64" if tensor.dtype == "int64" else f"finite numbers of {tensor.dtype}"
        raise Mistake(f"{path}: row {first + int(place[0])} holds {rows[place]}; allowed are {wanted}")
    return cast.reshape(len(rows), *shape)


def _from_csv(path: Path, space: DataSpace) -> Iterator[Array]:
    """The rows of a text file, some at a time; a header says which columns are the model's."""
    with path.open(newline="", encoding="utf-8-sig") as file:
        lines = (line for line in csv.reader(file) if line)
        first = next(lines, None)
        if first is None:
            raise Mistake(f"{path} is empty; needed are rows of numbers")
        has_head = not all(map(is_number, first))
        wanted = _wanted([cell.strip() for cell in first], space, path) if has_head else range(len(first))
        lines = lines if has_head else chain([first], lines)
        row = 0
        while chunk := list(islice(lines, LINES)):
            yield np.array([_cells(line, wanted, len(first), row + i, path) for i, line in enumerate(chunk)])
            row += len(chunk)


def _wanted(names: list[str], space: DataSpace, path: Path) -> list[int]:
    """The places of the model's columns, or of all."""
    missing = [name for name in space.columns or () if name not in names]
    if missing:
        raise Mistake(f"{path} has no column {missing[0]!r}; its columns are {', '.join(names)}")
    return [names.index(name) for name in space.columns or names]


def _cells(line: list[str], wanted: list[int] | range, width: int, row: int, path: Path) -> list[float]:
    if len(line) != width:
        raise Mistake(f"{path}: row {row} has {len(line)} cells; needed are {width}, as in the first line")
    try:
        return [float(line[place]) for place in wanted]
    except ValueError:
        wrong = next(line[place] for place in wanted if not is_number(line[place]))
        raise Mistake(f"{path}: row {row} holds {wrong!r}; allowed are numbers") from None


def _from_parquet(path: Path, space: DataSpace) -> Iterator[Array]:
    parquet = pyarrow_parquet(path)
    with parquet.ParquetFile(path) as file:
        names = file.schema_arrow.names
        wanted = [names[place] for place in _wanted(names, space, path)]
        for batch in file.iter_batches(LINES, columns=wanted):
            columns = [batch.column(name).to_numpy(zero_copy_only=False) for name in wanted]
            yield np.stack([_as_float(values, path) for values in columns], axis=1)


def _as_float(values: Array, path: Path) -> Array:
    if values.dtype.kind not in "fiu":
        raise Mistake(f"{path} has a column of {values.dtype}; allowed are columns of numbers")
    return values.astype(np.float64)


def _stack(chunks: Iterator[Array], path: Path) -> None:
    """Write chunks as one array; its header is written again when the number of rows is known."""
    with replaced(path) as file:
        rows, width = 0, None
        for chunk in chunks:
            if width is None:
                width = chunk.shape[1]
                npy_head(file, (0, width), np.dtype(np.float64))
            file.write(chunk.tobytes())
            rows += len(chunk)
        file.seek(0)
        npy_head(file, (rows, width or 0), np.dtype(np.float64))  # of the same length, NumPy leaves room
