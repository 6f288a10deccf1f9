"""Somebody else's graphs become artifacts, or a sentence says what does not fit."""

from __future__ import annotations

import shutil
import warnings
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch import Tensor as Array
from torch import nn

from models.manifest import FILE_NAME, Manifest
from service.artifact import open_artifact
from tests.unit.training.linear import LinearFlow
from training import Mistake
from training.graphs import RUN, WRITE
from training.pack import pack

EXAMPLE = Path(__file__).parents[3] / "training" / "specs" / "example.toml"

# x = (exp(1 + z0 / 2), 3 z1 - 1), so log p(x) = log N(z) - log(x0 / 2) - log 3.
GENERATOR = """<ir_version: 8, opset_import: ["": 17]>
outside (float[N, 2] "input.1") => (float[N, 2] x)
<float[2] scale = {0.5, 3.0}, float[2] shift = {1.0, -1.0}, int64[2] parts = {1, 1}> {
  scaled = Mul ("input.1", scale)
  z = Add (scaled, shift)
  a, b = Split <axis = 1> (z, parts)
  grown = Exp (a)
  x = Concat <axis = 1> (grown, b)
}"""
SCORER = """<ir_version: 8, opset_import: ["": 17]>
outside (float[N, 2] x) => (float[N, 2] z, float[M] score, float[N, 1] spare)
<float[2] scale = {0.5, 3.0}, float[2] shift = {1.0, -1.0}, int64[2] parts = {1, 1}, int64[1] axis = {1},
 float two = {2.0}, float at_zero = {-2.2433119}> {
  a, b = Split <axis = 1> (x, parts)
  spare = Log (a)
  y = Concat <axis = 1> (spare, b)
  centred = Sub (y, shift)
  z = Div (centred, scale)
  squares = Mul (z, z)
  sum = ReduceSum <keepdims = 0> (squares, axis)
  half = Div (sum, two)
  flat = Squeeze (spare, axis)
  away = Add (half, flat)
  score = Sub (at_zero, away)
}"""


class Generator(nn.Module):
    """GENERATOR in torch."""

    def forward(self, z: Array) -> Array:
        return torch.stack([torch.exp(1 + z[:, 0] / 2), 3 * z[:, 1] - 1], dim=1)


def save_script(module: nn.Module, path: Path, example: Array) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.jit.save(torch.jit.trace(module.eval(), example), str(path))


