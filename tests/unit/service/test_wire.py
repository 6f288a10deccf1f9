"""What goes over the wire comes back as it was, whatever its form."""

from __future__ import annotations

import asyncio
import io
import json
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from models.manifest import DataSpace
from service.errors import InvalidInput, QueueFull
from service.wire import (
    JSON,
    NPY,
    NPZ,
    PNG,
    SLICE_BYTES,
    Answer,
    encode,
    grid,
    is_pictures,
    npy_header,
    preferred,
    problem,
    read_npy,
    with_numbers,
)

NUMBERS = hnp.integer_dtypes() | hnp.unsigned_integer_dtypes() | hnp.floating_dtypes(sizes=(16, 32, 64))


def saved(array: np.ndarray, **options: Any) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, **options)
    return buffer.getvalue()


@given(hnp.arrays(NUMBERS, hnp.array_shapes(max_dims=4)), st.booleans())
def test_an_npy_body_is_the_array_that_numpy_saved(array: np.ndarray, fortran: bool) -> None:
    array = np.asfortranarray(array) if fortran else array
    found = read_npy(saved(array))
    assert (found.shape, found.dtype) == (array.shape, array.dtype)
    assert found.tobytes() == array.tobytes()


@given(hnp.arrays(NUMBERS, hnp.array_shapes(max_dims=4)))
def test_numpy_loads_what_we_write(array: np.ndarray) -> None:
    body = npy_header(array.shape, array.dtype.str) + array.tobytes()
    assert np.load(io.BytesIO(body)).tobytes() == array.tobytes()


NESTED = st.recursive(
    st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(2**63), 2**64 - 1),
    lambda inner: st.lists(inner, max_size=4),
)


@given(NESTED, st.sampled_from([None, "v", [1, 2], {"bold": [1.5]}]), st.booleans())
def test_numbers_in_json_become_the_array_that_they_say(value: Any, other: Any, last: bool) -> None:
    body = json.dumps({"rows": value, "other": other} if last else {"other": other, "rows": value}).encode()
    try:
        wanted = np.array(value, np.float64)
    except ValueError:
        wanted = np.zeros(())
    if not wanted.ndim or not len(wanted):
        with pytest.raises((ValueError, TypeError)):
            with_numbers(body, "rows")
        return
    found = with_numbers(body, "rows")
    assert found.keys() == {"rows", "other"}
    assert found["other"] == other
    assert found["rows"].shape == wanted.shape
    assert found["rows"].tobytes() == wanted.tobytes()


@pytest.mark.parametrize(
    "rows", ["{}", '"ab"', "7", "[]", '[[1]], "rows": [[2]]', "[[1e400]]", "[[1], {}]", "["]
)
def test_what_is_no_object_with_numbers_is_left_to_others(rows: str) -> None:
    for body in (f'{{"rows": {rows}}}', rows, '{"row": [[1]]}'):
        with pytest.raises((ValueError, TypeError, KeyError)):
            with_numbers(body.encode(), "rows")


@given(st.binary(max_size=300))
def test_bytes_that_are_no_npy_are_refused(body: bytes) -> None:
    none = saved(np.float32(1)), saved(np.zeros((0, 3)))
    for wrong in (body, b"\x93NUMPY" + body, saved(np.zeros(3))[:60] + body, *none):
        with pytest.raises(InvalidInput):
            read_npy(wrong)


@pytest.mark.parametrize(
    "body",
    [
        saved(np.zeros(3))[:-1],
        saved(np.zeros(3)) + b"\0",
        saved(np.array([{}], object), allow_pickle=True),
        saved(np.array(["a"])),
        saved(np.zeros(3, "c16")),
        saved(np.zeros(3, [("a", "f4")])),
        saved(np.zeros(2)).replace(b"(2,)", b"(9,)"),
        saved(np.zeros(2)).replace(b"(2,)", b"(-2,)"),
        saved(np.zeros(2)).replace(b"'shape'", b"'shade'"),
        saved(np.zeros(2)).replace(b"(2,)", b"99**9"),
        b"\x93NUMPY\x02\x00\xff\xff\xff\xff" + b"(" * 500,
        b"\x93NUMPY\x01\x00\xf6\x01" + b"-" * 502,
        b"\x93NUMPY\x09\x00\x10\x00" + b" " * 16,
    ],
)
def test_an_npy_that_promises_something_else_is_refused(body: bytes) -> None:
    with pytest.raises(InvalidInput):
        read_npy(body)


def test_a_header_that_promises_terabytes_costs_nothing() -> None:
    body = npy_header((2**40, 8), "<f8") + b"\0" * 64
    with pytest.raises(InvalidInput, match="promises"):
        read_npy(body)


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        ("", JSON),
        ("*/*", JSON),
        ("application/json", JSON),
        ("application/x-npy", NPY),
        ("image/png", PNG),
        ("image/*", PNG),
        ("image/png, */*", PNG),
        ("image/webp, */*;q=0.8", JSON),
        ("application/json;q=0.1, application/x-npy;q=0.9", NPY),
        ("application/*;q=0.5, application/json;q=0", NPY),
        ("APPLICATION/X-NPY", NPY),
        ("text/html", None),
        ("*/*;q=0", None),
        ("application/json;q=nonsense", None),
    ],
)
def test_the_caller_gets_the_form_that_it_likes_best(accept: str, expected: str | None) -> None:
    assert preferred(accept, (JSON, NPY, PNG)) == expected


