"""A stream's bytes are one file, whatever pieces it was made of, and read back to the bit."""

from __future__ import annotations

import asyncio
import csv
import io
import json
from collections.abc import AsyncGenerator, MutableMapping
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from models.manifest import DataSpace
from service.streams import Stream, columns, send_stream
from service.wire import CSV, NDJSON, NPY, SLICE_BYTES

ROWS = hnp.arrays(
    st.sampled_from(["<f4", "<f8", "<i8"]).map(np.dtype), hnp.array_shapes(min_dims=2, max_dims=4)
)
TABLE = hnp.arrays(np.float32, hnp.array_shapes(min_dims=2, max_dims=2), elements=st.floats(width=32))


def sent(array: np.ndarray, media: str, cut: int = 1, names: tuple[str, ...] | None = None) -> Any:
    """Headers and body of a stream whose first piece has ``cut`` rows."""

    async def rest() -> AsyncGenerator[np.ndarray, None]:
        if cut < len(array):
            yield array[cut:]

    messages: list[MutableMapping[str, Any]] = []

    async def send(message: MutableMapping[str, Any]) -> None:
        messages.append(message)

    stream = Stream({"seed": 7}, array.shape, array.dtype, rest(), names)
    asyncio.run(send_stream(stream, array[:cut], media, send, 1.0))
    assert [message["more_body"] for message in messages[1:]] == [True] * (len(messages) - 2) + [False]
    assert messages[-1]["body"], "the end must not come after the last bytes: who has these may hang up"
    return dict(messages[0]["headers"]), b"".join(message["body"] for message in messages[1:])


@given(ROWS)
def test_npy_has_its_true_header_first_and_the_length_that_it_says(array: np.ndarray) -> None:
    headers, body = sent(array, NPY)
    assert headers[b"content-length"] == b"%d" % len(body)
    assert headers[b"x-pushforward-seed"] == b"7"
    found = np.load(io.BytesIO(body))
    assert (found.shape, found.dtype, found.tobytes()) == (array.shape, array.dtype, array.tobytes())


@given(ROWS.filter(lambda array: bool(np.isfinite(array).all())))
def test_ndjson_is_one_row_a_line(array: np.ndarray) -> None:
    headers, body = sent(array, NDJSON)
    assert (headers[b"content-type"], b"content-length" in headers) == (b"application/x-ndjson", False)
    lines = body.decode().splitlines()
    assert len(lines) == len(array)
    found = np.array([json.loads(line) for line in lines], array.dtype)
    assert found.tobytes() == array.tobytes()


@given(TABLE.filter(lambda array: bool(np.isfinite(array).all())))
def test_csv_is_a_line_of_names_and_one_for_each_row(array: np.ndarray) -> None:
    names = tuple(f"x{i}" for i in range(array.shape[1]))
    headers, body = sent(array, CSV, names=names)
    assert headers[b"content-type"] == b"text/csv; charset=utf-8; header=present"
    head, *rows = csv.reader(io.StringIO(body.decode()))
    assert tuple(head) == names
    assert np.array(rows, np.float32).tobytes() == array.tobytes()


@pytest.mark.parametrize("media", [NDJSON, CSV])
def test_text_is_the_same_whatever_slices_it_was_made_in(media: str) -> None:
    array = np.random.default_rng(0).normal(size=(3 * SLICE_BYTES // 16 + 5, 2)).astype(np.float32)
    assert sent(array, media, cut=len(array), names=("a", "b")) == sent(array, media, cut=7, names=("a", "b"))


def test_names_that_a_table_could_misread_are_quoted() -> None:
    names = ("plain", "with, comma", 'with "quotes"', "two\nlines")
    _, body = sent(np.zeros((1, 4), np.float32), CSV, names=names)
    assert tuple(next(csv.reader(io.StringIO(body.decode())))) == names


def test_a_table_has_one_dimension_and_names() -> None:
    assert columns(DataSpace(shape=(2,), columns=("a", "b"))) == ("a", "b")
    assert columns(DataSpace(shape=(2,))) == ("x0", "x1")
    assert columns(DataSpace(shape=(1, 8, 8))) is None
