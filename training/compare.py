"""Runs side by side: their objectives by epoch, their samples as they learned, and their numbers.

A run folder alone is read, neither model nor data. Numbers of different data are marked: a nat of a digit and
a nat of a point in the plane have nothing to do with each other.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator
from PIL import Image

from models.manifest import Metric
from training import Mistake, snapshots
from training.fit import LOG
from training.recipe import BoundConfig, Recipe
from training.run import finished, measured

COLOURS: Final = ("#265aa5", "#d66023", "#3a8c48", "#964b96", "#8a6d1d", "#c2405e")
INK: Final = "#3c3c46"
FAINT: Final = "#8c8c96"
RULE: Final = "#d8d8e0"
# Inches: of the figure, its title, its curves, a line of samples, a line of the table and a run's part of it.
WIDTH: Final = 13.0
HEAD: Final = 0.75
TALL: Final = 3.8
SQUARE: Final = 3.0
LINE: Final = 0.27
COLUMNS: Final = (0.4, 2.8, 4.9, 7.0)  # where a line's cells start, and those of the runs
RUN: Final = 2.0
DPI: Final = 110
SETTLED: Final = 0.1  # the part of a training whose curve may leave the frame
APART: Final = "different data, not comparable"

What = tuple[str, str, str, int | None]


@dataclass(frozen=True)
class Shown:
    """What a run folder tells, without model and data.

    Attributes:
        name: what the run is called here; no other run of a comparison is called the same.
        data: what it was trained and measured on; numbers are comparable where this is the same.
    """

    name: str
    folder: Path
    recipe: Recipe
    data: str
    metrics: Mapping[str, Metric]

    @cached_property
    def log(self) -> dict[str, list[float]]:
        """Every quantity by epoch."""
        with (self.folder / LOG).open(newline="") as file:
            rows = list(csv.DictReader(file))
        return {name: [float(row[name]) for row in rows] for name in rows[0] if name is not None}

    @property
    def epochs(self) -> int:
        """How many there were."""
        return len(self.log["epoch"])

    def picture(self, epoch: int) -> Image.Image | None:
        """Samples after an epoch, where they were kept."""
        path = self.folder / snapshots.FOLDER / f"{epoch:03d}.png"
        return Image.open(path) if path.is_file() else None


def open_runs(folders: Sequence[Path]) -> list[Shown]:
    """Read what is to be compared.

    Raises:
        Mistake: if a folder holds no run, or one that has not been finished and evaluated.
    """
    names = _names(folders)
    return [_open(folder, name) for folder, name in zip(folders, names, strict=True)]


def numbers(runs: Sequence[Shown]) -> list[tuple[str, ...]]:
    """A table: what was measured, its unit and kind, and a column for each run."""
    lines = [("what", "unit", "kind", *(_titled(run, runs) for run in runs))]
    for what in _measured(runs):
        name, unit, kind, k = what
        found = (run.metrics.get(name) for run in runs)
        cells = (_value(metric) if metric and _what(name, metric) == what else "–" for metric in found)
        lines.append((name, unit, kind if k is None else f"{kind}, k = {k}", *cells))
    return lines


def draw(runs: Sequence[Shown]) -> Figure:
    """All of it as one figure."""
    table = numbers(runs)
    heights = [HEAD, TALL, *[SQUARE] * len(runs), LINE * (len(table) + 2)]
    width = max(WIDTH, COLUMNS[-1] + RUN * len(runs))
    figure = Figure(figsize=(width, sum(heights)), dpi=DPI, facecolor="white")
    head, top, *strips, foot = figure.subfigures(len(heights), 1, squeeze=False, height_ratios=heights)[:, 0]
    head.text(0.03, 0.55, "   ·   ".join(run.name for run in runs), size=16, color=INK, weight="bold")
    head.text(
        0.03, 0.1, apart(runs) or "the same data: numbers of one unit are comparable", size=9, color=FAINT
    )
    _draw_curves(top, runs)
    for strip, run, colour in zip(strips, runs, COLOURS * len(runs), strict=False):
        _draw_samples(strip, run, colour)
    _draw_table(foot, table, width)
    return figure


def apart(runs: Sequence[Shown]) -> str | None:
    """A sentence, if the runs are of different data."""
    groups = _by_data(runs)
    if len(groups) == 1:
        return None
    told = "; ".join(f"{mark} {', '.join(run.name for run in group)}" for mark, group in groups.items())
    return f"{APART} across the marks: {told}"


# Reading -----------------------------------------------------------------------------------------------


def _open(folder: Path, name: str) -> Shown:
    recipe, state = finished(folder)
    data = f"{recipe.data.model_dump_json()} {state.data_root or ''}"
    return Shown(name, folder, recipe, data, measured(folder))


def _names(folders: Sequence[Path]) -> list[str]:
    """The folders' own names, and as much of their paths as tells them apart."""
    whole = [folder.resolve() for folder in folders]
    if len(set(whole)) < len(whole):
        raise Mistake(f"{', '.join(map(str, folders))}: a run is named twice; allowed is once")
    for parts in range(1, max(len(folder.parts) for folder in whole) + 1):
        names = ["/".join(folder.parts[-parts:]) for folder in whole]
        if len(set(names)) == len(names):
            break
    return names


