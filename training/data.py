"""Where rows come from: the data sources, how they are split, and the space that they live in.

Every source gives float32 rows in the units of its owner: grey levels, prices, coordinates. Scaling belongs
to the models. A split never depends on the recipe's seed, so two recipes are compared on the same test rows.
"""

from __future__ import annotations

import csv
import gzip
import math
import struct
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Final, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError
from pydantic import Field
from sklearn.datasets import load_digits

from models.manifest import Contract, DataSpace, Support
from training import Mistake, shapes
from training.toys import MODES, TOYS, Floats, Modes

Rows = NDArray[np.float32]
Labels = NDArray[np.int64]
Count = Annotated[int, Field(ge=1)]
Fraction = Annotated[float, Field(gt=0, lt=0.5)]

SPLIT_SEED: Final = 20_131_220
GZIP_MAGIC: Final = b"\x1f\x8b"
PICTURES: Final = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp"})


@dataclass(frozen=True)
class Splits:
    """Rows to learn from, to choose a model by, and to judge it by.

    Attributes:
        train, valid, test: (N, *space.shape), float32, in data units.
        space: what one row is.
        labels: the class numbers by split name, (N,), int64, where the source has them.
        factors: what the source drew each row from, where it did: by split name, the level of each factor by
            the factor's name, (N,), int64.
        truth: the log density of the source itself in nats, for toys: rows (B, 2) to (B,).
        modes: where its mass is gathered, for toys that have such places.
    """

    train: Rows
    valid: Rows
    test: Rows
    space: DataSpace
    labels: Mapping[str, Labels] | None = None
    factors: Mapping[str, Mapping[str, Labels]] | None = None
    truth: Callable[[Floats], Floats] | None = None
    modes: Modes | None = None


class DigitsData(Contract):
    """The 1,797 handwritten digits inside scikit-learn: 8×8, grey levels 0 to 16."""

    source: Literal["digits"]


class ShapeData(Contract):
    """The 5,832 pictures of ``training.shapes``: 16×16, grey levels 0 to 16, of known factors."""

    source: Literal["shapes"]


class ToyData(Contract):
    """Rows of a two-dimensional source with a known density, as many as asked for."""

    source: Literal["toys"]
    toy: Literal["moons", "eight-gaussians", "ring", "rings", "spirals", "checkerboard"]
    train: Count = 50_000
    valid: Count = 5_000
    test: Count = 10_000


class IDXData(Contract):
    """The four files of MNIST and its kin, gzip or plain, in one folder.

    Attributes:
        valid: how many rows at the end of the training file choose the model.
        binarise: draw each pixel once as Bernoulli(grey / 255), and keep 0 and 1 as the data.
    """

    source: Literal["idx"]
    path: str | None = None
    valid: Count = 10_000
    binarise: bool = False


class Quantised(Contract):
    """Data with levels: ``low``, ``low + width``, … up to ``levels`` of them."""

    levels: int = Field(ge=2)
    low: float = 0.0
    width: float = Field(default=1.0, gt=0)


class ArrayData(Contract):
    """A ``.npy`` array of rows, or an ``.npz`` with ``x`` and maybe ``labels``, or split already.

    An ``.npz`` that is split holds ``train``, ``valid`` and ``test``.

    Attributes:
        shape: of one row, where the file holds another one.
        quantised: the levels of the values; without it they are continuous.
    """

    source: Literal["arrays"]
    path: str | None = None
    shape: tuple[Count, ...] | None = None
    quantised: Quantised | None = None
    valid: Fraction = 0.1
    test: Fraction = 0.1


class TableData(Contract):
    """A CSV file with a header; every column that is taken holds numbers.

    Attributes:
        columns: the ones to take, in this order; all but ``label`` without it.
        label: a column that names the class of the row.
    """

    source: Literal["csv"]
    path: str | None = None
    columns: tuple[str, ...] | None = None
    label: str | None = None
    valid: Fraction = 0.1
    test: Fraction = 0.1


class FolderData(Contract):
    """A folder of pictures; where it has sub-folders, their names are the classes.

    Attributes:
        size: height and width in pixels that every picture is cropped and scaled to.
    """

    source: Literal["images"]
    path: str | None = None
    size: tuple[Count, Count]
    colour: bool = False
    valid: Fraction = 0.1
    test: Fraction = 0.1


DataConfig = Annotated[
    DigitsData | ShapeData | ToyData | IDXData | ArrayData | TableData | FolderData,
    Field(discriminator="source"),
]


