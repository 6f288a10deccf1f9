"""What can go wrong, in one tree; the leaves below ``Refused`` are the service's problem codes.

    PushforwardError
    ├── Unreachable                  no answer, or not all of it: refused, broken off, timed out
    ├── UnexpectedAnswer             an answer that is not the service's, such as a proxy's page
    ├── Unresumable                  a partial file of another download
    └── Refused                      the service gives a reason (RFC 9457)
        ├── Unauthenticated      401  no key, or an unknown one
        ├── InvalidInput         422
        ├── CapabilityAbsent     422  a verb that the model lacks
        ├── NotFound             404
        │   ├── UnknownModel
        │   ├── UnknownVersion
        │   └── UnknownLatent
        ├── MethodNotAllowed     405
        ├── NotAcceptable        406
        ├── LatentSpaceMismatch  409  codes of another model
        ├── TooLarge             413
        ├── UnsupportedMediaType 415
        ├── QueueFull            429  asked again after Retry-After
        ├── OverLimit            429  likewise: the key's limit
        ├── Internal             500
        │   └── RowFailed             on the rows that are named
        ├── Unavailable          503  asked again
        │   ├── NotReady
        │   ├── Draining
        │   └── EngineDead
        └── DeadlinePassed       504

A code that is not known here is a plain ``Refused``, with its code.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from email.utils import parsedate_to_datetime
from typing import Any, ClassVar, Final

import httpx

ASK_AGAIN: Final = frozenset({429, 502, 503})
TEXT_SHOWN: Final = 200


class PushforwardError(Exception):
    """Whatever this package raises on purpose."""


class Unreachable(PushforwardError):
    """There was no answer, or it ended too early."""


class UnexpectedAnswer(PushforwardError):
    """The answer cannot be the service's."""


class Unresumable(PushforwardError):
    """What a partial file holds is not what was asked for."""


class Refused(PushforwardError):
    """The service gave a reason.

    Attributes:
        status: of HTTP.
        detail: what was wrong, the value seen, what is allowed.
        problem: the whole document.
        retry_after_s: how long the service asks to be left alone, ``None`` if it does not say.
        request_id: under which the service's log has it, ``None`` if it does not say.
    """

    code: ClassVar[str] = ""

    def __init__(
        self,
        status: int,
        detail: str,
        problem: Mapping[str, Any],
        retry_after_s: float | None = None,
        request_id: str | None = None,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.problem = problem
        self.retry_after_s = retry_after_s
        self.request_id = request_id


class Unauthenticated(Refused):
    code = "unauthenticated"


class InvalidInput(Refused):
    code = "invalid_input"


class CapabilityAbsent(Refused):
    code = "capability_absent"


class NotFound(Refused):
    code = "not_found"


class UnknownModel(NotFound):
    code = "unknown_model"


class UnknownVersion(NotFound):
    code = "unknown_version"


class UnknownLatent(NotFound):
    code = "unknown_latent"


class MethodNotAllowed(Refused):
    code = "method_not_allowed"


class NotAcceptable(Refused):
    code = "not_acceptable"


class LatentSpaceMismatch(Refused):
    code = "latent_space_mismatch"


class TooLarge(Refused):
    code = "too_large"


class UnsupportedMediaType(Refused):
    code = "unsupported_media_type"


class QueueFull(Refused):
    code = "queue_full"


class OverLimit(Refused):
    code = "over_limit"


class Internal(Refused):
    code = "internal"


class RowFailed(Internal):
    """``rows`` are those of the request; none of the others failed."""

    code = "row_failed"

    @property
    def rows(self) -> list[int]:
        return list(self.problem.get("rows", []))


class Unavailable(Refused):
    """Now, here; a moment later or on another replica it may be."""


class NotReady(Unavailable):
    code = "not_ready"


class Draining(Unavailable):
    code = "draining"


class EngineDead(Unavailable):
    code = "engine_dead"


class DeadlinePassed(Refused):
    code = "deadline_passed"


def _below(kind: type[Refused]) -> Iterator[type[Refused]]:
    for child in kind.__subclasses__():
        yield child
        yield from _below(child)


BY_CODE: Final[Mapping[str, type[Refused]]] = {kind.code: kind for kind in _below(Refused) if kind.code}


def refusal(response: httpx.Response) -> Refused:
    """The error behind a response that has been read and is no success."""
    try:
        problem = json.loads(response.content)
    except ValueError:
        problem = None
    if not isinstance(problem, dict):
        problem = {"detail": f"{response.status_code}: {response.text[:TEXT_SHOWN]}"}
    kind = BY_CODE.get(str(problem.get("code")), Refused)
    detail = str(problem.get("detail", f"the service answered {response.status_code}"))
    request_id = response.headers.get("X-Request-Id")
    return kind(response.status_code, detail, problem, _retry_after_s(response.headers), request_id)


def _retry_after_s(headers: httpx.Headers) -> float | None:
    """Seconds, or the time until a date (RFC 9110, section 10.2.3)."""
    said = headers.get("Retry-After")
    if said is None:
        return None
    try:
        return max(0.0, float(said))
    except ValueError:
        pass
    try:
        return max(0.0, parsedate_to_datetime(said).timestamp() - time.time())
    except ValueError:
        return None
