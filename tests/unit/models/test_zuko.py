"""Whole flows against zuko's, part by part the same and of the same weights: two implementations, one number.

zuko has no planar and no radial flow; a masked autoregressive one is compared beside its own tests.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor as Array
from torch.distributions import Normal
from zuko import transforms as theirs

from models.bijections import LOG_SCALE_BOUND, Bijection, Coupling, Diagonal, Permute, Standardise, Unit
from models.flow import CouplingFlow, Flow
from models.layers import soft_clamp
from models.splines import REACH, knots
from tests.unit.models.zoo import ZOO, Case, draw_rows, make, objective_rows

CASES = (
    "nice",
    "additive-table",
    "multiplicative-table",
    "affine-plane",
    "affine-table",
    "spline-plane",
    "spline-table",
)
Transform = torch.distributions.Transform


def affine(shift: Array, log_scale: Array) -> Transform:
    """x exp(log_scale) + shift; zuko bounds a scale that it is given otherwise than we do."""
    made = theirs.MonotonicAffineTransform(shift, log_scale)
    made.log_scale, made.scale = log_scale, log_scale.exp()
    return made


def spline(*numbers: Array) -> Transform:
    """Knots and slopes as given; zuko reads others off the same numbers."""
    corners = knots(numbers)
    bins = corners.x.shape[-1] - 1
    made = theirs.MonotonicRQSTransform(*(corners.x[..., :n] for n in (bins, bins, bins - 1)), bound=REACH)
    made.horizontal, made.vertical, made.derivatives = corners
    return made


def clamped(shift: Array, raw: Array) -> Transform:
    return affine(shift, soft_clamp(raw, LOG_SCALE_BOUND))


PARTS: dict[str, Callable[..., Transform]] = {
    "additive": theirs.AdditiveTransform,
    "multiplicative": lambda raw: clamped(torch.zeros_like(raw), raw),
    "affine": clamped,
    "spline": spline,
}


def of_zuko(part: Bijection, coupling: str) -> Transform:
    """The same map of rows in zuko's terms."""
    match part:
        case Unit(low=low, high=high):
            log_scale = -(high - low).log()
            return theirs.DependentTransform(affine(-low * log_scale.exp(), log_scale), 1)
        case Standardise(mean=mean, std=std):
            return theirs.DependentTransform(affine(-mean / std, -std.log()), 1)
        case Diagonal():
            log_scale = part.haste * part.log_scale
            return theirs.DependentTransform(affine(-part.shift * log_scale.exp(), log_scale), 1)
        case Permute(order=order):
            return theirs.PermutationTransform(order)
        case Coupling():
            return theirs.CouplingTransform(conditioned(part, PARTS[coupling]), kept(part))
    raise AssertionError(part)


def kept(coupling: Coupling) -> Array:
    return torch.arange(sum(coupling.halves)) < coupling.halves[0]


def conditioned(coupling: Coupling, part: Callable[..., Transform]) -> Callable[[Array], Transform]:
    def transform(x: Array) -> Transform:
        numbers = coupling.conditioner(x).chunk(coupling.transform.parameters, dim=-1)
        return theirs.DependentTransform(part(*numbers), 1)

    return transform


def parts(flow: Flow) -> Iterator[Bijection]:
    yield from flow.preprocessing.bijections
    yield from flow.bijection.bijections


def log_prior(flow: Flow, z: Array) -> Array:
    """By torch, and for the logistic by the paper of NICE, section 3.4."""
    if flow.latent.prior == "logistic":
        zero = torch.zeros_like(z)  # torch's softplus is off by 2e-9 from 20 on
        return -(torch.logaddexp(z, zero) + torch.logaddexp(-z, zero)).sum(1)
    return Normal(*torch.tensor([0.0, 1.0], dtype=z.dtype)).log_prob(z).sum(1)


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest) -> Case:
    return next(case for case in ZOO if case.name == request.param)


def test_a_flow_is_that_of_zuko(case: Case) -> None:
    flow = make(case)
    assert isinstance(flow, CouplingFlow)
    other = theirs.ComposedTransform(*(of_zuko(part, case.config.coupling) for part in parts(flow)))
    x = objective_rows(flow, draw_rows(case.data, 20))
    with torch.no_grad():
        z, flat = flow.encode(x), x.flatten(1)
        their_z, log_det = other.call_and_ladj(flat)
        torch.testing.assert_close(z, their_z, rtol=0, atol=1e-10)
        torch.testing.assert_close(flow.log_weight(x), log_prior(flow, their_z) + log_det, rtol=0, atol=1e-10)
        torch.testing.assert_close(flow.decode(z).flatten(1), other.inv(z), rtol=0, atol=1e-10)
