"""``python -m benchmarks.install [NAME ...]``: an environment for each peer, below ``build/bench/venvs``.

What is installed is pinned in ``benchmarks/peers/NAME.txt``, which lists every package: pip resolves nothing.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Final

from benchmarks.servers import VENVS

PINS: Final = {path.stem: path for path in sorted(Path(__file__).with_name("peers").glob("*.txt"))}


def main() -> None:
    """Install those that are named, or all."""
    names = sys.argv[1:] or list(PINS)
    if unknown := set(names) - set(PINS):
        wrong, right = ", ".join(sorted(unknown)), ", ".join(PINS)
        raise SystemExit(f"benchmarks: no peer is called {wrong}; there are {right}")
    for name in names:
        install(name)


def install(name: str) -> None:
    """Unless the same pins are installed already."""
    pins, done = PINS[name].read_text(), VENVS / name / "installed"
    if done.exists() and done.read_text() == pins:
        return
    print(f"→ Installing {name}", flush=True)
    subprocess.run([sys.executable, "-m", "venv", "--clear", str(VENVS / name)], check=True)
    pip = [str(VENVS / name / "bin/python"), "-m", "pip", "--disable-pip-version-check", "install", "-qq"]
    subprocess.run([*pip, "--no-deps", "--requirement", str(PINS[name])], check=True)
    done.write_text(pins)


if __name__ == "__main__":
    main()
