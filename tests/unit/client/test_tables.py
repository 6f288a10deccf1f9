"""Files become rows of a model, or a sentence that says why not."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pushforward_client.answers import Model
from pushforward_client.tables import Table, Unreadable, flat, read


def model(shape: tuple[int, ...] = (2,), **data: object) -> Model:
    about = {"data": {"columns": None, "display": None, "support": [{"lattice": False}], **data}}
    return Model("m", "1", ("1",), "flow", ("loglik",), "exact", "bijection", "one_shot", shape, shape, about)


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "rows.csv"
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    "text", ["1,2\n3,4\n", "a,b\n1,2\n3,4\n", 'a,"b"\r\n1,2\r\n\r\n3,4', "1, 2\n3e0,4.0"]
)
def test_a_table_has_a_line_of_names_or_none(tmp_path: Path, text: str) -> None:
    assert read(written(tmp_path, text), model()).tolist() == [[1, 2], [3, 4]]


def test_columns_are_found_by_name_where_the_model_has_names(tmp_path: Path) -> None:
    path = written(tmp_path, "when,y,x\nmonday,2,1\ntuesday,4,3\n")
    assert read(path, model(columns=["x", "y"])).tolist() == [[1, 2], [3, 4]]
    with pytest.raises(Unreadable, match="has no column 'z'; its columns are when, y, x"):
        read(path, model(columns=["x", "z"]))


def test_flat_lines_take_the_shape_of_a_row(tmp_path: Path) -> None:
    path = written(tmp_path, "1,2,3,4\n5,6,7,8\n")
    assert read(path, model((1, 2, 2))).shape == (2, 1, 2, 2)
    assert read(path, model((3,))).shape == (2, 4)  # the service says what it wants


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "is empty"),
        ("a,b\n", "is empty"),
        ("1,2\n3,four\n", "a line is '3,four'"),
        ("a,b\n1,2\n3\n", "a line is '3'; allowed: 2 cells"),
    ],
)
def test_what_is_no_table_is_refused_with_its_line(tmp_path: Path, text: str, why: str) -> None:
    with pytest.raises(Unreadable, match=why):
        read(written(tmp_path, text), model())


def test_what_is_no_file_of_rows_is_refused(tmp_path: Path) -> None:
    (tmp_path / "rows.npy").write_bytes(b"no")
    for name in ("rows.npy", "none.csv", "rows.xlsx"):
        with pytest.raises(Unreadable):
            read(tmp_path / name, model())


def test_a_picture_takes_the_size_and_the_units_of_the_model(tmp_path: Path) -> None:
    Image.fromarray(np.kron([[0, 255], [255, 127]], np.ones((8, 8))).astype(np.uint8)).save(
        tmp_path / "a.png"
    )
    digit = model((1, 2, 2), display=[0.0, 16.0], support=[{"lattice": True}])
    assert read(tmp_path / "a.png", digit).tolist() == [[[[0, 16], [16, 8]]]]
    colour = model((3, 2, 2), display=[-1.0, 1.0])
    assert read(tmp_path / "a.png", colour)[0, :, 0].tolist() == [[-1, 1]] * 3
    with pytest.raises(Unreadable, match="is a picture"):
        read(tmp_path / "a.png", model())


def test_numbers_are_as_short_as_they_can_be_and_read_back() -> None:
    rows = np.array([[0.1, -1e-30], [1 / 3, np.float32(7)]], np.float32)
    out = io.StringIO()
    table = Table(out)
    table.append(flat(rows[:1], model(columns=["a", "b"]), "x"))
    table.append(flat(rows[1:], model(columns=["a", "b"]), "x"))
    assert out.getvalue() == "a,b\n0.1,-1e-30\n0.33333334,7.0\n"
