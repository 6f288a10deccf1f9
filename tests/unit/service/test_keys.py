"""Keys are found by their hashes, and what cannot be one is refused with its place."""

from __future__ import annotations

from pathlib import Path

import pytest

from service import keys
from service.keys import KeysError


def test_a_made_key_is_found_by_the_line_that_was_made_with_it(tmp_path: Path) -> None:
    made = {name: keys.made() for name in ("designer", "quality")}
    file = tmp_path / "keys.toml"
    file.write_text("\n".join(keys.line(name, key) for name, key in made.items()))
    known = keys.read(file, None)
    for name, key in made.items():
        assert keys.owner(known.items(), key) == name
        assert key not in file.read_text()
    for wrong in (keys.made(), "", made["designer"][:-1], made["designer"].upper(), "\xff"):
        assert keys.owner(known.items(), wrong) is None


def test_keys_are_never_the_same_and_too_long_to_guess() -> None:
    made = {keys.made() for _ in range(1000)}
    assert len(made) == 1000
    assert all(key.startswith("pf_") and len(key) == 46 for key in made)  # 43 characters are 256 bits


def test_the_file_and_the_environment_are_read_together(tmp_path: Path) -> None:
    file = tmp_path / "keys.toml"
    file.write_text(keys.line("one", "1"))
    assert list(keys.read(file, keys.line("two", "2"))) == ["two", "one"]
    assert keys.read(None, None) == {}


def test_limits_are_part_of_the_line() -> None:
    text = keys.line("slow", "1").replace("}", ", requests_per_s = 0.5, rows_per_s = 1000 }")
    assert (
        keys.parsed(text, "here")["slow"].requests_per_s,
        keys.parsed(text, "here")["slow"].rows_per_s,
    ) == (
        0.5,
        1000,
    )


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "holds no key"),
        ("one = ", "no TOML"),
        ("one = 'pf_secret'", "one"),
        ("one = { sha256 = 'pf_secret' }", "one.sha256"),
        ("one = { }", "one.sha256"),
        ("One = { sha256 = '%s' }" % ("0" * 64), "One"),
        ("one = { sha256 = '%s', rows_per_s = 0 }" % ("0" * 64), "one.rows_per_s"),
        ("one = { sha256 = '%s', requests_per_s = inf }" % ("0" * 64), "one.requests_per_s"),
        ("one = { sha256 = '%s', rows = 3 }" % ("0" * 64), "one.rows"),
    ],
)
def test_what_is_no_key_is_refused_by_its_name_and_without_its_value(text: str, said: str) -> None:
    with pytest.raises(KeysError, match=said) as refused:
        keys.parsed(text, "keys.toml")
    assert str(refused.value).startswith("keys.toml")
    assert "pf_secret" not in str(refused.value)


def test_a_file_that_is_not_there_and_names_that_meet_are_refused(tmp_path: Path) -> None:
    with pytest.raises(KeysError, match="cannot be read"):
        keys.read(tmp_path / "none.toml", None)
    file = tmp_path / "keys.toml"
    file.write_text(keys.line("one", "1"))
    with pytest.raises(KeysError, match="both have the key one"):
        keys.read(file, keys.line("one", "2"))
    with pytest.raises(KeysError, match="two and one are the same key"):
        keys.read(file, keys.line("two", "1"))


def test_the_line_in_the_readme_is_one() -> None:
    readme = (Path(__file__).parents[3] / "README.md").read_text()
    (line,) = [line for line in readme.splitlines() if line.startswith("designer = ")]
    known = keys.parsed(line, "README.md")["designer"]
    assert (known.requests_per_s, known.rows_per_s) == (20, 50000)
