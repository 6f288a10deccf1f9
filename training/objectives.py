"""What a training step makes better, for each kind of objective.

Noise comes from (seed, use, step, process) and from nowhere else, so a resumed run draws what a run never
stopped would have drawn. Which rows, how often and when to stop is the business of ``fit``.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Final, NamedTuple

import lightning.pytorch as pl
import numpy as np
import torch
from torch import Tensor as Array
from torch import nn
from torch.optim.lr_scheduler import LambdaLR
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn, update_bn

from models.base import Model
from models.flow import Flow
from models.gan import GAMES, GAN, between, lipschitz_penalty, slope_penalty, slopes
from models.vae import VAE, importance_bound
from training import Mistake
from training.recipe import AdversarialConfig, BoundConfig, FitConfig, LikelihoodConfig, Recipe

# The validation score that chooses the best checkpoint: nats, lower is better.
MONITOR: Final = "valid_loss"
TRAIN, VALID, SETTLE = 0, 1, 3  # what noise is for
# A batch norm's statistics are then good to a percent.
SETTLING_BATCHES, SETTLING_ROWS = 32, 512


class Batch(NamedTuple):
    """Rows to learn from.

    Attributes:
        x: (B, *shape), in data units.
        label: the class of each row, (B,), int64, where the data have classes.
    """

    x: Array
    label: Array | None


Score = Callable[[Batch, torch.Generator], Array]


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
            eps=self.fit.eps,
            weight_decay=self.fit.weight_decay,
        )
        return optimizer, LambdaLR(optimizer, self._rate)

    def _rate(self, step: int) -> float:
        """The part of the learning rate that a step takes, counted from 0."""
        risen = min(1.0, (step + 1) / max(1, self.fit.warm_up))
        if self.fit.schedule == "constant":
            return risen
        return risen * (1 + math.cos(math.pi * min(1.0, step / self.total_steps))) / 2


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
        return self.noise(TRAIN, int(self.steps))

    def noise(self, *use: int) -> torch.Generator:
        """Noise by what it is for; every process draws its own, and the first that of a process alone."""
        rank = (self.global_rank,) if self.global_rank else ()
        return generator(self.plan.seed, *use, *rank)

    def note(self, name: str, value: Array, rows: int) -> None:
        """Log the epoch's mean of a quantity, and show it."""
        self.gauges[name] = value.detach()
        self.mean(name, value.detach(), rows)

    def mean(self, name: str, value: Array, rows: int) -> None:
        """Log the epoch's mean of a quantity over the rows of all processes."""
        # Lightning takes the mean of the processes' counts in whole numbers, dropping what does not divide.
        weight = rows * self.trainer.world_size
        self.log(name, value, on_step=False, on_epoch=True, batch_size=weight, sync_dist=True)


