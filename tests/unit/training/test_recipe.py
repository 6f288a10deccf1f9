"""A recipe is taken whole, or refused with a sentence."""

import json
from pathlib import Path

import pytest

from training import Mistake
from training.recipe import FOLDER, Recipe, find, parse, published, read

DIGITS = read(FOLDER / "vae-digits.toml")


def altered(**changes: object) -> str:
    """The JSON of vae-digits with keys changed, ``section__key=value``; None removes."""
    held = json.loads(DIGITS.model_dump_json())
    for place, value in changes.items():
        *sections, key = place.split("__")
        table = held
        for section in sections:
            table = table[section]
        table[key] = value
        if value is None:
            del table[key]
    return json.dumps(held)


@pytest.mark.parametrize("path", published(), ids=lambda path: path.stem)
def test_a_published_recipe_is_valid_named_as_its_file_and_says_what_to_expect(path: Path) -> None:
    recipe, head = read(path), path.read_text().splitlines()[0]
    assert recipe.name == path.stem
    assert head.startswith("#")
    assert "2 CPU cores" in path.read_text()
    assert len(recipe.expected.result) > 5


def test_a_recipe_survives_being_written_and_read_back() -> None:
    assert parse(DIGITS.model_dump_json(), "x") == DIGITS


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"fit__epoch": 3}, ["unknown key fit.epoch;", "epochs, batch_size, learning_rate"]),
        ({"colour": 1}, ["unknown key colour;", "name, title, expected, seed"]),
        ({"model__hiden": [2]}, ["unknown key model.hiden;", "hidden"]),
        ({"data__toy": "moons"}, ["unknown key data.toy;", "allowed are source"]),
        (
            {"model__posterior": {"kind": "planar", "hidden": [3]}},
            ["unknown key model.posterior.planar.hidden;", "allowed are kind, steps"],
        ),
        ({"model__posterior": {"kind": "radial"}}, ["model.posterior", "'radial'", "'iaf', 'planar'"]),
        ({"fit__epochs": 2.5}, ["fit.epochs is 2.5"]),
        ({"fit__epochs": "3"}, ['fit.epochs is "3"']),
        ({"fit__epochs": 0}, ["fit.epochs is 0", "greater than or equal to 1"]),
        ({"fit__learning_rate": None}, ["fit.learning_rate is missing"]),
        ({"name": "Not A Name"}, ['name is "Not A Name"']),
        ({"data__source": "clouds"}, ["'clouds'", "'digits'"]),
        ({"objective__k": 5, "objective__beta": 2.0}, ["k is 5 and beta 2.0"]),
        (
            {"directions": {"bold": "weight"}},
            ['directions.bold is "weight"', "allowed are ink, slant and label:<class>"],
        ),
        ({"directions": {"Bold": "ink"}}, ["directions.Bold"]),
        ({"objective": {"kind": "adversarial"}, "fit__patience": 3}, ["patience needs a validation score"]),
    ],
)
def test_what_is_not_known_or_not_right_is_refused_by_name(
    changes: dict[str, object], words: list[str]
) -> None:
    with pytest.raises(Mistake) as caught:
        parse(altered(**changes), "mine.toml")
    assert str(caught.value).startswith("mine.toml: ")
    for word in words:
        assert word in str(caught.value)


def test_keys_inside_an_optional_table_are_listed_too() -> None:
    data = {"source": "arrays", "quantised": {"levels": 2, "depth": 8}}
    with pytest.raises(Mistake, match=r"unknown key data\.quantised\.depth; allowed are levels, low, width"):
        parse(altered(data=data), "x")


def test_a_file_that_is_not_toml_says_where_it_breaks(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text("name = \n")
    with pytest.raises(Mistake, match=r"mine\.toml cannot be read as TOML: .*line 1"):
        read(tmp_path / "mine.toml")


def test_recipes_are_found_by_name_or_path_and_the_known_ones_are_named(tmp_path: Path) -> None:
    mine = tmp_path / "mine.toml"
    mine.write_text((FOLDER / "vae-digits.toml").read_text())
    assert find("vae-digits") == FOLDER / "vae-digits.toml"
    assert find(str(mine)) == mine
    for absent in ("vae-digit", "../recipes/vae-digits", str(tmp_path / "none.toml")):
        with pytest.raises(Mistake, match=r"known are .*flow-moons"):
            find(absent)


def test_the_recipe_holds_every_default_when_it_is_written_down() -> None:
    written = json.loads(Recipe.model_validate_json(altered(evaluate={})).model_dump_json())
    assert written["evaluate"] == {"draws": 64}