def held_out(count: int = 500) -> np.ndarray:
    z = np.random.default_rng(5).standard_normal((count, 2))
    return np.stack([np.exp(1 + z[:, 0] / 2), 3 * z[:, 1] - 1], axis=1).astype(np.float32)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A folder with everything that the example describes."""
    shutil.copy(EXAMPLE, tmp_path / "spec.toml")
    for name, text in (("generator", GENERATOR), ("scorer", SCORER)):
        onnx.save(onnx.parser.parse_model(text), tmp_path / f"{name}.onnx")
    save_script(Generator(), tmp_path / "generator.pt", torch.zeros(2, 2))
    np.save(tmp_path / "held_out.npy", held_out())
    return tmp_path


def change(home: Path, old: str, new: str) -> Path:
    text = (home / "spec.toml").read_text()
    assert old in text
    (home / "spec.toml").write_text(text.replace(old, new, 1))
    return home / "spec.toml"


def made(home: Path) -> tuple[Path, Manifest]:
    folder = pack(home / "spec.toml", home / "artifacts")
    return folder, Manifest.model_validate_json((folder / FILE_NAME).read_bytes())


def refused(home: Path, sentence: str) -> None:
    with pytest.raises(Mistake, match=sentence):
        pack(home / "spec.toml", home / "artifacts")
    assert not list(home.glob("artifacts/*"))


def test_the_example_becomes_an_artifact_that_the_service_opens(home: Path) -> None:
    folder, manifest = made(home)
    assert folder == home / "artifacts" / "standardised" / "1"
    assert open_artifact(folder).manifest == manifest
    assert {path.name for path in folder.iterdir()} == {
        *("decode.onnx", "decode.ts", "encode.onnx", "log_weight.onnx"),
        *("manifest.json", "MODEL_CARD.md", "samples.png"),
    }


def test_what_can_be_measured_is_in_the_certificate(home: Path) -> None:
    names = [check.name for check in made(home)[1].certificate.checks]
    for law in ("finite", "parity decode.x torchscript against onnx", "round trip onnx", "mass", "batch"):
        assert any(name.startswith(law) for name in names)


def test_names_are_the_descriptions_and_shapes_are_the_files(home: Path) -> None:
    folder, manifest = made(home)
    z, log_w = manifest.entry_points["decode"].inputs[0], manifest.entry_points["log_weight"].outputs[0]
    assert (z.name, z.role, z.shape, z.dtype) == ("z", "latent", ("B", 2), "float32")
    assert (log_w.name, log_w.shape, log_w.unit) == ("log_w", ("B",), "nats")
    graph = onnx.load(folder / "decode.onnx").graph
    assert [value.name for value in (*graph.input, *graph.output)] == ["z", "x"]
    graph = onnx.load(folder / "log_weight.onnx").graph
    assert [value.name for value in graph.output] == ["log_w"]


def test_a_graph_still_answers_what_it_answered(home: Path) -> None:
    folder, _ = made(home)
    z = np.random.default_rng(0).standard_normal((5, 2)).astype(np.float32)
    (before,), (after,) = (
        RUN["onnx"](path)((z,)) for path in (home / "generator.onnx", folder / "decode.onnx")
    )
    np.testing.assert_array_equal(before, after)


def test_examples_calibrate_the_scores(home: Path) -> None:
    scores = made(home)[1].calibration.scores
    x = held_out().astype(float)
    z = np.stack([2 * (np.log(x[:, 0]) - 1), (x[:, 1] + 1) / 3], axis=1)
    exact = -(z**2).sum(1) / 2 - np.log(2 * np.pi) - np.log(x[:, 0] / 2) - np.log(3)
    np.testing.assert_allclose(scores, np.sort(exact), atol=1e-4)


def test_a_wrong_density_is_refused_by_its_mass(home: Path) -> None:
    text = SCORER.replace("-2.2433119", "-2.0")
    onnx.save(onnx.parser.parse_model(text), home / "scorer.onnx")
    refused(home, r"standardised is not exported: mass, from 1 is 0\.27")


def test_formats_that_disagree_are_refused(home: Path) -> None:
    save_script(nn.Identity(), home / "generator.pt", torch.zeros(2, 2))
    refused(home, r"parity decode\.x torchscript against onnx is")


def test_a_graph_that_looks_at_other_rows_is_refused(home: Path) -> None:
    text = SCORER.replace(
        "centred = Sub (y, shift)", "m = ReduceMean <axes = [0]> (y)\n  centred = Sub (y, m)"
    )
    onnx.save(onnx.parser.parse_model(text), home / "scorer.onnx")
    refused(home, r"batch encode onnx is .* between a row alone and in a crowd")


def test_an_encoder_that_does_not_undo_the_decoder_is_refused(home: Path) -> None:
    text = GENERATOR.replace("{1.0, -1.0}", "{1.1, -1.0}")
    onnx.save(onnx.parser.parse_model(text), home / "generator.onnx")
    change(home, 'torchscript = "generator.pt"', "")
    refused(home, "round trip onnx is")


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ('onnx = "generator.onnx"', 'onnx = "lost.onnx"', r"decode: there is no file .*lost\.onnx"),
        ('onnx = "generator.onnx"', 'onnx = "held_out.npy"', r"decode: held_out\.npy is not an ONNX file"),
        ('"input.1"', '"input.2"', r"decode: generator\.onnx takes input\.1; described are input\.2"),
        ('source = "score"', 'source = "mark"', r"scorer\.onnx gives no mark; it gives score, spare, z"),
        (
            'z = { role = "latent", source',
            'z = { role = "std", source',
            r"decode\.z has role std; allowed are data",
        ),
        (
            'x = { role = "data", unit',
            'x = { role = "latent", unit',
            "decode gives no data; one output has to have that",
        ),
        ("shape = [2]\nsupport", "shape = [3]\nsupport", r"support has 2 entries; allowed are 1, or 3"),
        (
            "shape = [2]\nprior",
            "shape = [3]\nprior",
            r"decode\.z has rows of shape \[2\] in the file; as latent they have \[3\]",
        ),
        (
            'examples = "held_out.npy"',
            'examples = "scorer.onnx"',
            r"examples: .*scorer\.onnx cannot be read as \.npy",
        ),
        ('density = "exact"', 'density = "none"', "but the model has log_weight"),
        ('density = "exact"', 'density = "sharp"', r"grades\.density: Input should be 'exact'"),
        ('name = "standardised"', 'name = "Two Words"', "name: String should match pattern"),
        (
            'family = "flow"',
            'familiy = "flow"',
            r"family: Field required; familiy: Extra inputs are not permitted",
        ),
        ('family = "flow"', "family = flow", "cannot be read as TOML"),
    ],
)
def test_what_does_not_fit_is_refused_with_a_sentence(home: Path, old: str, new: str, sentence: str) -> None:
    change(home, old, new)
    refused(home, sentence)


def test_a_fixed_number_of_rows_is_refused(home: Path) -> None:
    onnx.save(onnx.parser.parse_model(GENERATOR.replace("[N, 2]", "[4, 2]")), home / "generator.onnx")
    refused(home, r"decode: generator\.onnx: z has shape \[4, 2\]; allowed is an open number of rows")


def test_a_number_of_rows_fixed_inside_the_graph_is_refused(home: Path) -> None:
    fixed = """<ir_version: 8, opset_import: ["": 17]>
    outside (float[N, 2] "input.1") => (float[N, 2] x)
    <int64[2] shape = {4, 2}> { x = Reshape ("input.1", shape) }"""
    onnx.save(onnx.parser.parse_model(fixed), home / "generator.onnx")
    refused(home, r"decode: generator\.onnx does not run")


def test_weights_in_another_file_are_refused(home: Path) -> None:
    proto = onnx.parser.parse_model(GENERATOR)
    for tensor in proto.graph.initializer:
        tensor.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(tensor), tensor.name))
    onnx.save(
        proto, home / "generator.onnx", save_as_external_data=True, location="weights.bin", size_threshold=0
    )
    refused(home, r"decode: generator\.onnx: tensor 'scale' lies in another file")


def test_half_precision_is_refused(home: Path) -> None:
    half = """<ir_version: 8, opset_import: ["": 17]>
    outside (float16[N, 2] "input.1") => (float16[N, 2] x) { x = Identity ("input.1") }"""
    onnx.save(onnx.parser.parse_model(half), home / "generator.onnx")
    refused(home, r"decode: generator\.onnx: z is float16; allowed are float32, float64, int64")


@pytest.mark.parametrize(
    ("array", "sentence"),
    [
        (np.zeros((5, 3), np.float32), r"has shape \[5, 3\]; allowed is \['N', 2\]"),
        (np.full((5, 2), np.nan, np.float32), "holds numbers that are not finite"),
    ],
    ids=["shape", "nan"],
)
def test_examples_that_are_no_rows_are_refused(home: Path, array: np.ndarray, sentence: str) -> None:
    np.save(home / "held_out.npy", array)
    refused(home, sentence)


GENERATOR_ALONE = """
name = "dots"
family = "gan"
paper = "Somebody 2026"
[grades]
density = "none"
latents = "code"
generator = "one_shot"
[data]
shape = [2]
[latent]
shape = [2]
[decode]
{files}
[decode.inputs]
z = {{ role = "latent" }}
[decode.outputs]
x = {{ role = "data" }}
"""


def test_a_torchscript_file_alone_is_enough(home: Path) -> None:
    (home / "spec.toml").write_text(GENERATOR_ALONE.format(files='torchscript = "generator.pt"'))
    folder, manifest = made(home)
    assert manifest.entry_points["decode"].files.keys() == {"torchscript"}
    assert manifest.calibration is None
    assert open_artifact(folder).manifest == manifest


def test_a_graph_from_torchs_own_exporter_is_taken_as_it_is(home: Path) -> None:
    flow = LinearFlow(2).eval()
    WRITE["onnx"](flow, "decode", (np.zeros((2, 2), np.float32),), home / "flow.onnx")
    (home / "spec.toml").write_text(GENERATOR_ALONE.format(files='onnx = "flow.onnx"'))
    folder, _ = made(home)
    assert (folder / "decode.onnx").stat().st_size > 0


def test_a_graph_from_torchs_old_exporter_is_taken_too(home: Path) -> None:
    """It leaves names of its own for the axes of outputs, and none for the rows."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            nn.Sequential(nn.Linear(2, 8), nn.Tanh(), nn.Linear(8, 2)).eval(),
            (torch.zeros(2, 2),),
            home / "old.onnx",
            input_names=["z"],
            output_names=["x"],
            dynamic_axes={"z": {0: "rows"}, "x": {0: "rows"}},
            dynamo=False,
        )
    (home / "spec.toml").write_text(GENERATOR_ALONE.format(files='onnx = "old.onnx"'))
    assert made(home)[1].certificate.passed


