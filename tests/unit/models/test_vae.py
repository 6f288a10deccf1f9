"""The VAE against cases that have a closed form."""

from __future__ import annotations

import math
from typing import Literal

import pytest
import torch
from torch import Tensor as Array
from torch.distributions import MultivariateNormal, Normal, kl_divergence

from models.manifest import DataSpace, Support
from models.posteriors import BOUND, Autoregressive, IAFConfig, PlanarStepsConfig, kl_to_prior
from models.vae import VAE, VAEConfig, elbo, importance_bound
from tests.unit.models.zoo import (
    CLASSES,
    GREY,
    ODD_PICTURES,
    PICTURES,
    PLANE,
    ZOO,
    Case,
    draw_rows,
    make,
    source,
    stir,
)

D, Z = 5, 2
NUMBERS = torch.arange(3)
VAES = [case for case in ZOO if isinstance(case.config, VAEConfig)]


class LinearGaussian:
    """x = W z + mean + s e: probabilistic PCA, whose marginal and posterior are known.

    The VAE that holds it has q = the posterior with its off-diagonal left out, which loses nothing when the
    columns of W are orthogonal.

    Reference: Tipping & Bishop 1999, Probabilistic principal component analysis, section 3.
    """

    def __init__(self, orthogonal: bool) -> None:
        generator = source(1)
        w = torch.randn(D, Z, dtype=torch.float64, generator=generator)
        self.w = torch.linalg.qr(w).Q * torch.tensor([1.5, 0.7]) if orthogonal else w
        self.mean = torch.randn(D, dtype=torch.float64, generator=generator)
        self.s = 0.6
        self.precision = self.w.T @ self.w / self.s**2 + torch.eye(Z)
        noise = self.s**2 * torch.eye(D, dtype=torch.float64)
        self.marginal = MultivariateNormal(self.mean, self.w @ self.w.T + noise)

    def posterior(self, x: Array) -> MultivariateNormal:
        mean = (x - self.mean) @ self.w / self.s**2 @ self.precision.inverse()
        return MultivariateNormal(mean, precision_matrix=self.precision)

    def linear_decoder(self) -> torch.nn.Module:
        return self.vae().decoder

    def vae(self) -> VAE:
        model = VAE(VAEConfig(latent_dim=Z, likelihood="gaussian", hidden=()), DataSpace(shape=(D,))).double()
        gain = self.precision.inverse() @ self.w.T / self.s**2
        log_std = -self.precision.diagonal().log() / 2
        zeros = torch.zeros(Z, D, dtype=torch.float64)
        set_linear(
            model.encoder, torch.cat((gain, zeros)), torch.cat((-gain @ self.mean, unclamped(log_std)))
        )
        set_linear(model.decoder, self.w, self.mean)
        model.likelihood.log_std.data.fill_(unclamped(torch.tensor(self.s, dtype=torch.float64).log()))
        return model


def unclamped(log_std: Array) -> Array:
    return BOUND * torch.atanh(log_std / BOUND)


def set_linear(net: torch.nn.Module, weight: Array, bias: Array) -> None:
    (linear,) = (m for m in net.modules() if isinstance(m, torch.nn.Linear))
    linear.weight.data.copy_(weight)
    linear.bias.data.copy_(bias)


def noise(*shape: int, seed: int = 2) -> Array:
    return torch.randn(shape, dtype=torch.float64, generator=source(seed))


@pytest.fixture
def exact() -> LinearGaussian:
    return LinearGaussian(orthogonal=True)


@pytest.fixture
def factorised() -> LinearGaussian:
    return LinearGaussian(orthogonal=False)


def test_with_the_true_posterior_every_weight_is_the_likelihood(exact: LinearGaussian) -> None:
    """Zero variance: the strongest test of the whole path."""
    x = exact.marginal.mean + noise(20, D)
    log_w = exact.vae().log_weights(x, noise(20, 7, Z))
    log_p = exact.marginal.log_prob(x)
    torch.testing.assert_close(log_w, log_p[:, None].expand(20, 7), rtol=0, atol=1e-10)
    torch.testing.assert_close(importance_bound(log_w), log_p, rtol=0, atol=1e-10)


