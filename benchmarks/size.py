"""What one replica costs by call, in processor time, and so how many a load needs: see deploy/README.md.

Processor time hardly depends on who else is on the machine, so that these figures carry over where requests
per second do not: ``python -m benchmarks.size``.
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np

from benchmarks.load import load
from benchmarks.prepare import prepare
from benchmarks.processor import resident_mb
from benchmarks.servers import SERVERS, Running, started
from benchmarks.workloads import WORKLOADS, Workload

REPLICA: Final = SERVERS["ours-1"]
CONNECTIONS: Final = 32
SECONDS: Final = 3
# What a core may be busy with at the peak: the rest is for the tail of the latency, and for what fails.
BUSY: Final = 0.7


def line(running: Running, work: Workload) -> str:
    """A row of the table."""
    rows = np.zeros((work.rows, 784), np.float32)
    running.wait(lambda: running.ask(work, rows))
    seen = load(running, work, CONNECTIONS, SECONDS)
    a_core = BUSY * 1e6 / seen.server_us
    cells = [
        work.title,
        f"{seen.server_us / 1000:.2f}",
        f"{a_core:,.0f}",
        f"{math.ceil(1000 / a_core)} + 1",
        f"{resident_mb(running.pids):.0f}",
    ]
    return f"| {' | '.join(cells)} |"


def main() -> None:
    prepare([REPLICA])
    print("| call | CPU ms a request | requests/s a core at 70 % | 1,000 requests/s need | resident MB |")
    print("|---|---:|---:|---:|---:|")
    with started(REPLICA) as running:
        for work in WORKLOADS.values():
            print(line(running, work), flush=True)


if __name__ == "__main__":
    main()
