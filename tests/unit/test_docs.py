"""The documentation builds without a warning, and its reference has everything that it is written from."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from docs import reference
from models.manifest import Manifest
from service.errors import ServiceError
from service.settings import Settings
from training.cli import main

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_the_documentation_builds_and_no_link_leads_nowhere(tmp_path: Path) -> None:
    build = [
        sys.executable,
        "-m",
        "sphinx",
        "-q",
        "-W",
        "--keep-going",
        "-b",
        "html",
        "-d",
        str(tmp_path / "read"),
    ]
    done = subprocess.run([*build, "docs", str(tmp_path / "html")], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    loaded = [
        link for page in tmp_path.rglob("*.html") for link in re.findall(r'src="([^"]*)', page.read_text())
    ]
    assert loaded
    assert not [link for link in loaded if "//" in link], "a page asks another host"


def test_every_setting_has_its_line_with_a_meaning() -> None:
    lines = [line.split(" | ") for line in reference.settings().splitlines() if line.startswith("| `")]
    assert [line[0].strip("| `") for line in lines] == [
        f"PUSHFORWARD_{n.upper()}" for n in Settings.model_fields
    ]
    assert all(line[3].strip(" |") for line in lines)


def test_every_error_code_has_its_line_with_a_meaning() -> None:
    lines = [line.split(" | ") for line in reference.problems().splitlines() if line.startswith("| ")][2:]
    assert {line[1].strip("`") for line in lines} == {error.code for error in reference._tree(ServiceError)}
    assert all(line[2].strip(" |") for line in lines)


def test_every_part_of_the_manifest_is_there_with_all_its_members() -> None:
    page = reference.manifest()
    schema = Manifest.model_json_schema()
    for name, part in {"Manifest": schema, **schema["$defs"]}.items():
        section = page.split(f"\n## {name}\n")[1].split("\n## ")[0]
        assert re.findall(r"^\| `(\w+)`", section, re.MULTILINE) == list(part["properties"])


def test_every_verb_and_every_command_is_there(capsys: pytest.CaptureFixture[str]) -> None:
    calls = re.findall(r"^## `(.*)`$", reference.http(), re.MULTILINE)
    assert {"POST /sample", "POST /loglik", "GET /models/{name}", "GET /metrics"} <= set(calls)
    with pytest.raises(SystemExit):
        main(["score", "--help"])
    told = capsys.readouterr().out.split("options:")[1]
    options = set(re.findall(r"--\w+", told))
    section = reference.commands().split("### `python -m training score`")[1].split("\n###")[0]
    assert options <= set(re.findall(r"--\w+", section))
