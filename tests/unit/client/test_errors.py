"""The client's tree of errors is the service's, and any answer becomes one of them."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import httpx
import pytest

import pushforward_client
from pushforward_client import errors
from service.errors import Internal, InvalidInput, RowFailed, ServiceError
from service.wire import problem


def _leaves(kind: type) -> Iterator[type]:
    for child in kind.__subclasses__():
        yield child
        yield from _leaves(child)


def _answer(status: int, content: bytes = b"", **headers: str) -> httpx.Response:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return httpx.Response(status, content=content, headers=named)


def test_every_code_of_the_service_has_a_class_of_its_own() -> None:
    kinds = [ServiceError, *_leaves(ServiceError)]
    codes = {kind.code: kind.__name__ for kind in kinds if "code" in vars(kind)}
    codes[ServiceError.code] = Internal.__name__  # which inherits it
    assert {code: kind.__name__ for code, kind in errors.BY_CODE.items()} == codes


def test_every_class_can_be_imported_from_the_package() -> None:
    for kind in _leaves(errors.PushforwardError):
        if kind.__module__ == errors.__name__:
            assert getattr(pushforward_client, kind.__name__) is kind


@pytest.mark.parametrize("error", [InvalidInput("/n is 0; allowed: n > 0"), RowFailed("two", rows=[1, 5])])
def test_a_problem_document_becomes_the_error_with_its_members(error: ServiceError) -> None:
    reply = problem(error)
    found = errors.refusal(_answer(reply.status, reply.body, X_Request_Id="abc"))
    assert type(found).__name__ == type(error).__name__
    assert (str(found), found.status, found.request_id) == (error.detail, error.status, "abc")
    assert found.problem["code"] == error.code
    assert not isinstance(found, errors.RowFailed) or found.rows == [1, 5]


@pytest.mark.parametrize("body", [b"<html>Bad Gateway</html>", b"", b"[1]", b'{"code": "new"}', b"\xff"])
def test_whatever_else_is_a_refusal_too(body: bytes) -> None:
    found = errors.refusal(_answer(502, body))
    assert (type(found), found.status) == (errors.Refused, 502)
    assert "502" in str(found)


def test_retry_after_is_seconds_or_a_date() -> None:
    assert errors.refusal(_answer(429, Retry_After="3")).retry_after_s == 3
    soon = format_datetime(datetime.now(UTC) + timedelta(seconds=60), usegmt=True)
    assert 55 < (errors.refusal(_answer(503, Retry_After=soon)).retry_after_s or 0) <= 60
    assert errors.refusal(_answer(503, Retry_After="soon")).retry_after_s is None
    assert errors.refusal(_answer(503)).retry_after_s is None
