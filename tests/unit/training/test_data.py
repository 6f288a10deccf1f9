"""Sources give rows in their owner's units, split the same way every time, or say what is wrong."""

import gzip
import math
import struct
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from training import Mistake
from training.data import (
    ArrayData,
    DigitsData,
    FolderData,
    IDXData,
    Quantised,
    Splits,
    TableData,
    ToyData,
    load,
    read_idx,
)
from training.toys import MODES, TOYS, BlurredCurve

Writer = Callable[[Path, bytes], None]


def plain(path: Path, content: bytes) -> None:
    path.write_bytes(content)


def zipped(path: Path, content: bytes) -> None:
    path.with_name(path.name + ".gz").write_bytes(gzip.compress(content))


def idx(array: np.ndarray) -> bytes:
    return struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.tobytes()


def write_mnist(folder: Path, write: Writer, rows: int = 30) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (rows + 10, 6, 5)).astype(np.uint8)
    labels = (np.arange(rows + 10) % 4).astype(np.uint8)
    for stem, part in (("train", slice(rows)), ("t10k", slice(rows, None))):
        write(folder / f"{stem}-images-idx3-ubyte", idx(images[part]))
        write(folder / f"{stem}-labels-idx1-ubyte", idx(labels[part]))
    return images, labels


def all_rows(splits: Splits) -> np.ndarray:
    return np.concatenate([splits.train, splits.valid, splits.test])


# Digits ------------------------------------------------------------------------------------------------


def test_the_digits_are_whole_grey_levels_and_every_row_is_in_one_split() -> None:
    splits = load(DigitsData(source="digits"))
    rows = all_rows(splits)
    assert splits.train.dtype == np.float32
    assert rows.shape == (1797, 1, 8, 8)
    assert len({row.tobytes() for row in rows}) >= 1790
    assert set(np.unique(rows)) == set(range(17))
    assert (splits.space.levels, splits.space.display) == (17, (0, 16))
    assert splits.space.support[0].lattice
    assert splits.labels is not None
    assert [len(splits.labels[name]) for name in ("train", "valid", "test")] == [1297, 200, 300]


def test_a_split_is_always_the_same() -> None:
    first, second = load(DigitsData(source="digits")), load(DigitsData(source="digits"))
    assert np.array_equal(first.test, second.test)


# Toys --------------------------------------------------------------------------------------------------


CELL = 1 / 16  # the fields of the checkerboard are whole cells
MIDDLES = np.stack(np.meshgrid(*[np.arange(-6, 6, CELL) + CELL / 2] * 2), -1).reshape(-1, 2)


@cache
def on_the_plane(name: str) -> np.ndarray:
    """The log density of a toy at the middle of every cell."""
    return TOYS[name].log_density(MIDDLES)


WIDE = sorted(set(TOYS) - {"ring"})  # its modes are narrower than a cell


@pytest.mark.parametrize("name", WIDE)
def test_the_density_of_a_toy_sums_to_one(name: str) -> None:
    assert np.exp(on_the_plane(name)).sum() * CELL**2 == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize("name", WIDE)
def test_the_rows_of_a_toy_follow_its_density(name: str) -> None:
    toy = TOYS[name]
    log_p = on_the_plane(name)
    finite = log_p > -math.inf
    negative_entropy = (np.exp(log_p[finite]) * log_p[finite]).sum() * CELL**2
    score = toy.log_density(toy.draw(4000, np.random.default_rng(1)))
    assert score.mean() == pytest.approx(negative_entropy, abs=4 * score.std() / math.sqrt(4000) + 1e-3)


@pytest.mark.parametrize(("name", "ceiling"), [("checkerboard", -math.log(32)), ("eight-gaussians", -2.8307)])
def test_the_ceilings_of_the_papers_come_out(name: str, ceiling: float) -> None:
    toy = TOYS[name]
    score = toy.log_density(toy.draw(20_000, np.random.default_rng(2)))
    assert score.mean() == pytest.approx(ceiling, abs=0.025)


def test_the_ring_is_eight_gaussians_that_do_not_touch() -> None:
    """At a centre the density is an eighth of one Gaussian's; entropy is ln 8 more than one Gaussian's."""
    toy, sd = TOYS["ring"], 0.02
    peak = -math.log(8) - math.log(2 * math.pi * sd**2)
    assert toy.log_density(MODES["ring"].centres) == pytest.approx(np.full(8, peak), abs=1e-9)
    score = toy.log_density(toy.draw(20_000, np.random.default_rng(2)))
    assert score.mean() == pytest.approx(peak - 1, abs=4 * score.std() / math.sqrt(20_000))


def test_a_toy_draws_as_many_rows_as_asked_from_streams_that_do_not_meet() -> None:
    splits = load(ToyData(source="toys", toy="rings", train=50, valid=20, test=30))
    assert [len(part) for part in (splits.train, splits.valid, splits.test)] == [50, 20, 30]
    assert len(np.unique(all_rows(splits), axis=0)) == 100
    assert splits.truth is not None


