"""What a training step makes better, for each kind of objective.

Noise comes from (seed, use, step) and from nowhere else, so a resumed run draws what a run never stopped
would have drawn. Which rows, how often and when to stop is the business of ``fit``.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import lightning.pytorch as pl
import numpy as np
import torch
from torch import Tensor as Array
from torch import nn
from torch.optim.lr_scheduler import LambdaLR

from models.base import Model
from models.flow import Flow
from models.gan import GAN, discriminator_loss, generator_loss
from models.vae import VAE, importance_bound, kl_to_prior
from training import Mistake
from training.recipe import AdversarialConfig, BoundConfig, FitConfig, LikelihoodConfig, Recipe

# The validation score that chooses the best checkpoint: nats, lower is better.
MONITOR: Final = "valid_loss"
TRAIN, VALID = 0, 1  # what noise is for

Score = Callable[[Array, torch.Generator], Array]


class Batch(NamedTuple):
    """Rows to learn from.

    Attributes:
        x: (B, *shape), in data units.
        label: the class of each row, (B,), int64, where the data have classes.
    """

    x: Array
    label: Array | None


def generator(*address: int) -> torch.Generator:
    """Noise of its own for each address, from the CPU, so that every device sees the same."""
    state = np.random.SeedSequence(address).generate_state(1, np.uint64)
    return torch.Generator().manual_seed(int(state[0]))


@dataclass(frozen=True)
class Plan:
    """What an objective knows of the run: its optimiser's options, how many steps it has, its seed."""

    fit: FitConfig
    total_steps: int
    seed: int

    def adam(self, module: nn.Module) -> tuple[torch.optim.Optimizer, LambdaLR]:
        """An optimiser of the module's parameters, and its schedule."""
        optimizer = torch.optim.Adam(
            module.parameters(),
            lr=self.fit.learning_rate,
            betas=self.fit.betas,
            weight_decay=self.fit.weight_decay,
        )
        return optimizer, LambdaLR(optimizer, self._rate)

    def _rate(self, step: int) -> float:
        if self.fit.schedule == "constant":
            return 1.0
        return (1 + math.cos(math.pi * min(1.0, step / self.total_steps))) / 2


class Objective(pl.LightningModule, ABC):
    """A model in training, and how many steps it has taken.

    Attributes:
        steps: batches so far, (), int64; Lightning's own count adds up every optimiser's steps.
        gauges: the quantities that matter, as of the last step or validation, for the progress bar.
    """

    steps: Array

    def __init__(self, model: Model, plan: Plan) -> None:
        super().__init__()
        self.model = model
        self.plan = plan
        self.gauges: dict[str, Array] = {}
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))

    @property
    @abstractmethod
    def chooses(self) -> bool:
        """Whether validation gives the score ``MONITOR``."""

    def training_noise(self) -> torch.Generator:
        """The noise of the next training step."""
        self.steps += 1
        return generator(self.plan.seed, TRAIN, int(self.steps))

    def note(self, name: str, value: Array, rows: int) -> None:
        """Log the epoch's mean of a quantity, and show it."""
        self.gauges[name] = value.detach()
        self.log(name, value.detach(), on_step=False, on_epoch=True, batch_size=rows)


class ByScore(Objective):
    """Raises a score of each row that is log p(x), or bounds it from below.

    Args:
        learned: what training raises: rows (B, *shape) and noise to (B,), in nats.
        reported: what validation reports, likewise.
        name: of the reported score.
    """

    chooses = True

    def __init__(self, model: Model, plan: Plan, learned: Score, reported: Score, name: str) -> None:
        super().__init__(model, plan)
        self.learned = learned
        self.reported = reported
        self.name = name

    def training_step(self, batch: Batch) -> Array:
        score = self.learned(batch.x, self.training_noise()).mean()
        self.note(f"train_{self.name}", score, len(batch.x))
        return -score

    def validation_step(self, batch: Batch, batch_index: int) -> None:
        rows = len(batch.x)
        # The same noise after every epoch: epochs differ by what they learned, not by luck.
        score = self.reported(batch.x, generator(self.plan.seed, VALID, batch_index)).mean()
        self.log(MONITOR, -score, batch_size=rows)
        self.note(f"valid_{self.name}", score, rows)
        bits = self.model.data.bits_per_dim(float(score))
        if bits is not None:
            self.note("valid_bits_per_dim", torch.tensor(bits), rows)

    def configure_optimizers(self) -> Any:
        optimizer, schedule = self.plan.adam(self.model)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


