"""Rows that are hard to compute with, sent to every verb: the answer is right, or says that it is none."""

from __future__ import annotations

import copy
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from models.base import Model
from models.manifest import Calibration, Certificate, DataSpace, Manifest, Role
from models.noise import Address, draw
from tests.integration.conftest import NPY, Client, dump, load, serving
from tests.unit.models.zoo import ZOO, draw_rows, make
from training.artifact import entry_points, one_thread, probes, provenance, publish, staged
from training.certificate import finite
from training.graphs import RUN, SUFFIX, WRITE
from training.subject import Subject, draws

pytestmark = pytest.mark.anyio

Array = NDArray[Any]
DOCS: Final = Path(__file__).parents[2] / "docs/hard-rows.md"
MODELS: Final = {
    case.name: case
    for case in ZOO
    if case.name
    in {
        *("affine-plane", "affine-box", "additive-table", "multiplicative-table", "nice", "spline-plane"),
        *("planar-plane", "radial-table", "maf-table", "realnvp-pictures", "glow-line"),
        *("bernoulli-mlp", "gaussian-mlp", "categorical-mlp", "iaf-mlp", "gan-conv-encoder"),
    }
}
LARGEST: Final = 3.4028235e38
SEED: Final = 3
MEMBER: Final[dict[Role, str]] = {"latent": "latents", "std": "std", "residual": "residual"}
REACH: Final = 4.0  # of a spline, in standard deviations
# A row of such a size may have no answer in float32. Every smaller one of the support has.
BEYOND: Final = 1e30


@dataclass(frozen=True)
class Published:
    """A served model, and the same in float64, the yardstick."""

    name: str
    exact: Model
    rows: dict[str, Array]
    codes: dict[str, Array]

    def __call__(self, entry: str, *inputs: Array) -> tuple[Array, ...]:
        with torch.no_grad():
            outputs = getattr(self.exact, entry)(*(torch.from_numpy(rows).double() for rows in inputs))
        return tuple(t.numpy() for t in (outputs if isinstance(outputs, tuple) else (outputs,)))


def _spread(shape: tuple[int, ...], even: float, odd: float) -> Array:
    """A row of two numbers in turn."""
    return np.where(np.indices(shape).sum(0) % 2, odd, even)


def _everywhere(typical: Array) -> dict[str, Array]:
    """Rows that are hard for anything, (*shape) each, float32, by what makes them so."""
    shape, away = typical.shape[1:], typical - typical.mean(0)
    named = {
        "typical": typical[0],
        "10 ×": typical.mean(0) + 10 * away[0],
        "100 ×": typical.mean(0) + 100 * away[0],
        "1e30": _spread(shape, 1e30, 1e30),
        "±1e30": _spread(shape, 1e30, -1e30),
        "one 1e30": np.where(
            np.arange(typical[0].size).reshape(shape) == typical[0].size - 1, 1e30, typical[0]
        ),
        "largest": _spread(shape, LARGEST, LARGEST),
        "subnormal": _spread(shape, 1e-45, -1e-40),
        "-0.0": _spread(shape, -0.0, -0.0),
    }
    return {name: row.astype(np.float32) for name, row in named.items()}


def _hard_rows(data: DataSpace, typical: Array) -> dict[str, Array]:
    """The same, and both ends with the next float32 beside them: of the support, or of a spline's reach."""
    low, high = typical.mean(0) - REACH * typical.std(0), typical.mean(0) + REACH * typical.std(0)
    if data.support[0].low is not None:
        ends = np.array([(s.low, s.high) for s in data.support]).T
        low, high = (np.resize(end, data.size).reshape(data.shape) for end in ends)
    rows = _everywhere(typical)
    for name, end in (("low", low.astype(np.float32)), ("high", high.astype(np.float32))):
        below, above = (np.nextafter(end, np.float32(way)) for way in (-np.inf, np.inf))
        rows |= {name: end, f"{name} -": below, f"{name} +": above}
    return rows