class ByScore(Objective):
    """Raises a score of each row that is log p(x), or bounds it from below.

    Args:
        learned: what training raises: B rows and noise to (B,), in nats.
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
        score = self.learned(batch, self.training_noise()).mean()
        self.note(f"train_{self.name}", score, len(batch.x))
        return -score

    def validation_step(self, batch: Batch, batch_index: int) -> None:
        rows = len(batch.x)
        # The same noise after every epoch: epochs differ by what they learned, not by luck.
        score = self.reported(batch, self.noise(VALID, batch_index)).mean()
        self.mean(MONITOR, -score, rows)
        self.note(f"valid_{self.name}", score, rows)
        bits = self.model.data.bits_per_dim(float(score))
        if bits is not None:
            self.note("valid_bits_per_dim", torch.tensor(bits), rows)

    def configure_optimizers(self) -> Any:
        optimizer, schedule = self.plan.adam(self.model)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


class Adversarial(Objective):
    """The discriminator's step on each batch, and the generator's on every n-th; then the encoder's, if any.

    When the game is over, the generator's moving average takes its place, and its batch norm takes its
    statistics afresh from noise: those gathered on the way are of weights that are no more.

    Reference: Goodfellow et al. 2014, arXiv 1406.2661, algorithm 1.

    Attributes:
        epochs: how long the game lasts; what is left is the encoder's.
    """

    chooses = False
    model: GAN

    def __init__(self, model: GAN, plan: Plan, config: AdversarialConfig) -> None:
        super().__init__(model, plan)
        self.automatic_optimization = False
        self.config = config
        self.game = GAMES[config.loss]
        self.epochs = plan.fit.epochs - config.encoder_epochs
        # Its copy of the generator is in the checkpoint, so that a resumed run goes on with it.
        mean = get_ema_multi_avg_fn(config.average)
        self.averaged = AveragedModel(model.generator, multi_avg_fn=mean) if config.average else None

    def training_step(self, batch: Batch) -> None:
        noise = self.training_noise()
        if self.current_epoch >= self.epochs:
            self._find_the_way_back(batch, noise)
        else:
            self._play(batch, noise)

    def validation_step(self, batch: Batch, batch_index: int) -> None:
        # Far from the view of training rows: the discriminator knows its rows by heart.
        view = self._view(self.model.discriminator(batch.x, self._told(batch)))
        self.note(f"valid_{self._names[0]}", view, len(batch.x))

    def on_train_epoch_end(self) -> None:
        if self.current_epoch + 1 == self.epochs:
            self._settle()

    def kept(self, rows: int, label: Array | None, noise: torch.Generator) -> Array:
        """Samples, (rows, *shape), of the generator that would stay if the game ended now.

        Args:
            label: the class of each, for a model that is told one.
        """
        playing = self.averaged is not None and self.current_epoch < self.epochs
        made = self.averaged if playing else self.model.generator
        told = None if self.model.classes is None else label
        return self.model.finished(made(self.model.told(self._codes(rows, noise), told)))

    def configure_optimizers(self) -> Any:
        share = self.epochs / self.plan.fit.epochs
        game = replace(self.plan, total_steps=round(self.plan.total_steps * share))
        rest = replace(self.plan, total_steps=max(1, self.plan.total_steps - game.total_steps))
        made = [game.adam(self.model.discriminator), game.adam(self.model.generator)]
        if self.model.encoder is not None:
            made.append(rest.adam(self.model.encoder))
        optimizers, schedules = zip(*made, strict=True)
        return list(optimizers), list(schedules)

    def _play(self, batch: Batch, noise: torch.Generator) -> None:
        x, label, judge = batch.x, self._told(batch), self.model.discriminator
        optimizers, schedules = self.optimizers(), self.lr_schedulers()
        fake = self._sample(len(x), label, noise).detach()
        on_real, on_fake = judge(x, label), judge(fake, label)
        loss = self.game.discriminator(on_real, on_fake)
        if self.config.penalty:
            loss = loss + self.config.penalty * self._penalty(x, fake, label, noise)
        self._descend(loss, optimizers[0])
        if (int(self.steps) - 1) % self.config.critic_steps == 0:
            made = self._sample(len(x), label, noise)
            self._descend(self.game.generator(judge(made, label)), optimizers[1])
            if self.averaged is not None:
                self.averaged.update_parameters(self.model.generator)
        for schedule in schedules[:2]:
            schedule.step()
        for name, logits in zip(self._names, (on_real, on_fake), strict=True):
            self.note(name, self._view(logits), len(x))

    def _penalty(self, real: Array, fake: Array, label: Array | None, noise: torch.Generator) -> Array:
        """On the discriminator's slope, in network units: at data, or for a critic between both."""
        judge = self.model.discriminator

        def critic(y: Array) -> Array:
            return judge.judge(y, label)

        if self.config.loss != "wasserstein":
            return slope_penalty(slopes(critic, judge.scale(real)))
        u = torch.rand(len(real), generator=noise).to(real)
        return lipschitz_penalty(slopes(critic, between(judge.scale(real), judge.scale(fake), u)))

    def _find_the_way_back(self, batch: Batch, noise: torch.Generator) -> None:
        """A step of the encoder: codes of samples, where they are known, and rows again from their codes."""
        self.model.eval()  # the generator is done; nothing in the encoder asks for a mode
        label = self._told(batch)
        z = self._codes(len(batch.x), noise)
        with torch.no_grad():
            samples = self.model.decode(z, label)
        code_error = (self.model.code(samples) - z).square().mean()
        again = self.model.decode(self.model.code(batch.x), label)
        residual = (self.model.scale(again) - self.model.scale(batch.x)).square().mean()
        self._descend(code_error + residual, self.optimizers()[2])
        self.lr_schedulers()[2].step()
        self.note("code_error", code_error, len(batch.x))
        self.note("residual", residual, len(batch.x))

    def _settle(self) -> None:
        if self.averaged is not None:
            self.model.generator.load_state_dict(self.averaged.module.state_dict())
        noise = generator(self.plan.seed, SETTLE)
        update_bn((self._fresh(noise) for _ in range(SETTLING_BATCHES)), self.model.generator)

    def _fresh(self, noise: torch.Generator) -> Array:
        """What the generator is fed, of all classes alike."""
        label = None
        if self.model.classes is not None:
            label = torch.randint(len(self.model.classes.numbers), (SETTLING_ROWS,), generator=noise)
            label = label.to(self.device)
        return self.model.told(self._codes(SETTLING_ROWS, noise), label)

    def _told(self, batch: Batch) -> Array | None:
        return None if self.model.classes is None else batch.label

    def _codes(self, rows: int, noise: torch.Generator) -> Array:
        return torch.randn(rows, self.model.latent.size, generator=noise).to(self.device)

    def _sample(self, rows: int, label: Array | None, noise: torch.Generator) -> Array:
        return self.model.decode(self._codes(rows, noise), label)

    @property
    def _names(self) -> tuple[str, str]:
        return ("D(x)", "D(G(z))") if self.game.probabilistic else ("critic(x)", "critic(G(z))")

    def _view(self, logits: Array) -> Array:
        return (torch.sigmoid(logits) if self.game.probabilistic else logits).mean()

    def _descend(self, loss: Array, optimizer: Any) -> None:
        optimizer.zero_grad()
        self.manual_backward(loss)
        optimizer.step()


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
        case AdversarialConfig() as config, GAN():
            return Adversarial(model, plan, config)
    raise Mistake(f"objective.kind is {recipe.objective.kind}; a {model.family} is not trained by it")