def _by_data(runs: Iterable[Shown]) -> dict[str, list[Shown]]:
    """Runs that may be compared, under a letter for each data."""
    found: dict[str, list[Shown]] = {}
    for run in runs:
        found.setdefault(run.data, []).append(run)
    return {f"[{chr(ord('A') + i)}]": group for i, group in enumerate(found.values())}


def _titled(run: Shown, runs: Sequence[Shown]) -> str:
    groups = _by_data(runs)
    mark = next(mark for mark, group in groups.items() if run in group)
    return run.name if len(groups) == 1 else f"{run.name} {mark}"


# Numbers -----------------------------------------------------------------------------------------------


def _measured(runs: Iterable[Shown]) -> list[What]:
    """Everything that any run measured, in the order of the first that did."""
    return list(dict.fromkeys(_what(name, metric) for run in runs for name, metric in run.metrics.items()))


def _what(name: str, metric: Metric) -> What:
    """The same name may be a bound for one model and exact for another: those are two lines."""
    return name, metric.unit, metric.kind.replace("_", " "), metric.k


def _value(metric: Metric) -> str:
    error = "" if metric.standard_error is None else f" ± {metric.standard_error:.2g}"
    return f"{metric.value:.4g}{error}"


# Drawing -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Curve:
    """A quantity of a run by epoch, and where it belongs."""

    run: Shown
    name: str
    unit: str
    colour: str

    @property
    def values(self) -> list[float]:
        return self.run.log[self.name]

    @property
    def label(self) -> str:
        """Whose it is, and with which weight, where that makes it another quantity than its name says."""
        goal, name = self.run.recipe.objective, f"{self.run.name}  {self.name}"
        if self.held_out or not isinstance(goal, BoundConfig) or goal.beta == 1:
            return name
        return f"{name}, β = {goal.beta:g}"

    @property
    def style(self) -> str:
        """Whole for rows that training did not see, broken for those that it did, dotted for samples."""
        return "-" if self.held_out else ":" if self.name.endswith("(G(z))") else "--"

    @property
    def held_out(self) -> bool:
        """Whether it is of rows that training did not see."""
        return self.name.startswith("valid_")


def _curves(runs: Sequence[Shown]) -> Iterator[Curve]:
    """What was trained, and the same on validation rows."""
    for run, colour in zip(runs, COLOURS * len(runs), strict=False):
        for name in run.log:
            unit = _unit(name)
            if unit is not None:
                yield Curve(run, name, unit, colour)


def _unit(name: str) -> str | None:
    """The unit of a logged objective, ``None`` for what is none."""
    of = name.removeprefix("train_").removeprefix("valid_")
    if of in ("D(x)", "D(G(z))"):
        return "probability"
    if of in ("critic(x)", "critic(G(z))"):
        return "critic"
    return None if of == name or of in ("loss", "bits_per_dim") else "nats"