class Adversarial(Objective):
    """The discriminator's step, then the generator's, on each batch.

    Reference: Goodfellow et al. 2014, arXiv 1406.2661, algorithm 1 with one step of each.
    """

    chooses = False
    model: GAN

    def __init__(self, model: GAN, plan: Plan) -> None:
        super().__init__(model, plan)
        self.automatic_optimization = False

    def training_step(self, batch: Batch) -> None:
        noise, rows, judge = self.training_noise(), len(batch.x), self.model.discriminator
        discriminator, maker = zip(self.optimizers(), self.lr_schedulers(), strict=True)
        real, fake = judge(batch.x), judge(self._sample(rows, noise).detach())
        self._descend(discriminator_loss(real, fake), *discriminator)
        self._descend(generator_loss(judge(self._sample(rows, noise))), *maker)
        self.note("D(x)", torch.sigmoid(real).mean(), rows)
        self.note("D(G(z))", torch.sigmoid(fake).mean(), rows)

    def validation_step(self, batch: Batch, batch_index: int) -> None:
        # Far below D(x) of the training rows: the discriminator knows its rows by heart.
        self.note("valid_D(x)", torch.sigmoid(self.model.discriminator(batch.x)).mean(), len(batch.x))

    def configure_optimizers(self) -> Any:
        players = (self.model.discriminator, self.model.generator)
        optimizers, schedules = zip(*map(self.plan.adam, players), strict=True)
        return list(optimizers), list(schedules)

    def _sample(self, rows: int, noise: torch.Generator) -> Array:
        z = torch.randn(rows, self.model.latent.size, generator=noise)
        return self.model.decode(z.to(self.device))

    def _descend(self, loss: Array, optimizer: Any, schedule: LambdaLR) -> None:
        optimizer.zero_grad()
        self.manual_backward(loss)
        optimizer.step()
        schedule.step()


def objective(recipe: Recipe, model: Model, total_steps: int) -> Objective:
    """The objective of a recipe for its model.

    Raises:
        Mistake: if the model cannot be trained by it.
    """
    plan = Plan(recipe.fit, total_steps, recipe.seed)
    match recipe.objective, model:
        case LikelihoodConfig(), Flow():
            score = log_density(model)
            return ByScore(model, plan, score, score, "log_likelihood")
        case BoundConfig(k=1, beta=beta), VAE():
            return ByScore(model, plan, evidence_bound(model, beta), evidence_bound(model), "elbo")
        case BoundConfig(k=k), VAE():
            bound = importance(model, k)
            return ByScore(model, plan, bound, bound, f"bound_{k}")
        case AdversarialConfig(), GAN():
            return Adversarial(model, plan)
    raise Mistake(f"objective.kind is {recipe.objective.kind}; a {model.family} is not trained by it")


def log_density(flow: Flow) -> Score:
    """log p of each row, at a point of its bin that is drawn afresh each time where data have levels."""

    def score(x: Array, noise: torch.Generator) -> Array:
        u = torch.rand(x.shape, generator=noise).to(x)
        return flow.log_weight(flow.dequantise(x, u))

    return score


def evidence_bound(vae: VAE, beta: float = 1.0) -> Score:
    """One sample of log p(x|z), less ``beta`` times the closed-form KL(q(z|x) || p(z)).

    Reference: Kingma & Welling 2014, arXiv 1312.6114, equation 7.
    """

    def score(x: Array, noise: torch.Generator) -> Array:
        mean, std = vae.encode(x)
        eps = torch.randn(mean.shape, generator=noise).to(mean)
        return vae.log_likelihood(x, mean + std * eps) - beta * kl_to_prior(mean, std)

    return score


def importance(vae: VAE, k: int) -> Score:
    """L_K with ``k`` importance samples."""

    def score(x: Array, noise: torch.Generator) -> Array:
        eps = torch.randn(len(x), k, vae.latent.size, generator=noise).to(x)
        return importance_bound(vae.log_weights(x, eps))

    return score
