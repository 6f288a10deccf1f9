"""A flow is a bijection, and its density is a density."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor as Array

from models.flow import CouplingFlow, Flow, FlowConfig
from models.laws import Logistic, StandardNormal
from models.layers import interval
from models.manifest import DataSpace
from tests.unit.models.zoo import BOX, GREY, PICTURES, PLANE, Case, draw_rows, objective_rows, source, stir


def test_decode_undoes_encode(flow: Flow, flow_case: Case) -> None:
    x = objective_rows(flow, draw_rows(flow_case.data, 30))
    torch.testing.assert_close(flow.decode(flow.encode(x)), x, rtol=1e-10, atol=1e-10)


def test_decode_undoes_encode_far_out_too(flow: Flow, flow_case: Case) -> None:
    x = draw_rows(flow_case.data, 30)
    if flow.data.support[0].low is None:
        x = 1e4 * x
    # A zero beside numbers of 1e5 cannot come back better than those.
    torch.testing.assert_close(
        flow.decode(flow.encode(x)), x, rtol=1e-10, atol=1e-14 * float(x.abs().max()) + 1e-10
    )


def test_encode_undoes_decode(flow: Flow) -> None:
    z = torch.randn(400, flow.latent.size, dtype=torch.float64, generator=source(3)) / 2
    x = flow.decode(z)
    z = z[inner(flow, x)]
    assert len(z) >= 20
    torch.testing.assert_close(flow.encode(flow.decode(z)), z, rtol=1e-10, atol=1e-10)


def inner(flow: Flow, x: Array) -> Array:
    """Which rows keep away from the ends of the support, next to which x itself has too few digits for z."""
    bounds = interval(flow.data)
    if bounds is None:
        return torch.ones(len(x), dtype=torch.bool)
    low, high = bounds
    near = torch.minimum(x.flatten(1) - low, high - x.flatten(1)) < 1e-4 * (high - low)
    return ~near.any(1)


def test_log_weight_is_the_change_of_variables(flow: Flow, flow_case: Case) -> None:
    """log p(x) = log prior(z) + log|det dz/dx|, the determinant by autograd."""
    x = objective_rows(flow, draw_rows(flow_case.data, 3))
    log_p = flow.log_weight(x)
    for i in range(len(x)):
        jacobian = torch.autograd.functional.jacobian(lambda row: flow.encode(row[None])[0], x[i])
        log_det = torch.linalg.slogdet(jacobian.flatten(1)).logabsdet
        prior = flow.prior(flow.encode(x[i : i + 1]))[0]
        torch.testing.assert_close(log_p[i], prior + log_det, rtol=0, atol=1e-9)


@pytest.mark.parametrize("data", [PLANE, GREY, PICTURES], ids=["plane", "grey", "pictures"])
def test_additive_couplings_keep_volume(data: DataSpace) -> None:
    flow = stir(CouplingFlow(FlowConfig(coupling="additive", hidden=(16,)), data)).double()
    *couplings, diagonal = flow.bijection.bijections
    z = torch.randn(5, flow.latent.size, dtype=torch.float64, generator=source(4))
    for coupling in couplings:
        z, log_det = coupling(z)
        assert not log_det.any()
    assert diagonal(z)[1] != 0


@pytest.mark.parametrize("prior", ["standard_normal", "logistic"])
@pytest.mark.parametrize("coupling", ["additive", "multiplicative", "affine", "spline"])
@pytest.mark.parametrize("data", [PLANE, BOX], ids=["plane", "box"])
def test_mass_over_a_grid_is_one(data: DataSpace, coupling: str, prior: str) -> None:
    layers = 4 if coupling == "spline" else 8  # splines are slow
    config = FlowConfig(coupling=coupling, layers=layers, prior=prior, hidden=(16, 16))
    flow = stir(CouplingFlow(config, data))
    if coupling == "spline":  # wilder, its density has peaks between the points of a grid
        for parameter in flow.parameters():
            parameter.data /= 2
    flow.double().fit_statistics(draw_rows(data, 200))
    with torch.no_grad():
        mass = cells(flow, data, 600, reach=40 if coupling == "spline" else 120).exp().sum()
    assert abs(mass - 1) < 1e-3


def cells(flow: Flow, data: DataSpace, n: int, reach: float = 120) -> Array:
    """Log-mass of the cells of a grid, by the density at their middles."""
    middle = (torch.arange(n, dtype=torch.float64) + 0.5) / n
    if data is PLANE:
        axis, width = reach * (2 * middle - 1), torch.full((n,), 2 * reach / n, dtype=torch.float64)
        axes, widths = (axis, axis), (width, width)
    else:
        # Cells that narrow towards the ends of the interval, where a wide density of the logit piles up.
        place, slope = torch.sigmoid(60 * middle - 30), 60 / n
        spans = [(s.low, s.high - s.low) for s in flow.data.support]
        axes = [low + span * place for low, span in spans]
        widths = [span * slope * place * (1 - place) for _, span in spans]
    areas = torch.cartesian_prod(*widths).prod(1)
    return flow.log_weight(torch.cartesian_prod(*axes)) + areas.log()


def test_samples_score_minus_the_entropy_of_the_grid() -> None:
    """Decoded noise follows the density that log_weight reports."""
    flow = stir(CouplingFlow(FlowConfig(hidden=(16,)), PLANE)).double()
    with torch.no_grad():
        log_mass = cells(flow, PLANE, 600)
        log_p = log_mass - torch.log(torch.tensor(240.0**2 / 600**2, dtype=torch.float64))
        expected = (log_mass.exp() * log_p).sum()
        scores = flow.log_weight(
            flow.decode(torch.randn(20_000, 2, dtype=torch.float64, generator=source(5)))
        )
    assert abs(scores.mean() - expected) < 5 * scores.std() / len(scores) ** 0.5 + 1e-3


def test_dequantising_spreads_a_level_over_its_bin() -> None:
    flow = CouplingFlow(FlowConfig(layers=1, hidden=()), GREY)
    x = draw_rows(GREY, 50)
    low, high = (flow.dequantise(x, torch.full_like(x, u)) for u in (0.0, 1.0))
    torch.testing.assert_close(low, x - 0.25)
    torch.testing.assert_close(high, x + 0.25)


def test_dequantising_leaves_continuous_data_alone() -> None:
    x = draw_rows(BOX, 50)
    assert torch.equal(CouplingFlow(FlowConfig(), BOX).dequantise(x, torch.rand_like(x)), x)


def test_the_support_is_the_data_widened_by_half_a_bin_and_the_margin() -> None:
    """alpha + (1 - 2 alpha) y of the widened interval must be where the bins' interval is."""
    flow = CouplingFlow(FlowConfig(margin=0.1), PICTURES)
    (support,) = flow.data.support
    assert support.low is not None
    assert support.high is not None
    place = (torch.tensor([-0.5, 16.5]) - support.low) / (support.high - support.low)
    torch.testing.assert_close(place, torch.tensor([0.1, 0.9]))
    assert not support.lattice
    assert flow.data.levels == 17