def written(fields: dict[str, Any], media: str = JSON, **more: Any) -> bytes:
    return asyncio.run(encode(Answer(fields, "samples", **more), media)).body


def test_json_has_the_members_in_order_and_floats_that_read_back_to_the_bit() -> None:
    x = np.random.default_rng(0).normal(size=(5, 7)).astype(np.float32)
    body = written({"model": "a", "samples": x, "ok": [True]})
    assert list(orjson.loads(body)) == ["model", "samples", "ok"]
    assert np.array(orjson.loads(body)["samples"], np.float32).tobytes() == x.tobytes()


def test_large_json_in_slices_is_the_same_json() -> None:
    x = np.random.default_rng(0).normal(size=(3 * SLICE_BYTES // 8 // 100, 2, 50))
    assert x.nbytes > 2 * SLICE_BYTES
    fields = {"model": "a", "samples": x, "t": np.arange(3.0)}
    assert written(fields) == orjson.dumps(fields, option=orjson.OPT_SERIALIZE_NUMPY)


def test_log_zero_and_no_number_are_null() -> None:
    assert orjson.loads(written({"samples": np.array([-np.inf, np.nan, 1.0])})) == {
        "samples": [None, None, 1.0]
    }


def test_npy_says_the_rest_in_headers() -> None:
    fields = {
        "model": "a",
        "log_likelihood": np.array([0.5]),
        "samples": np.zeros((2, 3)),
        "std": np.zeros((2, 3)),
        "cached": [True, False],
        "ids": ["x"] * 100,
    }
    reply = asyncio.run(encode(Answer(fields, "samples"), NPY))
    assert np.load(io.BytesIO(reply.body + reply.rest)).shape == (2, 3)
    assert dict(reply.headers) == {
        b"x-pushforward-model": b"a",
        b"x-pushforward-log-likelihood": b"0.5",
        b"x-pushforward-cached": b"true,false",
    }


def test_npz_has_every_member_to_the_bit() -> None:
    x = np.random.default_rng(0).normal(size=(3, 2)).astype(np.float32)
    fields = {
        "model": "a",
        "k": 5,
        "samples": x,
        "score": np.array([-np.inf, np.nan]),
        "ids": ["x", "yz"],
        "p": None,
    }
    found = np.load(io.BytesIO(written(fields, NPZ)), allow_pickle=False)
    assert set(found) == {"model", "k", "samples", "score", "ids"}
    assert (found["samples"].dtype, found["samples"].tobytes()) == (x.dtype, x.tobytes())
    assert (str(found["model"]), int(found["k"]), found["ids"].tolist()) == ("a", 5, ["x", "yz"])
    assert np.array_equal(found["score"], fields["score"], equal_nan=True)


def picture(body: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(body)))


@pytest.mark.parametrize(("channels", "mode"), [(1, ()), (3, (3,))])
def test_a_grid_holds_every_picture(channels: int, mode: tuple[int, ...]) -> None:
    x = np.linspace(0, 16, 5 * channels * 64).reshape(5, channels, 8, 8)
    image = picture(grid(x, (0, 16)))
    assert image.shape == (2 * 66 + 2, 3 * 66 + 2, *mode)
    last = image[2 + 66 : 2 + 66 + 64 : 8, 2 + 66 : 2 + 66 + 64 : 8]
    expected = np.round(x[4].transpose(1, 2, 0) * 255 / 16).squeeze()
    assert np.abs(last.astype(float) - expected).max() <= 1


def test_what_is_darker_than_black_is_black_and_a_strip_is_one_line() -> None:
    image = picture(grid(np.array([-9.0, 99.0]).reshape(2, 1, 1, 1), (0, 1), columns=2))
    assert image.shape == (68, 134)
    assert (image[30, 30], image[30, 100]) == (0, 255)


def test_a_picture_has_planes_and_a_black_and_a_white() -> None:
    assert is_pictures(DataSpace(shape=(1, 8, 8), display=(0, 1)))
    assert not is_pictures(DataSpace(shape=(1, 8, 8)))
    assert not is_pictures(DataSpace(shape=(2, 8, 8), display=(0, 1)))
    assert not is_pictures(DataSpace(shape=(64,), display=(0, 1)))


def test_a_reason_is_a_problem_document_with_its_headers() -> None:
    reply = problem(QueueFull("full", 1.6))
    assert (reply.status, reply.media) == (429, "application/problem+json")
    assert reply.headers == [(b"retry-after", b"2")]
    document = orjson.loads(reply.body)
    assert document["code"] == "queue_full"
    assert document["type"] == "urn:pushforward:queue_full"
