"""Columns of many rows: written a part at a time, and put in place whole or not at all."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any, Final

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from models.manifest import DataSpace
from training import Mistake

Array = NDArray[Any]
Columns = dict[str, Array]
Parts = Callable[[], Iterator[Columns]]


class replaced:
    """A file that takes its place when it is whole and on the disk, and leaves nothing behind otherwise."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._new = path.with_name(f".{path.name}.{os.getpid()}")

    def __enter__(self) -> IO[bytes]:
        self._file = self._new.open("wb+")
        return self._file

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is None:
            self._file.flush()
            os.fsync(self._file.fileno())
        self._file.close()
        if kind is None:
            self._new.replace(self._path)
        else:
            self._new.unlink()


def write(path: Path, parts: Parts, rows: int, space: DataSpace) -> None:
    """Put parts together in one file, in constant memory.

    ``.npy`` holds the first array, ``.npz`` every one; ``.csv`` and ``.parquet`` a column for each number.

    Args:
        parts: gives the columns of each part, in order, each time it is called.
        rows: in all parts.
    """
    with replaced(path) as file:
        WRITERS[path.suffix](file, parts, rows, space)


def _write_npy(file: IO[bytes], parts: Parts, rows: int, space: DataSpace) -> None:
    _write_column(file, next(iter(next(parts()))), parts, rows)


def _write_npz(file: IO[bytes], parts: Parts, rows: int, space: DataSpace) -> None:
    with zipfile.ZipFile(file, "w") as archive:
        for name in next(parts()):
            with archive.open(zipfile.ZipInfo(f"{name}.npy"), "w", force_zip64=True) as member:
                _write_column(member, name, parts, rows)


def _write_column(file: IO[bytes], name: str, parts: Parts, rows: int) -> None:
    first = next(parts())[name]
    npy_head(file, (rows, *first.shape[1:]), first.dtype)
    for part in parts():
        file.write(part[name].astype(first.dtype, copy=False).tobytes())


def npy_head(file: IO[bytes], shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
    """What comes before the numbers of an array."""
    described = {"descr": npy.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
    npy.write_array_header_1_0(file, described)


def _write_csv(file: IO[bytes], parts: Parts, rows: int, space: DataSpace) -> None:
    for place, part in enumerate(parts()):
        columns = flat(part, space)
        if place == 0:
            file.write((",".join(map(_quoted, columns)) + "\n").encode())
        # NumPy prints the shortest digits that read back to the bit.
        lines = zip(*(values.astype(str).tolist() for values in columns.values()), strict=True)
        file.write("".join(",".join(line) + "\n" for line in lines).encode())


def _write_parquet(file: IO[bytes], parts: Parts, rows: int, space: DataSpace) -> None:
    import pyarrow
    import pyarrow.parquet

    writer = None
    for part in parts():
        table = pyarrow.table(flat(part, space))
        writer = writer or pyarrow.parquet.ParquetWriter(file, table.schema)
        writer.write_table(table)
    assert writer is not None
    writer.close()


WRITERS: Final[dict[str, Callable[[IO[bytes], Parts, int, DataSpace], None]]] = {
    ".npy": _write_npy,
    ".npz": _write_npz,
    ".csv": _write_csv,
    ".parquet": _write_parquet,
}


def check_writable(path: Path) -> None:
    """Refuse a file that could not be written in the end.

    Raises:
        Mistake: if it is there already, its folder is not, or its kind is unknown or needs what is missing.
    """
    if path.suffix not in WRITERS:
        raise Mistake(f"--out {path} ends in {path.suffix or 'nothing'}; allowed are {', '.join(WRITERS)}")
    if path.exists():
        raise Mistake(f"{path} is there already; remove it, or choose another --out")
    if not path.parent.is_dir():
        raise Mistake(f"{path.parent} is no folder; make it, or choose another --out")
    if path.suffix == ".parquet":
        pyarrow_parquet(path)


def flat(columns: Columns, space: DataSpace) -> Columns:
    """The same numbers, each dimension a column with a name: of data the model's, of codes z0, z1, …"""
    shown: Columns = {}
    for name, values in columns.items():
        if values.ndim == 1:
            shown[name] = values
            continue
        wide = values.reshape(len(values), -1)
        stem = {"samples": "x", "latents": "z"}.get(name, name)
        named = space.columns if name == "samples" else None
        shown |= zip(named or [f"{stem}{i}" for i in range(wide.shape[1])], wide.T, strict=True)
    return shown


def _quoted(name: str) -> str:
    """A name as RFC 4180 writes it."""
    return '"' + name.replace('"', '""') + '"' if any(c in name for c in ',"\r\n') else name


def pyarrow_parquet(path: Path) -> Any:
    """The module that reads and writes Parquet.

    Raises:
        Mistake: if it is not installed.
    """
    try:
        import pyarrow.parquet
    except ImportError:
        raise Mistake(f"{path} needs pyarrow, which the extra `ray` brings: pip install '.[ray]'") from None
    return pyarrow.parquet
