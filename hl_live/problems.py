"""From an error to an HTTP answer: RFC 9457 problem details, in one place.

| error | status |
|---|---|
| BadParameterError | 400, with `parameter`, `value` and `allowed` |
| UnknownStreamError, no such route | 404 |
| TransientError, BackpressureError | 503 with Retry-After |
| Litestar's own | its status |
| any other | 500, without details; they are in the log |
"""

import math
from collections.abc import Mapping
from typing import Any

import msgspec
import structlog
from litestar import Request, Response
from litestar.exceptions import HTTPException
from litestar.openapi import ResponseSpec
from litestar.status_codes import (
    HTTP_400_BAD_REQUEST,
    HTTP_404_NOT_FOUND,
    HTTP_500_INTERNAL_SERVER_ERROR,
    HTTP_503_SERVICE_UNAVAILABLE,
)

from hl_platform.core.errors import BackpressureError, HlError, TransientError

log = structlog.get_logger()

PROBLEM_JSON = "application/problem+json"
# An embedded PostgreSQL is back within seconds after a crash.
RETRY_AFTER_S = 2.0

TITLES = {
    HTTP_400_BAD_REQUEST: "Bad request",
    HTTP_404_NOT_FOUND: "Not found",
    405: "Method not allowed",
    413: "Request too large",
    421: "Misdirected request",
    HTTP_500_INTERNAL_SERVER_ERROR: "Internal error",
    HTTP_503_SERVICE_UNAVAILABLE: "Temporarily unavailable",
}


class Problem(msgspec.Struct, omit_defaults=True, frozen=True, kw_only=True):
    """What went wrong (RFC 9457).

    Args:
        type: names the kind of problem; `about:blank` where the status says it all.
        detail: what is wrong with this request, for a person.
        parameter, value, allowed: of a bad parameter, its name, what was given and what may be.
    """

    type: str
    title: str
    status: int
    detail: str
    parameter: str | None = None
    value: str | None = None
    allowed: str | None = None


PROBLEMS: Mapping[int, ResponseSpec] = {
    400: ResponseSpec(
        Problem, generate_examples=False, description="A parameter is not allowed", media_type=PROBLEM_JSON
    ),
    503: ResponseSpec(
        Problem, generate_examples=False, description="The database is away", media_type=PROBLEM_JSON
    ),
}


class BadParameterError(HlError):
    """A request's parameter is missing, unknown or not allowed.

    Args:
        parameter: its name.
        value: what was given; None where it is missing.
        allowed: what may be given, for a person.
    """

    def __init__(self, parameter: str, value: str | None, allowed: str) -> None:
        given = "is missing" if value is None else f"is {value!r:.100}"
        super().__init__(f"Parameter {parameter!r} {given}. Allowed: {allowed}.")
        self.parameter = parameter
        self.value = value
        self.allowed = allowed


class UnknownStreamError(HlError):
    """A path names a stream that is not declared."""

    def __init__(self, stream: str, known: list[str]) -> None:
        super().__init__(f"There is no stream {stream!r:.100}. Streams: {', '.join(known)}.")


def problem_of(error: Exception) -> tuple[Problem, dict[str, str]]:
    """The answer to an error, and its extra headers."""
    match error:
        case BadParameterError():
            return _problem(
                HTTP_400_BAD_REQUEST,
                str(error),
                kind="bad-parameter",
                parameter=error.parameter,
                value=error.value,
                allowed=error.allowed,
            ), {}
        case UnknownStreamError():
            return _problem(HTTP_404_NOT_FOUND, str(error), kind="unknown-stream"), {}
        case TransientError():
            wait_s = error.retry_after_s if isinstance(error, BackpressureError) else RETRY_AFTER_S
            # What the driver says may name hosts and users; it is in the log.
            problem = _problem(
                HTTP_503_SERVICE_UNAVAILABLE,
                "The database is away or took too long. Try again.",
                kind="outage",
            )
            return problem, {"Retry-After": str(math.ceil(wait_s))}
        case HTTPException():
            return _problem(error.status_code, error.detail or TITLES.get(error.status_code, "")), {}
        case _:
            return _problem(HTTP_500_INTERNAL_SERVER_ERROR, "Something failed; the log says what."), {}


def answer_problem(request: Request[Any, Any, Any], error: Exception) -> Response[Problem]:
    """Litestar's exception handler."""
    problem, headers = problem_of(error)
    if isinstance(error, TransientError):
        log.warning("request_met_outage", path=request.url.path, error=str(error))
    elif problem.status >= HTTP_500_INTERNAL_SERVER_ERROR:
        log.error("request_failed", path=request.url.path, exc_info=error)
    return Response(problem, status_code=problem.status, media_type=PROBLEM_JSON, headers=headers)


def _problem(status: int, detail: str, *, kind: str | None = None, **about: str | None) -> Problem:
    return Problem(
        type=f"urn:hl:problem:{kind}" if kind else "about:blank",
        title=TITLES.get(status, "Error"),
        status=status,
        detail=detail,
        **about,
    )
