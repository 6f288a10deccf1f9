"""The README names the models that ``make serve`` trains, and their grades."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.e2e.conftest import DEMO, Start
from tests.e2e.processes import ROOT, Service

README = (ROOT / "README.md").read_text()
NAMED = re.findall(r"^\| `([a-z-]+)` \| (?:\S+,|\d)", README, re.MULTILINE)

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def test_the_models_that_make_serve_trains_are_the_ones_that_the_readme_names() -> None:
    assert NAMED == DEMO


def test_the_table_of_models_is_the_one_that_the_service_computes(start: Start, demo: Path) -> None:
    service = start(demo / "artifacts").ready()
    printed = {
        name: {"density": density, "latents": latents, "generator": generator}
        for name, density, latents, generator in re.findall(
            r"^\| `([a-z-]+)` \|[^|]*\| `(\w+)` \| `(\w+)` \| `(\w+)` \|$", README, re.MULTILINE
        )
    }
    assert printed == {name: _grades(service, name) for name in DEMO}


def _grades(service: Service, name: str) -> dict[str, str]:
    return dict(service.client.get(f"/models/{name}").json()["grades"])
