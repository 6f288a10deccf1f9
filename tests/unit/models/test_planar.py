"""Steps that the papers do not undo, undone: exactly, for any parameters, with exact gradients."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor as Array

from models.bijections import Bijection
from models.families import build
from models.planar import FLATTEST, Planar, PlanarConfig, Radial, RadialConfig, _root
from tests.unit.models.zoo import PLANE, source

STEPS = [Planar, Radial]


def wild(step: Bijection, size: float) -> Bijection:
    """Parameters that training would have to be asked for."""
    generator = source(1)
    for parameter in step.parameters():
        parameter.data.copy_(size * torch.randn(parameter.shape, generator=generator))
    return step.double()


def slopes() -> Array:
    near_the_limit = FLATTEST - 1 + torch.logspace(-8, 0, 60, dtype=torch.float64)
    return torch.cat((torch.tensor([FLATTEST - 1.0]), near_the_limit, torch.logspace(-3, 4, 60)))


def test_the_root_is_found_for_any_slope_and_any_point() -> None:
    far = torch.logspace(-12, 8, 400, dtype=torch.float64)
    c, s = torch.cartesian_prod(slopes().double(), torch.cat((-far, torch.zeros(1), far))).unbind(1)
    y = _root(s, c)
    torch.testing.assert_close(y + c * torch.tanh(y), s, rtol=1e-14, atol=1e-15)


def test_the_root_has_the_gradient_of_the_implicit_function() -> None:
    """dy/ds = 1 / F'(y) and dy/dc = -tanh(y) / F'(y), where F(y) = y + c tanh(y)."""
    c, s = torch.cartesian_prod(slopes().double(), torch.linspace(-9, 9, 60, dtype=torch.float64)).unbind(1)
    c.requires_grad_()
    s.requires_grad_()
    y = _root(s, c)
    by_s, by_c = torch.autograd.grad(y.sum(), (s, c))
    slope = 1 + c * (1 - torch.tanh(y).square())
    torch.testing.assert_close(by_s, 1 / slope, rtol=1e-9, atol=0)
    torch.testing.assert_close(by_c, -torch.tanh(y) / slope, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("kind", STEPS)
def test_gradients_are_those_of_finite_differences(kind: type[Bijection]) -> None:
    step = wild(kind(3, 0), 0.5)
    x = torch.randn(4, 3, dtype=torch.float64, generator=source(2), requires_grad=True)
    assert torch.autograd.gradcheck(lambda x, *_: step(x), (x, *step.parameters()))


@pytest.mark.parametrize("kind", STEPS)
@pytest.mark.parametrize("size", [1.0, 10.0])
def test_a_step_can_be_undone_whatever_its_parameters(kind: type[Bijection], size: float) -> None:
    step = wild(kind(3, 0), size)
    z = 3 * torch.randn(100, 3, dtype=torch.float64, generator=source(3))
    x = step.inverse(z)
    scale = x.abs().max().item()
    torch.testing.assert_close(step(x)[0], z, rtol=0, atol=1e-13 * scale / FLATTEST)
    assert (step(x)[1] <= -torch.log(torch.tensor(FLATTEST)) * 3 + 1e-9).all()


def test_a_planar_step_bends_less_than_it_would_have_to_for_a_fold() -> None:
    for size in (1.0, 10.0, 100.0):
        step = wild(Planar(3, 0), size)
        with torch.no_grad():
            u, slope = step._bend()
            torch.testing.assert_close((step.w * u).sum(), slope, rtol=1e-9, atol=1e-9)
        assert slope >= FLATTEST - 1


@pytest.mark.parametrize("config", [PlanarConfig(layers=4), RadialConfig(layers=4)])
@pytest.mark.parametrize("seed", [1, 2])
def test_mass_over_a_grid_is_one(config: PlanarConfig | RadialConfig, seed: int) -> None:
    flow = build(config, PLANE)
    generator = source(seed)
    for parameter in flow.parameters():
        parameter.data.copy_(torch.randn(parameter.shape, generator=generator) / 2)
    axis = torch.linspace(-14, 14, 501, dtype=torch.float64)
    with torch.no_grad():
        mass = flow.double().log_weight(torch.cartesian_prod(axis, axis)).exp().sum()
    assert abs(mass * (axis[1] - axis[0]) ** 2 - 1) < 1e-3
