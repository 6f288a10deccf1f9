"""What has to be there before the clock starts: the load client, the peers' environments, and the models."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterable

from benchmarks.peers.graphs import ARTIFACTS, GRAPHS
from benchmarks.servers import Server


def prepare(servers: Iterable[Server]) -> None:
    """Make the models; raise SystemExit with what to do where something else is missing."""
    if shutil.which("wrk") is None:
        raise SystemExit("benchmarks: wrk is not installed; on Debian it is: apt-get install wrk")
    if missing := {server.venv for server in servers if server.missing}:
        peers = " ".join(sorted(filter(None, missing)))
        raise SystemExit(f"benchmarks: not installed: {peers}; do: python -m benchmarks.install {peers}")
    make_models()


def make_models() -> None:
    """Where they are not there yet."""
    if not all((ARTIFACTS / path).exists() for path, _, _ in GRAPHS.values()):
        # In a process of its own: torch is not needed afterwards.
        subprocess.run([sys.executable, "-m", "benchmarks.models"], check=True)
