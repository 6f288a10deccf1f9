"""What a manifest says decides what requests may ask; the family of a model never does."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np
import pytest

from models.manifest import FILE_NAME, Manifest
from service.engine import Served
from service.errors import CapabilityAbsent, InvalidInput
from service.facts import facts, labels, require, verbs
from tests import graphs


@dataclass(eq=False)
class Shown:
    """A model that can be asked for its manifest, and is not run."""

    manifest: Manifest
    worked_out: dict[type, Any] = field(default_factory=dict)


def shown(manifest: Manifest) -> Served:
    return cast(Served, Shown(manifest))


@pytest.fixture(scope="module")
def manifests(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Manifest]:
    root = tmp_path_factory.mktemp("artifacts")
    makers = (graphs.linear_flow, graphs.gaussian_vae, graphs.conditional, graphs.image_gan)
    texts = [(maker(root) / FILE_NAME).read_text() for maker in makers]
    return {manifest.name: manifest for manifest in map(Manifest.model_validate_json, texts)}


def supported(manifest: Manifest, *support: dict[str, Any]) -> Served:
    data = manifest.data.model_dump() | {"support": support}
    return shown(manifest.model_copy(update={"data": type(manifest.data).model_validate(data)}))


def test_all_that_is_finite_lies_in_a_space_without_bounds(manifests: dict[str, Manifest]) -> None:
    x = np.array([[1e38, -1e38, 0.5]], np.float32)
    assert not facts(shown(manifests["linear"])).violations(x).any()


def test_bounds_and_lattices_hold_for_each_dimension_or_for_all(manifests: dict[str, Manifest]) -> None:
    x = np.array([[0, 0, 0], [-1, 0, 0], [2.5, 0, 0], [0, 2.5, 0], [0, 0, -7.5]], np.float32)
    each = supported(
        manifests["linear"], {"low": 0.0, "high": 2.0}, {"low": None, "lattice": True}, {"high": 1.0}
    )
    assert np.argwhere(facts(each).violations(x)).tolist() == [[1, 0], [2, 0], [3, 1]]
    alike = supported(manifests["linear"], {"low": 0.0, "high": 2.0, "lattice": True})
    assert np.argwhere(facts(alike).violations(x)).tolist() == [[1, 0], [2, 0], [3, 1], [4, 2]]


def test_the_first_number_outside_is_named_in_its_place(manifests: dict[str, Manifest]) -> None:
    x = np.zeros((2, 1, 8, 8), np.float32)
    x[1, 0, 2, 3] = 17
    with pytest.raises(InvalidInput) as caught:
        facts(shown(manifests["image-gan"])).check(x, "inputs")
    assert caught.value.extra["errors"] == [
        {"field": "/inputs/1/0/2/3", "value": "17.0", "allowed": "numbers from 0 up to 16"}
    ]


def test_verbs_follow_from_the_entry_points(manifests: dict[str, Manifest]) -> None:
    assert verbs(manifests["image-gan"]) == ("sample", "decode", "interpolate")
    assert len(verbs(manifests["linear"])) == 6
    gan = manifests["image-gan"]
    decode = gan.entry_points["decode"]
    noise = decode.inputs[0].model_copy(update={"role": "noise", "law": "uniform"})
    without_codes = gan.model_copy(
        update={"entry_points": {"decode": decode.model_copy(update={"inputs": (noise,)})}}
    )
    assert verbs(without_codes) == ("sample",)


def test_who_lacks_a_verb_is_told_who_has_it(manifests: dict[str, Manifest]) -> None:
    everyone = [shown(manifest) for manifest in manifests.values()]
    gan = next(served for served in everyone if served.manifest.name == "image-gan")
    require(gan, "sample", lambda: everyone)
    with pytest.raises(CapabilityAbsent) as caught:
        require(gan, "loglik", lambda: everyone)
    assert caught.value.extra["models"] == ["conditional", "gaussian-vae", "linear"]
    assert caught.value.extra["grades"]["density"] == "none"


def test_labels_are_classes_by_number_or_by_name(manifests: dict[str, Manifest]) -> None:
    found = labels(manifests["conditional"], ("decode",), ["north", 0], 2)
    assert found is not None
    assert found.dtype == np.int64
    assert found.tolist() == [2, 0]
    assert labels(manifests["linear"], ("decode", "encode"), None, 2) is None