def _publish(name: str, root: Path) -> Published:
    """Write a model's TorchScript graphs, which take a tenth of the time of ONNX, and a manifest."""
    exact = make(MODELS[name])
    model = copy.deepcopy(exact)
    for parameter in model.parameters():  # and not buffers, which training keeps in float64
        parameter.data = parameter.data.float()
    signatures, typical = model.signatures(), draw_rows(MODELS[name].data, 64).numpy()
    with one_thread(), staged(root / name) as folder:
        for entry, signature in signatures.items():
            example = draws(model.data, model.latent, signature, 2)
            WRITE["torchscript"](model, entry, example, folder / f"{entry}{SUFFIX['torchscript']}")
        subject = Subject(
            data=model.data,
            latent=model.latent,
            grades=model.grades,
            signatures=signatures,
            graphs={
                entry: {"torchscript": RUN["torchscript"](folder / f"{entry}{SUFFIX['torchscript']}")}
                for entry in signatures
            },
            examples=typical.astype(np.float32),
            model=model,
        )
        certificate = Certificate(checks=tuple(finite(subject)))
        published = Published(name, exact, _hard_rows(model.data, typical), _codes(model))
        publish(
            folder,
            lambda version: Manifest(
                name=name,
                version=version,
                family=model.family,
                paper=model.paper,
                data=model.data,
                latent=model.latent,
                grades=model.grades,
                entry_points=entry_points(subject, folder, certificate),
                probes=probes(subject),
                certificate=certificate,
                calibration=_calibration(published, typical),
                provenance=provenance({}, None, {}),
            ),
        )
    return published


def _codes(model: Model) -> dict[str, Array]:
    assert model.latent is not None
    return _everywhere(np.random.default_rng(0).normal(size=(64, *model.latent.shape)))


def _calibration(model: Published, typical: Array) -> Calibration | None:
    if model.exact.grades.density != "exact":
        return None
    return Calibration(scores=tuple(sorted(model("log_weight", typical)[0].tolist())))


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Published]]:
    root = tmp_path_factory.mktemp("hard")
    return root, {name: _publish(name, root) for name in MODELS}


@pytest.fixture(scope="module")
async def client(published: tuple[Path, dict[str, Published]]) -> AsyncIterator[Client]:
    async with serving(published[0], runtime="torchscript", max_batch_rows=4) as shared:
        yield shared


@pytest.fixture(params=MODELS)
def model(request: pytest.FixtureRequest, published: tuple[Path, dict[str, Published]]) -> Published:
    return published[1][request.param]


# Asking -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Answered:
    """What came back for one row: a word for it, and the arrays, if any."""

    word: str
    arrays: dict[str, Array]


async def _ask(client: Client, verb: str, **fields: Any) -> Answered:
    """Send one row as JSON; where it is one array, as npy too, which must say the same."""
    answer = await client.post(f"/{verb}", json=fields)
    (member,) = {"inputs", "latents"} & fields.keys() or {""}
    if member:
        query = {name: value for name, value in fields.items() if name != member}
        same = await client.post(
            f"/{verb}",
            content=dump(np.array(fields[member], np.float32)),
            params=query,
            headers={"Content-Type": NPY, "Accept": NPY},
        )
        assert same.status_code == answer.status_code
    assert b"NaN" not in answer.content
    assert b"Infinity" not in answer.content
    if answer.status_code != 200:
        assert answer.json()["code"] in ("invalid_input", "row_failed", "capability_absent")
        absent = answer.json()["code"] == "capability_absent"
        return Answered("absent" if absent else f"{answer.status_code}", {})
    body = answer.json()
    arrays = {
        name: np.array(body[name], np.float64)
        for name in ("log_likelihood", "latents", "std", "residual", "samples")
        if name in body
    }
    if member:
        main = arrays[{"loglik": "log_likelihood", "encode": "latents"}.get(verb, "samples")]
        binary = load(same.content)
        # A null of JSON is NaN or -inf there, as the status in a header says.
        np.testing.assert_array_equal(
            np.where(np.isfinite(binary), binary, np.nan), main.astype(binary.dtype)
        )
    return Answered(body["status"][0] if verb == "loglik" else "ok", arrays)


