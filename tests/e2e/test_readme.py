"""The README's lines run as printed, against the demo models of ``make serve``."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from tests.e2e.conftest import DEMO, Start
from tests.e2e.processes import ROOT, Service

README = (ROOT / "README.md").read_text()
BLOCKS = [
    block for block in re.findall(r"^```bash\n(.*?)^```", README, re.DOTALL | re.MULTILINE) if "curl" in block
]
NAMED = re.findall(r"^\| `([a-z-]+)` \| (?:\S+,|\d)", README, re.MULTILINE)

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def test_the_models_that_make_serve_trains_are_the_ones_that_the_readme_names() -> None:
    assert NAMED == DEMO


def test_every_curl_line_of_the_readme_works_as_printed(start: Start, demo: Path, tmp_path: Path) -> None:
    service = start(demo / "artifacts").ready()
    script = "\n".join(["set -euo pipefail", 'curl() { command curl --fail-with-body "$@"; }', *BLOCKS])
    run = ["bash", "-c", script.replace("127.0.0.1:8000", service.url.removeprefix("http://"))]
    done = subprocess.run(run, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, f"{done.stdout[-2000:]}\n{done.stderr}\n{service.running.log[-3000:]}"
    drawn = "digits", "zero", "walk", "slanted", "zeros", "reconstructed", "leaning"
    for picture in drawn:
        assert (tmp_path / f"{picture}.png").read_bytes().startswith(b"\x89PNG"), picture
    assert (tmp_path / "moons.npy").stat().st_size > 100_000 * 2 * 4


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
