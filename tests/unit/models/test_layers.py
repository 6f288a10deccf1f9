"""The small functions that graphs and losses stand on."""

from __future__ import annotations

import pytest
import torch

from models.layers import double, halve, halvings, mlp, moments, soft_clamp, softplus
from tests.unit.models.zoo import source


def test_softplus_is_that_of_torch_with_its_gradient() -> None:
    """At 0 too, where a clamp would give the slope 1 instead of 1/2."""
    x = torch.tensor([-1000.0, -30.0, -1.0, 0.0, 1e-9, 1.0, 30.0, 1000.0], dtype=torch.float64)
    ours, theirs = x.clone().requires_grad_(), x.clone().requires_grad_()
    expected = -torch.nn.functional.logsigmoid(-theirs)
    torch.testing.assert_close(softplus(ours), expected, rtol=1e-14, atol=0)
    (slope,) = torch.autograd.grad(softplus(ours).sum(), ours)
    torch.testing.assert_close(slope, torch.sigmoid(x), rtol=1e-12, atol=1e-15)


def test_soft_clamp_keeps_small_numbers_and_bounds_large_ones() -> None:
    x = torch.tensor([-1e6, -1e-4, 0.0, 1e-4, 1e6], dtype=torch.float64)
    expected = torch.tensor([-2.0, -1e-4, 0.0, 1e-4, 2.0], dtype=torch.float64)
    torch.testing.assert_close(soft_clamp(x, 2.0), expected, rtol=1e-8, atol=0)


def test_moments_take_a_constant_as_it_is() -> None:
    x = torch.tensor([[1.0, 5.0], [3.0, 5.0]])
    mean, std = moments(x)
    assert mean.tolist() == [2.0, 5.0]
    assert std.tolist() == [1.0, 1.0]
    assert mean.dtype == torch.float64


@pytest.mark.parametrize("size", [(2, 2), (7, 10), (8, 8), (9, 3), (28, 28)])
def test_doubling_undoes_the_size_of_halving(size: tuple[int, int]) -> None:
    x = torch.randn(2, 3, *size, generator=source(1))
    half = halve(3, 4, size)(x)
    assert half.shape[2:] == (size[0] // 2, size[1] // 2)
    assert double(4, 3, size)(half).shape == x.shape


def test_halvings_count_down_from_the_picture() -> None:
    assert halvings((1, 28, 30), 3) == [(28, 30), (14, 15), (7, 7), (3, 3)]


def test_an_mlp_without_hidden_layers_is_linear() -> None:
    assert [type(layer).__name__ for layer in mlp((3, 2))] == ["Linear"]
    assert [type(layer).__name__ for layer in mlp((3, 4, 2))] == ["Linear", "SiLU", "Linear"]