def load(config: DataConfig, root: Path | None = None) -> Splits:
    """Read a source and split it.

    Args:
        root: the file or folder to read, for sources that live in one.

    Raises:
        Mistake: if the files are missing, unreadable or not what the config says.
    """
    match config:
        case DigitsData():
            return _digits()
        case ShapeData():
            return _shapes()
        case ToyData():
            return _toy(config)
        case IDXData():
            return _idx(config, _existing(root, "a folder with IDX files"))
        case ArrayData():
            return _arrays(config, _existing(root, "an .npy or .npz file"))
        case TableData():
            return _table(config, _existing(root, "a CSV file"))
        case FolderData():
            return _folder(config, _existing(root, "a folder of pictures"))


def _existing(root: Path | None, what: str) -> Path:
    if root is None:
        raise Mistake(f"this recipe reads {what}: give its path with --data, or as `path` under [data]")
    if not root.exists():
        raise Mistake(f"{root} does not exist; this recipe reads {what}, give its path with --data")
    return root


# Sources that need no file ---------------------------------------------------------------------------


def _digits() -> Splits:
    digits = load_digits()
    x = digits.images[:, None].astype(np.float32)  # (1797, 1, 8, 8)
    return _split(x, pixels((1, 8, 8), 17, tuple("0123456789")), digits.target, valid=200, test=300)


def _shapes() -> Splits:
    drawn = shapes.draw()
    space = pixels(drawn.x.shape[1:], shapes.FINE**2 + 1, tuple(shapes.KINDS))
    splits = _split(drawn.x, space, np.arange(len(drawn.x)), valid=500, test=1500)
    assert splits.labels is not None
    factors = {
        name: {factor: level[which] for factor, level in drawn.factors.items()}
        for name, which in splits.labels.items()
    }
    return replace(splits, labels={name: of["kind"] for name, of in factors.items()}, factors=factors)


def _toy(config: ToyData) -> Splits:
    toy = TOYS[config.toy]
    streams = np.random.SeedSequence(SPLIT_SEED).spawn(3)
    sizes = (config.train, config.valid, config.test)
    drawn = (
        toy.draw(n, np.random.default_rng(stream)).astype(np.float32)
        for n, stream in zip(sizes, streams, strict=True)
    )
    return Splits(*drawn, space=DataSpace(shape=(2,)), truth=toy.log_density, modes=MODES.get(config.toy))


def pixels(shape: tuple[int, ...], levels: int, labels: tuple[str, ...] | None = None) -> DataSpace:
    """The space of pictures whose pixels are whole numbers from 0 to ``levels`` - 1."""
    return quantised_space(shape, Quantised(levels=levels), labels)


def quantised_space(
    shape: tuple[int, ...], grid: Quantised, labels: tuple[str, ...] | None = None
) -> DataSpace:
    """The space of data with levels; pictures (C, H, W) are shown from the lowest to the highest."""
    high = grid.low + (grid.levels - 1) * grid.width
    whole = float(grid.low).is_integer() and grid.width == 1
    return DataSpace(
        shape=shape,
        support=(Support(low=grid.low, high=high, lattice=whole),),
        levels=grid.levels,
        bin_width=grid.width,
        display=(grid.low, high) if len(shape) == 3 else None,
        labels=labels,
    )


def _split(x: Rows, space: DataSpace, labels: NDArray[np.generic] | None, valid: int, test: int) -> Splits:
    """Cut rows into three by one fixed permutation."""
    if len(x) < valid + test + 1:
        raise Mistake(
            f"the data have {len(x)} rows; {valid} to validate and {test} to test leave none to train on"
        )
    order = np.random.default_rng(SPLIT_SEED).permutation(len(x))
    parts = dict(zip(("test", "valid", "train"), np.split(order, (test, test + valid)), strict=True))
    named = None if labels is None else {name: labels[part].astype(np.int64) for name, part in parts.items()}
    return Splits(x[parts["train"]], x[parts["valid"]], x[parts["test"]], space, named)


def _split_fraction(
    x: Rows, space: DataSpace, labels: NDArray[np.generic] | None, valid: float, test: float
) -> Splits:
    return _split(x, space, labels, max(1, round(valid * len(x))), max(1, round(test * len(x))))


# IDX ---------------------------------------------------------------------------------------------------


