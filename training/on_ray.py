"""The engine that is a Ray cluster: Ray Data computes the parts of a job, and starts what dies again.

Workers see the artifact, the rows and the folder of the parts by the paths that this process sees them by: on
one machine always, on several over a shared file system.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from training import Mistake
from training.bulk import Worker
from training.jobs import Job

OBJECTS_BYTES: Final = 128 << 20  # between processes go the numbers of parts, and no rows


def on_ray(job: Job, folder: Path, parts: Sequence[int]) -> Iterator[int]:
    """Compute parts on the cluster that ``RAY_ADDRESS`` names, or else on the cores of this machine.

    Raises:
        Mistake: if Ray is not installed.
    """
    if not parts:
        return
    with _cluster() as ray:
        cores = int(ray.cluster_resources().get("CPU", 1))
        pool = ray.data.ActorPoolStrategy(min_size=1, max_size=min(cores, len(parts)))
        items = ray.data.from_items([{"part": part} for part in parts], override_num_blocks=len(parts))
        done = items.map(_Part, fn_constructor_args=(job, folder.resolve()), compute=pool)
        for row in done.iter_rows():
            yield row["rows"]


class _Part:
    """A worker as Ray Data calls it."""

    def __init__(self, job: Job, folder: Path) -> None:
        self._worker = Worker(job, folder)

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        return {"rows": self._worker(row["part"])}


@contextmanager
def _cluster() -> Iterator[Any]:
    """Ray while the block runs; one that runs already is left running."""
    ray = _ray()
    there = ray.is_initialized()
    if not there:
        ours = {"address": "local", "include_dashboard": False, "object_store_memory": OBJECTS_BYTES}
        named = "RAY_ADDRESS" in os.environ
        ray.init(log_to_driver=False, logging_level=logging.ERROR, **({} if named else ours))
    ray.data.DataContext.get_current().enable_progress_bars = False  # the job has one
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    try:
        yield ray
    finally:
        if not there:
            ray.shutdown()


def _ray() -> Any:
    """Ray, whose import takes as long as that of all else together."""
    try:
        import ray
        import ray.data
    except ImportError:
        raise Mistake("--engine ray needs Ray: pip install '.[ray]'") from None
    return ray
