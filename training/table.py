"""The table of certificates: how far every exported graph is from its model in float64, in Markdown.

It is computed from manifests alone. What is not known of a graph is asked for, never left empty.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError

from models.manifest import FILE_NAME, Check, EntryName, EntryPoint, Format, GraphFile, Manifest
from training import Mistake
from training.card import table
from training.certificate import COUNTS, parity_name
from training.folder import versions
from training.recipe import published, read

HEAD: Final = (
    "family",
    "model",
    "epochs",
    "direction",
    "format",
    "deviation",
    "allowed",
    "unit",
    "size, kB",
    "export, s",
)


def page(artifacts: Path) -> str:
    """The newest version of every model in a folder of artifacts, in Markdown.

    Raises:
        Mistake: if there is none, a manifest is of another version, or something is not known of a graph.
    """
    manifests = [_newest(home) for home in sorted(artifacts.glob("*")) if versions(home)]
    if not manifests:
        raise Mistake(f"{artifacts} holds no artifacts; make some with `python -m training export RUN`")
    manifests.sort(key=lambda manifest: (manifest.family, manifest.name))
    rows = [row for manifest in manifests for row in _rows(manifest)]
    return f"# Certificates\n\n{_preface(manifests, len(rows))}\n\n{table(HEAD, rows)}\n"


def _preface(manifests: Iterable[Manifest], graphs: int) -> str:
    models = list(manifests)
    checks = sum(len(manifest.certificate.checks) for manifest in models)
    counts = ", ".join(str(count) for count in COUNTS)
    tools = models[-1].provenance.tools
    named = ", ".join(f"{name} {tools[name]}" for name in ("torch", "onnx", "onnxruntime") if name in tools)
    return (
        f"{graphs} graphs of {len(models)} models; the {checks} checks of their certificates all hold.\n\n"
        "*Deviation* is the largest absolute difference from the same model in float64, on 64 typical rows "
        f"in batches of {counts}; every graph was traced with 2 rows. *Epochs* says how long the model was "
        "trained for the table, and of how many where its recipe asks for more. *Export* is the "
        f"processor time to write the file, on one thread, with {named}. Made by `python -m training table`."
    )


def _rows(manifest: Manifest) -> Iterator[tuple[str, ...]]:
    for entry, point in manifest.entry_points.items():
        for form, file in point.files.items():
            check = _worst(manifest, entry, form)
            yield (
                manifest.family,
                manifest.name,
                _epochs(manifest),
                _direction(entry, point),
                form,
                f"{check.value:.1e}",
                f"{check.tolerance:.1e}",
                check.unit,
                f"{file.size_bytes / 1000:.0f}",
                f"{_export_s(manifest, file):.1f}",
            )


def _direction(entry: EntryName, point: EntryPoint) -> str:
    sides = (", ".join(tensor.name for tensor in tensors) for tensors in (point.inputs, point.outputs))
    return f"{entry}: " + " → ".join(sides)


def _worst(manifest: Manifest, entry: EntryName, form: Format) -> Check:
    """The output that deviates most."""
    outputs = manifest.entry_points[entry].outputs
    names = {parity_name(entry, tensor, form) for tensor in outputs}
    checks = [check for check in manifest.certificate.checks if check.name in names]
    if not checks:
        raise Mistake(f"{_called(manifest)} has no deviation of {entry}.{form}: it was not exported here")
    return max(checks, key=lambda check: check.value)


def _export_s(manifest: Manifest, file: GraphFile) -> float:
    if file.export_s is None:
        raise Mistake(f"{_called(manifest)} does not say how long {file.path} took; export it again")
    return file.export_s


def _epochs(manifest: Manifest) -> str:
    """How many epochs were trained, and of how many, where the published recipe has more."""
    trained = _epochs_of(manifest.provenance.recipe)
    asked = {path.stem: path for path in published()}.get(manifest.name)
    most = trained if asked is None else read(asked).fit.epochs
    return f"{trained} of {most}" if trained < most else str(trained)


def _epochs_of(recipe: dict[str, Any]) -> int:
    return int(recipe["fit"]["epochs"])


def _called(manifest: Manifest) -> str:
    return f"{manifest.name} version {manifest.version}"


def _newest(home: Path) -> Manifest:
    path = versions(home)[-1] / FILE_NAME
    try:
        return Manifest.model_validate_json(path.read_bytes())
    except ValidationError as error:
        raise Mistake(f"{path} is of another version of Pushforward; export it again") from error
