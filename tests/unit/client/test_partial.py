"""A file that was begun is gone on with, wherever it broke off, and only by the download that it is of."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pushforward_client import Unresumable, Wanted
from pushforward_client.partial import Partial

ROWS = np.random.default_rng(0).normal(size=(10, 2, 3)).astype(np.float32)
ASKED = Wanted("m", 10, 7)
KNOWN = replace(ASKED, version="3")


def begun(path: Path, rows: int = 4) -> Path:
    """The part of a file with its first rows."""
    with Partial(path, ASKED) as partial:
        partial.append(ROWS[:rows], KNOWN)
    return path.with_name(path.name + ".part")


def finished(path: Path) -> bytes:
    with Partial(path, ASKED) as partial:
        partial.append(ROWS[partial.rows :], KNOWN)
    return path.read_bytes()


def test_a_whole_file_is_the_one_that_numpy_saves(tmp_path: Path) -> None:
    np.save(tmp_path / "numpy.npy", ROWS)
    assert finished(tmp_path / "new" / "ours.npy") == (tmp_path / "numpy.npy").read_bytes()
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["ours.npy"]


@pytest.mark.parametrize("size", [0, 5, 60, 127, 128, 130, 128 + 24, 128 + 4 * 24, 128 + 4 * 24 - 1])
def test_it_goes_on_wherever_it_was_cut(tmp_path: Path, size: int) -> None:
    whole = finished(tmp_path / "whole.npy")
    part = begun(tmp_path / "rows.npy")
    part.write_bytes(part.read_bytes()[:size])
    assert Partial(tmp_path / "rows.npy", ASKED).rows == max(0, size - 128) // 24
    assert finished(tmp_path / "rows.npy") == whole
    assert not part.exists()


def test_it_keeps_the_version_that_it_began_with_and_the_seed_that_nobody_named(tmp_path: Path) -> None:
    begun(tmp_path / "rows.npy")
    partial = Partial(tmp_path / "rows.npy", replace(ASKED, seed=99), seed_named=False)
    assert (partial.wanted, partial.rows) == (KNOWN, 4)


@pytest.mark.parametrize(
    "other",
    [{"seed": 8}, {"model": "other"}, {"n": 11}, {"offset": 1}, {"temperature": 0.5}, {"version": "4"}],
)
def test_another_download_is_refused_and_told_why(tmp_path: Path, other: dict[str, object]) -> None:
    begun(tmp_path / "rows.npy")
    (name,) = other
    with pytest.raises(Unresumable, match=f"another download: its {name} is"):
        Partial(tmp_path / "rows.npy", replace(ASKED, **other))  # type: ignore[arg-type]


def test_a_part_without_its_address_is_refused(tmp_path: Path) -> None:
    begun(tmp_path / "rows.npy")
    (tmp_path / "rows.npy.part.json").unlink()
    with pytest.raises(Unresumable, match="its address cannot be read"):
        Partial(tmp_path / "rows.npy", ASKED)


def test_a_download_without_a_row_leaves_nothing_behind(tmp_path: Path) -> None:
    with pytest.raises(KeyError), Partial(tmp_path / "rows.npy", ASKED):
        raise KeyError
    assert not list(tmp_path.iterdir())
