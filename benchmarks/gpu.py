"""The engine on a GPU against the bare graph, in one call: ``python -m benchmarks.gpu``.

For each family and size of batch: rows per second of the graph replayed on the device with nothing around it,
of the engine with its lane, and how busy the device was under the engine. Then the batch law in figures: how
far a row's answer moves with its place, its neighbours, the size of the batch, and the device. Without a GPU
the same is measured on one core of the CPU, in fewer sizes, and said so.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import onnxruntime

from benchmarks.device import CUDA, Bare, Case, Law, Speed, law, provider, replay, through_engine
from benchmarks.peers.graphs import ARTIFACTS
from benchmarks.prepare import make_models

CASES: Final = (
    Case("vae", "decode", drawn=True),
    Case("vae", "decode"),
    Case("gan", "decode", drawn=True),
    Case("gan", "decode"),
    Case("flow", "log_weight"),
)
ON_GPU: Final = (1, 16, 64, 256, 1024, 4096)
ON_CPU: Final = (1, 16, 64)
SECONDS: Final = 1.0
SPEED: Final = (
    "bare graph, rows/s",
    "recorded",
    "engine, rows/s",
    "ratio",
    "its batches",
    "in graph",
    "busy",
)
LAW: Final = ("same bits in a batch", "from the row alone", "from the CPU")


def main() -> None:
    """Measure and print."""
    make_models()
    found = provider(ARTIFACTS, CASES[0])
    print(f"ONNX Runtime {onnxruntime.__version__}, {found}")
    if found != CUDA:
        print("There is no GPU that it can use: measured on one core of the CPU instead.")
    gpu = found == CUDA
    for line in tables(ARTIFACTS, CASES, ON_GPU if gpu else ON_CPU, SECONDS, gpu):
        print(line, flush=True)


def tables(
    artifacts: Path, cases: Sequence[Case], sizes: Sequence[int], seconds: float, gpu: bool
) -> Iterator[str]:
    """Both tables in Markdown, line by line as they are measured."""
    yield from _head(SPEED)
    for size in sizes:
        speeds = asyncio.run(through_engine(artifacts, cases, size, seconds))
        for case, speed in zip(cases, speeds, strict=True):
            yield _row(case, size, _speed_cells(replay(artifacts, case, size, seconds, gpu), speed))
    yield from _head(LAW)
    for case in cases:
        if not case.drawn:
            yield from (_row(case, size, _law_cells(law(artifacts, case, size))) for size in sizes)


def _head(names: Sequence[str]) -> list[str]:
    return ["", f"| case | batch | {' | '.join(names)} |", f"|---|---:|{'---:|' * len(names)}"]


def _row(case: Case, size: int, cells: list[str]) -> str:
    return f"| {case.title} | {size:,} | {' | '.join(cells)} |"


def _speed_cells(bare: Bare, speed: Speed) -> list[str]:
    return [
        f"{bare.rows_per_s:,.0f}",
        _yes(bare.recorded),
        f"{speed.rows_per_s:,.0f}",
        f"{speed.rows_per_s / bare.rows_per_s:.2f}",
        f"{speed.batch:,.0f}",
        f"{speed.in_graph:.0%}",
        f"{speed.busy:.0%}",
    ]


def _law_cells(law: Law) -> list[str]:
    return [_yes(law.same_bits), f"{law.from_alone:.1e}", f"{law.from_cpu:.1e}"]


def _yes(holds: bool) -> str:
    return "yes" if holds else "no"


if __name__ == "__main__":
    main()
