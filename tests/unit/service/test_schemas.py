"""Requests are strict, and every refusal names the field, the value and what is allowed."""

from __future__ import annotations

from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from pydantic import ValidationError

from service.errors import InvalidInput
from service.schemas import (
    MAX_SAFE_INTEGER,
    DecodeRequest,
    EncodeRequest,
    InterpolateRequest,
    LoglikQuery,
    Request,
    SampleRequest,
    invalid,
    rows,
)


def refused(model: type[Request], body: dict[str, Any] | bytes) -> InvalidInput:
    """The refusal of a body that must be refused."""
    text = body if isinstance(body, bytes) else orjson.dumps(body)
    with pytest.raises(ValidationError) as caught:
        model.model_validate_json(text)
    root = None if isinstance(body, bytes) else body
    return invalid(caught.value, root, model.model_fields)


@pytest.mark.parametrize(
    ("body", "field", "value"),
    [
        ({"model": "a", "n": 0}, "/n", "0"),
        ({"model": "a", "n": 1.5}, "/n", "1.5"),
        ({"model": "a", "n": True}, "/n", "true"),
        ({"model": "a", "n": "5"}, "/n", "'5'"),
        ({"model": "a", "n": None}, "/n", "null"),
        ({"model": "a", "seed": -1}, "/seed", "-1"),
        ({"model": "a", "seed": MAX_SAFE_INTEGER + 1}, "/seed", "9007199254740992"),
        ({"model": "a", "temperature": -0.5}, "/temperature", "-0.5"),
        ({"model": "a", "temperature": 1e9}, "/temperature", "1000000000.0"),
        ({"model": "a", "version": 1}, "/version", "1"),
        ({"model": "a", "version": "latest"}, "/version", "'latest'"),
        ({"model": "../a"}, "/model", "'../a'"),
        ({"model": "a", "label": []}, "/label", "an array of 0"),
        ({"model": "a", "label": [1, False]}, "/label/1", "false"),
        ({"model": "a", "sede": 3}, "/sede", "3"),
        ({}, "/model", "missing"),
    ],
)
def test_a_refusal_names_the_field_and_the_value(body: dict[str, Any], field: str, value: str) -> None:
    problem = refused(SampleRequest, body)
    error = problem.extra["errors"][0]
    assert (error["field"], error["value"]) == (field, value)
    assert field in problem.detail
    assert value in problem.detail


def test_an_unknown_field_is_answered_with_the_known_ones() -> None:
    allowed = refused(SampleRequest, {"model": "a", "sede": 3}).extra["errors"][0]["allowed"]
    assert all(name in allowed for name in SampleRequest.model_fields)


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b"null", b"\xff\xfe", b'{"model": "\\ud800"}', b"[" * 999]
)
def test_what_is_no_json_object_is_refused(body: bytes) -> None:
    assert refused(SampleRequest, body).status == 422


def test_an_end_of_a_walk_is_told_by_its_field() -> None:
    body = {"model": "a", "start": {"seed": 1, "index": 2}, "end": {"latent": [0.5]}}
    request = InterpolateRequest.model_validate_json(orjson.dumps(body))
    assert [type(end).__name__ for end in (request.start, request.end)] == ["AddressEnd", "LatentEnd"]


@pytest.mark.parametrize(
    ("end", "field"),
    [
        ({"seed": 1}, "/start/index"),
        ({"index": 1}, "/start/seed"),
        ({"id": "a"}, "/start/id"),
        ({"latent": [1], "input": [1]}, "/start/latent"),
        ({"input": 3}, "/start/input"),
        ({}, "/start"),
        (7, "/start"),
    ],
)
def test_a_bad_end_is_named(end: Any, field: str) -> None:
    body = {"model": "a", "start": end, "end": {"seed": 1, "index": 1}}
    assert [e["field"] for e in refused(InterpolateRequest, body).extra["errors"]] == [field]


