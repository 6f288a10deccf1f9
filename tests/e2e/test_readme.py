"""The README's lines run as printed, against the demo models of ``make serve``, fitted here for a moment."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import Start
from tests.e2e.processes import ROOT, Service

README = (ROOT / "README.md").read_text()
BLOCKS = [
    block for block in re.findall(r"^```bash\n(.*?)^```", README, re.DOTALL | re.MULTILINE) if "curl" in block
]
DEMO = re.findall(r"^\| `([a-z-]+)` \| (?:\S+,|\d)", README, re.MULTILINE)

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def _toml(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key} = {_toml(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_toml, value)) + "]"
    return {True: "true", False: "false"}[value] if isinstance(value, bool) else repr(value)


def _hurried(name: str, folder: Path) -> Path:
    """The recipe, with one epoch."""
    recipe = tomllib.loads((ROOT / f"training/recipes/{name}.toml").read_text())
    recipe["fit"]["epochs"] = 1
    path = folder / f"{name}.toml"
    path.write_text("\n".join(f"{key} = {_toml(value)}" for key, value in recipe.items()))
    return path


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Artifacts with the names of the demo models."""
    folder = tmp_path_factory.mktemp("demo")
    recipes = [str(_hurried(name, folder)) for name in DEMO]
    command = [sys.executable, "-m", "training", "run", *recipes, "--export"]
    command += ["--runs", str(folder / "runs"), "--artifacts", str(folder / "artifacts")]
    trained = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert trained.returncode == 0, trained.stdout + trained.stderr
    return folder / "artifacts"


def test_the_models_that_make_serve_trains_are_the_ones_that_the_readme_names() -> None:
    (line,) = re.findall(r"^DEMO +:= (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert line.split() == DEMO


def test_every_curl_line_of_the_readme_works_as_printed(start: Start, demo: Path, tmp_path: Path) -> None:
    service = start(demo).ready()
    script = "\n".join(["set -euo pipefail", 'curl() { command curl --fail-with-body "$@"; }', *BLOCKS])
    run = ["bash", "-c", script.replace("127.0.0.1:8000", service.url.removeprefix("http://"))]
    done = subprocess.run(run, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, f"{done.stdout[-2000:]}\n{done.stderr}\n{service.running.log[-3000:]}"
    for picture in ("digits.png", "zero.png", "walk.png", "reconstructed.png"):
        assert (tmp_path / picture).read_bytes().startswith(b"\x89PNG"), picture
    assert (tmp_path / "moons.npy").stat().st_size > 100_000 * 2 * 4


def test_the_table_of_models_is_the_one_that_the_service_computes(start: Start, demo: Path) -> None:
    service = start(demo).ready()
    printed = {
        name: {"density": density, "latents": latents, "generator": generator}
        for name, density, latents, generator in re.findall(
            r"^\| `([a-z-]+)` \|[^|]*\| `(\w+)` \| `(\w+)` \| `(\w+)` \|$", README, re.MULTILINE
        )
    }
    assert printed == {name: _grades(service, name) for name in DEMO}


def _grades(service: Service, name: str) -> dict[str, str]:
    return dict(service.client.get(f"/models/{name}").json()["grades"])
