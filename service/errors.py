"""What can go wrong, in one tree; each leaf carries its HTTP status and a stable code.

    ServiceError
    ├── Unauthenticated         401  no key, or an unknown one
    ├── InvalidInput            422  not parseable, wrong shape, dtype or range, unknown field
    ├── CapabilityAbsent        422  a verb that the model lacks
    ├── NotFound                404  no such path
    │   ├── UnknownModel             no model of this name is served
    │   ├── UnknownVersion           nor this version of it
    │   └── UnknownLatent            never stored, or expired
    ├── MethodNotAllowed        405  the path has others
    ├── NotAcceptable           406  no such form of the answer
    ├── LatentSpaceMismatch     409  an id of another model
    ├── TooLarge                413  can never fit
    │   └── BodyTooLarge             and is not read to its end
    ├── UnsupportedMediaType    415  no such form of the body
    ├── QueueFull               429  too much waits; with Retry-After
    ├── OverLimit               429  more than the key may; with Retry-After
    ├── Internal                500  a fault of ours
    │   └── RowFailed                the graph failed on some rows
    ├── NotReady                503  models still load, or none is right
    ├── Draining                503  the process stops
    ├── EngineDead              503  the device failed
    └── DeadlinePassed          504  not answered in time; the work is dropped

Anyone below the routes raises them, one handler turns them into ``application/problem+json`` (RFC 9457).
A detail has three parts: what was wrong, the value seen, what is allowed.
"""

from __future__ import annotations

import math
from http import HTTPStatus
from typing import Any, ClassVar

PROBLEM_JSON = "application/problem+json"


class ServiceError(Exception):
    """An answer that is a reason.

    Args:
        detail: one sentence for the caller.
        extra: further members of the problem document, plain JSON values.
    """

    status: ClassVar[int] = 500
    code: ClassVar[str] = "internal"

    def __init__(self, detail: str, **extra: Any) -> None:
        super().__init__(detail)
        self.detail = detail
        self.extra = extra

    def problem(self) -> dict[str, Any]:
        """The problem document."""
        return {
            "type": f"urn:pushforward:{self.code}",
            "title": HTTPStatus(self.status).phrase,
            "status": self.status,
            "code": self.code,
            "detail": self.detail,
            **self.extra,
        }

    def headers(self) -> dict[str, str]:
        """Headers that the answer needs beside its type."""
        return {}


class Unauthenticated(ServiceError):
    """Programs send the key as a bearer's; a browser, which reads the first challenge only, asks a person."""

    status, code = 401, "unauthenticated"

    def headers(self) -> dict[str, str]:
        # Chromium reads the first challenge of a line, and would not ask for a bearer's.
        return {"WWW-Authenticate": 'Basic realm="pushforward", Bearer realm="pushforward"'}


class InvalidInput(ServiceError):
    status, code = 422, "invalid_input"


class CapabilityAbsent(ServiceError):
    status, code = 422, "capability_absent"


class NotFound(ServiceError):
    status, code = 404, "not_found"


class UnknownModel(NotFound):
    code = "unknown_model"


class UnknownVersion(NotFound):
    code = "unknown_version"


class UnknownLatent(NotFound):
    code = "unknown_latent"


class MethodNotAllowed(ServiceError):
    status, code = 405, "method_not_allowed"

    def __init__(self, detail: str, allowed: tuple[str, ...]) -> None:
        super().__init__(detail, allowed=list(allowed))

    def headers(self) -> dict[str, str]:
        return {"Allow": ", ".join(self.extra["allowed"])}


class NotAcceptable(ServiceError):
    status, code = 406, "not_acceptable"


class LatentSpaceMismatch(ServiceError):
    status, code = 409, "latent_space_mismatch"


class TooLarge(ServiceError):
    status, code = 413, "too_large"


class BodyTooLarge(TooLarge):
    """The rest of the body is not read, so the connection cannot go on."""

    def headers(self) -> dict[str, str]:
        return {"Connection": "close"}


class UnsupportedMediaType(ServiceError):
    status, code = 415, "unsupported_media_type"


class QueueFull(ServiceError):
    """The queue is full; ``retry_after_s`` estimates when it will not be."""

    status, code = 429, "queue_full"

    def __init__(self, detail: str, retry_after_s: float, **extra: Any) -> None:
        super().__init__(detail, retry_after_s=retry_after_s, **extra)

    def headers(self) -> dict[str, str]:
        return {"Retry-After": str(max(1, round(self.extra["retry_after_s"])))}


class OverLimit(ServiceError):
    """A key asks for more than it may; ``retry_after_s`` is when it may."""

    status, code = 429, "over_limit"

    def __init__(self, detail: str, retry_after_s: float, **extra: Any) -> None:
        super().__init__(detail, retry_after_s=retry_after_s, **extra)

    def headers(self) -> dict[str, str]:
        return {"Retry-After": str(math.ceil(self.extra["retry_after_s"]))}


class Internal(ServiceError):
    """A fault of ours: the log has the traceback, the answer has not."""


class RowFailed(Internal):
    """The graph failed on these rows of the request, and on no others."""

    code = "row_failed"

    def __init__(self, detail: str, rows: list[int], **extra: Any) -> None:
        super().__init__(detail, rows=rows, **extra)


class NotReady(ServiceError):
    status, code = 503, "not_ready"


class Draining(ServiceError):
    """The process is stopping; the connection is closed so that the next call finds another replica."""

    status, code = 503, "draining"

    def headers(self) -> dict[str, str]:
        return {"Connection": "close"}


class EngineDead(ServiceError):
    status, code = 503, "engine_dead"


class DeadlinePassed(ServiceError):
    status, code = 504, "deadline_passed"
