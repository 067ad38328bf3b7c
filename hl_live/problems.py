"""From an error to an HTTP answer: RFC 9457 problem details, in one place.

| error | status |
|---|---|
| BadParameterError | 400, with `parameter`, `value` and `allowed` |
| UnauthorizedError | 401 with WWW-Authenticate |
| ForbiddenError | 403, with `scope` |
| UnknownStreamError, no such route | 404 |
| NotAcceptableError | 406, with `allowed` |
| TooManyError | 429 with Retry-After |
| TransientError, BackpressureError, TookTooLongError | 503 with Retry-After |
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
    HTTP_401_UNAUTHORIZED,
    HTTP_403_FORBIDDEN,
    HTTP_404_NOT_FOUND,
    HTTP_406_NOT_ACCEPTABLE,
    HTTP_429_TOO_MANY_REQUESTS,
    HTTP_500_INTERNAL_SERVER_ERROR,
    HTTP_503_SERVICE_UNAVAILABLE,
)

from hl_platform.core.errors import BackpressureError, HlError, TookTooLongError, TransientError

log = structlog.get_logger()

PROBLEM_JSON = "application/problem+json"
# An embedded PostgreSQL is back within seconds after a crash.
RETRY_AFTER_S = 2.0
# What the driver says may name hosts and users; it is in the log.
AWAY = "The database is away or took too long. Try again."
TOO_LONG = (
    "The archive holds too much of this to be read in time. Ask for a shorter period or a smaller `limit`."
)

TITLES = {
    HTTP_400_BAD_REQUEST: "Bad request",
    HTTP_401_UNAUTHORIZED: "Unauthorized",
    HTTP_403_FORBIDDEN: "Forbidden",
    HTTP_404_NOT_FOUND: "Not found",
    405: "Method not allowed",
    HTTP_406_NOT_ACCEPTABLE: "Not acceptable",
    413: "Request too large",
    415: "Unsupported media type",
    421: "Misdirected request",
    HTTP_429_TOO_MANY_REQUESTS: "Too many requests",
    HTTP_500_INTERNAL_SERVER_ERROR: "Internal error",
    HTTP_503_SERVICE_UNAVAILABLE: "Temporarily unavailable",
}


class Problem(msgspec.Struct, omit_defaults=True, frozen=True, kw_only=True):
    """What went wrong (RFC 9457).

    Args:
        type: names the kind of problem; `about:blank` where the status says it all.
        detail: what is wrong with this request, for a person.
        parameter, value, allowed: of a bad parameter, its name, what was given and what may be.
        scope: what the token lacks.
    """

    type: str
    title: str
    status: int
    detail: str
    parameter: str | None = None
    value: str | None = None
    allowed: str | None = None
    scope: str | None = None


def _documented(description: str) -> ResponseSpec:
    return ResponseSpec(Problem, generate_examples=False, description=description, media_type=PROBLEM_JSON)


# What any route may answer; `operation_of` adds the headers.
PROBLEMS: Mapping[int, ResponseSpec] = {
    400: _documented("A parameter is not allowed"),
    401: _documented("No token"),
    403: _documented("The token lacks a scope"),
    429: _documented("Too many requests"),
    503: _documented("The database is away"),
}
# Of routes that answer in several formats.
NOT_ACCEPTABLE: Mapping[int, ResponseSpec] = {406: _documented("`Accept` names no format that there is")}
# Of routes that name one thing, and of routes that take a body.
NOT_FOUND: Mapping[int, ResponseSpec] = {404: _documented("There is nothing of this number")}
NOT_JSON: Mapping[int, ResponseSpec] = {415: _documented("The body is not sent as JSON")}


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


class NotAcceptableError(HlError):
    """A request wants a format that there is not.

    Args:
        accept: what it wants.
        allowed: what there is.
    """

    def __init__(self, accept: str, allowed: str) -> None:
        super().__init__(f"No answer in the format of `Accept: {accept:.100}`. Allowed: {allowed}.")
        self.accept = accept
        self.allowed = allowed


class UnauthorizedError(HlError):
    """A request shows nothing that opens anything.

    Args:
        detail: what to do.
        wrong: whether something was shown, which is wrong or over.
    """

    def __init__(self, detail: str, *, wrong: bool = False) -> None:
        super().__init__(detail)
        self.wrong = wrong


class ForbiddenError(HlError):
    """The client is known, and may not read this.

    Args:
        scope: what it would need.
        detail: what it may not do; a sentence about the scope unless given.
    """

    def __init__(self, scope: str, detail: str | None = None) -> None:
        super().__init__(detail or f"This needs the scope {scope}, which the token does not have.")
        self.scope = scope


class TooManyError(HlError):
    """The client's address has too much of something.

    Args:
        detail: of what.
        retry_after_s: seconds to wait before the next try.
    """

    def __init__(self, detail: str, retry_after_s: float) -> None:
        super().__init__(detail)
        self.retry_after_s = retry_after_s


def problem_of(error: Exception) -> tuple[Problem, dict[str, str]]:
    """The answer to an error, and its extra headers."""
    match error:
        case BadParameterError() | NotAcceptableError():
            return _not_allowed(error), {}
        case UnauthorizedError() | ForbiddenError() | TooManyError():
            return _refusal(error)
        case UnknownStreamError():
            return _problem(HTTP_404_NOT_FOUND, str(error), kind="unknown-stream"), {}
        case TransientError():
            wait_s = error.retry_after_s if isinstance(error, BackpressureError) else RETRY_AFTER_S
            detail = TOO_LONG if isinstance(error, TookTooLongError) else AWAY
            problem = _problem(HTTP_503_SERVICE_UNAVAILABLE, detail, kind="outage")
            return problem, {"Retry-After": str(math.ceil(wait_s))}
        case HTTPException():
            # Such as Allow, of a 405.
            headers = {name.title(): value for name, value in (error.headers or {}).items()}
            return _problem(error.status_code, error.detail or TITLES.get(error.status_code, "")), headers
        case _:
            return _problem(HTTP_500_INTERNAL_SERVER_ERROR, "Something failed; the log says what."), {}


def _not_allowed(error: BadParameterError | NotAcceptableError) -> Problem:
    parameter: str = "Accept"
    value: str | None
    if isinstance(error, NotAcceptableError):
        status, kind, value = HTTP_406_NOT_ACCEPTABLE, "not-acceptable", error.accept
    else:
        status, kind, value = HTTP_400_BAD_REQUEST, "bad-parameter", error.value
        parameter = error.parameter
    return _problem(status, str(error), kind=kind, parameter=parameter, value=value, allowed=error.allowed)


def _refusal(error: UnauthorizedError | ForbiddenError | TooManyError) -> tuple[Problem, dict[str, str]]:
    match error:
        case UnauthorizedError():
            challenge = 'Bearer realm="hl"' + (', error="invalid_token"' if error.wrong else "")
            problem = _problem(HTTP_401_UNAUTHORIZED, str(error), kind="unauthorized")
            return problem, {"WWW-Authenticate": challenge}
        case ForbiddenError():
            return _problem(HTTP_403_FORBIDDEN, str(error), kind="forbidden", scope=error.scope), {}
        case TooManyError():
            problem = _problem(HTTP_429_TOO_MANY_REQUESTS, str(error), kind="too-many")
            return problem, {"Retry-After": str(math.ceil(error.retry_after_s))}


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
