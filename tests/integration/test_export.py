"""A model of each family becomes an artifact of both formats, which the service can open."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from PIL import Image
from safetensors.numpy import load_file

from models.manifest import FILE_NAME, Manifest
from service.artifact import discover, open_artifact
from training import Mistake
from training.amend import add_direction, from_recipe
from training.card import CARD, STRIP
from training.certificate import certify
from training.evaluate import evaluate
from training.export import export
from training.fit import fit
from training.graphs import RUN
from training.recipe import Recipe
from training.run import Run
from training.subject import Subject

DIGITS = {"source": "digits"}
MOONS = {"source": "toys", "toy": "moons", "train": 500, "valid": 100, "test": 100}
SMALL = {"epochs": 1, "batch_size": 50, "learning_rate": 0.001, "threads": 1}
MODELS = {
    "flow": (DIGITS, {"family": "flow", "layers": 2, "hidden": [16]}, "likelihood"),
    "moons": (MOONS, {"family": "flow", "layers": 2, "hidden": [16]}, "likelihood"),
    "nice": (
        DIGITS,
        {
            "family": "flow",
            "coupling": "additive",
            "layers": 4,
            "hidden": [16, 16],
            "activation": "relu",
            "halves": "even",
            "prior": "logistic",
            "bounded": "unit",
        },
        "likelihood",
    ),
    "multiplicative": (
        MOONS,
        {"family": "flow", "coupling": "multiplicative", "layers": 2, "hidden": [16]},
        "likelihood",
    ),
    "spline": (MOONS, {"family": "flow", "coupling": "spline", "layers": 1, "hidden": [16]}, "likelihood"),
    "maf": (DIGITS, {"family": "maf", "layers": 2, "hidden": [16]}, "likelihood"),
    "planar": (MOONS, {"family": "planar", "layers": 2}, "likelihood"),
    "radial": (MOONS, {"family": "radial", "layers": 2}, "likelihood"),
    "vae-mlp": (DIGITS, {"family": "vae", "latent_dim": 4, "hidden": [16]}, "bound"),
    "vae-conv": (DIGITS, {"family": "vae", "latent_dim": 4, "net": "conv", "hidden": [8, 8]}, "bound"),
    "vae-classes": (
        DIGITS,
        {
            "family": "vae",
            "latent_dim": 3,
            "likelihood": "categorical",
            "net": "conv",
            "hidden": [8],
            "activation": "tanh",
            "conditional": True,
        },
        "bound",
    ),
    "vae-iaf": (
        DIGITS,
        {
            "family": "vae",
            "latent_dim": 2,
            "hidden": [16],
            "posterior": {"kind": "iaf", "steps": 2, "hidden": [8]},
        },
        "bound",
    ),
    "vae-planar": (
        DIGITS,
        {"family": "vae", "latent_dim": 3, "hidden": [16], "posterior": {"kind": "planar", "steps": 2}},
        "bound",
    ),
    "vae-gaussian": (
        MOONS,
        {"family": "vae", "latent_dim": 1, "likelihood": "gaussian", "hidden": [16]},
        "bound",
    ),
    "gan": (DIGITS, {"family": "gan", "latent_dim": 8, "hidden": [8, 8]}, "adversarial"),
}

# The digits have no class 11: that one is left out.
DIRECTIONS = {"vae-mlp": {"zero": "label:0", "eleven": "label:11"}}


def make_run(name: str, folder: Path, draws: int = 2) -> Run:
    """A run of one short epoch."""
    data, model, objective = MODELS[name]
    recipe = Recipe.model_validate_json(
        json.dumps(
            {
                "name": name,
                "title": "Small",
                "expected": {"minutes": 1.0, "result": "nothing much"},
                "seed": 3,
                "data": data,
                "model": model,
                "objective": {"kind": objective},
                "fit": SMALL,
                "evaluate": {"draws": draws},
                "directions": DIRECTIONS.get(name, {}),
            }
        )
    )
    fit(recipe, folder)
    run = Run.open(folder)
    evaluate(run)
    return run


@pytest.fixture(scope="module", params=MODELS)
def exported(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, Path]:
    home = tmp_path_factory.mktemp(request.param)
    run = make_run(request.param, home / "run")
    return run, export(run, home / "artifacts")


@pytest.fixture
def manifest(exported: tuple[Run, Path]) -> Manifest:
    return Manifest.model_validate_json((exported[1] / FILE_NAME).read_bytes())


def test_the_service_opens_it(exported: tuple[Run, Path], manifest: Manifest) -> None:
    run, folder = exported
    assert discover(folder.parents[1]) == {(run.recipe.name, "1"): folder}
    assert open_artifact(folder).manifest == manifest


def test_it_holds_both_formats_of_every_entry_point(exported: tuple[Run, Path], manifest: Manifest) -> None:
    run, folder = exported
    assert manifest.entry_points.keys() == run.model.signatures().keys()
    graphs = {f"{entry}{suffix}" for entry in manifest.entry_points for suffix in (".onnx", ".ts")}
    others = {FILE_NAME, CARD, "samples.png", "weights.safetensors"}
    drawn = {STRIP} if manifest.directions else set()
    assert {path.name for path in folder.iterdir()} == graphs | others | drawn
    for entry in manifest.entry_points.values():
        for file in entry.files.values():
            assert hashlib.sha256((folder / file.path).read_bytes()).hexdigest() == file.sha256
            assert file.max_deviation is not None
            assert file.export_s is not None


def test_its_probes_come_back_to_the_bit_from_onnx_and_within_tolerance_from_torchscript(
    exported: tuple[Run, Path], manifest: Manifest
) -> None:
    _, folder = exported
    for entry, probe in manifest.probes.items():
        point = manifest.entry_points[entry]
        inputs = tuple(np.asarray(probe.inputs[t.name], t.dtype) for t in point.inputs)
        expected = [np.asarray(probe.outputs[t.name], t.dtype) for t in point.outputs]
        for found, rows in zip(RUN["onnx"](folder / point.files["onnx"].path)(inputs), expected, strict=True):
            np.testing.assert_array_equal(found, rows)
        scripted = RUN["torchscript"](folder / point.files["torchscript"].path)(inputs)
        for found, rows in zip(scripted, expected, strict=True):
            np.testing.assert_allclose(found, rows, rtol=0, atol=probe.tolerance)


def test_a_row_is_a_row_to_the_bit(manifest: Manifest) -> None:
    bitwise = [
        check
        for check in manifest.certificate.checks
        if check.name.startswith("batch") and "onnx" in check.name
    ]
    assert len(bitwise) == len(manifest.entry_points)
    assert all(check.value == 0 for check in bitwise)


def test_an_exact_likelihood_is_within_1e_4_nats_of_float64(manifest: Manifest) -> None:
    if manifest.grades.density == "exact":
        assert manifest.entry_points["log_weight"].files["onnx"].max_deviation < 1e-4


def test_a_plane_of_exact_density_has_its_mass_measured(manifest: Manifest) -> None:
    measured = [check.value for check in manifest.certificate.checks if check.name.startswith("mass")]
    assert len(measured) == (manifest.grades.density == "exact" and manifest.data.size == 2)


def test_a_density_is_calibrated_on_held_out_rows(exported: tuple[Run, Path], manifest: Manifest) -> None:
    run, _ = exported
    if manifest.grades.density == "none":
        assert manifest.calibration is None
    else:
        assert len(manifest.calibration.scores) == min(1000, len(run.splits.test))


def test_it_remembers_where_it_comes_from(exported: tuple[Run, Path], manifest: Manifest) -> None:
    run, folder = exported
    source = manifest.provenance
    assert source.seed == 3
    assert source.recipe == run.recipe.model_dump(mode="json")
    assert source.metrics == run.metrics
    assert {"python", "torch", "onnx", "onnxruntime", "numpy"} <= source.tools.keys()
    weights = load_file(folder / "weights.safetensors")
    assert weights.keys() == run.model.state_dict().keys()


def test_a_changed_weight_breaks_parity(tmp_path: Path) -> None:
    run = make_run("gan", tmp_path / "run")
    folder = export(run, tmp_path / "artifacts")
    proto = onnx.load(folder / "decode.onnx")
    weight = max(proto.graph.initializer, key=lambda tensor: len(tensor.raw_data))
    held = onnx.numpy_helper.to_array(weight).copy()
    held.flat[0] += 0.5
    weight.CopyFrom(onnx.numpy_helper.from_array(held, weight.name))
    onnx.save(proto, tmp_path / "changed.onnx")
    subject = Subject(
        data=run.model.data,
        latent=run.model.latent,
        grades=run.model.grades,
        signatures=run.model.signatures(),
        graphs={"decode": {"onnx": RUN["onnx"](tmp_path / "changed.onnx")}},
        model=run.model,
    )
    assert "parity decode.x onnx" in {check.name for check in certify(subject).failures}


def test_exporting_again_makes_the_next_version_with_the_same_onnx_graph(tmp_path: Path) -> None:
    run = make_run("gan", tmp_path / "run")
    first, second = export(run, tmp_path / "artifacts"), export(run, tmp_path / "artifacts")
    assert (first.name, second.name) == ("1", "2")
    assert (first / "decode.onnx").read_bytes() == (second / "decode.onnx").read_bytes()


def test_a_model_with_a_broken_weight_leaves_nothing_behind(tmp_path: Path) -> None:
    run = make_run("gan", tmp_path / "run")
    with torch.no_grad():
        next(run.model.parameters()).view(-1)[0] = torch.inf
    with pytest.raises(Mistake, match="are not finite"):
        export(run, tmp_path / "artifacts")
    assert not list((tmp_path / "artifacts").iterdir())


def test_a_run_that_was_not_evaluated_is_not_exported(tmp_path: Path) -> None:
    run = make_run("gan", tmp_path / "run")
    (run.folder / "evaluation.json").unlink()
    with pytest.raises(Mistake, match=r"evaluation\.json is missing"):
        export(run, tmp_path / "artifacts")
    assert not (tmp_path / "artifacts").exists()


@pytest.mark.parametrize("exported", ["vae-mlp"], indirect=True)
def test_directions_of_a_recipe_come_with_the_artifact_but_for_those_that_do_not_hold(
    exported: tuple[Run, Path],
) -> None:
    run, folder = exported
    assert list(run.recipe.directions) == ["zero", "eleven"]
    assert list(open_artifact(folder).manifest.directions) == ["zero"]
    assert "![](directions.png)" in (folder / CARD).read_text()
    again = add_direction(folder, "slanted", from_recipe("slant", None))
    assert list(open_artifact(again).manifest.directions) == ["zero", "slanted"]
    widths = []
    for artifact in (folder, again):
        with Image.open(artifact / "directions.png") as strip:
            widths.append(strip.width)
    assert 9 * 48 < widths[0] < widths[1] / 1.9