def test_a_factorised_posterior_loses_its_divergence(factorised: LinearGaussian) -> None:
    """log p(x) - ELBO = KL(q || p(z|x)), in closed form."""
    model, x = factorised.vae(), factorised.marginal.mean + noise(3, D)
    mean, std = model.encode(x)
    q = MultivariateNormal(mean, scale_tril=torch.diag_embed(std))
    gap = kl_divergence(q, factorised.posterior(x))
    log_w = model.log_weights(x, noise(3, 40_000, Z))
    error = log_w.std(1) / 200
    assert ((factorised.marginal.log_prob(x) - elbo(log_w) - gap).abs() < 5 * error).all()


def test_the_bound_rises_with_samples(factorised: LinearGaussian) -> None:
    model, x = factorised.vae(), factorised.marginal.mean + noise(1, D)
    log_w = model.log_weights(x.expand(200, D), noise(200, 400, Z))
    bounds = [importance_bound(log_w.view(-1, k)) for k in (1, 2, 5, 20, 100)]
    means = torch.stack([b.mean() for b in bounds])
    errors = torch.stack([b.std() / len(b) ** 0.5 for b in bounds])
    assert (means.diff() > -3 * (errors[1:] + errors[:-1])).all()
    assert means[0] < means[-1] - 3 * errors[0]
    log_p = factorised.marginal.log_prob(x)[0]
    assert means[-1] < log_p + 3 * errors[-1]
    assert log_p - means[-1] < 0.1 * (log_p - means[0])


@pytest.mark.parametrize("case", VAES, ids=lambda case: case.name)
def test_bounds_of_every_vae_are_in_order(case: Case) -> None:
    """L_1 <= L_5 <= L_25 within standard errors, each from draws of its own, and apart in the end."""
    model, (x, label) = make(case), (draw_rows(case.data, 2), NUMBERS[:2])
    means, errors = [], []
    for k in (1, 5, 25):
        log_w = model.log_weights(x, noise(2, 300 * k, *model.latent.shape, seed=k), label).detach()
        bounds = importance_bound(log_w.view(2, -1, k))
        means.append(bounds.mean(1))
        errors.append(bounds.std(1) / bounds.shape[1] ** 0.5)
    for i, j in ((0, 1), (1, 2), (0, 2)):
        assert (means[j] - means[i] > -4 * torch.hypot(errors[i], errors[j])).all()
    assert (means[2] - means[0] > 4 * torch.hypot(errors[0], errors[2])).any()


@pytest.mark.parametrize("k", [1, 5, 50])
def test_the_exponential_of_the_bound_is_unbiased(factorised: LinearGaussian, k: int) -> None:
    model, x = factorised.vae(), factorised.marginal.mean + noise(1, D)
    log_w = model.log_weights(x.expand(100, D), noise(100, 1000, Z)).view(-1, k)
    p = (importance_bound(log_w) - factorised.marginal.log_prob(x)).exp()
    assert abs(p.mean() - 1) < 5 * p.std() / len(p) ** 0.5


def test_one_draw_at_a_time_gives_what_many_at_once_give() -> None:
    model = stir(VAE(VAEConfig(latent_dim=3, net="conv", hidden=(4,)), ODD_PICTURES)).double()
    x, eps = draw_rows(ODD_PICTURES, 6), noise(6, 4, 3)
    singly = torch.stack([model.log_weight(x, eps[:, k]) for k in range(4)], dim=1)
    torch.testing.assert_close(model.log_weights(x, eps), singly, rtol=1e-12, atol=1e-12)


