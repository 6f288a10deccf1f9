"""The script for GPUs runs where there is none."""

from __future__ import annotations

from pathlib import Path

from benchmarks.device import Case
from benchmarks.gpu import tables
from tests.graphs import linear_flow


def test_the_engine_is_measured_against_the_bare_graph_on_a_cpu(tmp_path: Path) -> None:
    linear_flow(tmp_path)
    cases = [Case("linear", "decode", drawn=True), Case("linear", "log_weight")]
    lines = tables(tmp_path, cases, sizes=(1, 8), seconds=0.02, gpu=False)
    rows = [[cell.strip() for cell in line.strip("| ").split("|")] for line in lines if "linear" in line]
    speeds, laws = rows[:4], rows[4:]
    assert [row[1] for row in speeds] == ["1", "1", "8", "8"]
    for row in speeds:
        bare, engine, batch = (float(row[place].replace(",", "")) for place in (2, 4, 6))
        assert 0 < engine < bare
        assert 1 <= batch <= float(row[1])
    assert [row[2] for row in laws] == ["yes", "yes"]
