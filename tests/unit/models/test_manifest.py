"""The contract refuses a description that contradicts itself."""

from __future__ import annotations

import json
from typing import Any

import pytest
from pydantic import ValidationError

from models.manifest import DataSpace, Manifest, Support, Tensor

HASH = "0" * 64
CHECK = {
    "name": "parity",
    "value": 1e-6,
    "tolerance": 1e-4,
    "unit": "nats",
    "rows": "typical",
    "passed": True,
}


def tensor(name: str, role: str, *shape: int, **more: Any) -> dict[str, Any]:
    return {"name": name, "role": role, "shape": ["B", *shape], **more}


def entry(name: str, inputs: list[dict[str, Any]], outputs: list[dict[str, Any]]) -> dict[str, Any]:
    files = {"onnx": {"path": f"{name}.onnx", "sha256": HASH, "size_bytes": 10}}
    return {"inputs": inputs, "outputs": outputs, "files": files}


X, CODE, SCORE = tensor("x", "data", 3), tensor("z", "latent", 2), tensor("log_w", "log_weight")
NOISE = tensor("eps", "noise", 2, law="standard_normal")
ENTRIES = {
    "decode": entry("decode", [CODE], [X]),
    "encode": entry("encode", [X], [CODE]),
    "log_weight": entry("log_weight", [X, NOISE], [SCORE]),
}


def describe(entries: tuple[str, ...] = tuple(ENTRIES), **changes: Any) -> dict[str, Any]:
    """A sound manifest as JSON holds it, with changes."""
    return {
        "schema_version": 1,
        "name": "vae-small",
        "version": "1",
        "family": "vae",
        "paper": "Kingma & Welling 2014",
        "data": {"shape": [3]},
        "latent": {"shape": [2]},
        "grades": {"density": "lower_bound", "latents": "posterior", "generator": "one_shot"},
        "entry_points": {name: ENTRIES[name] for name in entries},
        "probes": {name: {"inputs": {}, "outputs": {}, "tolerance": 1e-4} for name in entries},
        "certificate": {"checks": [CHECK]},
        "provenance": {"recipe": {}, "seed": 1, "tools": {}, "created_at": "2026-01-01T00:00:00Z"},
        **changes,
    }


def read(description: dict[str, Any]) -> Manifest:
    """As a file is read: through JSON."""
    return Manifest.model_validate_json(json.dumps(description))


def test_a_sound_manifest_survives_its_file() -> None:
    manifest = read(describe())
    assert Manifest.model_validate_json(manifest.model_dump_json()) == manifest


@pytest.mark.parametrize(
    ("entries", "density", "latents", "verbs"),
    [
        (("decode",), "none", "code", "sample decode interpolate"),
        (("decode", "encode"), "none", "code", "sample encode decode reconstruct interpolate"),
        (tuple(ENTRIES), "lower_bound", "posterior", "sample encode decode reconstruct interpolate loglik"),
        (("decode", "log_weight"), "exact", "none", "sample decode interpolate loglik"),
    ],
)
def test_verbs_follow_from_the_entry_points(
    entries: tuple[str, ...], density: str, latents: str, verbs: str
) -> None:
    grades = {"density": density, "latents": latents, "generator": "one_shot"}
    assert " ".join(read(describe(entries, grades=grades)).verbs) == verbs


@pytest.mark.parametrize("density", ["exact", "none"])
@pytest.mark.parametrize("latents", ["bijection", "posterior", "code", "none"])
@pytest.mark.parametrize("generator", ["one_shot", "none"])
@pytest.mark.parametrize("entries", [("decode",), ("encode",), ("decode", "log_weight"), tuple(ENTRIES)])
def test_grades_and_entries_are_the_same_promise(
    entries: tuple[str, ...], density: str, latents: str, generator: str
) -> None:
    promised = {"decode": generator != "none", "log_weight": density != "none"}
    kept = all((name in entries) == promise for name, promise in promised.items())
    if latents in ("bijection", "posterior"):
        kept &= "encode" in entries
    if latents == "none":
        kept &= "encode" not in entries
    grades = {"density": density, "latents": latents, "generator": generator}
    if kept:
        read(describe(entries, grades=grades))
    else:
        with pytest.raises(ValidationError, match="grades"):
            read(describe(entries, grades=grades))


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"data": {"shape": [4]}}, r"x has rows of shape \(3,\), the data space has \(4,\)"),
        ({"latent": {"shape": [5]}}, r"z has rows of shape \(2,\), the latent space has \(5,\)"),
        ({"latent": None}, r"the latent space has None"),
        ({"probes": {}}, r"probes cover \[\]; needed are \['decode', 'encode', 'log_weight'\]"),
        ({"schema_version": 2}, "Input should be 1"),
        ({"name": "../vae"}, "pattern"),
        ({"version": "0"}, "pattern"),
        ({"colour": "blue"}, "not permitted"),
        ({"calibration": {"scores": [2.0, 1.0]}}, "ascending"),
        ({"calibration": {"scores": []}}, "at least 1 item"),
        ({"entry_points": {}}, "at least 1 item"),
    ],
)
def test_a_contradiction_is_refused_with_a_sentence(changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValidationError, match=sentence):
        read(describe(**changes))