def test_one_point_blurred_is_a_gaussian() -> None:
    toy = BlurredCurve(lambda u: np.zeros((len(u), 2)), sd=0.5)
    x = np.array([[0.0, 0.0], [0.3, -0.4]])
    expected = -((x**2).sum(1) / 2 / 0.25) - math.log(2 * math.pi * 0.25)
    assert np.allclose(toy.log_density(x), expected, atol=1e-12)


# IDX ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("write", [plain, zipped])
def test_idx_files_are_read_plain_or_zipped_and_split_as_the_papers_do(tmp_path: Path, write: Writer) -> None:
    images, labels = write_mnist(tmp_path, write)
    splits = load(IDXData(source="idx", valid=10), tmp_path)
    assert np.array_equal(all_rows(splits)[:, 0], images)
    assert [len(part) for part in (splits.train, splits.valid, splits.test)] == [20, 10, 10]
    assert splits.labels is not None
    assert np.array_equal(splits.labels["valid"], labels[20:30])
    assert (splits.space.shape, splits.space.levels) == ((1, 6, 5), 256)
    assert splits.space.labels == ("0", "1", "2", "3")


def test_binarised_pixels_are_drawn_once_by_their_grey_level(tmp_path: Path) -> None:
    images, _ = write_mnist(tmp_path, plain, rows=400)
    config = IDXData(source="idx", valid=10, binarise=True)
    rows = all_rows(load(config, tmp_path))
    assert np.array_equal(rows, all_rows(load(config, tmp_path)))
    assert set(np.unique(rows)) == {0, 1}
    assert load(config, tmp_path).space.levels == 2
    assert rows[:, 0][images > 200].mean() == pytest.approx(images[images > 200].mean() / 255, abs=0.03)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "starts with nothing"),
        (b"\x00\x00\x0d\x03" + bytes(20), "starts with 00000d03"),
        (b"\x00\x00\x08\x03" + bytes(5), "ends inside its header"),
        (idx(np.zeros((2, 3, 3), np.uint8))[:-1], "holds 17 bytes of data; its header (2, 3, 3) says 18"),
        (gzip.compress(bytes(99), mtime=0)[:-9], "broken gzip"),
    ],
)
def test_a_broken_idx_file_is_refused(tmp_path: Path, content: bytes, words: str) -> None:
    (tmp_path / "file").write_bytes(content)
    with pytest.raises(Mistake) as caught:
        read_idx(tmp_path / "file")
    assert words in str(caught.value)


def test_pictures_and_labels_of_different_number_are_refused(tmp_path: Path) -> None:
    write_mnist(tmp_path, plain)
    (tmp_path / "t10k-labels-idx1-ubyte").write_bytes(idx(np.zeros(3, np.uint8)))
    with pytest.raises(Mistake, match="t10k has 10 pictures and 3 labels"):
        load(IDXData(source="idx", valid=10), tmp_path)


# Arrays ------------------------------------------------------------------------------------------------


def test_an_npy_array_is_split_whole(tmp_path: Path) -> None:
    x = np.random.default_rng(0).standard_normal((50, 3))
    np.save(tmp_path / "x.npy", x)
    splits = load(ArrayData(source="arrays"), tmp_path / "x.npy")
    assert sorted(all_rows(splits)[:, 0]) == sorted(x[:, 0].astype(np.float32))
    assert [len(part) for part in (splits.train, splits.valid, splits.test)] == [40, 5, 5]
    assert splits.space.levels is None


def test_an_npz_that_is_split_already_stays_so_and_is_shaped(tmp_path: Path) -> None:
    bits = np.random.default_rng(0).integers(0, 2, (12, 4)).astype(np.uint8)
    np.savez(tmp_path / "x.npz", train=bits[:6], valid=bits[6:9], test=bits[9:])
    config = ArrayData(source="arrays", shape=(1, 2, 2), quantised=Quantised(levels=2))
    splits = load(config, tmp_path / "x.npz")
    assert np.array_equal(splits.test, bits[9:].reshape(3, 1, 2, 2))
    assert (splits.space.levels, splits.space.display) == (2, (0, 1))


