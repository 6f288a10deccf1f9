"""From somebody else's graphs to an artifact: described in TOML, and measured as far as it can be.

Without the model itself there is no yardstick in float64 and no Jacobian; all other laws are tried on the
graphs. Loading a TorchScript file can run code, so pack only what you trust.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnxruntime.capi.onnxruntime_pybind11_state as ort

from models.base import Signature
from models.manifest import Calibration, EntryName, Format, Manifest, Tensor
from training import Mistake
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
from training.foreign import Value, adopt
from training.graphs import RUN, SUFFIX, Graph
from training.spec import EntrySpec, Port, Spec, read, sentences
from training.subject import Subject, chunks, draws

# Importance samples behind a calibration score of a log_weight that takes noise.
DRAWS: Final = 64
# What ONNX Runtime and TorchScript raise when a graph cannot be loaded or run.
FAILURES: Final = (
    RuntimeError,
    ort.Fail,
    ort.InvalidArgument,
    ort.InvalidGraph,
    ort.InvalidProtobuf,
    ort.NotImplemented,
    ort.RuntimeException,
)


def pack(spec_path: Path, artifacts: Path) -> Path:
    """Make the next version of a model from graphs that were exported elsewhere.

    Args:
        spec_path: the description.
        artifacts: holds a folder for each model, which holds one for each version.

    Returns:
        The artifact's folder, ``artifacts/<name>/<version>``.

    Raises:
        Mistake: if the description is wrong, a file does not fit it, or a graph breaks a law.
    """
    spec, source = read(spec_path)
    with one_thread(), staged(artifacts / spec.name) as folder:
        with step("read the graphs"):
            taken = {entry: _take_over(spec, entry, spec_path.parent, folder) for entry in spec.entries}
        subject = Subject(
            data=spec.data,
            latent=spec.latent,
            grades=spec.grades,
            signatures={entry: signature for entry, (signature, _) in taken.items()},
            graphs={entry: graphs for entry, (_, graphs) in taken.items()},
            examples=_examples(spec, spec_path.parent),
        )
        with step("measure its laws"):
            certificate = certify(subject)
            demand(certificate, spec.name)
        held_out = _held_out(subject)
        draw_samples(subject, folder)
        origin = provenance(source, None, spec.metrics)
        points, probed = entry_points(subject, folder, certificate), probes(subject)

        def describe(version: str) -> Manifest:
            with sentences(str(spec_path)):
                return Manifest(
                    name=spec.name,
                    version=version,
                    family=spec.family,
                    paper=spec.paper,
                    data=spec.data,
                    latent=spec.latent,
                    grades=spec.grades,
                    entry_points=points,
                    probes=probed,
                    certificate=certificate,
                    calibration=held_out,
                    provenance=origin,
                )

        return publish(folder, describe)


def _take_over(
    spec: Spec, entry: EntryName, home: Path, folder: Path
) -> tuple[Signature, dict[Format, Graph]]:
    """Copy an entry point's files into the artifact, and read what they say of it."""
    described = spec.entries[entry]
    values: dict[str, Value] = {}
    graphs: dict[Format, Graph] = {}
    for form, name in described.files.items():
        source, target = home / name, folder / f"{entry}{SUFFIX[form]}"
        if not source.is_file():
            raise Mistake(f"{entry}: there is no file {source}")
        if form == "onnx":
            values = adopt(source, target, described, f"{entry}: {name}")
        else:
            shutil.copyfile(source, target)
        with _blame(f"{entry}: {name}"):
            graphs[form] = _explained(f"{entry}: {name}", RUN[form](target))
    with sentences(entry):
        return _signature(spec, entry, described, values), graphs


def _signature(spec: Spec, entry: EntryName, described: EntrySpec, values: dict[str, Value]) -> Signature:
    def tensor(name: str, port: Port) -> Tensor:
        shape = _row_shape(spec, f"{entry}.{name}", port, values.get(name))
        dtype = _dtype(f"{entry}.{name}", port, values.get(name))
        return Tensor(
            name=name, role=port.role, dtype=dtype, shape=("B", *shape), unit=port.unit, law=port.law
        )

    return Signature(
        inputs=tuple(tensor(*named) for named in described.inputs.items()),
        outputs=tuple(tensor(*named) for named in described.outputs.items()),
        cost=described.cost,
    )