def test_both_forms_of_the_elbo_agree() -> None:
    """E log p(x|z) - KL, and the mean of log-weights."""
    model = stir(VAE(VAEConfig(latent_dim=2, likelihood="gaussian", hidden=(8,)), PLANE)).double()
    x, eps = draw_rows(PLANE, 3), noise(3, 20_000, 2)
    mean, std = model.encode(x)
    rows = x.repeat_interleave(20_000, dim=0)
    z = (mean[:, None] + std[:, None] * eps).flatten(0, 1)
    analytic = model.log_likelihood(rows, z).view(3, -1) - kl_to_prior(mean, std)[:, None]
    sampled = model.log_weights(x, eps)
    error = (analytic - sampled).std(1) / 20_000**0.5
    assert ((analytic.mean(1) - elbo(sampled)).abs() < 5 * error).all()


def test_the_divergence_is_that_of_torch_and_of_monte_carlo() -> None:
    mean, std = noise(4, 3), noise(4, 3, seed=3).exp()
    q, p = Normal(mean, std), Normal(torch.zeros_like(mean), torch.ones_like(std))
    kl = kl_to_prior(mean, std)
    torch.testing.assert_close(kl, kl_divergence(q, p).sum(1), rtol=0, atol=1e-12)
    z = mean + std * noise(100_000, 4, 3)
    ratios = (q.log_prob(z) - p.log_prob(z)).sum(2)
    assert ((ratios.mean(0) - kl).abs() < 5 * ratios.std(0) / 100_000**0.5).all()


def test_the_bound_of_shifted_weights_shifts() -> None:
    log_w = noise(3, 8)
    torch.testing.assert_close(importance_bound(log_w + 1000), importance_bound(log_w) + 1000)
    torch.testing.assert_close(importance_bound(log_w - 1000), importance_bound(log_w) - 1000)
    torch.testing.assert_close(importance_bound(log_w.T, dim=0), importance_bound(log_w))
    assert torch.equal(importance_bound(log_w[:, :1]), elbo(log_w[:, :1]))


@pytest.mark.parametrize("levels", [2, 17, 256])
def test_a_categorical_sums_to_one_over_the_lattice(levels: int) -> None:
    data = DataSpace(shape=(1,), support=(Support(low=3, high=levels + 2, lattice=True),), levels=levels)
    likelihood = VAE(VAEConfig(latent_dim=1, likelihood="categorical", hidden=()), data).double().likelihood
    x = torch.arange(3, levels + 3, dtype=torch.float64)[:, None]
    for size in (0.1, 3.0, 700.0):
        h = size * noise(1, levels)
        log_p = likelihood.log_prob(x, h.expand(levels, -1))
        torch.testing.assert_close(log_p.exp().sum().item(), 1.0, rtol=0, atol=1e-12)
        torch.testing.assert_close(log_p, torch.distributions.Categorical(logits=h[0]).log_prob(x[:, 0] - 3))
        torch.testing.assert_close(likelihood.mean(h)[0], (log_p.exp() * x[:, 0]).sum()[None])


def test_a_categorical_decoder_keeps_levels_and_pixels_apart() -> None:
    """The logits of a pixel are its own: each pixel alone is a categorical of them."""
    likelihood = VAE(VAEConfig(likelihood="categorical", hidden=()), ODD_PICTURES).double().likelihood
    x, h = draw_rows(ODD_PICTURES, 3), noise(3, 4, 7, 10)
    logits = h.view(3, 2, 2, 7, 10)  # levels, then channels
    pixels = torch.distributions.Categorical(logits=logits.movedim(1, -1)).log_prob(x)
    torch.testing.assert_close(likelihood.log_prob(x, h), pixels.flatten(1).sum(1))


def test_a_categorical_decoder_starts_from_how_often_levels_were_seen() -> None:
    model = VAE(VAEConfig(likelihood="categorical", hidden=(8,)), PICTURES).double()
    x = draw_rows(PICTURES, 200)
    x[:, :, 0, 0] = 0
    model.fit_statistics(x)
    log_p = model.likelihood.log_prob(torch.zeros_like(x[:1]), torch.zeros(1, 17, 8, 8, dtype=torch.float64))
    counts = (x == 0).sum(0) + 1
    torch.testing.assert_close(log_p[0], (counts / 217).double().log().sum(), rtol=0, atol=1e-4)