def test_the_priors_are_those_of_torch_and_of_the_paper() -> None:
    z = torch.linspace(-50, 50, 101, dtype=torch.float64)[:, None]
    normal = torch.distributions.Normal(*torch.tensor([0.0, 1.0], dtype=torch.float64)).log_prob(z[:, 0])
    torch.testing.assert_close(StandardNormal()(z), normal, rtol=0, atol=1e-12)
    nice = -torch.nn.functional.softplus(z) - torch.nn.functional.softplus(-z)
    torch.testing.assert_close(Logistic()(z), nice[:, 0], rtol=0, atol=1e-7)


def test_training_lowers_the_loss() -> None:
    """A few steps on a correlated Gaussian come near its entropy, the best there is."""
    rows = torch.randn(500, 2, generator=source(6)) @ torch.tensor([[1.0, 0.9], [0.0, 0.3]])
    flow = CouplingFlow(FlowConfig(layers=2, hidden=(8,)), PLANE)
    flow.fit_statistics(rows)
    entropy = 1 + torch.log(torch.tensor(2 * torch.pi)) + torch.log(torch.tensor(0.3))
    optimiser = torch.optim.Adam(flow.parameters(), lr=1e-2)
    for _ in range(120):
        loss = -flow.log_weight(rows).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert loss < entropy + 0.1
