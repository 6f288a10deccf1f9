"""Laws of invertible maps, one list of maps for all of them."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor as Array

from models.bijections import (
    ADDITIVE,
    AFFINE,
    MULTIPLICATIVE,
    NEAREST,
    Bijection,
    Coupling,
    Diagonal,
    Logit,
    Permute,
    Stack,
    Standardise,
    Unit,
)
from models.maf import Autoregressive
from models.planar import Planar, Radial
from models.splines import spline
from tests.unit.models.zoo import source

D = 5
LOW, HIGH = torch.arange(D) - 3.0, torch.arange(D) + 2.0


def standardise() -> Bijection:
    bijection = Standardise(D)
    bijection.fit(torch.randn(50, D, generator=source(3)) * torch.arange(1, D + 1) + 7)
    return bijection


BIJECTIONS: dict[str, Callable[[], Bijection]] = {
    "logit": lambda: Logit(LOW, HIGH),
    "unit": lambda: Unit(LOW, HIGH),
    "standardise": standardise,
    "permute": lambda: Permute(torch.tensor([3, 0, 4, 1, 2])),
    "diagonal": lambda: Diagonal(D),
    "additive": lambda: Coupling(D, ADDITIVE, (8, 8)),
    "multiplicative": lambda: Coupling(D, MULTIPLICATIVE, (8, 8)),
    "affine": lambda: Coupling(D, AFFINE, (8, 8)),
    "spline": lambda: Coupling(D, spline(6), (8, 8)),
    "autoregressive": lambda: Autoregressive(D, AFFINE, (8, 8)),
    "planar": lambda: Planar(D, 1),
    "radial": lambda: Radial(D, 1),
    "stack": lambda: Stack((Coupling(D, AFFINE, (8,)), Permute(torch.arange(D).flip(0)), Diagonal(D))),
}


@pytest.fixture(params=BIJECTIONS)
def bijection(request: pytest.FixtureRequest) -> Bijection:
    made = BIJECTIONS[request.param]()
    generator = source(4)
    for parameter in made.parameters():
        parameter.data.copy_(torch.randn(parameter.shape, generator=generator) / 2)
    return made.double()


def rows(bijection: Bijection, spread: float = 1.0) -> Array:
    x = spread * torch.randn(20, D, dtype=torch.float64, generator=source(5))
    return LOW + (HIGH - LOW) * torch.sigmoid(x) if isinstance(bijection, Logit) else x


@pytest.mark.parametrize("spread", [1.0, 10.0, 1000.0])
def test_inverse_undoes_forward(bijection: Bijection, spread: float) -> None:
    x = rows(bijection, min(spread, 10.0) if isinstance(bijection, Logit) else spread)
    torch.testing.assert_close(bijection.inverse(bijection(x)[0]), x, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("spread", [1.0, 3.0])
def test_forward_undoes_inverse(bijection: Bijection, spread: float) -> None:
    z = spread * torch.randn(20, D, dtype=torch.float64, generator=source(6))
    torch.testing.assert_close(bijection(bijection.inverse(z))[0], z, rtol=1e-10, atol=1e-10)


def test_log_det_is_that_of_the_jacobian(bijection: Bijection) -> None:
    x = rows(bijection)
    log_det = bijection(x)[1].expand(len(x))
    for i, row in enumerate(x):
        jacobian = torch.autograd.functional.jacobian(lambda r: bijection(r[None])[0][0], row)
        torch.testing.assert_close(log_det[i], torch.linalg.slogdet(jacobian)[1], rtol=0, atol=1e-9)


def test_the_inverse_has_the_log_det_with_its_sign_changed(bijection: Bijection) -> None:
    z, log_det = bijection(rows(bijection))
    for i, change in enumerate(log_det.expand(len(z))):
        jacobian = torch.autograd.functional.jacobian(lambda r: bijection.inverse(r[None])[0], z[i])
        torch.testing.assert_close(torch.linalg.slogdet(jacobian)[1], -change, rtol=0, atol=1e-9)


@pytest.mark.parametrize("name", [name for name in BIJECTIONS if name not in ("permute", "stack")])
def test_nothing_but_a_permutation_turns_space_over(name: str) -> None:
    """The sign of the determinant itself: maps that rise in each dimension, or along each line, keep it."""
    made = BIJECTIONS[name]().double()
    for row in rows(made):
        jacobian = torch.autograd.functional.jacobian(lambda r: made(r[None])[0][0], row)
        assert torch.linalg.slogdet(jacobian).sign == 1


TRANSFORMS = {
    "additive": ADDITIVE,
    "multiplicative": MULTIPLICATIVE,
    "affine": AFFINE,
    "spline": spline(6),
}


@pytest.mark.parametrize("transform", TRANSFORMS.values(), ids=TRANSFORMS)
def test_a_coupling_is_triangular(transform) -> None:
    coupling = Coupling(D, transform, (8,)).double()
    for parameter in coupling.parameters():
        torch.nn.init.normal_(parameter, std=0.5, generator=source(7))
    row = torch.randn(D, dtype=torch.float64, generator=source(8))
    jacobian = torch.autograd.functional.jacobian(lambda r: coupling(r[None])[0][0], row)
    kept = D // 2
    assert torch.equal(jacobian[:kept], torch.eye(D, dtype=torch.float64)[:kept])
    assert torch.equal(jacobian[kept:, kept:], torch.diag(jacobian.diagonal()[kept:]))
    assert (jacobian.diagonal() > 0).all()
    assert jacobian[kept:, :kept].abs().min() > 0


@pytest.mark.parametrize("transform", TRANSFORMS.values(), ids=TRANSFORMS)
def test_a_coupling_starts_as_the_identity(transform) -> None:
    x = 3 * torch.randn(40, D, dtype=torch.float64, generator=source(9))
    z, log_det = Coupling(D, transform, (8,)).double()(x)
    torch.testing.assert_close(z, x, rtol=0, atol=1e-14)
    torch.testing.assert_close(log_det, torch.zeros(40, dtype=torch.float64), rtol=0, atol=1e-13)


def test_logit_is_finite_at_and_beyond_the_ends_of_its_interval() -> None:
    logit = Logit(LOW, HIGH)
    for x in (LOW, HIGH, LOW - 1, HIGH + 1):
        z, log_det = logit(x[None])
        assert z.isfinite().all()
        assert log_det.isfinite().all()
        assert z.abs().max() <= -torch.log(torch.tensor(NEAREST)) + 1


def test_logit_keeps_its_digits_next_to_either_end() -> None:
    """Through 1 - p the upper end would lose what the lower end keeps."""
    logit = Logit(torch.zeros(1), torch.ones(1))
    near = torch.tensor([[2.0**-20]])
    assert torch.equal(logit(near)[0], -logit(1 - near)[0])


def test_standardise_leaves_mean_zero_and_deviation_one() -> None:
    x = torch.randn(500, D, dtype=torch.float64, generator=source(10)) * 40 + 1000
    bijection = Standardise(D)
    bijection.fit(x)
    std, mean = torch.std_mean(bijection(x)[0], dim=0, correction=0)
    torch.testing.assert_close(mean, torch.zeros_like(mean), rtol=0, atol=1e-10)
    torch.testing.assert_close(std, torch.ones_like(std), rtol=0, atol=1e-10)


def test_dimensions_that_are_alike_share_their_mean_and_deviation() -> None:
    x = torch.randn(500, 4, dtype=torch.float64, generator=source(12)) * torch.tensor([1.0, 9.0, 2.0, 2.0])
    bijection = Standardise(4, alike=2)
    z = bijection.fit(x).unflatten(1, (2, 2))
    std, mean = torch.std_mean(z, dim=(0, 2), correction=0)
    torch.testing.assert_close(mean, torch.zeros_like(mean), rtol=0, atol=1e-10)
    torch.testing.assert_close(std, torch.ones_like(std), rtol=0, atol=1e-10)
    assert bijection.std[0] == bijection.std[1] != bijection.std[2] == bijection.std[3]


def test_a_stack_fits_each_part_to_what_the_parts_before_it_give() -> None:
    x = torch.rand(500, D, dtype=torch.float64, generator=source(11)) * (HIGH - LOW) + LOW
    stack = Stack((Logit(LOW, HIGH), Standardise(D)))
    stack.fit(x)
    assert stack(x)[0].mean(0).abs().max() < 1e-10