def _within(found: Array, exact: Array, part: float) -> None:
    """All numbers are there, and right to a part of the largest."""
    assert np.isfinite(found).all()
    assert np.abs(found - exact).max() <= part * max(1.0, float(np.abs(exact).max()))


def _inside(data: DataSpace, row: Array) -> bool:
    low = [-np.inf if s.low is None else s.low for s in data.support]
    high = [np.inf if s.high is None else s.high for s in data.support]
    flat = row.astype(np.float64).ravel()
    whole = not data.support[0].lattice or bool((flat == np.rint(flat)).all())
    return bool(((flat >= low) & (flat <= high)).all()) and whole


async def _loglik(client: Client, model: Published, row: Array) -> Answered:
    estimated = model.exact.grades.density == "lower_bound"
    draw_of = {"k": 1, "seed": SEED} if estimated else {}
    answered = await _ask(client, "loglik", model=model.name, inputs=[row.tolist()], **draw_of)
    if answered.word in ("ok", "extrapolating"):
        noise = draw([(Address(SEED, stream=1), 1)], "standard_normal", model.exact.latent.shape)
        (exact,) = model("log_weight", row[None], *[noise] * estimated)
        _within(answered.arrays["log_likelihood"], exact, 1e-4 if estimated else 1e-6)
    return answered


async def _encode(client: Client, model: Published, row: Array) -> Answered:
    answered = await _ask(client, "encode", model=model.name, inputs=[row.tolist()])
    if answered.word == "ok":
        outputs = model.exact.signatures()["encode"].outputs
        for tensor, exact in zip(outputs, model("encode", row[None]), strict=True):
            _within(answered.arrays[MEMBER[tensor.role]], exact, 1e-4)
    return answered


async def _reconstruct(client: Client, model: Published, row: Array) -> Answered:
    answered = await _ask(client, "reconstruct", model=model.name, inputs=[row.tolist()])
    if answered.word == "ok":
        bijective = model.exact.grades.latents == "bijection"
        exact = row[None] if bijective else model("decode", model("encode", row[None])[0])[0]
        if bijective:
            np.testing.assert_allclose(answered.arrays["samples"], exact, rtol=1e-2, atol=0.2)
        else:
            _within(answered.arrays["samples"], exact, 1e-4)
    return answered


async def _decode(client: Client, model: Published, code: Array) -> Answered:
    answered = await _ask(client, "decode", model=model.name, latents=[code.tolist()])
    if answered.word == "ok":
        _within(answered.arrays["samples"], model("decode", code[None])[0], 1e-4)
    return answered


async def _interpolate(client: Client, model: Published, code: Array) -> Answered:
    end = model.codes["typical"]
    ends = {"start": {"latent": code.tolist()}, "end": {"latent": end.tolist()}}
    answered = await _ask(client, "interpolate", model=model.name, steps=3, path="lerp", **ends)
    if answered.word == "ok":
        middle = (code.astype(np.float64) + end.astype(np.float64)) / 2
        walked = np.stack([code, middle.astype(np.float32), end])
        for found, exact in zip(answered.arrays["samples"], model("decode", walked)[0], strict=True):
            _within(found, exact, 1e-4)
    return answered


VERBS: Final = {
    "loglik": _loglik,
    "encode": _encode,
    "reconstruct": _reconstruct,
    "decode": _decode,
    "interpolate": _interpolate,
}


# The laws ---------------------------------------------------------------------------------------------


async def words(client: Client, model: Published, verb: str) -> dict[str, str]:
    """What every hard row answers; the numbers are held against float64 on the way."""
    rows = model.codes if verb in ("decode", "interpolate") else model.rows
    return {name: (await VERBS[verb](client, model, row)).word for name, row in rows.items()}


