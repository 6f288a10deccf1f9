"""Where a run took place: machine, versions, time and command."""

from __future__ import annotations

import os
import platform
import re
import shlex
import subprocess
import sys
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Final

from benchmarks.install import PINS
from benchmarks.servers import CORES

OURS: Final = ("pushforward", "onnxruntime", "numpy", "uvicorn", "fastapi", "pydantic", "orjson")


def about() -> dict[str, str]:
    """What a reader needs who wants to do it again."""
    return {
        "date": f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        "commit": _said("git", "describe", "--always", "--dirty"),
        "command": shlex.join(["python", "-m", "benchmarks", *sys.argv[1:]]),
        "processor": f"{_first('model name', Path('/proc/cpuinfo'))}, {CORES} cores",
        "memory": f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 1e9:.0f} GB",
        "system": f"{platform.system()} {platform.release()}, Python {platform.python_version()}",
        "load client": _said("wrk", "-v").partition("[")[0].strip(),
        "versions": ", ".join(f"{name} {version(name)}" for name in OURS),
        "peers": ", ".join(f"{name} {_pinned(name)}" for name in PINS),
    }


def _first(name: str, path: Path) -> str:
    found = re.search(rf"^{name}\s*: (.*)$", path.read_text(), re.MULTILINE)
    return found[1] if found else platform.machine()


def _said(*command: str) -> str:
    """The first line that a command prints; nothing where there is no such command."""
    try:
        lines = subprocess.run(command, capture_output=True, text=True).stdout.splitlines()
    except FileNotFoundError:
        return "unknown"
    return lines[0] if lines else "unknown"


def _pinned(name: str) -> str:
    found = re.search(rf"^{name}==(.*)$", PINS[name].read_text(), re.MULTILINE)
    assert found is not None
    return found[1]
