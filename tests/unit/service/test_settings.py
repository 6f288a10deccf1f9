"""Settings come from the environment, once, and are refused where they make no sense."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from service.settings import Settings


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [*Settings.model_fields, "REDIS_URL"]:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(f"PUSHFORWARD_{name.upper()}", raising=False)


def test_it_listens_on_loopback_and_needs_no_redis_by_default() -> None:
    settings = Settings()
    assert (settings.host, settings.redis_url, settings.runtime) == ("127.0.0.1", None, "onnx")


def test_the_environment_sets_every_knob(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PUSHFORWARD_PORT", "9000")
    monkeypatch.setenv("PUSHFORWARD_ARTIFACTS", "/models")
    assert (Settings().port, Settings().artifacts) == (9000, Path("/models"))


@pytest.mark.parametrize(("said", "meant"), [("3", 3), ("auto", "auto")])
def test_processes_are_a_number_or_a_word(
    monkeypatch: pytest.MonkeyPatch, said: str, meant: int | str
) -> None:
    monkeypatch.setenv("PUSHFORWARD_PROCESSES", said)
    assert Settings().processes == meant


@pytest.mark.parametrize("name", ["REDIS_URL", "PUSHFORWARD_REDIS_URL"])
def test_redis_is_found_under_both_names(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, "redis://cache:6379/0")
    assert Settings().redis_url == "redis://cache:6379/0"


@pytest.mark.parametrize(
    "wrong",
    [
        {"port": 70000},
        {"device": "tpu"},
        {"redis_url": "cache:6379"},
        {"max_rows": 0},
        {"deadline": 3},
        {"processes": 0},
    ],
)
def test_what_makes_no_sense_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Settings(**wrong)


def test_settings_do_not_change() -> None:
    with pytest.raises(ValidationError):
        Settings().port = 1  # type: ignore[misc]


def test_the_readme_has_a_line_for_every_knob_with_its_default() -> None:
    readme = (Path(__file__).parents[3] / "README.md").read_text()
    for name, field in Settings.model_fields.items():
        (line,) = [line for line in readme.splitlines() if f"`PUSHFORWARD_{name.upper()}`" in line]
        default = "none" if field.default is None else f"{field.default}"
        assert default in line.replace("`", ""), f"{name}: the default is {default}, the README says {line}"
