"""What the README, the Makefile and the package say about each other is true."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from service.settings import Settings
from training.spec import read

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
MAKEFILE = (ROOT / "Makefile").read_text()
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def _settings_table() -> dict[str, str]:
    """Name to default, as the README prints them."""
    rows = re.findall(r"^\| `PUSHFORWARD_([A-Z_]+)` \|[^|]*\| ([^|]*) \|", README, re.MULTILINE)
    return {name.lower(): default.strip() for name, default in rows}


def test_every_setting_has_a_line_in_the_readme_and_every_line_a_setting() -> None:
    assert _settings_table().keys() == Settings.model_fields.keys()


@pytest.mark.parametrize("name", Settings.model_fields)
def test_the_readme_prints_the_default(name: str) -> None:
    default = Settings.model_fields[name].default
    shown = _settings_table()[name].strip("`").replace(" ", "")
    assert shown == ("none" if default is None else f"{default}".removesuffix(".0"))


def test_the_readme_explains_every_verb_and_make_has_every_verb_that_it_explains() -> None:
    offered = set(re.findall(r"^([a-z-]+):.*## ", MAKEFILE, re.MULTILINE)) - {"help"}
    explained = set(re.findall(r"`?make ([a-z-]+)", README))
    assert offered == explained


def test_ci_runs_the_test_command_of_the_readme() -> None:
    assert "\nexec make test\n" in (ROOT / ".ci/run").read_text()
    assert "\nmake test\n" in README


def test_every_requirement_has_a_version() -> None:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pins = dict(line.split("==") for line in lines if line and not line.startswith("#"))
    versions = {canonicalize_name(name): version for name, version in pins.items()}
    extras = [line for extra in PROJECT["optional-dependencies"].values() for line in extra]
    for wanted in map(Requirement, [*PROJECT["dependencies"], *extras]):
        assert versions[canonicalize_name(wanted.name)] in wanted.specifier


def test_the_description_that_the_readme_prints_is_accepted(tmp_path: Path) -> None:
    (printed,) = re.findall(r"^```toml\n(name = .*?)^```", README, re.DOTALL | re.MULTILINE)
    (tmp_path / "spec.toml").write_text(printed)
    spec, _ = read(tmp_path / "spec.toml")
    assert spec.entries.keys() == {"decode"}


def test_the_changelog_knows_this_version() -> None:
    changelog = (ROOT / "CHANGELOG.md").read_text()
    assert f"## [{PROJECT['version']}]" in changelog or "## [Unreleased]" in changelog
