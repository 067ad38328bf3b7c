"""Answers with an entity tag: who has one already is told so with a 304 (RFC 9110, sections 8.8.3 and 13.1.2).

`no-cache` lets a browser keep an answer and makes it ask each time whether it is still right, which is nearly always
answered in a few milliseconds. No answer may be used without asking: a late reading can change any bucket at any time.
`private`: it is nobody else's business what a household uses.
"""

import hashlib
from collections.abc import Callable, Iterable, Mapping
from typing import Any
from urllib.parse import parse_qsl, urlencode

import msgspec
from litestar import Request, Response
from litestar.openapi import ResponseSpec
from litestar.status_codes import HTTP_304_NOT_MODIFIED

from hl_live.formats import JSON, Table
from hl_live.threads import in_thread
from hl_platform import __version__

CACHE_CONTROL = "private, no-cache"
NOT_MODIFIED: Mapping[int, ResponseSpec] = {
    HTTP_304_NOT_MODIFIED: ResponseSpec(
        None, generate_examples=False, description="The answer is still the one that `If-None-Match` names"
    )
}


def etag_of(*what: object) -> str:
    """A strong entity tag of whatever an answer follows from, and of the version that makes it."""
    digest = hashlib.blake2b(repr((__version__, *what)).encode(), digest_size=16)
    return f'"{digest.hexdigest()}"'


def is_known(header: str | None, etag: str) -> bool:
    """Whether If-None-Match names an entity tag. A weak one does as well: proxies that compress make it so."""
    if header is None:
        return False
    named = [one.strip().removeprefix("W/") for one in header.split(",")]
    return etag in named or named == ["*"]


async def tagged(
    request: Request[Any, Any, Any],
    etag: str,
    media_type: str,
    *,
    body: Callable[[], Iterable[bytes]],
    table: Table,
    following: str | None,
) -> Response[Any]:
    """The answer, or a 304 to who has it.

    Args:
        request: with If-None-Match, maybe.
        etag: of the answer.
        media_type: of the answer.
        body: makes its JSON, in pieces.
        table: what it is in other formats.
        following: what `after` is on the next page; None on the last.
    """
    headers = {"ETag": etag, "Cache-Control": CACHE_CONTROL, **format_headers(media_type, table)}
    headers |= link_headers(request, following)
    if is_known(request.headers.get("if-none-match"), etag):
        return Response(None, status_code=HTTP_304_NOT_MODIFIED, headers=headers)
    if media_type == JSON:
        return Response(b"".join(body()), media_type=JSON, headers=headers)
    # It takes several times as long as JSON.
    made = await in_thread(lambda: table.body(media_type))
    return Response(made, media_type=media_type, headers=headers)


def format_headers(media_type: str, table: Table) -> dict[str, str]:
    """What an answer says that is there in several formats."""
    if media_type == JSON:
        return {"Vary": "Accept"}
    return {"Vary": "Accept", "Content-Disposition": table.disposition(media_type)}


def link_headers(request: Request[Any, Any, Any], following: str | None) -> dict[str, str]:
    """Where the next page is, if there is one.

    Args:
        request: for this page.
        following: what `after` is on the next one.
    """
    if following is None:
        return {}
    query = [(name, text) for name, text in parse_qsl(request.url.query) if name != "after"]
    return {"Link": f'<{request.url.path}?{urlencode([*query, ("after", following)])}>; rel="next"'}


def json_around(answer: msgspec.Struct, hole: str, parts: Iterable[bytes]) -> list[bytes]:
    """The JSON of an answer whose list named `hole` is empty, with encoded elements put into it, in pieces."""
    before, mark, behind = msgspec.json.encode(answer).partition(f'"{hole}":['.encode())
    pieces = [before, mark]
    for part in parts:
        pieces += [part, b","]
    if len(pieces) > 2:  # noqa: PLR2004 - there was a part, and a comma behind it
        pieces.pop()
    return [*pieces, behind]