@pytest.mark.parametrize("path", ["../decode.onnx", "a/decode.onnx", "/etc/passwd", ".hidden", ""])
def test_a_graph_lies_in_the_folder_of_its_manifest(path: str) -> None:
    broken = entry("decode", [CODE], [X])
    broken["files"]["onnx"]["path"] = path
    with pytest.raises(ValidationError, match="pattern"):
        read(describe(entry_points={**ENTRIES, "decode": broken}))


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"shape": (3, "B")}, "'B' comes first, and once"),
        ({"shape": ("B", "B")}, "'B' comes first, and once"),
        ({"role": "noise"}, "role noise and law None; noise has a law, others none"),
        ({"law": "uniform"}, "role data and law uniform"),
    ],
)
def test_a_tensor_has_rows_first_and_noise_a_law(change: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValidationError, match=sentence):
        Tensor(**{"name": "x", "role": "data", "shape": ("B", 3), **change})


def test_roles_find_their_tensors() -> None:
    encode = read(describe()).entry_points["encode"]
    data, code = encode.input("data"), encode.output("latent")
    assert data is not None
    assert code is not None
    assert (data.name, data.row_shape) == ("x", (3,))
    assert (code.name, code.row_shape) == ("z", (2,))
    assert encode.input("noise") is None


def test_a_certificate_passes_when_every_check_does() -> None:
    assert read(describe()).certificate.passed
    failed = {**CHECK, "name": "mass", "passed": False}
    certificate = read(describe(certificate={"checks": [CHECK, failed]})).certificate
    assert not certificate.passed
    assert [check.name for check in certificate.failures] == ["mass"]


def test_support_is_ordered_and_fits_the_shape() -> None:
    with pytest.raises(ValidationError, match="low must be below high"):
        Support(low=1, high=1)
    with pytest.raises(ValidationError, match="support has 2 entries; allowed are 1, or 3"):
        DataSpace(shape=(3,), support=(Support(), Support()))
    with pytest.raises(ValidationError, match="finite number"):
        Support(low=float("-inf"))


@pytest.mark.parametrize(
    ("nats", "space", "bits"),
    [
        # IWAE's table 1: a mass on binarised MNIST.
        (-86.76, DataSpace(shape=(784,), levels=2), 0.1597),
        # NICE: a density of MNIST in [0, 1], where a bin is 1/256 wide.
        (1980.50, DataSpace(shape=(1, 28, 28), levels=256, bin_width=1 / 256), 4.3555),
        # The same model in grey levels, one bin wide: L_256 = L - D ln 256.
        (1980.50 - 784 * 5.545177, DataSpace(shape=(1, 28, 28), levels=256), 4.3555),
        # The full Gaussian of the MAF paper: logit space to [0, 1] adds 4620.34 on the test set.
        (-1366.90 + 4620.34, DataSpace(shape=(784,), levels=256, bin_width=1 / 256), 2.013),
        # A uniform law on 17 levels is log2 17 in any unit.
        (-2.833213 * 64, DataSpace(shape=(1, 8, 8), levels=17), 4.0875),
    ],
)
def test_bits_per_dimension_are_those_published(nats: float, space: DataSpace, bits: float) -> None:
    assert space.bits_per_dim(nats) == pytest.approx(bits, abs=5e-4)


def test_continuous_data_have_no_bits_per_dimension() -> None:
    assert DataSpace(shape=(2,)).bits_per_dim(-3.0) is None


DIRECTION = {
    "vector": [0.5, -1.0],
    "attribute": "ink",
    "unit": "one standard deviation",
    "source": "by hand",
    "correlation": 0.9,
    "effect": [[-1.0, 2.0], [0.0, 3.0], [1.0, 4.0]],
    "judge": "the rows themselves",
}


def test_directions_are_kept_by_name() -> None:
    manifest = read(describe(directions={"bold": DIRECTION}))
    assert manifest.directions["bold"].vector == (0.5, -1.0)
    assert Manifest.model_validate_json(manifest.model_dump_json()) == manifest
    assert read(describe()).directions == {}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"vector": [0.5]}, "direction bold has 1 numbers, the latent space has 2"),
        ({"vector": [0.0, 0.0]}, "leads somewhere"),
        ({"vector": []}, "at least 1"),
        ({"correlation": 1.5}, "less than or equal to 1"),
        ({"effect": [[1.0, 4.0], [0.0, 3.0]]}, "must ascend"),
        ({"effect": [[1.0, 4.0]]}, "at least 2"),
    ],
)
def test_a_direction_that_leads_nowhere_in_these_latents_is_refused(
    changes: dict[str, Any], words: str
) -> None:
    with pytest.raises(ValidationError, match=words):
        read(describe(directions={"bold": {**DIRECTION, **changes}}))


def test_a_direction_needs_codes_that_decode_takes() -> None:
    with pytest.raises(ValidationError, match="decode takes no latents"):
        read(
            describe(
                ("encode", "log_weight"),
                grades={"density": "lower_bound", "latents": "posterior", "generator": "none"},
                directions={"bold": DIRECTION},
            )
        )


def test_the_name_of_a_direction_is_plain() -> None:
    with pytest.raises(ValidationError, match="pattern"):
        read(describe(directions={"Very Bold": DIRECTION}))