@pytest.mark.parametrize("given_fields", [{}, {"ids": [f"a.1.{'a' * 32}"], "latents": [[1]]}])
def test_decode_takes_latents_or_ids(given_fields: dict[str, Any]) -> None:
    assert "exactly one of latents and ids" in refused(DecodeRequest, {"model": "a", **given_fields}).detail


def test_the_fields_beside_an_npy_body_come_as_strings() -> None:
    query = LoglikQuery.model_validate_strings({"model": "a", "k": "64", "seed": "3", "label": "2"})
    assert (query.k, query.seed, query.label) == (64, 3, 2)
    with pytest.raises(ValidationError):
        LoglikQuery.model_validate_strings({"model": "a", "inputs": "[[1]]"})


@given(hnp.arrays(np.float32, (3, 2, 4), elements=st.floats(width=32, allow_nan=False, allow_infinity=False)))
def test_nested_lists_become_the_array_that_was_meant(x: np.ndarray) -> None:
    body = orjson.dumps({"model": "a", "inputs": x}, option=orjson.OPT_SERIALIZE_NUMPY)
    inputs = EncodeRequest.model_validate_json(body).inputs
    found = rows(inputs, (2, 4), "float32", "inputs")
    assert found.dtype == np.float32
    assert found.flags.c_contiguous
    assert found.tobytes() == x.tobytes()


@pytest.mark.parametrize(
    ("value", "field"),
    [
        ([[1.0, True]], "/inputs/0/1"),
        ([[1.0, "2"]], "/inputs/0/1"),
        ([[1.0, None]], "/inputs/0/1"),
        ([[1.0, float("nan")]], "/inputs/0/1"),
        ([[1.0, float("-inf")]], "/inputs/0/1"),
        ([[1.0, 1e39]], "/inputs/0/1"),
        ([[1.0, 10**400]], "/inputs/0/1"),
        ([[1.0, 2.0], [3.0]], "/inputs/1"),
        ([[1.0, 2.0, 3.0]], "/inputs/0"),
        ([1.0, 2.0], "/inputs/0"),
        ([[[1.0], [2.0]]], "/inputs/0/0"),
        ([], "/inputs"),
    ],
)
def test_rows_that_do_not_fit_are_refused_by_place(value: list[Any], field: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        rows(value, (2,), "float32", "inputs")
    assert caught.value.extra["errors"][0]["field"] == field
    assert caught.value.extra["shape"] == ["n", 2]


@pytest.mark.parametrize(
    ("array", "dtype", "field"),
    [
        (np.zeros((3, 4)), "float32", "/inputs"),
        (np.zeros(2), "float32", "/inputs"),
        (np.zeros((0, 2)), "float32", "/inputs"),
        (np.zeros((1, 2), complex), "float32", "/inputs"),
        (np.zeros((1, 2), bool), "float32", "/inputs"),
        (np.array([["a", "b"]]), "float32", "/inputs"),
        (np.array([[0.0, 1e39]]), "float32", "/inputs/0/1"),
        (np.array([[0.0, np.nan]]), "float32", "/inputs/0/1"),
        (np.array([[0, 2**24 + 1]]), "float32", "/inputs/0/1"),
        (np.array([[0.0, 0.5]]), "int64", "/inputs/0/1"),
        (np.array([[np.inf, 0.5]]), "int64", "/inputs/0/0"),
    ],
)
def test_arrays_that_do_not_fit_are_refused_by_place(array: np.ndarray, dtype: Any, field: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        rows(array, (2,), dtype, "inputs")
    assert caught.value.extra["errors"][0]["field"] == field


@pytest.mark.parametrize("dtype", ["<f4", ">f4", "<f8", "<i8", "<u1", "<i2", "<f2"])
def test_an_array_of_any_numbers_is_cast(dtype: str) -> None:
    found = rows(np.arange(6).astype(dtype).reshape(3, 2), (2,), "float32", "inputs")
    assert found.dtype == np.float32
    assert found.tolist() == [[0, 1], [2, 3], [4, 5]]