@pytest.mark.parametrize("levels", [2, 17, 256])
def test_a_binomial_sums_to_one_over_the_lattice(levels: int) -> None:
    data = DataSpace(shape=(1,), support=(Support(low=3, high=levels + 2, lattice=True),), levels=levels)
    likelihood = VAE(VAEConfig(latent_dim=1, hidden=()), data).double().likelihood
    x = torch.arange(3, levels + 3, dtype=torch.float64)[:, None]
    for logit in (-40.0, -3.0, 0.0, 0.1, 8.0, 700.0):
        log_p = likelihood.log_prob(x, torch.full((levels, 1), logit, dtype=torch.float64))
        torch.testing.assert_close(log_p.exp().sum().item(), 1.0, rtol=0, atol=1e-10)
        expected = torch.distributions.Binomial(levels - 1, logits=torch.tensor(logit, dtype=torch.float64))
        torch.testing.assert_close(log_p, expected.log_prob(x[:, 0] - 3), rtol=1e-12, atol=1e-9)


def test_the_mean_of_a_binomial_is_its_mean() -> None:
    likelihood = VAE(VAEConfig(hidden=()), PICTURES).double().likelihood
    h = noise(1, *PICTURES.shape)
    x = torch.arange(17, dtype=torch.float64).view(17, 1, 1, 1).expand(17, *PICTURES.shape)
    coin = torch.distributions.Binomial(16, logits=h)
    torch.testing.assert_close(likelihood.mean(h)[0], (coin.log_prob(x).exp() * x).sum(0))


def test_a_bernoulli_decoder_starts_from_the_mean_of_the_data() -> None:
    model = VAE(VAEConfig(hidden=(8,)), PICTURES).double()
    x = draw_rows(PICTURES, 200)
    x[:, :, 0, 0] = 0
    model.fit_statistics(x)
    start = model.likelihood.mean(torch.zeros_like(x[:1]))[0]
    torch.testing.assert_close(start, x.mean(0).clamp(0.016, 15.984), rtol=1e-6, atol=1e-6)


def test_a_gaussian_density_is_in_the_units_of_the_data() -> None:
    """The same rows in other units: log p shifts by the log of the unit, dimension by dimension."""
    x, unit = draw_rows(PLANE, 50), torch.tensor([1000.0, 0.01], dtype=torch.float64)
    densities = []
    for rows in (x, x * unit):
        model = stir(VAE(VAEConfig(latent_dim=2, likelihood="gaussian", hidden=(8,)), PLANE)).double()
        model.fit_statistics(rows)
        densities.append(model.log_weight(rows, noise(50, 2)))
    torch.testing.assert_close(densities[0], densities[1] + unit.log().sum(), rtol=0, atol=1e-9)


def test_a_gaussian_vae_of_pictures_claims_no_bits_per_dimension() -> None:
    model = VAE(VAEConfig(likelihood="gaussian"), PICTURES)
    assert model.data.bits_per_dim(-100.0) is None
    assert model.data.support == (Support(),)


IAF, PLANAR = IAFConfig(steps=3, hidden=(8,)), PlanarStepsConfig(steps=3)
BENDS = pytest.mark.parametrize("flow", [IAF, PLANAR], ids=["iaf", "planar"])


def bent(data: DataSpace, flow: IAFConfig | PlanarStepsConfig, **options: object) -> VAE:
    """A VAE whose posterior is far from Gaussian, and wide, so that importance weights have a variance."""
    given = {"latent_dim": Z, "likelihood": "gaussian", "hidden": (8,), "posterior": flow, **options}
    model = stir(VAE(VAEConfig.model_validate(given), data)).double()
    if flow is IAF:
        for step in model.posterior.flow.steps:
            step.last.bias.data[Z:] += 1.5
    model.encoder[-1].bias.data[Z : 2 * Z] += 1.0
    return model