def _idx(config: IDXData, folder: Path) -> Splits:
    x, test = read_idx(_idx_file(folder, "train-images", 3)), read_idx(_idx_file(folder, "t10k-images", 3))
    y, test_y = read_idx(_idx_file(folder, "train-labels", 1)), read_idx(_idx_file(folder, "t10k-labels", 1))
    for images, labels, name in ((x, y, "train"), (test, test_y, "t10k")):
        if len(images) != len(labels):
            raise Mistake(f"{folder}: {name} has {len(images)} pictures and {len(labels)} labels")
    if len(x) <= config.valid:
        raise Mistake(f"{folder}: {len(x)} training pictures; `valid` is {config.valid}, allowed is less")
    classes = tuple(str(label) for label in range(int(max(y.max(), test_y.max())) + 1))
    space = pixels((1, *x.shape[1:]), 2 if config.binarise else 256, classes)
    x, test = (_binarised(x, 0), _binarised(test, 1)) if config.binarise else (x, test)
    rows, cut = x[:, None].astype(np.float32), len(x) - config.valid
    named = {"train": y[:cut], "valid": y[cut:], "test": test_y}
    return Splits(
        rows[:cut],
        rows[cut:],
        test[:, None].astype(np.float32),
        space,
        {name: labels.astype(np.int64) for name, labels in named.items()},
    )


def _binarised(grey: NDArray[np.uint8], stream: int) -> NDArray[np.uint8]:
    """One Bernoulli draw of each pixel, always the same one.

    Reference: Salakhutdinov & Murray 2008; the way is theirs, the draw is not, so compare with care.
    """
    u = np.random.default_rng([SPLIT_SEED, stream]).random(grey.shape, dtype=np.float32)
    return (u * 255 < grey).astype(np.uint8)


def _idx_file(folder: Path, stem: str, axes: int) -> Path:
    names = [f"{stem}{dot}idx{axes}-ubyte{end}" for dot in "-." for end in ("", ".gz")]
    for name in names:
        if (folder / name).is_file():
            return folder / name
    raise Mistake(f"{folder} holds no {names[0]}, plain or .gz; give the folder of the IDX files with --data")


def read_idx(path: Path) -> NDArray[np.uint8]:
    """An IDX file of unsigned bytes, gzip or plain.

    Raises:
        Mistake: if the header is not one of IDX bytes, or the length is not what it says.
    """
    raw = _plain_bytes(path)
    if len(raw) < 4 or raw[:3] != b"\x00\x00\x08":
        raise Mistake(f"{path} starts with {raw[:4].hex() or 'nothing'}; an IDX file of bytes starts 000008")
    axes, start = raw[3], 4 + 4 * raw[3]
    if axes == 0 or len(raw) < start:
        raise Mistake(f"{path} ends inside its header of {axes} axes")
    shape = struct.unpack(f">{axes}I", raw[4:start])
    if len(raw) - start != math.prod(shape):
        raise Mistake(
            f"{path} holds {len(raw) - start} bytes of data; its header {shape} says {math.prod(shape)}"
        )
    return np.frombuffer(raw, np.uint8, offset=start).reshape(shape)


def _plain_bytes(path: Path) -> bytes:
    raw = path.read_bytes()
    if not raw.startswith(GZIP_MAGIC):
        return raw
    try:
        return gzip.decompress(raw)
    except (EOFError, gzip.BadGzipFile, OSError) as error:
        raise Mistake(f"{path} is a broken gzip file ({error}); fetch it again") from error


# NumPy files -------------------------------------------------------------------------------------------


def _arrays(config: ArrayData, path: Path) -> Splits:
    arrays = _read_arrays(path)
    if {"train", "valid", "test"} <= arrays.keys():
        rows = {name: _shaped(arrays[name], config, path) for name in ("train", "valid", "test")}
        return Splits(rows["train"], rows["valid"], rows["test"], _array_space(rows["train"], config))
    if "x" not in arrays:
        raise Mistake(f"{path} holds {sorted(arrays)}; needed are train, valid and test, or x")
    x, labels = _shaped(arrays["x"], config, path), arrays.get("labels")
    if labels is not None and labels.shape != (len(x),):
        raise Mistake(f"{path}: labels have shape {labels.shape}; needed is ({len(x)},), one for each row")
    return _split_fraction(x, _array_space(x, config), labels, config.valid, config.test)


def _read_arrays(path: Path) -> dict[str, NDArray[np.generic]]:
    try:
        with path.open("rb") as file:
            held = np.load(file, allow_pickle=False)
            return {"x": held} if isinstance(held, np.ndarray) else dict(held)
    except (ValueError, OSError, zipfile.BadZipFile) as error:
        raise Mistake(
            f"{path} cannot be read as .npy or .npz without pickle ({error}); save plain numeric arrays"
        ) from error


