"""Results as tables, for the terminal and for people who were not there."""

from __future__ import annotations

from benchmarks.results import Results, spread
from benchmarks.workloads import WORKLOADS


def table(results: Results) -> str:
    """One block for each workload and number of connections, the fastest server first."""
    return "\n".join(_block(results, column) for column in results.columns())


def _block(results: Results, column: tuple[str, int]) -> str:
    work = WORKLOADS[column[0]]
    heads = (
        f"{'server':<14}{'req/s':>9}{'spread':>8}{'p50 ms':>9}{'p99 ms':>9}{'cpu us':>9}{'others':>8}  errors"
    )
    lines = [f"\n{work.name} {work.title}; {column[1]} connections", heads]
    found = {name: results.median(name, column) for name in results.servers()}
    measured = {name: one for name, one in found.items() if one}
    for name, one in sorted(measured.items(), key=lambda item: -item[1].requests_per_s):
        apart = spread(again.requests_per_s for again in results.all(name, column))
        lines.append(
            f"{name:<14}{one.requests_per_s:>9,.0f}{apart:>8.0%}{one.p50_ms:>9.2f}{one.p99_ms:>9.2f}"
            f"{one.server_us:>9,.0f}{one.others_cores:>8.2f}  {one.errors or ''}"
        )
    if limit := results.limit(work.name):
        how = f"{limit.runs} run(s) of {limit.threads} thread(s), batches of {limit.batch}"
        lines.append(f"{'bare graph':<14}{limit.rows_per_s / work.rows:>9,.0f}  {how}")
    return "\n".join(lines)
