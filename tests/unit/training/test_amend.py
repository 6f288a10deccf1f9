"""A direction makes the next version of an artifact, and changes nothing else of it."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from models.manifest import FILE_NAME, Manifest
from service.artifact import discover, open_artifact
from tests.graphs import conditional, gaussian_vae, image_gan, linear_directions, linear_flow, linear_map
from training.card import CARD
from training.cli import main

A, B = linear_map(3)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """Artifacts, and labelled rows of the linear one: the label is whether the second code is above 0."""
    for make in (linear_flow, gaussian_vae, conditional, image_gan):
        make(tmp_path / "artifacts")
    z = np.random.default_rng(0).normal(size=(200, 3))
    x = (z @ A.T + B).astype(np.float32)
    np.save(tmp_path / "x.npy", x)
    np.save(tmp_path / "y.npy", z[:, 1] > 0)
    np.save(tmp_path / "size.npy", 3 * z[:, 1:2])
    np.savetxt(tmp_path / "x.csv", x, delimiter=",", header="a,b,c", comments="")
    np.savetxt(tmp_path / "y.csv", (z[:, 1] > 0).astype(int), fmt="%d")
    return tmp_path


def direct(home: Path, *arguments: str) -> int:
    """``python -m training direction`` in a folder with rows and artifacts."""
    files = [str(home / text) if text.endswith((".npy", ".csv")) else text for text in arguments]
    return main(["direction", *files, "--artifacts", str(home / "artifacts")])


def read(folder: Path) -> Manifest:
    return Manifest.model_validate_json((folder / FILE_NAME).read_bytes())


def test_the_next_version_has_the_same_graphs_and_a_direction_more(home: Path) -> None:
    assert direct(home, "linear", "high", "--rows", "x.npy", "--labels", "y.npy") == 0
    old, new = (read(home / "artifacts" / "linear" / version) for version in "12")
    assert open_artifact(home / "artifacts" / "linear" / "2").manifest == new
    assert new.model_copy(update={"version": "1", "directions": old.directions}) == old
    assert list(new.directions) == [*linear_directions(3), "high"]
    vector = np.array(new.directions["high"].vector)
    assert vector[1] == pytest.approx(2 * np.sqrt(2 / np.pi), abs=0.15)
    assert np.abs(vector[[0, 2]]).max() < 0.3
    card = (home / "artifacts" / "linear" / "2" / CARD).read_text()
    assert "| high | high | from the mean code of rows without it" in card
    assert '{"directions": {"first": 1.5}}' in card


def test_rows_and_labels_may_be_csv_with_a_head_or_without(home: Path) -> None:
    assert direct(home, "linear", "high", "--rows", "x.npy", "--labels", "y.npy") == 0
    assert direct(home, "linear/1", "high", "--rows", "x.csv", "--labels", "y.csv") == 0
    two, three = (read(home / "artifacts" / "linear" / version) for version in "23")
    np.testing.assert_allclose(two.directions["high"].vector, three.directions["high"].vector, atol=1e-4)


def test_labels_may_be_numbers_and_a_known_name_is_fitted_anew(home: Path) -> None:
    folder = str(home / "artifacts" / "linear" / "1")
    assert direct(home, folder, "first", "--rows", "x.npy", "--labels", "size.npy") == 0
    directions = read(home / "artifacts" / "linear" / "2").directions
    assert list(directions) == list(linear_directions(3))
    np.testing.assert_allclose(directions["first"].vector, [0, 1, 0], atol=0.25)
    assert "one standard deviation of it, 3.0" in directions["first"].unit


def test_the_newest_version_is_the_one_that_is_added_to(home: Path) -> None:
    for name in ("high", "higher"):
        assert direct(home, "linear", name, "--rows", "x.npy", "--labels", "y.npy") == 0
    assert list(read(home / "artifacts" / "linear" / "3").directions)[2:] == ["high", "higher"]


def test_a_posterior_has_directions_too(home: Path) -> None:
    rng = np.random.default_rng(1)
    x = rng.normal(size=(300, 3)).astype(np.float32)
    np.save(home / "x3.npy", x)
    np.save(home / "y3.npy", x[:, 1])
    assert direct(home, "gaussian-vae", "second", "--rows", "x3.npy", "--labels", "y3.npy") == 0
    vector = np.array(read(home / "artifacts" / "gaussian-vae" / "2").directions["second"].vector)
    assert abs(vector[0]) < 0.2 * vector[1]


def test_a_model_that_is_told_the_class_needs_it_of_every_row(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rng = np.random.default_rng(2)
    kind, z = np.arange(90) % 3, rng.normal(size=(90, 2))
    np.save(home / "cx.npy", (z + np.array([[0, 0], [4, 0], [0, 4]])[kind]).astype(np.float32))
    np.save(home / "cy.npy", z[:, 0])
    np.save(home / "kind.npy", kind)
    rows = ["conditional", "right", "--rows", "cx.npy", "--labels", "cy.npy"]
    assert direct(home, *rows) == 2
    assert "takes the class of each row" in capsys.readouterr().err
    np.save(home / "wrong.npy", kind + 1)
    assert direct(home, *rows, "--classes", "wrong.npy") == 2
    assert "allowed are the classes 0 to 2" in capsys.readouterr().err
    assert direct(home, *rows, "--classes", "kind.npy") == 0
    vector = read(home / "artifacts" / "conditional" / "2").directions["right"].vector
    np.testing.assert_allclose(vector, [np.std(z[:, 0]), 0], atol=0.3)


ROWS = ["--rows", "x.npy", "--labels"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nothing", "high", *ROWS, "y.npy"], "there is no artifact nothing"),
        (["linear", "Very High", *ROWS, "y.npy"], "'Very High' is no name for a direction"),
        (["linear", "high", "--rows", "x.npy"], "--rows and --labels go together"),
        (["linear", "high", *ROWS, "x.npy"], "needed is one number for each of 200 rows"),
        (["linear", "high", *ROWS, "short.npy"], "needed is one number for each of 200 rows"),
        (["linear", "high", *ROWS, "same.npy"], "every row has the label 1"),
        (["linear", "high", *ROWS, "few.npy"], "3 rows have the label 1; needed are at least 10"),
        (["linear", "high", *ROWS, "broken.npy"], "cannot be read as .npy or .csv"),
        (["linear", "high", *ROWS, "absent.npy"], "cannot be read as .npy or .csv"),
        (["linear", "high", *ROWS, "words.csv"], "could not convert string to float: 'yes'"),
        (["linear", "high", *ROWS, "empty.csv"], "has shape [0]; needed is one number for each"),
        (["linear", "high", *ROWS, "nan.npy"], "holds NaN or infinity"),
        (["linear", "high", *ROWS, "chance.npy"], "which may be chance"),
        (["gaussian-vae", "high", "--rows", "wide.npy", "--labels", "y.npy"], "allowed is ['N', 3]"),
        (["image-gan", "high", "--rows", "pictures.npy", "--labels", "y.npy"], "has no encode"),
        (["linear", "high", "--attribute", "ink"], "from elsewhere, give --rows and --labels"),
    ],
)
def test_a_mistake_is_one_sentence_and_leaves_nothing_behind(
    home: Path, arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    np.save(home / "short.npy", np.zeros(199))
    np.save(home / "same.npy", np.ones(200))
    np.save(home / "few.npy", np.arange(200) < 3)
    np.save(home / "nan.npy", np.full(200, np.nan))
    np.save(home / "chance.npy", np.arange(200) % 2)
    np.save(home / "wide.npy", np.zeros((200, 4)))
    np.save(home / "pictures.npy", np.zeros((200, 1, 8, 8)))
    (home / "broken.npy").write_bytes(b"nothing")
    (home / "words.csv").write_text("label\nyes\nno\n")
    (home / "empty.csv").write_text("")
    before = sorted((home / "artifacts").rglob("*"))
    assert direct(home, *arguments) == 2
    error = capsys.readouterr().err
    assert words in error
    assert error.count("\n") == 1
    assert sorted((home / "artifacts").rglob("*")) == before


def test_a_graph_that_was_changed_is_not_given_a_version(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    artifact = home / "artifacts" / "linear" / "1"
    shutil.copyfile(home / "artifacts" / "gaussian-vae" / "1" / "encode.onnx", artifact / "encode.onnx")
    assert direct(home, "linear", "high", "--rows", "x.npy", "--labels", "y.npy") == 2
    assert "encode.onnx is missing, or not what manifest.json says" in capsys.readouterr().err
    assert [version for name, version in discover(home / "artifacts") if name == "linear"] == ["1"]


def test_what_is_no_manifest_is_said(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (home / "artifacts" / "linear" / "1" / FILE_NAME).write_text("{}")
    assert direct(home, "linear", "high", "--rows", "x.npy", "--labels", "y.npy") == 2
    assert "is not valid: name: Field required" in capsys.readouterr().err
