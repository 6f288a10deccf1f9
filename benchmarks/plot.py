"""The plot of the results: bars by workload, number of connections and server."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import matplotlib

matplotlib.use("svg")

from matplotlib import pyplot
from matplotlib.axes import Axes

from benchmarks.results import Results
from benchmarks.workloads import WORKLOADS

OURS: Final = "#b3262e"
OTHERS: Final = ("#3b4a5a", "#5d7a99", "#86a5c4", "#b4cbe0", "#c9b27c", "#8a9a5b", "#7d6b91", "#b08d79")


def draw(results: Results, path: Path) -> None:
    """Write an SVG, of the same bytes for the same results."""
    matplotlib.rcParams["svg.hashsalt"] = "pushforward"
    works = list(dict.fromkeys(name for name, _ in results.columns()))
    figure, axes = pyplot.subplots(2, 3, figsize=(12, 6.5), layout="constrained")
    for axis, name in zip(axes.flat, works, strict=False):
        _panel(axis, results, name)
    for axis in axes.flat[len(works) :]:
        axis.axis("off")
    axes.flat[-1].legend(*axes.flat[0].get_legend_handles_labels(), loc="center", frameon=False)
    figure.savefig(path, metadata={"Date": None})
    pyplot.close(figure)


def _panel(axis: Axes, results: Results, name: str) -> None:
    counts = [count for work, count in results.columns() if work == name]
    servers = results.servers()
    width = 0.8 / len(servers)
    for place, server in enumerate(servers):
        measured = [results.median(server, (name, count)) for count in counts]
        rates = [one.requests_per_s if one else 0.0 for one in measured]
        left = (place + 0.5) * width - 0.4
        axis.bar([x + left for x in range(len(counts))], rates, width, label=server, color=_colour(place))
    if limit := results.limit(name):
        _, top = axis.get_ylim()  # the limit is far above where the graph is not what costs
        height = limit.rows_per_s / WORKLOADS[name].rows
        axis.axhline(height, color="black", linestyle=":", linewidth=1, label="bare graph")
        axis.set_ylim(0, max(top, 1.05 * height) if height < 2 * top else top)
    axis.set_title(f"{name}: {WORKLOADS[name].title}", fontsize=10)
    axis.set_xticks(range(len(counts)), map(str, counts))
    axis.set_xlabel("connections")
    axis.set_ylabel("requests/s")
    axis.spines[["top", "right"]].set_visible(False)


def _colour(place: int) -> str:
    return OURS if place == 0 else OTHERS[(place - 1) % len(OTHERS)]
