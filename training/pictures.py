"""Pictures of models and runs, drawn with Pillow: grids of samples, the plane, curves of a training.

Every function takes arrays and gives an image; which are drawn, and to which file, is said in ``evaluate``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

Floats = NDArray[np.floating]
Colour = tuple[int, int, int]
Box = tuple[float, float, float, float]

PAPER: Final[Colour] = (255, 255, 255)
INK: Final[Colour] = (60, 60, 70)
FAINT: Final[Colour] = (225, 225, 230)
LINES: Final[tuple[Colour, ...]] = ((38, 90, 165), (214, 96, 35), (58, 140, 72), (150, 75, 150))
# Dark violet through rose to pale yellow, even steps of lightness (the anchors of matplotlib's magma, CC0).
HEAT: Final = np.array(
    [(0, 0, 4), (59, 15, 112), (140, 41, 129), (222, 73, 104), (254, 159, 109), (252, 253, 191)], float
)
SIDE: Final = 640
GAP: Final = 2
TILE: Final = 48  # a picture's shorter side is magnified to about this many pixels


def grid(rows: Floats, display: tuple[float, float], columns: int) -> Image.Image:
    """Pictures side by side, magnified without blur.

    Args:
        rows: (N, C, H, W) with C 1 or 3, in data units.
        display: the values drawn as black and white.
        columns: how many stand in a line.
    """
    low, high = display
    levels = np.clip((rows - low) / (high - low) * 255, 0, 255).round().astype(np.uint8)
    zoom = max(1, round(TILE / min(levels.shape[2:])))
    tiles = levels.repeat(zoom, axis=2).repeat(zoom, axis=3).transpose(0, 2, 3, 1)  # (N, H, W, C)
    height, width = tiles.shape[1] + GAP, tiles.shape[2] + GAP
    sheet = np.full((-(-len(tiles) // columns) * height + GAP, columns * width + GAP, 3), 90, np.uint8)
    for i, tile in enumerate(tiles):
        top, left = GAP + i // columns * height, GAP + i % columns * width
        sheet[top : top + tile.shape[0], left : left + tile.shape[1]] = tile
    return Image.fromarray(sheet)


def heat(values: Floats) -> NDArray[np.uint8]:
    """Colours of values in [0, 1], (H, W) to (H, W, 3)."""
    place = np.clip(values, 0, 1) * (len(HEAT) - 1)
    return np.stack([np.interp(place, range(len(HEAT)), channel) for channel in HEAT.T], -1).astype(np.uint8)


def window(points: Floats) -> Box:
    """A square around nearly all the points, (N, 2): left, bottom, right, top."""
    low, high = np.quantile(points, [0.001, 0.999], axis=0)
    centre, half = (low + high) / 2, float((high - low).max()) * 0.58
    return centre[0] - half, centre[1] - half, centre[0] + half, centre[1] + half


def mesh(box: Box, cells: int) -> Floats:
    """Middles of the cells of a square, from the top left, line by line, (cells², 2)."""
    left, bottom, right, top = box
    steps = (np.arange(cells) + 0.5) / cells
    x, y = np.meshgrid(left + (right - left) * steps, top - (top - bottom) * steps)
    return np.stack([x.ravel(), y.ravel()], axis=1)


def density(log_p: Floats) -> Image.Image:
    """A density on a :func:`mesh`, (cells²,) in nats, as heat."""
    cells = math.isqrt(len(log_p))
    p = np.exp(log_p - log_p.max()).reshape(cells, cells)
    # The square root shows thin tails beside a sharp peak; one stray peak must not darken the rest.
    return Image.fromarray(heat(np.sqrt(p / np.quantile(p, 0.998)))).resize(
        (SIDE, SIDE), Image.Resampling.BICUBIC
    )


def scatter(points: Floats, box: Box, colour: Colour = LINES[0]) -> Image.Image:
    """Points of the plane, (N, 2), on paper; where they crowd, the colour gathers."""
    left, bottom, right, top = box
    place = (points - (left, bottom)) / (right - left, top - bottom) * SIDE
    counts, _, _ = np.histogram2d(SIDE - place[:, 1], place[:, 0], SIDE // 2, [(0, SIDE)] * 2)
    ink = 1 - np.exp(-counts / max(1.0, np.quantile(counts[counts > 0], 0.5) if counts.any() else 1.0))
    mixed = np.array(PAPER) + ink[..., None] * (np.array(colour) - PAPER)
    return Image.fromarray(mixed.astype(np.uint8)).resize((SIDE, SIDE), Image.Resampling.BILINEAR)


def beside(images: Mapping[str, Image.Image]) -> Image.Image:
    """Images in a row, each with its caption."""
    width = sum(image.width + 16 for image in images.values()) + 16
    height = max(image.height for image in images.values()) + 56
    sheet, left = Image.new("RGB", (width, height), PAPER), 16
    pen = ImageDraw.Draw(sheet)
    for caption, image in images.items():
        pen.text((left, 10), caption, INK, ImageFont.load_default(20))
        sheet.paste(image, (left, 40))
        left += image.width + 16
    return sheet


def curves(lines: Mapping[str, Sequence[float]], across: str) -> Image.Image:
    """Quantities by epoch, NaN where there is none, on one pair of axes; the first tenth may leave it."""
    frame, sheet = (90, 20, 880, 420), Image.new("RGB", (900, 480), PAPER)
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(15)
    low, high = _range(lines)
    epochs = max(len(line) for line in lines.values())
    for value in np.linspace(low, high, 5):
        y = _place(value, low, high, frame[3], frame[1])
        pen.line((frame[0], y, frame[2], y), FAINT)
        pen.text((frame[0] - 8, y), f"{value:.4g}", INK, font, anchor="rm")
    for epoch in sorted({1, epochs // 2, epochs}):
        pen.text((_place(epoch, 1, epochs, frame[0], frame[2]), frame[3] + 8), str(epoch), INK, font, "ma")
    pen.text(((frame[0] + frame[2]) / 2, frame[3] + 32), across, INK, font, anchor="ma")
    for i, (name, line) in enumerate(lines.items()):
        colour = LINES[i % len(LINES)]
        shown = [
            (_place(e, 1, epochs, frame[0], frame[2]), _place(value, low, high, frame[3], frame[1]))
            for e, value in enumerate(line, 1)
            if low <= value <= high
        ]
        pen.line(shown, colour, 2, joint="curve")
        pen.text((frame[2] - 8, frame[3] - 24 * (len(lines) - i)), name, colour, font, anchor="ra")
    return sheet


def _range(lines: Mapping[str, Sequence[float]]) -> tuple[float, float]:
    settled = np.concatenate([np.asarray(line)[len(line) // 10 :] for line in lines.values()])
    low, high = float(np.nanmin(settled)), float(np.nanmax(settled))
    margin = 0.05 * (high - low) or 0.5
    return low - margin, high + margin


def _place(value: float, low: float, high: float, start: float, end: float) -> float:
    return start + (end - start) * (value - low) / max(high - low, 1e-12)