@pytest.mark.parametrize(
    ("arrays", "config", "words"),
    [
        ({"y": np.zeros((9, 2))}, {}, "holds ['y']; needed are train, valid and test, or x"),
        ({"x": np.zeros((9, 2)), "labels": np.zeros(8)}, {}, "labels have shape (8,)"),
        ({"x": np.zeros(9)}, {}, "of shape (9,)"),
        ({"x": np.array([["a", "b"]] * 9)}, {}, "needed are numbers"),
        ({"x": np.array([[{}, {}]] * 9)}, {}, "without pickle"),
        ({"x": np.full((9, 2), np.nan)}, {}, "NaN or infinity"),
        ({"x": np.zeros((9, 4))}, {"shape": (3, 2)}, "`shape` is (3, 2)"),
        (
            {"x": np.full((9, 2), 0.5)},
            {"quantised": Quantised(levels=2)},
            "value 0.5; allowed are 2 levels from 0 to 1",
        ),
        ({"x": np.full((9, 2), 2)}, {"quantised": Quantised(levels=2)}, "value 2; allowed are 2 levels"),
        ({"x": np.zeros((2, 2))}, {}, "leave none to train on"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(
    tmp_path: Path, arrays: dict[str, np.ndarray], config: dict[str, object], words: str
) -> None:
    np.savez(tmp_path / "x.npz", **arrays)
    with pytest.raises(Mistake) as caught:
        load(ArrayData.model_validate({"source": "arrays", **config}), tmp_path / "x.npz")
    assert words in str(caught.value)


def test_a_file_that_is_no_array_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.npz").write_bytes(b"PK\x03\x04 not a zip")
    with pytest.raises(Mistake, match="cannot be read as"):
        load(ArrayData(source="arrays"), tmp_path / "x.npz")


# Tables ------------------------------------------------------------------------------------------------

TABLE = "height,weight,kind\n" + "".join(f"{i},{2 * i}.5,{'ab'[i % 2]}\n" for i in range(20))


def test_a_table_gives_its_columns_by_name_and_its_classes(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("\ufeff" + TABLE, encoding="utf-8")
    splits = load(TableData(source="csv", columns=("weight", "height"), label="kind"), tmp_path / "t.csv")
    assert splits.space.columns == ("weight", "height")
    assert splits.space.labels == ("a", "b")
    assert splits.labels is not None
    assert np.array_equal(splits.train[:, 0], 2 * splits.train[:, 1] + 0.5)
    assert np.array_equal(splits.labels["train"], splits.train[:, 1] % 2)


@pytest.mark.parametrize(
    ("text", "config", "words"),
    [
        (TABLE, {}, "row 2, column kind: 'a' is not a finite number"),
        (TABLE, {"columns": ("width",)}, "no column 'width'; its columns are height, weight, kind"),
        (TABLE, {"label": "class"}, "no column 'class'"),
        ("a,b\n1,2\n3\n", {}, "row 3: 1 fields; the header has 2"),
        ("a,b\n1,nan\n", {}, "row 2, column b: 'nan' is not a finite number"),
        ("a,b\n", {}, "1 lines; needed are a header and rows"),
    ],
)
def test_a_table_that_does_not_fit_is_refused(
    tmp_path: Path, text: str, config: dict[str, object], words: str
) -> None:
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(Mistake) as caught:
        load(TableData.model_validate({"source": "csv", **config}), tmp_path / "t.csv")
    assert words in str(caught.value)


# Pictures ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("colour", "channels"), [(False, 1), (True, 3)])
def test_pictures_become_rows_of_one_size_and_folders_become_classes(
    tmp_path: Path, colour: bool, channels: int
) -> None:
    for i in range(12):
        folder = tmp_path / ("cats" if i % 2 else "dogs")
        folder.mkdir(exist_ok=True)
        Image.new("RGB", (20 + i, 10), (255 * (i % 2), 0, 0)).save(folder / f"{i}.png")
    splits = load(FolderData(source="images", size=(4, 6), colour=colour), tmp_path)
    assert splits.train.shape == (10, channels, 4, 6)
    assert splits.space.labels == ("cats", "dogs")
    assert splits.labels is not None
    assert np.array_equal(splits.train[:, 0, 0, 0] > 50, splits.labels["train"] == 0)


def test_a_broken_picture_is_named(tmp_path: Path) -> None:
    (tmp_path / "broken.png").write_bytes(b"not a picture")
    with pytest.raises(Mistake, match=r"broken\.png cannot be read as a picture"):
        load(FolderData(source="images", size=(4, 4)), tmp_path)


# Missing -----------------------------------------------------------------------------------------------

FILES = [
    IDXData(source="idx"),
    ArrayData(source="arrays"),
    TableData(source="csv"),
    FolderData(source="images", size=(4, 4)),
]


@pytest.mark.parametrize("config", FILES, ids=lambda config: config.source)
def test_without_a_path_the_sentence_says_how_to_give_one(config: IDXData) -> None:
    with pytest.raises(Mistake, match="give its path with --data"):
        load(config)


@pytest.mark.parametrize("config", FILES, ids=lambda config: config.source)
def test_a_path_that_does_not_exist_is_named(config: IDXData, tmp_path: Path) -> None:
    with pytest.raises(Mistake, match="nowhere does not exist"):
        load(config, tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("config", "words"), [(FILES[0], "holds no train-images-idx3-ubyte"), (FILES[3], "holds no pictures")]
)
def test_an_empty_folder_is_refused(config: IDXData, words: str, tmp_path: Path) -> None:
    with pytest.raises(Mistake, match=words):
        load(config, tmp_path)
