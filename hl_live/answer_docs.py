"""What OpenAPI says of answers beyond their JSON: further formats and headers."""

from collections.abc import Mapping

from litestar.openapi.spec import OpenAPIHeader, OpenAPIMediaType, OpenAPIResponse, Operation, Schema
from litestar.openapi.spec.enums import OpenAPIType

from hl_live.formats import CSV, PARQUET
from hl_live.problems import PROBLEM_JSON

TEXT = Schema(type=OpenAPIType.STRING)
OTHER_FORMATS: Mapping[str, OpenAPIMediaType] = {
    CSV: OpenAPIMediaType(schema=TEXT),
    PARQUET: OpenAPIMediaType(schema=Schema(type=OpenAPIType.STRING, content_encoding="binary")),
}


def _header(description: str, *, required: bool = False) -> OpenAPIHeader:
    # An object in `headers` has its name as its key.
    return OpenAPIHeader(schema=TEXT, name="", param_in="header", description=description, required=required)


RATES: Mapping[str, OpenAPIHeader] = {
    "RateLimit-Policy": _header('How many requests a client may make: `"requests";q=<requests>;w=<seconds>`'),
    "RateLimit": _header('What is left of them: `"requests";r=<requests>;t=<seconds until all are back>`'),
}
CACHED: Mapping[str, OpenAPIHeader] = {
    "ETag": _header("Changes with the answer"),
    "Cache-Control": _header("`private, no-cache`: keep it, and ask each time whether it is still right"),
    "Vary": _header("What the answer depends on beside the address"),
    "Link": _header('With `rel="next"`: the next page, if any'),
}
RETRY_AFTER: Mapping[str, OpenAPIHeader] = {"Retry-After": _header("Seconds to wait", required=True)}
OF_STATUS: Mapping[str, Mapping[str, OpenAPIHeader]] = {
    "401": {"WWW-Authenticate": _header("How to show a token", required=True)},
    "429": RETRY_AFTER,
    "503": RETRY_AFTER,
}


def document(operation: Operation, *, tables: bool, tagged: bool) -> None:
    """Completes the answers of an operation.

    Args:
        operation: as Litestar has made it.
        tables: whether it answers in all formats.
        tagged: whether its answers have an entity tag.
    """
    for status, response in (operation.responses or {}).items():
        if not isinstance(response, OpenAPIResponse):
            continue
        is_problem = PROBLEM_JSON in (response.content or {})
        added = {**(OF_STATUS.get(status, {}) if is_problem else {}), **RATES}
        if tagged and status in ("200", "304"):
            added = {**CACHED, **added}
        if tables and status == "200":
            response.content = {**(response.content or {}), **OTHER_FORMATS}
            added["Content-Disposition"] = _header("The name of a file, of CSV and Parquet")
        if status == "304":
            # It has no body.
            response.content = None
        response.headers = {**(response.headers or {}), **added}
