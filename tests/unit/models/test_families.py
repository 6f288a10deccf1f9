"""Configurations: every family by its name, and sentences for nonsense."""

from __future__ import annotations

import json
from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from models.families import FAMILIES, Config, build
from models.flow import CouplingFlow, FlowConfig
from models.manifest import DataSpace
from models.vae import VAEConfig
from tests.unit.models.zoo import ZOO, Case

CONFIG: TypeAdapter[Config] = TypeAdapter(Config)


def test_a_configuration_survives_json_and_dicts(case: Case) -> None:
    assert CONFIG.validate_json(case.config.model_dump_json()) == case.config
    assert CONFIG.validate_python(json.loads(case.config.model_dump_json())) == case.config


def test_a_recipe_needs_no_more_than_the_family() -> None:
    assert CONFIG.validate_python({"family": "flow"}) == FlowConfig()
    assert CONFIG.validate_python({"family": "vae", "hidden": [32]}) == VAEConfig(hidden=(32,))


def test_every_family_is_in_the_zoo() -> None:
    assert {type(case.config) for case in ZOO} == FAMILIES.keys()


def test_a_configuration_and_its_family_have_one_name(case: Case) -> None:
    assert type(build(case.config, case.data)).family == case.config.family


@pytest.mark.parametrize(
    ("nonsense", "where", "what"),
    [
        ({"family": "diffusion"}, (), "'vae', 'gan', 'flow'"),
        ({"family": "vae", "latent_dim": 0}, ("vae", "latent_dim"), "greater than or equal to 1"),
        ({"family": "vae", "latent_dim": 2.5}, ("vae", "latent_dim"), "valid integer"),
        ({"family": "vae", "hidden": [64, "128"]}, ("vae", "hidden", 1), "valid integer"),
        ({"family": "vae", "likelihood": "poisson"}, ("vae", "likelihood"), "'categorical' or 'gaussian'"),
        ({"family": "vae", "hiden": [64]}, ("vae", "hiden"), "not permitted"),
        ({"family": "gan", "hidden": []}, ("gan", "hidden"), "at least 1 item"),
        ({"family": "flow", "coupling": "cubic"}, ("flow", "coupling"), "'affine' or 'spline'"),
        ({"family": "flow", "layers": 0}, ("flow", "layers"), "greater than or equal to 1"),
        ({"family": "flow", "margin": 0.5}, ("flow", "margin"), "less than 0.5"),
        ({"family": "flow", "margin": float("nan")}, ("flow", "margin"), "finite number"),
        ({"family": "flow", "prior": "uniform"}, ("flow", "prior"), "'standard_normal' or 'logistic'"),
    ],
)
def test_nonsense_is_refused_by_name_with_what_is_allowed(
    nonsense: dict[str, Any], where: tuple[str | int, ...], what: str
) -> None:
    with pytest.raises(ValidationError) as refusal:
        CONFIG.validate_python(nonsense)
    (error,) = refusal.value.errors()
    assert error["loc"] == where
    assert what in error["msg"]


def test_one_dimension_is_too_few_for_a_coupling() -> None:
    with pytest.raises(ValueError, match="rows of 1 dimension; a coupling needs at least 2"):
        CouplingFlow(FlowConfig(), DataSpace(shape=(1,)))
