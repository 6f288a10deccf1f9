"""MODEL_CARD.md: the manifest, for people."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from typing import Any, Final

from models.manifest import DataSpace, Density, Generator, Latents, Manifest, Metric, Support, Verb

CARD: Final = "MODEL_CARD.md"
STRIP: Final = "directions.png"

_LATENTS: Final[dict[Latents, str]] = {
    "bijection": "yes: encode and decode undo each other",
    "posterior": "yes: encode gives mean and standard deviation of q(z|x)",
    "code": "yes, one way: decode takes them; there may be no way back from data",
    "none": "no",
}
_DENSITY: Final[dict[Density, str]] = {
    "exact": "yes: exact log p(x)",
    "lower_bound": "a lower bound of log p(x), tighter with more samples k",
    "estimate": "an estimate of log p(x)",
    "unnormalised": "up to a constant: only differences mean something",
    "none": "no",
}
_GENERATOR: Final[dict[Generator, str]] = {
    "one_shot": "yes: one pass",
    "sequential": "yes: one pass for each dimension",
    "chain": "yes: a Markov chain, approximately",
    "none": "no",
}
_ROWS: Final[dict[Verb, str]] = {
    "encode": "inputs",
    "decode": "latents",
    "reconstruct": "inputs",
    "loglik": "inputs",
}
_SEEDS: Final[dict[Verb, str]] = {
    "sample": '"n": 4, "seed": 7',
    "interpolate": '"start": {"seed": 1, "index": 0}, "end": {"seed": 1, "index": 1}, "steps": 5',
}
# Rows of more numbers than this are not printed; such a call sends a file.
INLINE: Final = 100
URL: Final = "http://127.0.0.1:8000"


def card(manifest: Manifest) -> str:
    """The model card, in Markdown."""
    sections = [_head, _grades, _spaces, _numbers, _laws, _calls, _source]
    if manifest.directions:
        sections.insert(sections.index(_calls), _directions)
    return "\n\n".join(section(manifest) for section in sections) + "\n"


def _head(manifest: Manifest) -> str:
    title = manifest.provenance.recipe.get("title", "")
    family = f"Family: {manifest.family}. {manifest.paper}."
    return f"# {manifest.name}, version {manifest.version}\n\n{title}\n\n{family}"


def _grades(manifest: Manifest) -> str:
    grades = manifest.grades
    return "## What it can do\n\n" + table(
        ("Latents?", "Density?", "Generator?"),
        [(_LATENTS[grades.latents], _DENSITY[grades.density], _GENERATOR[grades.generator])],
    )


def _spaces(manifest: Manifest) -> str:
    data, latent = manifest.data, manifest.latent
    lines = [f"Data: rows of shape {list(data.shape)}, {data.dtype}, {_support(data.support)}."]
    if data.levels:
        lines.append(f"Values are quantised to {data.levels} levels, {data.bin_width:g} apart.")
    if latent:
        lines.append(f"Latents: shape {list(latent.shape)}, {latent.prior.replace('_', ' ')} prior.")
    entries = [
        (name, _tensors(entry.inputs), _tensors(entry.outputs), ", ".join(entry.files))
        for name, entry in manifest.entry_points.items()
    ]
    points = table(("entry point", "takes", "gives", "formats"), entries)
    return "## Spaces\n\n" + "\n".join(lines) + "\n\n" + points


def _numbers(manifest: Manifest) -> str:
    metrics = manifest.provenance.metrics
    if not metrics:
        return "## Numbers\n\nNone came with this model."
    rows = [(name, _value(metric), metric.unit, _kind(metric)) for name, metric in metrics.items()]
    return "## Numbers\n\nOn test rows.\n\n" + table(("what", "value", "unit", "kind"), rows)


def _laws(manifest: Manifest) -> str:
    rows = [
        (check.name, f"{check.value:.2g}", f"{check.tolerance:.2g}", check.unit, check.rows)
        for check in manifest.certificate.checks
    ]
    return "## Certificate\n\nMeasured on these very files; all within tolerance.\n\n" + table(
        ("law", "measured", "allowed", "unit", "rows"), rows
    )


def _directions(manifest: Manifest) -> str:
    rows = [
        (
            name,
            direction.attribute,
            direction.unit,
            f"{direction.correlation:.2f}",
            ", ".join(f"{attribute:.3g}" for _, attribute in direction.effect),
            direction.judge,
        )
        for name, direction in manifest.directions.items()
    ]
    strengths = ", ".join(f"{strength:g}" for strength, _ in next(iter(manifest.directions.values())).effect)
    drawn = f"\n\nA few held-out rows along each: ![]({STRIP})" if is_picture(manifest.data) else ""
    example = json.dumps({"directions": {next(iter(manifest.directions)): 1.5}})
    return (
        "## Directions\n\n"
        f"Calls that decode take strengths by name, such as `{example}`; codes are moved before they are "
        "decoded. On held-out rows:\n\n"
        + table(
            ("name", "attribute", "strength 1", "correlation", f"mean attribute at {strengths}", "told by"),
            rows,
        )
        + drawn
    )


def is_picture(data: DataSpace) -> bool:
    """Whether rows are pictures, grey or in colour."""
    return data.display is not None and len(data.shape) == 3 and data.shape[0] in (1, 3)


def _calls(manifest: Manifest) -> str:
    calls = "\n".join(_call(manifest, verb) for verb in manifest.verbs)
    note = "`rows.npy` holds rows as `numpy.save` writes them.\n\n" if "rows.npy" in calls else ""
    return f"## How to call it\n\n{note}```sh\n{calls}\n```"


def _call(manifest: Manifest, verb: Verb) -> str:
    if verb in _SEEDS:
        return _json_call(manifest, verb, _SEEDS[verb])
    rows = _rows(manifest, "latent" if verb == "decode" else "data")
    if rows is not None:
        return _json_call(manifest, verb, f'"{_ROWS[verb]}": {rows}')
    return (
        f"curl -s '{URL}/{verb}?model={manifest.name}' -H 'Content-Type: application/x-npy' \\\n"
        "  --data-binary @rows.npy"
    )


def _json_call(manifest: Manifest, verb: Verb, body: str) -> str:
    return (
        f"curl -s {URL}/{verb} -H 'Content-Type: application/json' \\\n"
        f'  -d \'{{"model": "{manifest.name}", {body}}}\''
    )


def _source(manifest: Manifest) -> str:
    source = manifest.provenance
    tools = ", ".join(f"{name} {version}" for name, version in sorted(source.tools.items()))
    recipe = json.dumps(source.recipe, indent=2, ensure_ascii=False)
    seed = "" if source.seed is None else f", seed {source.seed}"
    return (
        f"## Where it comes from\n\nMade {source.created_at}{seed}, with {tools}.\n\n```json\n{recipe}\n```"
    )


def _rows(manifest: Manifest, role: str) -> str | None:
    """One row that an entry point is known to take, as JSON; ``None`` where it is too long to read."""
    for name, entry in manifest.entry_points.items():
        for tensor in entry.inputs:
            if tensor.role == role and math.prod(tensor.row_shape) <= INLINE:
                return json.dumps(_short(manifest.probes[name].inputs[tensor.name][:1]))
    return None


def _short(values: Any) -> Any:
    """The same numbers to four digits, whole ones without a point."""
    if isinstance(values, list):
        return [_short(value) for value in values]
    return int(values) if values == int(values) else float(f"{values:.4g}")


def _support(supports: Sequence[Support]) -> str:
    if len(set(supports)) > 1:
        return "a support for each dimension (see the manifest)"
    low, high = supports[0].low, supports[0].high
    kind = "whole numbers" if supports[0].lattice else "values"
    if low is None and high is None:
        return f"{kind} of the real line"
    return f"{kind} from {'-∞' if low is None else f'{low:g}'} to {'∞' if high is None else f'{high:g}'}"


def _tensors(tensors: Iterable[Any]) -> str:
    return ", ".join(f"{t.name} {t.dtype} [{', '.join(map(str, t.shape))}]" for t in tensors)


def _value(metric: Metric) -> str:
    error = "" if metric.standard_error is None else f" ± {metric.standard_error:.2g}"
    return f"{metric.value:.4g}{error}"


def _kind(metric: Metric) -> str:
    return metric.kind if metric.k is None else f"{metric.kind}, k = {metric.k}"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    cells = ([cell.replace("|", "\\|") for cell in row] for row in rows)
    return "\n".join("| " + " | ".join(line) + " |" for line in (head, ["---"] * len(head), *cells))
