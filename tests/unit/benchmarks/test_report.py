"""The page of results says what was measured."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.bare import Limit
from benchmarks.load import Measured
from benchmarks.plot import draw
from benchmarks.report import page, table
from benchmarks.results import Cell, Results


def measured(rate: float, p50_ms: float = 1.0) -> Measured:
    return Measured(rate, p50_ms, 3 * p50_ms, errors=0, server_us=50.0, others_cores=0.1)


@pytest.fixture
def results() -> Results:
    """Three repeats, of which one was disturbed."""
    rates = {
        "ours": (3000.0, 100.0, 3100.0),
        "naive": (1000.0, 1000.0, 900.0),
        "mosec-w2-b4": (2500.0, 2400.0, 2000.0),
        "mosec-w2-b16": (1500.0, 1600.0, 1700.0),
    }
    cells = [
        Cell(server, "W3", 32, measured(rate, p50_ms=1000 / rate))
        for repeat in range(3)
        for server, rate in ((server, listed[repeat]) for server, listed in rates.items())
    ]
    limits = {"W3": [Limit(rate, 64, 2, 1) for rate in (128_000.0, 96_000.0, 32_000.0)]}
    return Results({"command": "python -m benchmarks"}, {name: name for name in rates}, cells, limits)


def test_ours_is_held_against_the_best_peer_the_naive_route_and_the_limit(results: Results) -> None:
    (line,) = (line for line in page(results).splitlines() if line.startswith("| W3 | 32 |"))
    cells = [cell.strip() for cell in line.strip("| ").split("|")]
    assert cells[2:9] == ["3,000", "mosec-w2-b4 2,400", "**1.25**", "1,000", "**3.00**", "3,000", "**1.00**"]
    assert cells[9:] == ["0.33", "0.33", "0.80", "3.0"]


def test_a_server_that_failed_is_named_with_the_reason(results: Results) -> None:
    results.failed["ray-w2"] = "W1: status 500"
    assert "ray-w2 failed: W1: status 500" in page(results)
    assert "ray-w2 failed: W1: status 500" in table(results)


def test_a_part_of_the_servers_makes_a_table_too(results: Results) -> None:
    alone = Results({}, {"mosec-w2-b4": "mosec"}, [cell for cell in results.cells if "b4" in cell.server])
    assert "mosec-w2-b4       2,400     21%" in table(alone)


def test_results_come_back_from_their_file(results: Results, tmp_path: Path) -> None:
    results.save(tmp_path / "results.json")
    assert Results.read(tmp_path / "results.json") == results


def test_the_same_results_are_the_same_plot(results: Results, tmp_path: Path) -> None:
    for name in ("one.svg", "two.svg"):
        draw(results, tmp_path / name)
    one, two = ((tmp_path / name).read_bytes() for name in ("one.svg", "two.svg"))
    assert one == two
    assert b"</svg>" in one
