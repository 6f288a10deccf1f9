"""From a finished run to an artifact: every entry point in both formats, measured and described."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Final

from safetensors.torch import save

from models.base import Model
from models.manifest import Calibration, EntryName, Format, Manifest
from training import directions
from training.artifact import (
    calibration,
    draw_samples,
    entry_points,
    one_thread,
    probes,
    provenance,
    publish,
    staged,
    step,
)
from training.certificate import certify, demand
from training.evaluate import held_out_scores
from training.graphs import RUN, SUFFIX, WRITE
from training.run import Run
from training.subject import Subject, draws

WEIGHTS: Final = "weights.safetensors"


def export(run: Run, artifacts: Path) -> Path:
    """Make the next version of a model from a finished, evaluated run.

    Nothing is left behind when it fails: the folder is filled beside its place and moved there whole.

    Args:
        artifacts: holds a folder for each model, which holds one for each version.

    Returns:
        The artifact's folder, ``artifacts/<name>/<version>``.

    Raises:
        Mistake: if the run has not been evaluated, a graph cannot be exported, or one breaks a law; the
            sentence names the law, its value and its tolerance.
    """
    recipe, metrics = run.recipe, run.metrics
    with one_thread(), staged(artifacts / recipe.name) as folder:
        seconds = {entry: _write(run.model, entry, folder) for entry in run.model.signatures()}
        subject = Subject(
            data=run.model.data,
            latent=run.model.latent,
            grades=run.model.grades,
            signatures=run.model.signatures(),
            graphs={
                entry: {form: RUN[form](folder / f"{entry}{SUFFIX[form]}") for form in forms}
                for entry, forms in seconds.items()
            },
            examples=run.splits.test,
            model=run.model,
        )
        with step("measure its laws"):
            certificate = certify(subject)
            demand(certificate, recipe.name)
        with step("score held-out rows"):
            held_out = _held_out(run)
        with step("save weights and samples"):
            state = run.model.state_dict()
            (folder / WEIGHTS).write_bytes(save({key: value.clone() for key, value in state.items()}))
            draw_samples(subject, folder)
        found = directions.of_recipe(recipe.directions, subject, run.splits)
        labels = None if run.splits.labels is None else run.splits.labels["test"]
        directions.draw(subject, found, run.splits.test, labels, folder)
        source = provenance(recipe.model_dump(mode="json"), recipe.seed, metrics)
        points, probed = entry_points(subject, folder, certificate, seconds), probes(subject)
        return publish(
            folder,
            lambda version: Manifest(
                name=recipe.name,
                version=version,
                family=run.model.family,
                paper=run.model.paper,
                data=subject.data,
                latent=subject.latent,
                grades=subject.grades,
                entry_points=points,
                probes=probed,
                certificate=certificate,
                calibration=held_out,
                directions=found,
                provenance=source,
            ),
        )


def _write(model: Model, entry: EntryName, folder: Path) -> dict[Format, float]:
    """Write an entry point in every format; the processor's seconds for each, whatever else it had to do."""
    example = draws(model.data, model.latent, model.signatures()[entry], count=2)
    seconds: dict[Format, float] = {}
    for form, write in WRITE.items():
        with step(f"write {entry} as {form}"):
            started = time.process_time()
            write(model, entry, example, folder / f"{entry}{SUFFIX[form]}")
            seconds[form] = time.process_time() - started
    return seconds


def _held_out(run: Run) -> Calibration | None:
    if run.model.grades.density == "none":
        return None
    return calibration(*held_out_scores(run))
