"""What a trained model is worth: numbers with their kind and unit on test rows, and pictures to look at.

What is measured follows from what the model gives. Test rows served neither to train nor to choose it.
"""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Callable, Iterator
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from PIL.Image import Image
from torch import Tensor as Array

from models.base import Model
from models.flow import Flow
from models.gan import GAN, discriminator_loss
from models.manifest import DataSpace, Law, Metric
from models.vae import VAE, importance_bound
from training import Mistake, pictures
from training.data import Rows
from training.fit import LOG
from training.objectives import MONITOR, generator
from training.run import EVALUATION, Run

Floats = NDArray[np.float64]

TEST, CALIBRATION, PICTURE = 10, 11, 12  # what noise is for, beside training
HELD_OUT_ROWS: Final = 1000
HELD_OUT_DRAWS: Final = 64
CHUNK: Final = 8192  # rows of a model's pass
NOT_DRAWN: Final = frozenset({"epoch", "seconds", MONITOR, "valid_bits_per_dim"})
ACTIVE: Final = 0.01  # variance of a posterior mean; Burda et al. 2016, section 5.2


def evaluate(run: Run) -> dict[str, Metric]:
    """Measure a run on its test rows; write ``evaluation.json`` and the pictures into its folder."""
    with torch.inference_mode():
        metrics = dict(_measure(run))
        text = {name: metric.model_dump() for name, metric in metrics.items()}
        (run.folder / EVALUATION).write_text(json.dumps(text, indent=2) + "\n")
        for name, image in _pictures(run):
            image.save(run.folder / f"{name}.png")
    return metrics


def held_out_scores(run: Run) -> tuple[Floats, int]:
    """Scores of at most 1,000 test rows, computed as the service does: what p-values are ranks among.

    Returns:
        scores: (N,), in nats, in the order of the test rows.
        k: importance samples behind each, 1 where the density is exact.

    Raises:
        Mistake: if the model gives no score.
    """
    x = torch.from_numpy(_spread(run.splits.test, HELD_OUT_ROWS))
    with torch.inference_mode():
        if run.model.grades.density == "exact":
            return _by_chunks(run.model.log_weight, x), 1
        if run.model.grades.density == "lower_bound":
            log_w = _log_weights(run.model, x, HELD_OUT_DRAWS, CALIBRATION)
            return _log_mean_exp(log_w), HELD_OUT_DRAWS
    raise Mistake(f"{run.recipe.name}: a {run.model.family} has no log_weight, so no held-out scores")


# Numbers ---------------------------------------------------------------------------------------------------


def _measure(run: Run) -> Iterator[tuple[str, Metric]]:
    match run.model:
        case Flow() if run.model.data.levels is None:
            yield from _exact(run, run.model)
        case Flow():
            yield from _dequantised(run, run.model)
        case VAE():
            yield from _bounded(run, run.model)
        case GAN():
            yield from _game(run, run.model)
            yield from _likeness(run)


def _exact(run: Run, flow: Flow) -> Iterator[tuple[str, Metric]]:
    log_p = _by_chunks(flow.log_weight, torch.from_numpy(run.splits.test))
    yield "log_likelihood", _mean(log_p, "nats", "exact")
    if run.splits.truth is not None:
        best = run.splits.truth(run.splits.test.astype(np.float64))
        yield "ceiling", _mean(best, "nats", "exact")
        # Paired, row by row: far less noise than the difference of two means.
        yield "gap_to_ceiling", _mean(best - log_p, "nats", "exact")


def _dequantised(run: Run, flow: Flow) -> Iterator[tuple[str, Metric]]:
    """The bound on the log-mass of levels by points of their bins, of one draw and of K.

    Reference: Theis, van den Oord & Bethge 2016, arXiv 1511.01844, section 3.1.
    """
    k, noise = run.recipe.evaluate.draws, generator(run.recipe.seed, TEST)

    def at_random_points(x: Array) -> Array:
        u = torch.rand(x.shape, generator=noise)
        return flow.log_weight(flow.dequantise(x, u))

    x = torch.from_numpy(run.splits.test)
    log_p = np.stack([_by_chunks(at_random_points, x) for _ in range(k)], axis=1)  # (N, K)
    yield from _of_levels("log_likelihood", log_p.mean(axis=1), flow.data, 1)
    yield from _of_levels(f"log_likelihood_{k}", _log_mean_exp(log_p), flow.data, k)