def log_density(flow: Flow) -> Score:
    """log p of each row, at a point of its bin that is drawn afresh each time where data have levels."""

    def score(batch: Batch, noise: torch.Generator) -> Array:
        u = torch.rand(batch.x.shape, generator=noise).to(batch.x)
        return flow.log_weight(flow.dequantise(batch.x, u))

    return score


def evidence_bound(vae: VAE, beta: float = 1.0) -> Score:
    """One sample of log p(x|z), less ``beta`` times KL(q(z|x) || p(z)), in closed form where there is one.

    Reference: Kingma & Welling 2014, arXiv 1312.6114, equation 7.
    """

    def score(batch: Batch, noise: torch.Generator) -> Array:
        x, label = batch
        h = vae.infer(x, label)
        z, log_q = vae.posterior.draw(h, torch.randn(len(x), vae.latent.size, generator=noise).to(x))
        return vae.log_likelihood(x, z, label) - beta * vae.posterior.divergence(h, z, log_q)

    return score


def importance(vae: VAE, k: int) -> Score:
    """L_K with ``k`` importance samples."""

    def score(batch: Batch, noise: torch.Generator) -> Array:
        eps = torch.randn(len(batch.x), k, vae.latent.size, generator=noise).to(batch.x)
        return importance_bound(vae.log_weights(batch.x, eps, batch.label))

    return score
