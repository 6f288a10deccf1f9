"""A masked autoregressive flow: triangular, and priced by direction."""

from __future__ import annotations

import torch
import zuko

from models.bijections import AFFINE, LOG_SCALE_BOUND
from models.layers import soft_clamp
from models.maf import MAF, Autoregressive, MAFConfig
from tests.unit.models.zoo import PLANE, TABLE, source, stir

D = 5


def autoregressive() -> Autoregressive:
    made = Autoregressive(D, AFFINE, (11, 7)).double()
    for parameter in made.parameters():
        torch.nn.init.normal_(parameter, std=0.7, generator=source(1))
    return made


def test_a_dimension_depends_on_those_before_it_and_on_itself_only() -> None:
    made = autoregressive()
    row = torch.randn(D, dtype=torch.float64, generator=source(2))
    jacobian = torch.autograd.functional.jacobian(lambda r: made(r[None])[0][0], row)
    assert not jacobian.triu(1).any()
    assert (jacobian.diagonal() > 0).all()
    assert jacobian[torch.ones(D, D).tril(-1).bool()].abs().min() > 0


def test_each_pass_of_the_inverse_settles_one_more_dimension() -> None:
    made = autoregressive()
    x = torch.randn(4, D, dtype=torch.float64, generator=source(3))
    z, _ = made(x)
    guess = torch.zeros_like(z)
    for known in range(1, D + 1):
        guess = made.transform.inverse(z, *made._numbers(guess))
        torch.testing.assert_close(guess[:, :known], x[:, :known], rtol=0, atol=1e-12)


def test_sampling_is_priced_by_its_passes() -> None:
    signatures = MAF(MAFConfig(), TABLE).signatures()
    assert {name: signature.cost for name, signature in signatures.items()} == {
        "decode": 7.0,
        "encode": 1.0,
        "log_weight": 1.0,
    }


def test_it_is_the_flow_of_zuko_on_the_same_network() -> None:
    made = autoregressive()

    def theirs(x: torch.Tensor) -> torch.distributions.Transform:
        shift, raw = made._numbers(x)
        affine = zuko.transforms.MonotonicAffineTransform(shift, raw)
        affine.log_scale = soft_clamp(raw, LOG_SCALE_BOUND)
        affine.scale = affine.log_scale.exp()
        return zuko.transforms.DependentTransform(affine, 1)

    flow = zuko.transforms.AutoregressiveTransform(theirs, passes=D)
    x = torch.randn(9, D, dtype=torch.float64, generator=source(4))
    z, log_det = made(x)
    their_z, their_log_det = flow.call_and_ladj(x)
    torch.testing.assert_close(z, their_z, rtol=0, atol=1e-12)
    torch.testing.assert_close(log_det, their_log_det, rtol=0, atol=1e-12)
    torch.testing.assert_close(made.inverse(z), flow.inv(z), rtol=0, atol=1e-12)


def test_a_plane_has_a_density_that_adds_up_to_one() -> None:
    flow = stir(MAF(MAFConfig(layers=3, hidden=(16,)), PLANE)).double()
    axis = torch.linspace(-30, 30, 601, dtype=torch.float64)
    with torch.no_grad():
        mass = flow.log_weight(torch.cartesian_prod(axis, axis)).exp().sum() * (axis[1] - axis[0]) ** 2
    assert abs(mass - 1) < 1e-3