def _bounded(run: Run, vae: VAE) -> Iterator[tuple[str, Metric]]:
    k, x = run.recipe.evaluate.draws, torch.from_numpy(run.splits.test)
    log_w = _log_weights(vae, x, k, TEST)
    yield from _of_levels("elbo", log_w.mean(axis=1), vae.data, 1)
    yield from _of_levels(f"bound_{k}", _log_mean_exp(log_w), vae.data, k)
    means = np.concatenate([vae.encode(part)[0].numpy() for part in x.split(CHUNK)])
    active = int((means.var(axis=0) > ACTIVE).sum())
    yield "active_latents", Metric(value=active, unit=f"of {vae.latent.size} latents", kind="statistic")


def _of_levels(name: str, log_p: Floats, space: DataSpace, k: int) -> Iterator[tuple[str, Metric]]:
    """A lower bound for each row, in nats, and in bits per dimension where the data have levels."""
    width = space.size * math.log(space.bin_width) if space.levels else 0.0
    yield name, _mean(log_p + width, "nats", "lower_bound", k)
    if space.levels is not None:
        bits = np.array([space.bits_per_dim(row) for row in log_p], dtype=float)
        label = "bits_per_dim" if k == 1 else f"bits_per_dim_{k}"
        yield label, _mean(bits, "bits/dim", "upper_bound", k)


def _game(run: Run, gan: GAN) -> Iterator[tuple[str, Metric]]:
    """The discriminator's view of test rows and of as many samples; near 1/2 each, it cannot tell.

    Reference: Goodfellow et al. 2014, arXiv 1406.2661, theorem 1: the best discriminator's value is
    2 JS(data, samples) - ln 4, so any other's value bounds JS from below, on average.
    """
    real = torch.from_numpy(run.splits.test)
    fake = _samples(gan, len(real), run.recipe.seed, TEST)
    on_real, on_fake = (_by_chunks(gan.discriminator, x) for x in (real, fake))
    yield "D(x)", _mean(_sigmoid(on_real), "probability", "gauge")
    yield "D(G(z))", _mean(_sigmoid(on_fake), "probability", "gauge")
    value = -float(discriminator_loss(torch.from_numpy(on_real), torch.from_numpy(on_fake)))
    spread = np.log(_sigmoid(on_real)).var() + np.log(_sigmoid(-on_fake)).var()
    yield (
        "jensen_shannon",
        Metric(
            value=(value + math.log(4)) / 2,
            unit="nats",
            kind="lower_bound",
            standard_error=float(math.sqrt(spread / len(real)) / 2),
        ),
    )


def _likeness(run: Run) -> Iterator[tuple[str, Metric]]:
    """How samples compare with test rows, dimension by dimension and row by row."""
    test = torch.from_numpy(_spread(run.splits.test, HELD_OUT_ROWS)).flatten(1).double()
    fake = _samples(run.model, HELD_OUT_ROWS, run.recipe.seed, TEST).flatten(1).double()
    for name, of in (("mean", torch.mean), ("std", torch.std)):
        off = (of(fake, dim=0) - of(test, dim=0)).square().mean().sqrt()
        yield f"{name}_error", Metric(value=float(off), unit="data units, RMS", kind="statistic")
    # Samples much nearer to training rows than test rows are would be copies.
    for name, rows in (("samples", fake), ("test", test)):
        yield f"nearest_train_{name}", _mean(_nearest(rows, run.splits.train), "data units", "statistic")


def _nearest(rows: Array, train: Rows) -> Floats:
    """Euclidean distance of each row to the nearest training row, (N,)."""
    known = torch.from_numpy(train).flatten(1).double()
    nearest = [torch.cdist(part, known).min(dim=1).values for part in rows.split(256)]
    return torch.cat(nearest).numpy()


def _mean(values: Floats, unit: str, kind: str, k: int | None = None) -> Metric:
    error = float(values.std(ddof=1) / math.sqrt(len(values))) if len(values) > 1 else None
    return Metric(value=float(values.mean()), unit=unit, kind=kind, k=k, standard_error=error)


