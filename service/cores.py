"""How many processes a service has where nobody says: one for each core that it may use."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Final

from service.settings import Settings

GROUPS: Final = Path("/sys/fs/cgroup")
OWN_GROUPS: Final = Path("/proc/self/cgroup")
NVIDIA: Final = Path("/dev/nvidiactl")


def count(settings: Settings) -> int:
    """How many processes the settings ask for."""
    if settings.processes != "auto":
        return settings.processes
    return 1 if _on_gpu(settings) else cores()


def _on_gpu(settings: Settings) -> bool:
    """Whether models run on a GPU, or may: each process would have all of them in its memory.

    Told from outside, because to ask a runtime takes a second and more memory than a supervisor has.
    """
    if settings.device != "auto":
        return settings.device == "cuda"
    return NVIDIA.exists() and (settings.runtime == "torchscript" or _installed("onnxruntime-gpu"))


def _installed(package: str) -> bool:
    try:
        metadata.version(package)
    except metadata.PackageNotFoundError:
        return False
    return True


def cores(groups: Path = GROUPS, own: Path = OWN_GROUPS) -> int:
    """The cores that this process may use, by its affinity and by what its control group may spend.

    Reference: cgroup-v2.rst of Linux, ``cpu.max``; of version 1 sched-bwc.rst, ``cpu.cfs_quota_us``.

    Args:
        groups: where control groups are mounted.
        own: the file that names ours.
    """
    spend = min(_quotas(groups, own), default=math.inf)
    return max(1, int(min(len(os.sched_getaffinity(0)), spend)))


def _quotas(groups: Path, own: Path) -> Iterator[float]:
    """What our groups, and the groups around them, may spend, in cores."""
    lines = own.read_text().splitlines() if own.exists() else []
    for _, controllers, name in (line.split(":", 2) for line in lines):
        if controllers == "":
            mounted, files = groups, ["cpu.max"]
        elif "cpu" in controllers.split(","):
            mounted, files = groups / "cpu", ["cpu.cfs_quota_us", "cpu.cfs_period_us"]
        else:
            continue
        here = mounted / name.lstrip("/")  # what is mounted in a container may be less than the name says
        for group in (here, *here.parents):
            if group.is_relative_to(mounted) and all((group / file).exists() for file in files):
                yield _quota(" ".join((group / file).read_text() for file in files))


def _quota(said: str) -> float:
    """Cores, from microseconds that may be spent in a period; without a bound they are ``max`` or -1."""
    spend_us, period_us = said.split()
    return math.inf if spend_us in ("max", "-1") else int(spend_us) / int(period_us)
