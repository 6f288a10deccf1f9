"""What one run of the benchmarks found: cells of single repeats, and where and how they were measured."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Final, Self

from benchmarks.bare import Limit
from benchmarks.load import Measured

Column = tuple[str, int]  # a workload and how many connections
OWN: Final = ("ours", "ours-1", "naive")


@dataclass(frozen=True)
class Cell:
    """One server under one workload at so many connections, in one repeat."""

    server: str
    workload: str
    connections: int
    measured: Measured


@dataclass
class Results:
    """Everything that was measured, in order.

    Attributes:
        about: machine, versions and command, as name and value.
        titles: the configuration of each server.
        limits: of each workload's graph, by repeat.
        failed: why a server has no further cells.
    """

    about: dict[str, str]
    titles: dict[str, str]
    cells: list[Cell] = field(default_factory=list)
    limits: dict[str, list[Limit]] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)

    def save(self, path: Path) -> None:
        path.write_text(json.dumps(asdict(self), indent=1))

    @classmethod
    def read(cls, path: Path) -> Self:
        said = json.loads(path.read_text())
        cells = [Cell(**(cell | {"measured": Measured(**cell["measured"])})) for cell in said["cells"]]
        limits = {name: [Limit(**limit) for limit in found] for name, found in said["limits"].items()}
        return cls(said["about"], said["titles"], cells, limits, said["failed"])

    def columns(self) -> list[Column]:
        """Workloads and connections that were measured."""
        return sorted({(cell.workload, cell.connections) for cell in self.cells})

    def servers(self) -> list[str]:
        """Those that were measured, in the order in which they were listed."""
        seen = {cell.server for cell in self.cells}
        return [name for name in self.titles if name in seen]

    def peers(self) -> list[str]:
        """Those that somebody else makes."""
        return [name for name in self.servers() if name not in OWN]

    def all(self, server: str, column: Column) -> list[Measured]:
        """Every repeat of a cell."""
        return [
            cell.measured
            for cell in self.cells
            if (cell.server, cell.workload, cell.connections) == (server, *column)
        ]

    def median(self, server: str, column: Column) -> Measured | None:
        """The median of each figure over the repeats; errors are summed."""
        found = self.all(server, column)
        if not found:
            return None
        names = Measured.__dataclass_fields__
        middle = {name: statistics.median(getattr(one, name) for one in found) for name in names}
        return Measured(**(middle | {"errors": sum(one.errors for one in found)}))

    def limit(self, workload: str) -> Limit | None:
        """The median repeat of the bare graph."""
        found = sorted(self.limits.get(workload, []), key=lambda limit: limit.rows_per_s)
        return found[len(found) // 2] if found else None


def spread(values: Iterable[float]) -> float:
    """How far apart they are, as a part of their median."""
    listed = list(values)
    return (max(listed) - min(listed)) / statistics.median(listed)
