"""A bar on long work, on a terminal, where tqdm is installed."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

SHORT_ROWS = 1000


@contextmanager
def bar(rows: int, what: str) -> Iterator[Callable[[int], object]]:
    """What counts rows, as they are done."""
    try:
        from tqdm import tqdm
    except ImportError:
        yield lambda done: None
        return
    quiet = rows < SHORT_ROWS or not sys.stderr.isatty()
    with tqdm(total=rows, unit=" rows", unit_scale=True, desc=what, disable=quiet) as shown:
        yield shown.update
