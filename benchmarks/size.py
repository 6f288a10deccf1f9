"""What one replica costs by call, in processor time, and so how many a load needs: see deploy/README.md.

Processor time hardly depends on who else is on the machine, so that these figures carry over where requests
per second do not: ``python -m benchmarks.size``.
"""

from __future__ import annotations

import sys
import urllib.request
from dataclasses import dataclass

from prometheus_client.parser import text_string_to_metric_families as families

from benchmarks.ratio import WORKLOADS, Workload, free_port, rate, server

CONNECTIONS = 32
# What a core may be busy with at the peak: the rest is for the tail of the latency, and for what fails.
BUSY = 0.7


@dataclass(frozen=True)
class Spent:
    """What a replica has done since it began."""

    cpu_s: float
    requests: float
    resident_bytes: float


def spent(url: str) -> Spent:
    """From the replica's own metrics."""
    with urllib.request.urlopen(f"{url}/metrics") as answer:
        text = answer.read().decode()
    samples = [sample for family in families(text) for sample in family.samples]

    def total(name: str) -> float:
        return sum(sample.value for sample in samples if sample.name == name)

    return Spent(
        total("process_cpu_seconds_total"),
        total("pushforward_requests_total"),
        total("process_resident_memory_bytes"),
    )


def line(url: str, work: Workload) -> str:
    """A row of the table."""
    before, per_s, after = spent(url), rate(url, work, CONNECTIONS), spent(url)
    cost_s = (after.cpu_s - before.cpu_s) / (after.requests - before.requests)
    resident = after.resident_bytes / 1e6
    return f"| {work.title} | {cost_s * 1000:.2f} | {BUSY / cost_s:,.0f} | {per_s:,.0f} | {resident:.0f} |"


def main() -> None:
    port = free_port()
    print("| call | CPU ms a request | requests/s a core at 70 % | requests/s seen now | resident MB |")
    print("|---|---:|---:|---:|---:|")
    with server([sys.executable, "-m", "service"], port, "/health/ready") as url:
        for work in WORKLOADS:
            print(line(url, work), flush=True)


if __name__ == "__main__":
    main()
