"""Every error has a status and a code of its own, and says so in a problem document."""

from __future__ import annotations

from collections.abc import Iterator

from service import errors
from service.errors import Internal, MethodNotAllowed, QueueFull, RowFailed, ServiceError


def tree(root: type[ServiceError] = ServiceError) -> Iterator[type[ServiceError]]:
    for child in root.__subclasses__():
        yield child
        yield from tree(child)


def test_codes_are_stable_and_tell_errors_apart() -> None:
    codes = {kind.code: kind.status for kind in tree()}
    assert codes == {
        "unauthenticated": 401,
        "invalid_input": 422,
        "capability_absent": 422,
        "not_found": 404,
        "unknown_model": 404,
        "unknown_version": 404,
        "unknown_latent": 404,
        "method_not_allowed": 405,
        "not_acceptable": 406,
        "latent_space_mismatch": 409,
        "too_large": 413,
        "unsupported_media_type": 415,
        "queue_full": 429,
        "over_limit": 429,
        "internal": 500,
        "row_failed": 500,
        "not_ready": 503,
        "draining": 503,
        "engine_dead": 503,
        "deadline_passed": 504,
    }


def test_the_drawing_at_the_top_shows_every_error() -> None:
    assert errors.__doc__
    for kind in tree():
        assert f"── {kind.__name__}" in errors.__doc__


def test_a_problem_has_the_members_of_rfc_9457_and_its_own() -> None:
    assert RowFailed("the graph failed on 1 of 3 rows", [2]).problem() == {
        "type": "urn:pushforward:row_failed",
        "title": "Internal Server Error",
        "status": 500,
        "code": "row_failed",
        "detail": "the graph failed on 1 of 3 rows",
        "rows": [2],
    }


def test_some_answers_need_headers() -> None:
    assert QueueFull("full", retry_after_s=0.2).headers() == {"Retry-After": "1"}
    assert QueueFull("full", retry_after_s=7.4).headers() == {"Retry-After": "7"}
    assert MethodNotAllowed("no", ("GET", "POST")).headers() == {"Allow": "GET, POST"}
    assert Internal("oops").headers() == {}