def _sigmoid(logits: Floats) -> Floats:
    return 1 / (1 + np.exp(-logits))


def _log_mean_exp(log_w: Floats) -> Floats:
    return importance_bound(torch.from_numpy(log_w)).numpy()


def _by_chunks(score: Callable[[Array], Array], x: Array) -> Floats:
    """A number for each row, (N,), float64, not all rows at once."""
    return torch.cat([score(part) for part in x.split(CHUNK)]).double().numpy()


def _log_weights(vae: VAE, x: Array, k: int, use: int) -> Floats:
    """K importance draws for each row, (N, K), in nats; noise by the address (use, chunk)."""
    chunks = []
    for i, part in enumerate(x.split(max(1, CHUNK // k))):
        eps = torch.randn(len(part), k, vae.latent.size, generator=generator(use, i))
        chunks.append(vae.log_weights(part, eps).double())
    return torch.cat(chunks).numpy()


def _spread(rows: Rows, most: int) -> Rows:
    """At most so many rows, taken evenly: test files may be sorted by class."""
    return rows[np.linspace(0, len(rows) - 1, min(most, len(rows))).astype(int)]


def _samples(model: Model, n: int, *address: int) -> Array:
    """The model's samples, (n, *shape); which ones is said by the address."""
    assert model.latent is not None
    z = _prior_noise(model.latent.prior, (n, *model.latent.shape), generator(*address))
    return torch.cat([model.decode(part) for part in z.split(CHUNK)])


def _prior_noise(law: Law, shape: tuple[int, ...], noise: torch.Generator) -> Array:
    if law == "standard_normal":
        return torch.randn(shape, generator=noise)
    u = torch.rand(shape, generator=noise, dtype=torch.float64)
    return (torch.logit(u, eps=1e-12) if law == "logistic" else u).float()


# Pictures --------------------------------------------------------------------------------------------------


def _pictures(run: Run) -> Iterator[tuple[str, Image]]:
    """File names and images: samples, reconstructions where there is a posterior, the training's curve."""
    space, samples = run.model.data, _samples(run.model, 4096, run.recipe.seed, PICTURE).numpy()
    if space.display is not None:
        yield "samples", pictures.grid(samples[:64], space.display, columns=8)
        if run.model.grades.latents == "posterior":
            yield "reconstructions", _reconstructions(run, space.display)
    else:
        yield "samples", _plane(run, samples)
    yield "curve", _curve(run)


def _reconstructions(run: Run, display: tuple[float, float]) -> Image:
    """Sixteen test rows, and below each what the model makes of its code; twice."""
    rows = _spread(run.splits.test, 32)
    again = run.model.decode(run.model.encode(torch.from_numpy(rows))[0]).numpy()
    lines = np.concatenate([rows[:16], again[:16], rows[16:], again[16:]])
    return pictures.grid(lines, display, columns=16)


def _plane(run: Run, samples: Rows) -> Image:
    """Test rows and samples by their first two dimensions; where there are no others, the density too."""
    test = run.splits.test.reshape(len(run.splits.test), -1)
    if test.shape[1] == 1:
        raise Mistake(f"{run.recipe.name}: rows of one dimension are not drawn")
    box = pictures.window(test[:, :2])
    rows = pictures.scatter(_spread(test, len(samples))[:, :2], box)
    drawn = pictures.scatter(samples.reshape(len(samples), -1)[:, :2], box, pictures.LINES[1])
    panels = {"test rows": rows, "samples": drawn}
    if run.model.data.shape == (2,) and run.model.grades.density == "exact":
        points = torch.from_numpy(pictures.mesh(box, 320)).float()
        panels["density"] = pictures.density(_by_chunks(run.model.log_weight, points))
    return pictures.beside(panels)


def _curve(run: Run) -> Image:
    with (run.folder / LOG).open(newline="") as file:
        rows = list(csv.DictReader(file))
    names = [name for name in rows[0] if name not in NOT_DRAWN]
    return pictures.curves({name: [float(row[name]) for row in rows] for name in names}, "epoch")
