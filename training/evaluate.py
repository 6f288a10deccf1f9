"""What a trained model is worth: numbers with their kind and unit on test rows, and pictures to look at.

What is measured follows from what the model gives. Test rows served neither to train nor to choose it.
"""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Callable, Iterator
from statistics import NormalDist
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from PIL.Image import Image
from torch import Tensor as Array

from models.base import Entry, Model
from models.flow import Flow
from models.gan import GAMES, GAN
from models.manifest import DataSpace, LatentSpace, Metric
from models.vae import VAE, importance_bound
from training import Mistake, gauges, pictures
from training.data import Rows
from training.factors import information_gaps
from training.fit import LOG
from training.objectives import MONITOR, Batch, generator
from training.recipe import AdversarialConfig
from training.run import EVALUATION, Run
from training.samples import CHUNK, samples, takes_classes

Floats = NDArray[np.float64]

TEST, CALIBRATION, PICTURE, FACTORS = 10, 11, 12, 13  # what noise is for, beside training
HELD_OUT_ROWS: Final = 1000
HELD_OUT_DRAWS: Final = 64
NOT_DRAWN: Final = frozenset({"epoch", "seconds", MONITOR, "valid_bits_per_dim"})
SMALLER: Final = (5,)  # importance samples of bounds beside that of all draws
PLACES: Final = 20  # of a manifold, across and up
WALKS, STEPS = 8, 12  # of an interpolation
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
    rows = _test(run, HELD_OUT_ROWS)
    with torch.inference_mode():
        if run.model.grades.density == "exact":
            return _by_chunks(run.model.log_weight, rows.x), 1
        if run.model.grades.density == "lower_bound":
            log_w = _log_weights(run.model, rows, HELD_OUT_DRAWS, CALIBRATION)
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
            yield from _played(run, run.model)
    if run.splits.factors is not None and run.model.grades.latents != "none":
        yield from information_gaps(_codes(run.model, _test(run)), run.splits.factors["test"])


