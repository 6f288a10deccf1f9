"""Results as tables and a plot: ``python -m benchmarks.report`` writes those of the latest run again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from benchmarks.load import Measured
from benchmarks.peers.graphs import FOLDER, ROOT
from benchmarks.plot import draw
from benchmarks.results import Column, Results, spread
from benchmarks.workloads import WORKLOADS

LATEST: Final = FOLDER / "results.json"
PAGE: Final = ROOT / "benchmarks/RESULTS.md"
PLOT: Final = "results.svg"

# In the terminal -----------------------------------------------------------------------------------------


def table(results: Results) -> str:
    """One block for each workload and number of connections, the fastest server first."""
    failed = [f"\n{name} failed: {why}" for name, why in results.failed.items()]
    return "\n".join([*(_block(results, column) for column in results.columns()), *failed])


def _block(results: Results, column: Column) -> str:
    work = WORKLOADS[column[0]]
    head = f"{'server':<14}{'req/s':>9}{'spread':>8}{'p50 ms':>9}{'p99 ms':>9}{'cpu us':>9}{'others':>8}"
    lines = [f"\n{work.name} {work.title}; {column[1]} connections", f"{head}  errors"]
    for name, one in _fastest_first(results, column):
        lines.append(
            f"{name:<14}{one.requests_per_s:>9,.0f}{_spread(results, name, column):>8.0%}{one.p50_ms:>9.2f}"
            f"{one.p99_ms:>9.2f}{one.server_us:>9,.0f}{one.others_cores:>8.2f}  {one.errors or ''}"
        )
    if limit := results.limit(work.name):
        lines.append(f"{'bare graph':<14}{limit.rows_per_s / work.rows:>9,.0f}  {limit.how}")
    return "\n".join(lines)


def _fastest_first(results: Results, column: Column) -> list[tuple[str, Measured]]:
    found = [(name, results.median(name, column)) for name in results.servers()]
    measured = [(name, one) for name, one in found if one]
    return sorted(measured, key=lambda pair: -pair[1].requests_per_s)


def _spread(results: Results, name: str, column: Column) -> float:
    return spread(one.requests_per_s for one in results.all(name, column))


# As a page -----------------------------------------------------------------------------------------------


def write(results: Results) -> None:
    """RESULTS.md and its plot."""
    draw(results, PAGE.with_name(PLOT))
    PAGE.write_text(page(results))


def page(results: Results) -> str:
    """The page in Markdown."""
    works = (WORKLOADS[name] for name, _ in results.columns())
    said = [
        "# Results\n",
        f"Written by `{results.about['command']}`; [how to read it](../docs/benchmarks.md).\n",
        _rows(["", ""], [[name, value] for name, value in results.about.items()]),
        _rows(["workload", ""], [[work.name, work.title] for work in dict.fromkeys(works)]),
        _rows(["server", ""], [[name, results.titles[name]] for name in results.servers()]),
        f"![Requests per second of every server]({PLOT})\n",
        "## This service against the others\n",
        _against(results),
        "## Requests per second\n",
        _by_server(results, lambda name, column: _number(_median(results, name, column).requests_per_s)),
        "Apart, as a part of the median: the largest less the smallest of all repeats.\n",
        _by_server(results, lambda name, column: f"{_spread(results, name, column):.0%}"),
        "## Latency, p50 / p99 in ms\n",
        _by_server(results, _latency(results)),
        "## Processor time of the server for each request, in microseconds\n",
        _by_server(results, lambda name, column: _number(_median(results, name, column).server_us)),
        _foot(results),
    ]
    return "\n".join(said)


def _against(results: Results) -> str:
    heads = ["workload", "connections", "ours, req/s", "best peer", "ratio", "naive", "ratio"]
    heads += ["bare graph", "ratio", "p50, ms", "of naive's", "of the peers'", "p99 / p50"]
    ours = [column for column in results.columns() if results.median("ours", column)]
    return _rows(heads, [_line(results, column) for column in ours])


def _line(results: Results, column: Column) -> list[str]:
    ours, naive, limit = (
        _median(results, "ours", column),
        results.median("naive", column),
        results.limit(column[0]),
    )
    peers = {name: one for name, one in _fastest_first(results, column) if name in results.peers()}
    best = next(iter(peers), "")
    return [
        column[0],
        str(column[1]),
        _number(ours.requests_per_s),
        *_held(ours.requests_per_s, peers[best].requests_per_s if best else None, best),
        *_held(ours.requests_per_s, naive.requests_per_s if naive else None),
        *_held(ours.requests_per_s, limit.rows_per_s / WORKLOADS[column[0]].rows if limit else None),
        _number(ours.p50_ms),
        f"{ours.p50_ms / naive.p50_ms:.2f}" if naive else "",
        f"{ours.p50_ms / min(one.p50_ms for one in peers.values()):.2f}" if peers else "",
        f"{ours.p99_ms / ours.p50_ms:.1f}",
    ]


def _held(ours: float, other: float | None, name: str = "") -> list[str]:
    """The other's figure, and how many times it ours is."""
    return ["", ""] if other is None else [f"{name} {_number(other)}".strip(), f"**{ours / other:.2f}**"]


def _latency(results: Results) -> Callable[[str, Column], str]:
    def cell(name: str, column: Column) -> str:
        one = _median(results, name, column)
        return f"{_number(one.p50_ms)} / {_number(one.p99_ms)}"

    return cell


def _median(results: Results, name: str, column: Column) -> Measured:
    one = results.median(name, column)
    assert one is not None
    return one


def _by_server(results: Results, cell: Callable[[str, Column], str]) -> str:
    columns = results.columns()
    lines = [
        [name, *(cell(name, column) if results.all(name, column) else "" for column in columns)]
        for name in results.servers()
    ]
    return _rows(["server", *(f"{work} × {count}" for work, count in columns)], lines)


def _rows(heads: list[str], lines: list[list[str]]) -> str:
    ruler = "|---" + "|---:" * (len(heads) - 1) if len(heads) > 2 else "|---|---"
    return "\n".join([_row(heads), f"{ruler}|", *map(_row, lines), ""])


def _row(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def _foot(results: Results) -> str:
    errors = sum(cell.measured.errors for cell in results.cells)
    others = max(cell.measured.others_cores for cell in results.cells)
    limits = [f"{name}: {limit.how}" for name in results.limits if (limit := results.limit(name))]
    said = [
        f"{len(results.cells)} measurements, {errors} errors; at worst others kept {others:.2f} cores busy.",
        *(["The bare graph was fastest so: " + "; ".join(limits) + "."] if limits else []),
        *(f"{name} failed: {why}." for name, why in results.failed.items()),
    ]
    return "\n".join(f"{line}\n" for line in said)


if __name__ == "__main__":
    write(Results.read(LATEST))
