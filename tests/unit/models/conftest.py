"""Fixtures: the models of the zoo, and inputs for their entry points."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor as Array

from models.base import Model
from models.families import FAMILIES
from models.flow import Flow
from models.manifest import Tensor
from tests.unit.models.zoo import ZOO, Case, draw_rows, make, objective_rows, source

FLOWS = [case for case in ZOO if issubclass(FAMILIES[type(case.config)], Flow)]


@pytest.fixture(params=ZOO, ids=lambda case: case.name)
def case(request: pytest.FixtureRequest) -> Case:
    return request.param


@pytest.fixture
def model(case: Case) -> Model:
    return make(case)


@pytest.fixture(params=FLOWS, ids=lambda case: case.name)
def flow_case(request: pytest.FixtureRequest) -> Case:
    return request.param


@pytest.fixture
def flow(flow_case: Case) -> Flow:
    model = make(flow_case)
    assert isinstance(model, Flow)
    return model


@pytest.fixture
def inputs(model: Model, case: Case) -> Callable[..., tuple[Array, ...]]:
    """Inputs of an entry point of the model, ``(entry, rows, seed=0)``."""

    def give(entry: str, rows: int, seed: int = 0) -> tuple[Array, ...]:
        data = objective_rows(model, draw_rows(case.data, rows, seed))
        noise = source(seed)

        def draw(tensor: Tensor) -> Array:
            if tensor.role == "data":
                return data
            if tensor.role == "label":
                return torch.randint(len(case.data.labels or ()), (rows,), generator=noise)
            return torch.randn(rows, *tensor.row_shape, dtype=torch.float64, generator=noise)

        return tuple(draw(tensor) for tensor in model.signatures()[entry].inputs)

    return give