@pytest.mark.parametrize("verb", VERBS)
async def test_a_hard_row_is_answered_rightly_or_not_at_all(
    client: Client, model: Published, verb: str
) -> None:
    found = await words(client, model, verb)
    assert found == documented(verb, model.name)
    if set(found.values()) == {"absent"}:
        return
    for name, row in (model.codes if verb in ("decode", "interpolate") else model.rows).items():
        if verb not in ("decode", "interpolate"):
            assert (found[name] in ("422", "out_of_support")) == (not _inside(model.exact.data, row))
        if found[name] in ("500", "numeric"):
            assert np.abs(row).max() >= BEYOND


def documented(verb: str, model: str) -> dict[str, str]:
    """A line of a table of ``docs/hard-rows.md``, by the heads of its columns."""
    lines = DOCS.read_text(encoding="utf-8").split(f"## `POST /{verb}`")[1].split("\n## ")[0].splitlines()
    head, *body = [_cells(line) for line in lines if line.startswith("|") and not line.startswith("|--")]
    (line,) = [cells for cells in body if cells[0] == model]
    return dict(zip(head[1:], line[1:], strict=True))


def _cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_no_cell_is_empty() -> None:
    lines = [line for line in DOCS.read_text(encoding="utf-8").splitlines() if line.startswith("|")]
    assert len(lines) == 9 + 5 * (len(MODELS) + 2)
    assert all(all(_cells(line)) for line in lines)


@pytest.mark.parametrize(
    ("verb", "fields"),
    [
        ("sample", {"temperature": 1e30}),
        ("sample", {"temperature": -1.0}),
        ("sample", {"seed": 2**53}),
        ("sample", {"seed": -1}),
        ("sample", {"offset": 2**53 - 1, "n": 2}),
        ("loglik", {"inputs": [[0.0, 0.0]], "k": 0}),
        ("loglik", {"inputs": [[0.0, 0.0]], "k": 2**53}),
        ("interpolate", {"start": {"latent": [1e30] * 2}, "end": {"latent": [-1e30] * 2}, "path": "slerp"}),
        ("decode", {"latents": [[1e39, 0.0]]}),
    ],
)
async def test_a_number_out_of_range_is_refused(client: Client, verb: str, fields: dict[str, Any]) -> None:
    await client.refused(verb, 422, "invalid_input", model="affine-plane", **fields)


async def test_more_draws_than_memory_holds_are_refused(client: Client) -> None:
    row = [[0.0] * 7]
    await client.refused("loglik", 413, "too_large", model="gaussian-mlp", inputs=row, k=2**53 - 1)


@pytest.mark.parametrize("seed", [0, 2**53 - 2])
async def test_the_hottest_samples_of_any_seed_are_numbers(
    client: Client, model: Published, seed: int
) -> None:
    fields = {"model": model.name, "seed": seed, "offset": 2**53 - 5, "n": 4, "temperature": 10.0}
    assert np.isfinite(await client.npy("sample", **fields)).all()


async def test_opposite_ends_far_out_meet_in_the_middle(client: Client) -> None:
    ends = {"start": {"latent": [1e30] * 2}, "end": {"latent": [-1e30] * 2}}
    walked = await client.npy("interpolate", model="affine-box", steps=3, path="lerp", **ends)
    centre = await client.npy("decode", model="affine-box", latents=[[0.0, 0.0]])
    np.testing.assert_array_equal(walked[1], centre[0])


async def test_a_row_that_a_bijection_loses_is_named_and_costs_no_other_caller(client: Client) -> None:
    lost = [[0.5, 0.5], [1e30, 0.5]]
    problem = await client.refused("reconstruct", 500, "row_failed", model="affine-plane", inputs=lost)
    assert problem["rows"] == [1]
    again = await client.ask("reconstruct", model="affine-plane", inputs=lost[:1])
    np.testing.assert_allclose(again["samples"], lost[:1], atol=1e-4)
