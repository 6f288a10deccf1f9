"""A rational-quadratic spline where it could go wrong: at its knots, beyond its ends, where it is steep."""

from __future__ import annotations

import pytest
import torch
import zuko
from torch import Tensor as Array

from models.splines import REACH, knots, spline
from tests.unit.models.zoo import source

BINS = 6


def numbers(size: float, rows: int = 50) -> tuple[Array, ...]:
    """What a conditioner might say of rows of one dimension."""
    raw = size * torch.randn(3 * BINS - 1, rows, 1, dtype=torch.float64, generator=source(1))
    return raw.unbind(0)


@pytest.mark.parametrize("size", [0.0, 1.0, 5.0, 100.0])
def test_the_round_trip_holds_at_the_knots_and_beside_them(size: float) -> None:
    raw = numbers(size)
    bend = spline(BINS)
    for corner in knots(raw).x.unbind(-1):
        for beside in (-1e-9, 0.0, 1e-9):
            x = corner + beside
            z, _ = bend.forward(x, *raw)
            torch.testing.assert_close(bend.inverse(z, *raw), x, rtol=0, atol=1e-10)


def test_it_passes_through_its_knots_with_their_slopes() -> None:
    raw = numbers(1.0)
    corners = knots(raw)
    for x, z, slope in zip(
        corners.x.unbind(-1), corners.z.unbind(-1), corners.slopes.unbind(-1), strict=True
    ):
        found, log_slope = spline(BINS).forward(x, *raw)
        torch.testing.assert_close(found, z, rtol=0, atol=1e-12)
        torch.testing.assert_close(log_slope.exp(), slope, rtol=1e-10, atol=0)


def test_beyond_its_ends_nothing_is_bent() -> None:
    raw = numbers(3.0, rows=6)
    x = torch.tensor([-1e30, -100.0, -REACH - 1e-9, REACH + 1e-9, 100.0, 1e30], dtype=torch.float64)[:, None]
    z, log_slope = spline(BINS).forward(x, *raw)
    assert torch.equal(z, x)
    assert not log_slope.any()
    assert torch.equal(spline(BINS).inverse(z, *raw), x)


@pytest.mark.parametrize("size", [1.0, 100.0])
def test_it_rises_everywhere(size: float) -> None:
    x = torch.linspace(-REACH - 1, REACH + 1, 2001, dtype=torch.float64)[:, None]
    raw = tuple(row[:1].expand_as(x) for row in numbers(size))
    z, log_slope = spline(BINS).forward(x, *raw)
    assert (z.diff(dim=0) > 0).all()
    assert log_slope.isfinite().all()


def test_it_never_answers_nan_in_float32_and_neither_do_its_gradients() -> None:
    x = (REACH * torch.randn(500, 1, generator=source(2))).requires_grad_()
    raw = tuple(row.float().requires_grad_() for row in numbers(100.0, rows=500))
    z, log_slope = spline(BINS).forward(x, *raw)
    (z + log_slope + spline(BINS).inverse(x, *raw)).sum().backward()
    for leaf in (x, *raw):
        assert leaf.grad is not None
        assert leaf.grad.isfinite().all()


def test_it_is_the_spline_of_zuko() -> None:
    """The same knots and slopes, two implementations."""
    raw = numbers(1.0)
    corners = knots(raw)
    theirs = zuko.transforms.MonotonicRQSTransform(*(torch.zeros(50, 1, n) for n in (BINS, BINS, BINS - 1)))
    theirs.horizontal, theirs.vertical, theirs.derivatives = corners
    x = 3 * torch.randn(50, 1, dtype=torch.float64, generator=source(3))
    z, log_slope = theirs.call_and_ladj(x)
    ours, ours_log_slope = spline(BINS).forward(x, *raw)
    torch.testing.assert_close(ours, z, rtol=0, atol=1e-10)
    torch.testing.assert_close(ours_log_slope, log_slope, rtol=0, atol=1e-10)
