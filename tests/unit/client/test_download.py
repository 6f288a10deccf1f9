"""However a download arrives, and wherever it breaks off, its rows are the rows of the address."""

from __future__ import annotations

import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pushforward_client import UnexpectedAnswer, Unreachable, Wanted
from pushforward_client.download import CHUNK_BYTES, Download

ROWS = np.arange(90, dtype=np.float32).reshape(30, 1, 3)


def answer(download: Download) -> bytes:
    """What the service sends for what is missing."""
    fields = download.ask().fields
    buffer = io.BytesIO()
    np.save(buffer, ROWS[fields["offset"] : fields["offset"] + fields["n"]])
    return buffer.getvalue()


def download(n: int = len(ROWS), **more: object) -> Download:
    return Download(Wanted("m", n, 7, **more))  # type: ignore[arg-type]


@given(st.lists(st.lists(st.integers(1, 200), max_size=6), max_size=8))
def test_rows_are_whole_and_in_order_whatever_the_pieces_and_wherever_it_breaks(
    cuts: list[list[int]],
) -> None:
    got, loading = [], download()
    for sizes in [*cuts, [10**6]]:  # one list for each connection, which breaks after its last piece
        if not loading.left:
            break
        body = answer(loading)
        loading.begin({"X-Pushforward-Version": "4"})
        for size in sizes:
            got += loading.feed(body[:size])
            body = body[size:]
        got += loading.take()
    loading.end()
    assert np.concatenate(got).tobytes() == ROWS.tobytes()
    assert all(rows.shape[1:] == (1, 3) and rows.dtype == np.float32 for rows in got)


def test_long_downloads_are_handed_on_while_they_arrive() -> None:
    rows = np.zeros((CHUNK_BYTES // 4, 2), np.float32)
    buffer = io.BytesIO()
    np.save(buffer, rows)
    loading = download(len(rows))
    loading.begin({})
    got = [
        chunk
        for i in range(0, len(buffer.getvalue()), 4096)
        for chunk in loading.feed(buffer.getvalue()[i : i + 4096])
    ]
    got += loading.take()
    assert [chunk.nbytes <= CHUNK_BYTES + 4096 for chunk in got] == [True, True]
    assert sum(map(len, got)) == len(rows)


def test_after_the_first_answer_it_stays_with_one_version() -> None:
    loading = download(offset=2, n=20)
    assert loading.ask().fields["version"] is None
    loading.begin({"X-Pushforward-Version": "4"})
    list(loading.feed(answer(loading)))
    assert [len(rows) for rows in loading.take()] == [20]
    assert (loading.wanted.version, loading.left) == ("4", 0)


def test_labels_of_each_row_are_cut_with_the_rows() -> None:
    wanted = Wanted("m", 4, 7, label=["a", "b", "c", "d"])
    fields = Download(wanted, rows=3).ask().fields
    assert (fields["n"], fields["offset"], fields["label"]) == (1, 3, ["d"])
    assert Wanted("m", 4, 7, label="a").beyond(3)["label"] == "a"


@pytest.mark.parametrize("body", [b"<html>", b"\x93NUMPY\x03\x00" + b" " * 20])
def test_what_is_no_npy_file_is_refused(body: bytes) -> None:
    loading = download()
    loading.begin({})
    with pytest.raises(UnexpectedAnswer, match="no npy file"):
        list(loading.feed(body))


def test_another_number_of_rows_is_refused() -> None:
    loading = download(n=29)
    loading.begin({})
    with pytest.raises(UnexpectedAnswer, match="answered 30 rows; asked for were 29"):
        list(loading.feed(answer(download())))


def test_an_answer_that_ends_early_without_saying_so_is_noticed() -> None:
    loading = download()
    loading.begin({})
    list(loading.feed(answer(loading)[:-13]))
    assert [len(rows) for rows in loading.take()] == [28]
    with pytest.raises(Unreachable, match="after 28 of 30 rows"):
        loading.end()


def test_no_rows_are_no_download() -> None:
    with pytest.raises(ValueError, match="n is 0; allowed: 1 or more"):
        download(n=0)