def _draw_curves(place: SubFigure, runs: Sequence[Shown]) -> None:
    """An axis for each unit, and for each data."""
    found: dict[tuple[str, str], list[Curve]] = {}
    for curve in _curves(runs):
        found.setdefault((curve.unit, curve.run.data), []).append(curve)
    axes = place.subplots(1, len(found), squeeze=False, gridspec_kw={"wspace": 0.22})[0]
    place.subplots_adjust(left=0.06, right=0.985, bottom=0.13, top=0.97)
    for ax, ((unit, _), curves) in zip(axes, found.items(), strict=True):
        _draw_axis(ax, unit, curves)


def _draw_axis(ax: Axes, unit: str, curves: Sequence[Curve]) -> None:
    for curve in curves:
        epochs = range(1, len(curve.values) + 1)
        mark = "." if len(epochs) < 3 else None
        ax.plot(
            epochs,
            curve.values,
            color=curve.colour,
            linestyle=curve.style,
            marker=mark,
            lw=1.6,
            label=curve.label,
        )
    settled = np.concatenate([curve.values[int(SETTLED * len(curve.values)) :] for curve in curves])
    margin = 0.06 * float(np.ptp(settled)) or 0.5
    ax.set_ylim(float(settled.min()) - margin, float(settled.max()) + margin)
    ax.set_xlabel("epoch", color=INK)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.set_ylabel(unit, color=INK)
    ax.grid(color=RULE, lw=0.6)
    ax.tick_params(colors=INK, length=0)
    ax.spines[:].set_visible(False)
    ax.legend(frameon=False, labelcolor="linecolor", fontsize=9, loc="best")


def _draw_samples(place: SubFigure, run: Shown, colour: str) -> None:
    """A line of pictures: after the epochs that are kept, and the last."""
    places = [*snapshots.EPOCHS, run.epochs]
    axes = place.subplots(1, len(places) + 1, gridspec_kw={"wspace": 0.04, "width_ratios": [0.9, 1, 1, 1, 1]})
    place.subplots_adjust(left=0.03, right=0.985, bottom=0.02, top=0.91)
    for ax in axes:
        ax.axis("off")
    axes[0].text(0, 0.98, run.name, color=colour, size=13, weight="bold", va="top")
    axes[0].text(0, 0.88, _about(run), color=INK, size=9, va="top", linespacing=1.6)
    for ax, epoch in zip(axes[1:], places, strict=True):
        last = ax is axes[-1]
        image = run.picture(epoch)
        ax.set_title(f"last, epoch {epoch}" if last else f"epoch {epoch}", size=10, color=INK, pad=4)
        if image is not None:
            ax.imshow(image, interpolation="antialiased")
        else:
            ax.text(0.5, 0.5, _missing(run, epoch), color=FAINT, ha="center", va="center")


def _about(run: Shown) -> str:
    minutes = sum(run.log["seconds"]) / 60
    words = (run.recipe.title, run.recipe.model.family, f"{run.epochs} epochs in {minutes:.1f} min")
    return "\n".join(part for word in words for part in _wrapped(word))


def _wrapped(words: str, width: int = 30) -> list[str]:
    lines = [""]
    for word in words.split():
        lines[-1:] = [f"{lines[-1]} {word}".strip()] if len(lines[-1] + word) < width else [lines[-1], word]
    return lines


def _missing(run: Shown, epoch: int) -> str:
    return f"ended at epoch {run.epochs}" if epoch > run.epochs else "not kept"


def _draw_table(place: SubFigure, table: Sequence[Sequence[str]], width: float) -> None:
    """The numbers, line by line; the head in the colours of the runs."""
    starts = [*COLUMNS[:3], *(COLUMNS[3] + RUN * i for i in range(len(table[0]) - 3))]
    step = 1 / (len(table) + 2)
    for i, line in enumerate(table):
        y = 1 - step * (i + 1)
        for j, (x, cell) in enumerate(zip(starts, line, strict=True)):
            colour = COLOURS[(j - 3) % len(COLOURS)] if i == 0 and j > 2 else INK
            place.text(
                x / width, y, cell, size=9, color=colour, weight="bold" if i == 0 else "normal", va="center"
            )
        below = y - step / 2
        place.add_artist(Line2D([0.03, 0.985], [below, below], color=RULE, lw=0.6))
