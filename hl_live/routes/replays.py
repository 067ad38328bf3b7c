"""Dead letters by kind of failure, and replays that are asked for here and done by Dagster.

The service itself replays nothing: it keeps a request, with who asked, and shows what becomes of it. What it may do
to the database for that is to add a row to `hl.replay_requests`.
"""

from dataclasses import dataclass
from typing import Annotated, Any

import msgspec
import structlog
from litestar import Request, Response, get, post
from litestar.exceptions import HTTPException
from litestar.handlers import HTTPRouteHandler
from litestar.openapi.spec import Parameter, Schema
from litestar.openapi.spec.enums import OpenAPIType
from litestar.params import FromPath, JSONBody
from msgspec import Meta

from hl_live.auth.access import grant_of
from hl_live.params import DEVICE_ALLOWED, Param, operation_of, parse_device_id, read_params
from hl_live.problems import NOT_FOUND, NOT_JSON, PROBLEMS, BadParameterError, ForbiddenError, TooManyError
from hl_live.service import LiveService
from hl_platform.adapters.postgres.replay_requests import MAX_OPEN, ReplayRequests
from hl_platform.core.access import READ_PIPELINE, REPLAY
from hl_platform.core.dead_letter_index import EntryGroup, Selection
from hl_platform.core.readings import MAX_DEVICE_ID_CHARS
from hl_platform.core.replay_requests import ReplayRequest
from hl_platform.core.settings import require_address

log = structlog.get_logger()

PATH = "/api/v1/dead-letters/replays"
ASK_PATH = "/api/v1/dead-letters/replay"
MAX_KINDS = 100
MAX_LISTED = 20
# Beyond what PostgreSQL's bigint holds there is no id.
MAX_ID = 2**63 - 1
JSON = "application/json"
RETRY_AFTER_S = 10.0

DEVICE = Param(
    "device_id",
    "Only this device.",
    Schema(type=OpenAPIType.STRING, max_length=MAX_DEVICE_ID_CHARS),
    parse_device_id,
    DEVICE_ALLOWED,
)


@dataclass
class OneOperation(operation_of(())):  # type: ignore[misc] # made at run time
    """How OpenAPI shows the way to one request."""

    def __post_init__(self) -> None:
        """With the number in the path."""
        super().__post_init__()
        number = Schema(type=OpenAPIType.INTEGER, minimum=1)
        self.parameters = [Parameter(name="request_id", param_in="path", required=True, schema=number)]


