"""From a finished run to an artifact: every entry point in both formats, measured and described."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

from safetensors.torch import save

from models.base import Model
from models.manifest import Calibration, Direction, EntryName, Format, Manifest
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
    metrics = run.metrics  # first of all: without them the minutes of the graphs are lost
    with one_thread(), staged(artifacts / run.recipe.name) as folder:
        seconds = {entry: _write(run.model, entry, folder) for entry in run.model.signatures()}
        subject = _subject(run, folder, seconds)
        with step("measure its laws"):
            certificate = certify(subject)
            demand(certificate, run.recipe.name)
        with step("score held-out rows"):
            held_out = _held_out(run)
        with step("save weights and samples"):
            _save_weights(run.model, folder)
            draw_samples(subject, folder)
        found = _directions(run, subject, folder)
        source = provenance(run.recipe.model_dump(mode="json"), run.recipe.seed, metrics)
        points, probed = entry_points(subject, folder, certificate, seconds), probes(subject)
        return publish(
            folder,
            lambda version: Manifest(
                name=run.recipe.name,
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


def _subject(run: Run, folder: Path, forms: Mapping[EntryName, Iterable[Format]]) -> Subject:
    """The model and its graphs, as they lie in the folder."""
    model = run.model
    graphs = {
        entry: {form: RUN[form](folder / f"{entry}{SUFFIX[form]}") for form in of}
        for entry, of in forms.items()
    }
    signatures = model.signatures()
    return Subject(model.data, model.latent, model.grades, signatures, graphs, run.splits.test, model)


def _save_weights(model: Model, folder: Path) -> None:
    # safetensors refuses tensors that share their memory
    state = {name: value.clone() for name, value in model.state_dict().items()}
    (folder / WEIGHTS).write_bytes(save(state))


def _directions(run: Run, subject: Subject, folder: Path) -> dict[str, Direction]:
    """Those that the recipe asks for, found and drawn."""
    found = directions.of_recipe(run.recipe.directions, subject, run.splits)
    labels = None if run.splits.labels is None else run.splits.labels["test"]
    directions.draw(subject, found, run.splits.test, labels, folder)
    return found


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