def _exact(run: Run, flow: Flow) -> Iterator[tuple[str, Metric]]:
    log_p = _by_chunks(flow.log_weight, torch.from_numpy(run.splits.test))
    yield "log_likelihood", gauges.mean(log_p, "nats", "exact")
    if run.splits.truth is not None:
        best = run.splits.truth(run.splits.test.astype(np.float64))
        yield "ceiling", gauges.mean(best, "nats", "exact")
        # Paired, row by row: far less noise than the difference of two means.
        yield "gap_to_ceiling", gauges.mean(best - log_p, "nats", "exact")


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
    """The bounds that K draws give, all at beta = 1 however the model was trained, and the latents in use.

    Smaller K share the draws of the largest: L_K is the mean over as many groups of K as there are.
    """
    draws, test = run.recipe.evaluate.draws, _test(run)
    log_w = _log_weights(vae, test, draws, TEST)  # (N, draws)
    yield from _of_levels("elbo", log_w.mean(axis=1), vae.data, 1)
    for k in (*(k for k in SMALLER if k < draws), draws):
        groups = log_w[:, : draws // k * k].reshape(len(log_w), -1, k)
        yield from _of_levels(f"bound_{k}", _log_mean_exp(groups).mean(axis=1), vae.data, k)
    active = int((_locations(vae, test).var(axis=0) > ACTIVE).sum())
    yield "active_latents", Metric(value=active, unit=f"of {vae.latent.size} latents", kind="statistic")


def _of_levels(name: str, log_p: Floats, space: DataSpace, k: int) -> Iterator[tuple[str, Metric]]:
    """A lower bound for each row, in nats, and in bits per dimension where the data have levels."""
    width = space.size * math.log(space.bin_width) if space.levels else 0.0
    yield name, gauges.mean(log_p + width, "nats", "lower_bound", k)
    if space.levels is not None:
        bits = np.array([space.bits_per_dim(row) for row in log_p], dtype=float)
        label = "bits_per_dim" if k == 1 else f"bits_per_dim_{k}"
        yield label, gauges.mean(bits, "bits/dim", "upper_bound", k)


def _played(run: Run, gan: GAN) -> Iterator[tuple[str, Metric]]:
    """What the players, and others, can tell of samples: as many as test rows, of the same classes."""
    test, label = torch.from_numpy(run.splits.test), _labels(run, "test")
    fake = samples(gan, len(test), run.recipe.seed, TEST, label=label)
    told = (label,) if gan.classes is not None else ()
    on_real, on_fake = (_by_chunks(gan.discriminator, x, *told) for x in (test, fake))
    objective = run.recipe.objective
    judged = isinstance(objective, AdversarialConfig) and GAMES[objective.loss].probabilistic
    yield from (gauges.game if judged else gauges.duel)(on_real, on_fake)

    few = _spread(np.arange(len(test)), HELD_OUT_ROWS)
    train = torch.from_numpy(run.splits.train).flatten(1).double()
    yield from gauges.likeness(test[few].flatten(1).double(), fake[few].flatten(1).double(), train)
    scaled = [gan.scale(rows[few]).flatten(1).double() for rows in (test, fake)]
    yield from gauges.support(*scaled)
    yield from gauges.two_sample(*scaled)
    if run.splits.modes is not None:
        yield from gauges.coverage(fake.double().numpy(), run.splits.modes)
    if label is not None and gan.classes is not None:
        for name, rows in (("samples", fake), ("test rows", test)):
            known = _labels(run, "train")
            yield from gauges.obedience(rows[few].flatten(1).double(), label[few], train, known, name)
    if gan.encoder is not None:
        residual = gan.encode(test, *told)[1].double().numpy()
        yield "residual", gauges.mean(residual, "data units, mean absolute", "statistic")


def _labels(run: Run, split: str) -> Array | None:
    return None if run.splits.labels is None else torch.from_numpy(run.splits.labels[split])


def _log_mean_exp(log_w: Floats) -> Floats:
    return importance_bound(torch.from_numpy(log_w)).numpy()


def _by_chunks(score: Callable[..., Array], *x: Array) -> Floats:
    """A number for each row, (N,), float64, not all rows at once."""
    parts = zip(*(rows.split(CHUNK) for rows in x), strict=True)
    return torch.cat([score(*part) for part in parts]).double().numpy()


def _log_weights(vae: VAE, rows: Batch, k: int, use: int) -> Floats:
    """K importance draws for each row, (N, K), in nats; noise by the address (use, chunk)."""
    chunks = []
    for i, part in enumerate(_cut(rows, max(1, CHUNK // k))):
        eps = torch.randn(len(part.x), k, vae.latent.size, generator=generator(use, i))
        chunks.append(vae.log_weights(part.x, eps, part.label).double())
    return torch.cat(chunks).numpy()


def _locations(model: Model, rows: Batch) -> Rows:
    """The code that stands for each row, (N, *latent.shape)."""
    encode = Entry(model, "encode")
    parts = [encode(part.x, *_told(model, part.label))[0] for part in _cut(rows, CHUNK)]
    return torch.cat(parts).numpy()


def _codes(model: Model, rows: Batch) -> Floats:
    """The code of each row, flat, (N, Z), float64: where there is a posterior, a draw from it."""
    if not isinstance(model, VAE):
        return _locations(model, rows).reshape(len(rows.x), -1).astype(np.float64)
    codes = []
    for i, part in enumerate(_cut(rows, CHUNK)):
        eps = torch.randn(len(part.x), model.latent.size, generator=generator(FACTORS, i))
        codes.append(model.posterior.draw(model.infer(part.x, part.label), eps)[0])
    return torch.cat(codes).double().numpy()


def _test(run: Run, most: int | None = None) -> Batch:
    """Test rows and their classes; at most so many, taken evenly."""
    labels = None if run.splits.labels is None else run.splits.labels["test"]
    x, count = run.splits.test, most or len(run.splits.test)
    label = None if labels is None else torch.from_numpy(_spread(labels, count))
    return Batch(torch.from_numpy(_spread(x, count)), label)


def _cut(rows: Batch, size: int) -> Iterator[Batch]:
    """The same rows in pieces."""
    for start in range(0, len(rows.x), size):
        yield Batch(*(None if part is None else part[start : start + size] for part in rows))


def _spread(rows: Rows, most: int) -> Rows:
    """At most so many rows, taken evenly: test files may be sorted by class."""
    return rows[np.linspace(0, len(rows) - 1, min(most, len(rows))).astype(int)]


def _told(model: Model, label: Array | None) -> tuple[Array, ...]:
    """The classes of rows, for a model that takes them."""
    return (label,) if takes_classes(model) and label is not None else ()


# Pictures --------------------------------------------------------------------------------------------------


def _pictures(run: Run) -> Iterator[tuple[str, Image]]:
    """File names and images: samples, reconstructions where there is a posterior, the training's curve."""
    space = run.model.data

    def drawn(n: int) -> Rows:
        return samples(run.model, n, run.recipe.seed, PICTURE).numpy()

    if space.display is not None:
        # Classes come in turn: a column for each.
        columns = len(space.labels or ()) if takes_classes(run.model) else 8
        yield "samples", pictures.grid(drawn(8 * columns), space.display, columns)
        if "encode" in run.model.signatures():
            yield "interpolation", _interpolation(run, space.display)
            if run.model.grades.latents != "bijection":
                yield "reconstructions", _reconstructions(run, space.display)
                yield "traversal", _traversal(run, space.display)
        if _has_manifold(run.model):
            yield "manifold", _manifold(run, space.display)
    else:
        yield "samples", _plane(run, drawn(4096))
    yield "curve", _curve(run)


def _reconstructions(run: Run, display: tuple[float, float]) -> Image:
    """Sixteen test rows, and below each what the model makes of its code; twice."""
    rows = _test(run, 32)
    z = torch.from_numpy(_locations(run.model, rows))
    again = run.model.decode(z, *_told(run.model, rows.label)).numpy()
    x = rows.x.numpy()
    return pictures.grid(np.concatenate([x[:16], again[:16], x[16:], again[16:]]), display, columns=16)


def _interpolation(run: Run, display: tuple[float, float]) -> Image:
    """Walks between codes of test rows, on great circles under a normal prior; classes stay the start's."""
    rows, t = _test(run, 2 * WALKS), torch.linspace(0, 1, STEPS).reshape(-1, 1, 1)
    codes = torch.from_numpy(_locations(run.model, rows))
    assert run.model.latent is not None
    walk = _great_circle if run.model.latent.prior == "standard_normal" else torch.lerp
    z = walk(*codes.flatten(1).chunk(2), t).transpose(0, 1).reshape(-1, *codes.shape[1:])
    label = None if rows.label is None else rows.label[:WALKS].repeat_interleave(STEPS)
    return pictures.grid(run.model.decode(z, *_told(run.model, label)).numpy(), display, columns=STEPS)


def _great_circle(start: Array, end: Array, t: Array) -> Array:
    """Between codes, (N, Z), at each t, (S, 1, 1): (S, N, Z). Reference: White 2016, arXiv 1609.04468."""
    angle = torch.acos(torch.cosine_similarity(start, end).clamp(-0.999, 0.999))[:, None]
    return (torch.sin((1 - t) * angle) * start + torch.sin(t * angle) * end) / torch.sin(angle)


def _traversal(run: Run, display: tuple[float, float]) -> Image:
    """From the codes of two test rows, one latent after the other from -3 to 3: the busiest ones first."""
    both, steps = _test(run, 2), torch.linspace(-3, 3, 11)
    busiest = _locations(run.model, _test(run)).var(axis=0).argsort()[::-1][:8]
    z = torch.from_numpy(_locations(run.model, both)).repeat_interleave(len(steps), dim=0)
    told = [label.repeat_interleave(len(steps)) for label in _told(run.model, both.label)]
    lines = []
    for latent in busiest:
        moved = z.clone()
        moved[:, int(latent)] = steps.repeat(2)
        lines.append(run.model.decode(moved, *told))
    return pictures.grid(torch.cat(lines).numpy(), display, columns=2 * len(steps))


def _manifold(run: Run, display: tuple[float, float]) -> Image:
    """What a plane of latents decodes to, at the quantiles of the prior.

    Reference: Kingma & Welling 2014, arXiv 1312.6114, figure 4.
    """
    places = [NormalDist().inv_cdf((i + 0.5) / PLACES) for i in range(PLACES)]
    across, up = torch.tensor(places), torch.tensor(places[::-1])
    z = torch.stack([across.repeat(PLACES), up.repeat_interleave(PLACES)], dim=1)
    return pictures.grid(run.model.decode(z).numpy(), display, columns=PLACES)


def _has_manifold(model: Model) -> bool:
    plane = LatentSpace(shape=(2,), prior="standard_normal")
    return model.latent == plane and not takes_classes(model)


def _plane(run: Run, points: Rows) -> Image:
    """Test rows and samples by their first two dimensions; where there are no others, the density too."""
    test = run.splits.test.reshape(len(run.splits.test), -1)
    if test.shape[1] == 1:
        raise Mistake(f"{run.recipe.name}: rows of one dimension are not drawn")
    box = pictures.window(test[:, :2])
    rows = pictures.scatter(_spread(test, len(points))[:, :2], box)
    drawn = pictures.scatter(points.reshape(len(points), -1)[:, :2], box, pictures.LINES[1])
    panels = {"test rows": rows, "samples": drawn}
    if run.model.data.shape == (2,) and run.model.grades.density == "exact":
        cells = torch.from_numpy(pictures.mesh(box, 320)).float()
        panels["density"] = pictures.density(_by_chunks(run.model.log_weight, cells))
    return pictures.beside(panels)


def _curve(run: Run) -> Image:
    with (run.folder / LOG).open(newline="") as file:
        rows = list(csv.DictReader(file))
    names = [name for name in rows[0] if name not in NOT_DRAWN]
    return pictures.curves({name: [float(row[name]) for row in rows] for name in names}, "epoch")
