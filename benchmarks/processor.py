"""Processor time, from Linux's /proc: of a process with all its descendants, and of the whole machine."""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Final

TICKS: Final = os.sysconf("SC_CLK_TCK")
# Places in /proc/PID/stat, counted behind the command's name.
STATE, PARENT, SESSION, USER, SYSTEM = 0, 1, 3, 11, 12


def _stat(pid: int) -> list[str]:
    """Empty for a process that is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []


def family(root: int) -> set[int]:
    """A process, its descendants, and who shares its session after its parent has ended."""
    stats = {int(entry): _stat(int(entry)) for entry in os.listdir("/proc") if entry.isdigit()}
    found = {root} | {pid for pid, stat in stats.items() if stat and int(stat[SESSION]) == root}
    while more := {pid for pid, stat in stats.items() if stat and int(stat[PARENT]) in found} - found:
        found |= more
    return found


def alive(pid: int) -> bool:
    """Whether it runs; one that has ended and was not waited for does not."""
    stat = _stat(pid)
    return bool(stat) and stat[STATE] != "Z"


def spent_s(pids: Iterable[int]) -> float:
    """Seconds of processor time."""
    stats = filter(None, map(_stat, pids))
    return sum(int(stat[USER]) + int(stat[SYSTEM]) for stat in stats) / TICKS


def resident_mb(pids: Iterable[int]) -> float:
    """Memory, where pages that several share count once."""
    total = 0
    for pid in pids:
        with suppress(OSError):
            lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
            total += sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return total / 1000


def machine_s() -> float:
    """Seconds that all cores together have been busy since the start."""
    user, nice, system, _, _, irq, soft_irq, stolen = map(
        int, Path("/proc/stat").read_text().splitlines()[0].split()[1:9]
    )
    return (user + nice + system + irq + soft_irq + stolen) / TICKS