def _row_shape(spec: Spec, what: str, port: Port, value: Value | None) -> tuple[int, ...]:
    """The shape that the role asks for, unless the file contradicts it."""
    found = value.row_shape if value else None
    wanted = _wanted_shape(spec, what, port)
    if wanted is None:
        if found is None or None in found:
            raise Mistake(f"{what} has rows of no known shape; give shape = [...]")
        return tuple(size for size in found if size is not None)
    if found is not None and not _fits(found, wanted):
        shown = ["?" if size is None else size for size in found]
        raise Mistake(
            f"{what} has rows of shape {shown} in the file; as {port.role} they have {list(wanted)}"
        )
    return wanted


def _wanted_shape(spec: Spec, what: str, port: Port) -> tuple[int, ...] | None:
    if port.role == "data":
        return spec.data.shape
    if port.role in ("latent", "std"):
        if spec.latent is None:
            raise Mistake(f"{what} is a {port.role}, and the description has no [latent]")
        return spec.latent.shape
    return port.shape if port.role == "noise" else ()


def _fits(found: tuple[int | None, ...], wanted: tuple[int, ...]) -> bool:
    return len(found) == len(wanted) and all(a in (None, b) for a, b in zip(found, wanted, strict=True))


def _dtype(what: str, port: Port, value: Value | None) -> Any:
    told = value.dtype if value else None
    if told and port.dtype not in (None, told):
        raise Mistake(f"{what} is {told} in the file and {port.dtype} in the description")
    return told or port.dtype or ("int64" if port.role == "label" else "float32")


def _explained(what: str, graph: Graph) -> Graph:
    def run(inputs: Any) -> tuple[np.ndarray, ...]:
        with _blame(what):
            return graph(inputs)

    return run


@contextlib.contextmanager
def _blame(what: str) -> Iterator[None]:
    try:
        yield
    except FAILURES as error:
        line = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise Mistake(f"{what} does not run: {line}") from error


def _examples(spec: Spec, home: Path) -> np.ndarray | None:
    if spec.examples is None:
        return None
    path = home / spec.examples
    try:
        rows = np.load(path, allow_pickle=False)
    except (OSError, ValueError) as error:
        raise Mistake(f"examples: {path} cannot be read as .npy: {error}") from error
    if not isinstance(rows, np.ndarray) or rows.shape[1:] != spec.data.shape or len(rows) < 1:
        shape = list(getattr(rows, "shape", ()))
        raise Mistake(f"examples: {path} has shape {shape}; allowed is {['N', *spec.data.shape]}")
    if not np.isfinite(rows).all():
        raise Mistake(f"examples: {path} holds numbers that are not finite; allowed are none")
    return rows.astype(spec.data.dtype)


def _held_out(subject: Subject) -> Calibration | None:
    """Scores of the examples; none for a density of each class, which has no score of its own."""
    if subject.examples is None or "log_weight" not in subject.graphs:
        return None
    roles = {tensor.role for tensor in subject.signatures["log_weight"].inputs}
    if "label" in roles:
        return None
    k = DRAWS if "noise" in roles else 1
    log_w = np.stack([_scores(subject, subject.examples, draw) for draw in range(k)])
    highest = log_w.max(0)
    return calibration(highest + np.log(np.exp(log_w - highest).mean(0)), k)


def _scores(subject: Subject, rows: np.ndarray, draw: int) -> np.ndarray:
    signature = subject.signatures["log_weight"]
    drawn = draws(subject.data, subject.latent, signature, len(rows), seed=draw)
    inputs = tuple(
        rows.astype(tensor.dtype) if tensor.role == "data" else noise
        for tensor, noise in zip(signature.inputs, drawn, strict=True)
    )
    return np.concatenate([subject.run("log_weight", chunk)[0] for chunk in chunks(inputs)]).astype(float)