@BENDS
def test_the_density_of_a_bent_posterior_is_the_change_of_variables(
    flow: IAFConfig | PlanarStepsConfig,
) -> None:
    """log q(z|x) against the Jacobian of the whole map from noise to code, by autograd, sign included."""
    model = bent(DataSpace(shape=(D,)), flow)
    h, eps = model.infer(3 * noise(20, D)), noise(20, Z)
    _, log_q = model.posterior.draw(h, eps)
    for i in range(20):
        jacobian = torch.autograd.functional.jacobian(
            lambda e, i=i: model.posterior.draw(h[i : i + 1], e)[0][0], eps[i : i + 1]
        )[:, 0]
        sign, log_det = torch.linalg.slogdet(jacobian)
        # Of three steps of an IAF two dimensions change places at every one.
        assert sign == (-1 if flow is IAF else 1)
        expected = Normal(0, 1).log_prob(eps[i]).sum() - log_det
        torch.testing.assert_close(log_q[i], expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("u", [-1e4, -3.0, -1.0, 0.0, 2.0, 1e4])
def test_whatever_the_encoder_says_a_planar_step_can_be_undone(u: float) -> None:
    """Along w, z + û tanh(w·z + b) rises everywhere; across it, nothing moves against its order."""
    model = bent(DataSpace(shape=(D,)), PlanarStepsConfig(steps=1))
    context = torch.tensor([u, 0.3, 2.0, -1.0, 0.5], dtype=torch.float64)  # u, w and b
    w = context[2:4]
    along = torch.linspace(-4, 4, 2001, dtype=torch.float64)
    z, log_det = model.posterior.flow(along[:, None] * w / w.square().sum(), context.expand(2001, -1))
    rise = (z @ w).diff() / along.diff()
    assert (rise > 0).all()
    middle = (log_det[1:] + log_det[:-1]) / 2
    torch.testing.assert_close(rise.log(), middle, rtol=0, atol=1e-2)


def test_a_step_of_a_bent_posterior_is_triangular() -> None:
    step = stir(Autoregressive(4, 3, (9, 7))).double()
    m, s = (
        torch.autograd.functional.jacobian(lambda z, i=i: step(z, noise(1, 3))[i][0], noise(1, 4))[:, 0]
        for i in (0, 1)
    )
    for jacobian in (m, s):
        assert torch.equal(jacobian, jacobian.tril(-1))
        assert (jacobian[-1, :-1] != 0).all()


@BENDS
def test_a_bent_posterior_adds_up_to_one(flow: IAFConfig | PlanarStepsConfig) -> None:
    """E over the noise of (an even density on a box) / q is one, if q covers the box and is its density."""
    model = bent(DataSpace(shape=(D,)), flow)
    z, log_q = model.posterior.draw(model.infer(noise(1, D)).expand(200_000, -1), noise(200_000, Z))
    centre = z.mean(0)
    weights = ((z - centre).abs() < 0.5).all(1) * torch.exp(-log_q)
    assert abs(weights.mean() - 1) < 5 * weights.std() / len(weights) ** 0.5


@BENDS
def test_weights_of_a_bent_posterior_are_unbiased(flow: IAFConfig | PlanarStepsConfig) -> None:
    """E exp(log_w) = p(x): the decoder alone decides it, so it equals probabilistic PCA's closed form."""
    oracle = LinearGaussian(orthogonal=False)
    model = bent(DataSpace(shape=(D,)), flow)
    model.decoder, model.likelihood = oracle.linear_decoder(), oracle.vae().likelihood
    x = oracle.marginal.mean + 0.3 * noise(2, D)
    log_w = model.log_weights(x, noise(2, 200_000, Z))
    p = (log_w - oracle.marginal.log_prob(x)[:, None]).exp()
    assert ((p.mean(1) - 1).abs() < 5 * p.std(1) / p.shape[1] ** 0.5).all()
    assert (p.std(1) < 20).all()


@BENDS
def test_weights_are_unbiased_by_enumeration(flow: IAFConfig | PlanarStepsConfig) -> None:
    """The mean weights of all rows of a small lattice add up to one, as p(x) does."""
    data = DataSpace(shape=(3,), support=(Support(low=0, high=2, lattice=True),), levels=3)
    model = bent(data, flow, likelihood="categorical")
    x = torch.cartesian_prod(*[torch.arange(3, dtype=torch.float64)] * 3)  # all 27
    draws = model.log_weights(x, noise(27, 20_000, Z)).exp()
    error = (draws.var(1).sum() / draws.shape[1]).sqrt()
    assert abs(draws.mean(1).sum() - 1) < 5 * error
    assert error < 0.01


@BENDS
def test_a_bent_posterior_answers_its_location_alone(flow: IAFConfig | PlanarStepsConfig) -> None:
    model = bent(PLANE, flow)
    x = draw_rows(PLANE, 5)
    z = model.encode(x)
    assert isinstance(z, Array)
    torch.testing.assert_close(z, model.posterior.draw(model.infer(x), torch.zeros(5, Z).double())[0])
    assert [tensor.role for tensor in model.signatures()["encode"].outputs] == ["latent"]


def test_both_forms_of_the_divergence_agree() -> None:
    model = stir(VAE(VAEConfig(latent_dim=Z, likelihood="gaussian", hidden=(8,)), PLANE)).double()
    h = model.infer(draw_rows(PLANE, 1)).expand(50_000, -1)
    z, log_q = model.posterior.draw(h, noise(50_000, Z))
    drawn = log_q - model.prior(z)
    kl = model.posterior.divergence(h, z, log_q)
    assert abs((drawn - kl).mean()) < 5 * drawn.std() / 50_000**0.5


@pytest.mark.parametrize("net", ["mlp", "conv"])
def test_a_class_changes_every_answer(net: Literal["mlp", "conv"]) -> None:
    model = stir(VAE(VAEConfig(latent_dim=Z, net=net, hidden=(4,), conditional=True), CLASSES)).double()
    x, eps = draw_rows(CLASSES, 1).expand(3, -1, -1, -1), noise(1, Z).expand(3, -1)
    answers = [model.decode(eps, NUMBERS), model.encode(x, NUMBERS)[0], model.log_weight(x, eps, NUMBERS)]
    for answer in answers:
        assert len(answer.flatten(1 if answer.ndim > 1 else 0).unique(dim=0)) == 3


def test_draws_of_a_class_are_those_one_at_a_time() -> None:
    model = stir(VAE(VAEConfig(latent_dim=Z, hidden=(8,), conditional=True), CLASSES)).double()
    x, eps = draw_rows(CLASSES, 3), noise(3, 4, Z)
    singly = torch.stack([model.log_weight(x, eps[:, k], NUMBERS) for k in range(4)], dim=1)
    torch.testing.assert_close(model.log_weights(x, eps, NUMBERS), singly, rtol=1e-12, atol=1e-12)


def test_a_conditional_model_needs_classes() -> None:
    with pytest.raises(ValueError, match="data has no classes"):
        VAE(VAEConfig(conditional=True), PICTURES)


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (PLANE, "levels None"),
        (GREY, "bin width 0.5"),
        (PICTURES.model_copy(update={"levels": 9}), "9 levels; its bounds must then be 8 apart"),
    ],
)
def test_a_bernoulli_decoder_refuses_what_is_no_lattice(data: DataSpace, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        VAE(VAEConfig(), data)


def test_importance_weights_at_one_sample_have_the_gradient_of_the_elbo() -> None:
    model = stir(VAE(VAEConfig(latent_dim=2, hidden=(8,)), PICTURES)).double()
    log_w = model.log_weights(draw_rows(PICTURES, 4), noise(4, 1, 2))
    of_bound = torch.autograd.grad(importance_bound(log_w).sum(), model.parameters(), retain_graph=True)
    of_elbo = torch.autograd.grad(elbo(log_w).sum(), model.parameters())
    for a, b in zip(of_bound, of_elbo, strict=True):
        torch.testing.assert_close(a, b)


def test_the_log_of_two_pi_is_exact_in_float64() -> None:
    model = VAE(VAEConfig(), PICTURES).double()
    assert model.prior.half_log_2pi.item() == math.log(2 * math.pi) / 2
