"""``python -m benchmarks``: servers side by side in one run, on the same graphs, by the same load.

Each repeat starts every server once, in an order that rotates, checks its answers, and loads it; the median
over repeats is told. A part of it is chosen by name, such as
``--only W1,W4 --connections 32 --servers ours,mosec-w2-b16 --repeats 1``.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import Any, Final

from benchmarks.bare import limit
from benchmarks.load import load
from benchmarks.machine import about
from benchmarks.peers.graphs import Graphs
from benchmarks.prepare import prepare
from benchmarks.report import LATEST, table, write
from benchmarks.results import Cell, Results
from benchmarks.servers import SERVERS, Broken, Running, Server, started
from benchmarks.values import Expected, WrongAnswer
from benchmarks.workloads import WORKLOADS, Workload

CONNECTIONS: Final = (1, 32, 128)
WARM: Final = (16, 1)  # connections and seconds before the first measurement of a workload
BARE: Final = "bare"


def main() -> None:
    """Do what the command line says."""
    given = parser().parse_args()
    prepare(SERVERS[name] for name in given.servers if name != BARE)
    results = run(given)
    print(table(results))
    if given.write:
        write(results)


def parser() -> argparse.ArgumentParser:
    """What the command line may say."""
    parser = argparse.ArgumentParser("python -m benchmarks", description=__doc__)
    names = [*SERVERS, BARE]
    parser.add_argument(
        "--servers",
        type=lambda text: _chosen("server", text, names),
        default=["ours", "naive", BARE],
        help=f"names or patterns with *, of {', '.join(names)} (ours,naive,bare)",
    )
    parser.add_argument(
        "--only",
        type=lambda text: _chosen("workload", text, list(WORKLOADS)),
        default=list(WORKLOADS),
        help="workloads (all)",
    )
    parser.add_argument(
        "--connections",
        type=lambda text: [int(count) for count in text.split(",")],
        default=list(CONNECTIONS),
        help="(1,32,128)",
    )
    parser.add_argument("--repeats", type=int, default=3, help="(3)")
    parser.add_argument("--seconds", type=int, default=4, help="of one measurement (4)")
    parser.add_argument("--write", action="store_true", help="benchmarks/RESULTS.md and its plot")
    return parser


def _chosen(what: str, text: str, names: Sequence[str]) -> list[str]:
    """The names that are meant, in their own order."""
    patterns = text.split(",")
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in names):
            raise argparse.ArgumentTypeError(f"no {what} is called {pattern}; there are {', '.join(names)}")
    return [name for name in names if any(fnmatchcase(name, pattern) for pattern in patterns)]


def run(given: Any) -> Results:
    """Measure; what is there so far is saved after each server."""
    expected = Expected(Graphs())
    results = Results(about(), {name: SERVERS[name].title for name in given.servers if name != BARE})
    works = [WORKLOADS[name] for name in given.only]
    for repeat in range(given.repeats):
        turn = repeat % len(given.servers)
        for name in given.servers[turn:] + given.servers[:turn]:
            print(f"repeat {repeat + 1} of {given.repeats}: {name}", flush=True)
            if name == BARE:
                _bare(works, results)
            elif name not in results.failed:
                _one(SERVERS[name], works, given, expected, results)
            results.save(LATEST)
    return results


def _bare(works: list[Workload], results: Results) -> None:
    found = {kind: limit(kind) for kind in {work.kind for work in works}}
    for work in works:
        results.limits.setdefault(work.name, []).append(found[work.kind])


def _one(server: Server, works: list[Workload], given: Any, expected: Expected, results: Results) -> None:
    try:
        with started(server) as running:
            for work in works:
                _measure(running, work, given, expected, results)
    except (Broken, WrongAnswer) as error:
        results.failed[server.name] = " ".join(str(error).split())
        print(f"  failed: {error}", flush=True)


def _measure(running: Running, work: Workload, given: Any, expected: Expected, results: Results) -> None:
    rows = expected.rows[: work.rows]
    running.wait(lambda: running.ask(work, rows))
    expected.check(work, lambda: running.ask(work, rows))
    load(running, work, *WARM)
    for connections in given.connections:
        found = load(running, work, connections, given.seconds)
        results.cells.append(Cell(running.server.name, work.name, connections, found))
        print(
            f"  {work.name} {connections:>4} connections {found.requests_per_s:>10,.0f} requests/s",
            flush=True,
        )


if __name__ == "__main__":
    main()
