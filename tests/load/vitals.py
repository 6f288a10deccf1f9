"""What a process takes from its machine, its children included, as /proc has it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Vitals:
    """What must not grow."""

    resident_bytes: int
    threads: int
    descriptors: int


def vitals(pid: int) -> Vitals:
    """Of a process and its children, summed."""
    pids = list(family(pid))
    fields = [_status(each) for each in pids]
    return Vitals(
        1024 * sum(int(status["VmRSS"].split()[0]) for status in fields),
        sum(int(status["Threads"]) for status in fields),
        sum(len(os.listdir(f"/proc/{each}/fd")) for each in pids),
    )


def family(pid: int) -> Iterator[int]:
    """A process, its children, and theirs."""
    yield pid
    for task in Path(f"/proc/{pid}/task").iterdir():
        try:
            children = (task / "children").read_text().split()
        except (FileNotFoundError, ProcessLookupError):  # a thread that has just ended
            continue
        for child in children:
            yield from family(int(child))


def _status(pid: int) -> dict[str, str]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}