def _shaped(array: NDArray[np.generic], config: ArrayData, path: Path) -> Rows:
    if array.dtype.kind not in "buif" or array.ndim < 2:
        raise Mistake(f"{path} holds {array.dtype} of shape {array.shape}; needed are numbers, rows first")
    shape = config.shape or (array.shape[1:] if array.ndim != 3 else (1, *array.shape[1:]))
    if math.prod(shape) != math.prod(array.shape[1:]):
        raise Mistake(f"{path} has rows of shape {array.shape[1:]}; `shape` is {shape}, another size")
    x = array.reshape(len(array), *shape).astype(np.float32)
    if not np.isfinite(x).all():
        raise Mistake(f"{path} holds NaN or infinity; needed are finite numbers")
    if config.quantised is not None:
        _check_levels(x, config.quantised, path)
    return x


def _check_levels(x: Rows, grid: Quantised, path: Path) -> None:
    level = (x - grid.low) / grid.width
    wrong = (np.abs(level - np.round(level)) > 1e-3) | (level < -1e-3) | (level > grid.levels - 1 + 1e-3)
    if wrong.any():
        high = grid.low + (grid.levels - 1) * grid.width
        raise Mistake(
            f"{path} holds the value {x[wrong][0]:g}; "
            f"allowed are {grid.levels} levels from {grid.low:g} to {high:g}"
        )


def _array_space(x: Rows, config: ArrayData) -> DataSpace:
    if config.quantised is not None:
        return quantised_space(x.shape[1:], config.quantised)
    return DataSpace(shape=x.shape[1:])


# Tables ------------------------------------------------------------------------------------------------


def _table(config: TableData, path: Path) -> Splits:
    header, body = _read_csv(path)
    columns = config.columns or tuple(name for name in header if name != config.label)
    missing = [name for name in (*columns, config.label) if name is not None and name not in header]
    if missing:
        raise Mistake(f"{path} has no column {missing[0]!r}; its columns are {', '.join(header)}")
    x = np.stack([_numbers(body, header.index(name), name, path) for name in columns], axis=1)
    classes, labels = None, None
    if config.label is not None:
        found, labels = np.unique([row[header.index(config.label)] for row in body], return_inverse=True)
        classes = tuple(str(name) for name in found)
    space = DataSpace(shape=(len(columns),), columns=columns, labels=classes)
    return _split_fraction(x, space, labels, config.valid, config.test)


def _read_csv(path: Path) -> tuple[list[str], list[list[str]]]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = [row for row in csv.reader(file) if row]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise Mistake(f"{path} cannot be read as CSV ({error})") from error
    if len(rows) < 2:
        raise Mistake(f"{path} has {len(rows)} lines; needed are a header and rows")
    header = [name.strip() for name in rows[0]]
    for number, row in enumerate(rows[1:], start=2):
        if len(row) != len(header):
            raise Mistake(f"{path}, row {number}: {len(row)} fields; the header has {len(header)}")
    return header, rows[1:]


def _numbers(body: list[list[str]], column: int, name: str, path: Path) -> Rows:
    values = np.empty(len(body), dtype=np.float32)
    for index, row in enumerate(body):
        try:
            values[index] = float(row[column])
        except ValueError:
            values[index] = np.nan
        if not np.isfinite(values[index]):
            raise Mistake(
                f"{path}, row {index + 2}, column {name}: {row[column]!r} is not a finite number; "
                "fill or drop such rows, or leave the column out with `columns`"
            )
    return values


# Pictures ----------------------------------------------------------------------------------------------


def _folder(config: FolderData, folder: Path) -> Splits:
    files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in PICTURES)
    if not files:
        raise Mistake(f"{folder} holds no pictures; read are {', '.join(sorted(PICTURES))}")
    x = np.stack([_picture(path, config) for path in files])
    classes, labels = np.unique([str(path.parent.relative_to(folder)) for path in files], return_inverse=True)
    has_classes = len(classes) > 1
    space = pixels(x.shape[1:], 256, tuple(str(name) for name in classes) if has_classes else None)
    return _split_fraction(x, space, labels if has_classes else None, config.valid, config.test)


def _picture(path: Path, config: FolderData) -> Rows:
    """One picture, (C, H, W), its centre cropped to the wanted proportions and scaled."""
    height, width = config.size
    try:
        with Image.open(path) as image:
            upright = ImageOps.exif_transpose(image).convert("RGB" if config.colour else "L")
    except (UnidentifiedImageError, OSError) as error:
        raise Mistake(f"{path} cannot be read as a picture ({error}); repair or remove it") from error
    fitted = np.asarray(ImageOps.fit(upright, (width, height), Image.Resampling.LANCZOS), dtype=np.float32)
    return fitted.transpose(2, 0, 1) if config.colour else fitted[None]