class ReplayAsked(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which dead letters to replay, of those that nobody has dealt with, and whether only to look.

    Args:
        stream, fingerprint, device_id: only these; without any of them `everything` has to be true.
        until_id: only those that are as old as this one or older; without it those that are there now.
        dry_run: only say what would succeed.
    """

    stream: Annotated[str, Meta(min_length=1, max_length=100)] | None = None
    fingerprint: Annotated[str, Meta(pattern="^[0-9A-Za-z]{1,64}$")] | None = None
    device_id: Annotated[str, Meta(min_length=1, max_length=MAX_DEVICE_ID_CHARS)] | None = None
    everything: bool = False
    until_id: Annotated[int, Meta(ge=1, le=MAX_ID)] | None = None
    dry_run: bool = True


class KindsAnswer(msgspec.Struct, frozen=True):
    """Dead letters that nobody has dealt with, by kind of failure, the most recent first; 100 kinds at most."""

    kinds: list[EntryGroup]


class ReplaysAnswer(msgspec.Struct, frozen=True):
    """The newest requests first."""

    replays: list[ReplayRequest]


def replay_routes(live: LiveService) -> list[HTTPRouteHandler]:
    """`/api/v1/dead-letters/kinds`, `/replay` and `/replays`."""
    url = require_address(live.settings.database.url, "database", "url")
    writes = ReplayRequests(url, "hl-live-replays")
    return [_kinds_route(live), _ask_route(live, writes), _newest_route(live), _one_route(live)]


def _kinds_route(live: LiveService) -> HTTPRouteHandler:
    @get(
        "/api/v1/dead-letters/kinds",
        tags=["dead letters"],
        summary="What was rejected and waits, by kind of failure",
        operation_class=operation_of((DEVICE,)),
        responses=PROBLEMS,
        opt={"access": READ_PIPELINE, "devices": "one"},
    )
    async def kinds(request: Request[Any, Any, Any]) -> KindsAnswer:
        query = read_params(request.query_params.dict(), (DEVICE,))
        selection = Selection(device_id=query["device_id"])
        return KindsAnswer(await live.queries.dead_letter_kinds(selection, MAX_KINDS))

    return kinds


def _ask_route(live: LiveService, writes: ReplayRequests) -> HTTPRouteHandler:
    @post(
        ASK_PATH,
        tags=["dead letters"],
        status_code=202,
        summary="Ask for a replay, or for what would succeed",
        operation_class=operation_of(()),
        responses={**PROBLEMS, **NOT_JSON},
        opt={"access": REPLAY},
    )
    async def ask(request: Request[Any, Any, Any], data: JSONBody[ReplayAsked]) -> Response[ReplayRequest]:
        _check_whole(request, REPLAY)
        # A form of another site can send any body, but not under this name without asking us first.
        if request.content_type[0] != JSON:
            raise HTTPException(status_code=415, detail=f"Send the request as {JSON}.")
        read_params(request.query_params.dict(), ())
        selection = selection_of(data, list(live.streams))
        by = f"{grant_of(request).subject} at {request.client.host if request.client else 'unknown'}"
        n, newest = await live.queries.count_dead_letters(selection)
        bounded = msgspec.structs.replace(selection, until_id=newest)
        asked = await live.threads.run(lambda: writes.ask(bounded, n, by, dry_run=data.dry_run))
        if asked is None:
            raise TooManyError(f"{MAX_OPEN} requests wait already.", RETRY_AFTER_S)
        log.info("replay_asked", request_id=asked.request_id, by=by, dry_run=data.dry_run, n=asked.n_selected)
        return Response(asked, status_code=202, headers={"Location": f"{PATH}/{asked.request_id}"})

    return ask


def _newest_route(live: LiveService) -> HTTPRouteHandler:
    @get(
        PATH,
        tags=["dead letters"],
        summary="The newest requests to replay, and what became of them",
        operation_class=operation_of(()),
        responses=PROBLEMS,
        opt={"access": READ_PIPELINE},
    )
    async def newest(request: Request[Any, Any, Any]) -> ReplaysAnswer:
        _check_whole(request, READ_PIPELINE)
        read_params(request.query_params.dict(), ())
        return ReplaysAnswer(await live.queries.replay_requests(MAX_LISTED))

    return newest


def _one_route(live: LiveService) -> HTTPRouteHandler:
    @get(
        PATH + "/{request_id:int}",
        tags=["dead letters"],
        summary="What became of a request to replay",
        operation_class=OneOperation,
        responses={**PROBLEMS, **NOT_FOUND},
        opt={"access": READ_PIPELINE},
    )
    async def one(request: Request[Any, Any, Any], request_id: FromPath[int]) -> ReplayRequest:
        _check_whole(request, READ_PIPELINE)
        read_params(request.query_params.dict(), ())
        found = await live.queries.replay_request(request_id) if 1 <= request_id <= MAX_ID else None
        if found is None:
            raise HTTPException(status_code=404, detail=f"There is no request {request_id}.")
        return found

    return one


def selection_of(asked: ReplayAsked, streams: list[str]) -> Selection:
    """The entries that are meant.

    Raises:
        BadParameterError: a stream is not declared, or it is not said which entries, or it is said twice.
    """
    if asked.stream is not None and asked.stream not in streams:
        raise BadParameterError("stream", asked.stream, f"one of {', '.join(streams)}")
    if asked.device_id is not None:
        try:
            parse_device_id(asked.device_id)
        except ValueError as exc:
            raise BadParameterError("device_id", asked.device_id, DEVICE_ALLOWED) from exc
    narrowed = any(one is not None for one in (asked.stream, asked.fingerprint, asked.device_id))
    if narrowed == asked.everything:
        allowed = "true without stream, fingerprint and device_id, or false with one of them"
        raise BadParameterError("everything", str(asked.everything).lower(), allowed)
    return Selection(
        stream=asked.stream,
        fingerprint=asked.fingerprint,
        device_id=asked.device_id,
        until_id=asked.until_id,
    )


def _check_whole(request: Request[Any, Any, Any], scope: str) -> None:
    """A request is about dead letters of any device: a client that may see only some of them has no part in it."""
    if grant_of(request).device_ids is not None:
        raise ForbiddenError(scope, "This is for tokens that are not limited to some devices.")
