"""A file of rows that is not finished yet, and knows what it is a part of.

While ``rows.npy`` is made there are ``rows.npy.part``, with the header of the whole, and
``rows.npy.part.json`` with the address of its rows. The name itself appears when every row is there.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Self

from numpy.lib import format as npy
from numpy.typing import NDArray

from pushforward_client.download import Wanted
from pushforward_client.errors import Unresumable

Array = NDArray[Any]
Progress = Callable[[int], object]


class Partial:
    """Rows on their way into an npy file.

    Args:
        seed_named: by the caller; if not, a download that broke keeps its own.

    Attributes:
        wanted: as asked, or as the file says where it began.
        rows: that are there already.

    Raises:
        Unresumable: if another download lies there.
    """

    def __init__(self, path: Path, wanted: Wanted, seed_named: bool = True) -> None:
        self._path = path
        self._part, self._note = (path.with_name(path.name + end) for end in (".part", ".part.json"))
        self.rows = self._whole_rows() if self._part.exists() else 0
        self.wanted = self._noted(wanted, seed_named) if self.rows else wanted

    def _noted(self, wanted: Wanted, seed_named: bool) -> Wanted:
        """The address of a file that was begun, where it is the one that is asked for."""
        try:
            noted = Wanted(**json.loads(self._note.read_bytes()))
        except (OSError, ValueError, TypeError) as error:
            raise self._other(f"its address cannot be read ({error})") from None
        asked = wanted if seed_named else replace(wanted, seed=noted.seed)
        asked = replace(asked, version=asked.version or noted.version)
        for name, value in asdict(asked).items():
            if (found := asdict(noted)[name]) != value:
                raise self._other(f"its {name} is {found}, asked for is {value}")
        return noted

    def _other(self, why: str) -> Unresumable:
        return Unresumable(f"{self._part} is of another download: {why}; remove it, or name another file")

    def _whole_rows(self) -> int:
        """How many rows are there; a half one is cut off."""
        with self._part.open("r+b") as file:
            try:
                npy.read_magic(file)
                shape, _, dtype = npy.read_array_header_1_0(file)
            except ValueError:  # it ends within the header
                return 0
            head, row_bytes = file.tell(), math.prod(shape[1:]) * dtype.itemsize
            rows = int(self._part.stat().st_size - head) // row_bytes
            file.truncate(head + rows * row_bytes)
        return rows

    def __enter__(self) -> Self:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._file = self._part.open("ab" if self.rows else "wb")
        return self

    def append(self, rows: Array, wanted: Wanted) -> None:
        """Write rows; before the first, the header of the whole, and the address with its version."""
        if not self.rows:
            self._note.write_text(json.dumps(asdict(wanted)))
            head = {"descr": rows.dtype.str, "fortran_order": False, "shape": (wanted.n, *rows.shape[1:])}
            npy.write_array_header_1_0(self._file, head)
        self._file.write(rows.tobytes())
        self.rows += len(rows)

    def __exit__(self, *_: object) -> None:
        """Complete, the file gets its name; without any row, nothing is left behind."""
        self._file.close()
        if self.rows == self.wanted.n:
            self._part.replace(self._path)
            self._note.unlink()
        elif not self.rows:
            self._part.unlink()