def test_noise_takes_part_in_a_bound(home: Path) -> None:
    """log_w = log N(x; e, 1/4) where e ~ N(0, 1), so that the mean of its exponential is N(x; 0, 5/4)."""
    scorer = """<ir_version: 8, opset_import: ["": 17]>
    outside (float[N, 1] x, float[N, 1] eps) => (float[N] log_w)
    <int64[1] axis = {1}, float two = {2.0}, float top = {-0.2257914}> {
      gap = Sub (x, eps)
      squares = Mul (gap, gap)
      twice = Mul (squares, two)
      flat = Squeeze (twice, axis)
      log_w = Sub (top, flat)
    }"""
    onnx.save(onnx.parser.parse_model(scorer), home / "bound.onnx")
    np.save(home / "line.npy", np.linspace(-1, 1, 5, dtype=np.float32)[:, None])
    (home / "spec.toml").write_text(
        """
        name = "bound"
        family = "vae"
        paper = "Somebody 2026"
        examples = "line.npy"
        grades = { density = "lower_bound", latents = "none", generator = "none" }
        data = { shape = [1] }
        [log_weight]
        onnx = "bound.onnx"
        inputs = { x = { role = "data" }, eps = { role = "noise", law = "standard_normal" } }
        outputs = { log_w = { role = "log_weight" } }
        """
    )
    _, manifest = made(home)
    assert manifest.calibration.k == 64
    exact = -np.array([1, 0.25, 0, 0.25, 1]) / 2.5 - np.log(2 * np.pi * 1.25) / 2
    np.testing.assert_allclose(manifest.calibration.scores, np.sort(exact), atol=0.4)
    assert manifest.entry_points["log_weight"].inputs[1].shape == ("B", 1)


def test_packing_again_makes_the_next_version(home: Path) -> None:
    assert [made(home)[0].name for _ in range(2)] == ["1", "2"]
