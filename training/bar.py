"""The bar on long work."""

from __future__ import annotations

import sys
from typing import Any

from tqdm import tqdm


def bar(of: str, unit: str, total: int, done: int, **options: Any) -> tqdm[Any]:
    """A bar that says how much of the work is done.

    Args:
        options: others of tqdm's.
    """
    # A file or a pipe gets a line now and then, not a thousand of them.
    pause_s = 0.2 if sys.stderr.isatty() else 5.0
    return tqdm(total=total, initial=done, desc=of, unit=unit, mininterval=pause_s, **options)
