"""Bulk work: what its files say, and what is refused before a row is computed."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.csv
import pytest
from pyarrow import parquet

from models.manifest import DataSpace
from tests import graphs
from training.cli import main
from training.tables import open_rows

ROWS = np.random.default_rng(1).normal(size=(30, 3)).astype(np.float32)


@pytest.fixture(scope="module")
def artifacts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("artifacts")
    for build in (graphs.linear_flow, graphs.gaussian_vae, graphs.conditional, graphs.image_gan):
        build(root)
    return root


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, artifacts: Path) -> Path:
    """A folder to work in, with the same rows in every kind of file."""
    monkeypatch.chdir(tmp_path)
    Path("artifacts").symlink_to(artifacts)
    np.save("rows.npy", ROWS)
    np.save("flat.npy", ROWS.reshape(30, 3).astype(np.float64))
    parquet.write_table(pyarrow.table({name: ROWS[:, i] for i, name in enumerate("abc")}), "rows.parquet")
    np.savetxt("bare.csv", ROWS, delimiter=",", fmt="%.9g")
    np.savetxt("rows.csv", ROWS, delimiter=",", fmt="%.9g", header="a,b,c", comments="")
    return tmp_path


def scores(source: str, out: str = "out.npy") -> np.ndarray:
    assert main(["score", "linear", source, "--out", out]) == 0
    held = np.load(out)
    Path(out).unlink()
    return held


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("source", ["flat.npy", "bare.csv", "rows.csv", "rows.parquet"])
def test_the_same_numbers_have_the_same_scores_whatever_file_they_are_in(source: str) -> None:
    assert scores(source).tobytes() == scores("rows.npy").tobytes()


@pytest.mark.usefixtures("here")
def test_the_same_scores_are_written_whatever_file_they_go_to() -> None:
    for kind in ("npz", "csv", "parquet"):
        assert main(["score", "linear", "rows.npy", "--out", f"s.{kind}"]) == 0
    with Path("s.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    with np.load("s.npz") as held:
        assert list(held.files) == list(lines[0]) == ["log_likelihood", "p_value", "status"]
        assert held["log_likelihood"].tolist() == [float(line["log_likelihood"]) for line in lines]
        assert held["status"].tolist() == [line["status"] for line in lines]
        table = parquet.read_table("s.parquet")
        assert {name: table[name].to_pylist() for name in table.column_names} == {
            name: held[name].tolist() for name in held.files
        }
        assert held["log_likelihood"].tobytes() == scores("rows.npy").tobytes()


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_the_columns_of_the_model_are_found_by_their_names(kind: str, tmp_path: Path) -> None:
    space = DataSpace(shape=(2,), columns=("height", "width"))
    table = pyarrow.table({"width": [1.5, 2.5], "depth": [0.0, 0.0], "height": [3.0, 4.0]})
    path = tmp_path / f"rows.{kind}"
    {"csv": pyarrow.csv.write_csv, "parquet": parquet.write_table}[kind](table, path)
    assert open_rows(path, space, tmp_path / "stage.npy").tolist() == [[3.0, 1.5], [4.0, 2.5]]


@pytest.mark.usefixtures("here")
def test_codes_and_what_is_said_beside_them_have_a_column_for_each_number() -> None:
    assert main(["encode", "gaussian-vae", "rows.npy", "--out", "z.csv"]) == 0
    header, *lines = Path("z.csv").read_text().splitlines()
    assert header == "z0,z1,std0,std1"
    assert len(lines) == 30


@pytest.mark.usefixtures("here")
def test_the_end_says_how_many_rows_have_which_status(capsys: pytest.CaptureFixture[str]) -> None:
    np.save("far.npy", np.concatenate([ROWS[:2] / 100, np.full((3, 3), 1e4, np.float32)]))
    assert main(["score", "linear", "far.npy", "--out", "s.csv"]) == 0
    assert capsys.readouterr().out == "5 rows in s.csv: 3 extrapolating, 2 ok\n"


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("score none rows.npy --out s.npy", "there is no artifact none"),
        ("score image-gan rows.npy --out s.npy", "image-gan cannot score: its grades are density none"),
        ("encode image-gan rows.npy --out s.npy", "image-gan cannot encode"),
        ("score linear nothing.npy --out s.npy", "nothing.npy cannot be read"),
        ("score linear rows.txt --out s.npy", "rows.txt ends in .txt; allowed are .npy, .csv, .parquet"),
        ("score linear rows.npy --out s.doc", "--out s.doc ends in .doc; allowed are .npy"),
        ("score linear rows.npy --out rows.npy", "rows.npy is there already"),
        ("score linear rows.npy --out no/s.npy", "no is no folder"),
        ("score linear wide.npy --out s.npy", "rows of shape [4]; allowed are [3]"),
        ("score linear holes.npy --out s.npy", "row 1 holds nan; allowed are finite numbers of float32"),
        ("score linear words.csv --out s.npy", "row 1 holds 'six'; allowed are numbers"),
        ("score linear short.csv --out s.npy", "row 1 has 2 cells; needed are 3"),
        ("score linear text.npy --out s.npy", "needed are rows of numbers"),
        ("score linear rows.npy --k 0 --out s.npy", "--k is 0"),
        ("score linear rows.npy --label 1 --out s.npy", "linear takes no class"),
        ("draw conditional -n 3 --out s.npy", "conditional takes a class"),
        ("draw conditional -n 3 --label west --out s.npy", "allowed are origin, east, north"),
        ("draw linear -n 0 --out s.npy", "-n is 0; allowed is 1"),
        ("draw linear -n 3 --offset -1 --out s.npy", "--offset is -1; allowed is 0"),
        ("draw linear -n 3 --temperature 11 --out s.npy", "--temperature is 11; allowed is 0 to 10"),
    ],
)
def test_a_mistake_is_one_sentence_and_nothing_is_left(
    arguments: str, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    np.save("wide.npy", np.zeros((2, 4)))
    np.save("holes.npy", np.array([[0, 0, 0], [0, np.nan, 0]]))
    np.save("text.npy", np.array([["a", "b", "c"]]))
    Path("words.csv").write_text("a,b,c\n1,2,3\n4,5,six\n")
    Path("short.csv").write_text("1,2,3\n4,5\n")
    Path("rows.txt").touch()
    before = sorted(Path().iterdir())
    assert main(arguments.split()) == 2
    error = capsys.readouterr().err
    assert error.startswith("training: ")
    assert words in error
    assert error.count("\n") == 1
    assert sorted(Path().iterdir()) == before
