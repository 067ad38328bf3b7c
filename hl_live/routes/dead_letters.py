"""What was rejected, from the index of the dead letters."""

from typing import Any

from litestar import Request, get
from litestar.handlers import HTTPRouteHandler
from litestar.openapi.spec import Schema
from litestar.openapi.spec.enums import OpenAPIFormat, OpenAPIType

from hl_live.params import (
    DEVICE_ALLOWED,
    TIME_ALLOWED,
    Param,
    operation_of,
    parse_device_id,
    parse_time,
    parse_whole,
    read_params,
)
from hl_live.problems import PROBLEMS, BadParameterError
from hl_live.schemas import DeadLettersAnswer
from hl_live.service import LiveService
from hl_platform.core.access import READ_PIPELINE
from hl_platform.core.dead_letter_index import OPEN_STATES, STATES, Selection
from hl_platform.core.readings import MAX_DEVICE_ID_CHARS

MAX_LIMIT = 1_000
DEFAULT_LIMIT = 100
# Beyond what PostgreSQL's bigint holds there is no id.
MAX_ID = 2**63 - 1


def _fingerprint(text: str) -> str:
    if not text.isalnum() or len(text) > 64:  # noqa: PLR2004 - far more than one has
        raise ValueError(text)
    return text


def _state(text: str) -> str:
    if text not in STATES:
        raise ValueError(text)
    return text


_TIME = Schema(type=OpenAPIType.STRING, format=OpenAPIFormat.DATE_TIME)
_TEXT = Schema(type=OpenAPIType.STRING)

PARAMS = (
    Param("stream", "Only this stream.", _TEXT, str, "a stream's name"),
    Param(
        "fingerprint",
        "Only failures that are alike.",
        _TEXT,
        _fingerprint,
        "a fingerprint, as the answer has it",
    ),
    Param(
        "device_id",
        "Only this device.",
        Schema(type=OpenAPIType.STRING, max_length=MAX_DEVICE_ID_CHARS),
        parse_device_id,
        DEVICE_ALLOWED,
    ),
    Param(
        "state",
        "Only these states; may be given several times. Without it: new and failed_again.",
        Schema(type=OpenAPIType.ARRAY, items=Schema(type=OpenAPIType.STRING, enum=list(STATES))),
        _state,
        f"one of {', '.join(STATES)}",
        many=True,
        default=list(OPEN_STATES),
    ),
    Param("since", "Only what failed last at this time or later.", _TIME, parse_time, TIME_ALLOWED),
    Param("until", "Only what failed last before this time.", _TIME, parse_time, TIME_ALLOWED),
    Param(
        "limit",
        f"At most this many, the newest; {DEFAULT_LIMIT} unless given.",
        Schema(type=OpenAPIType.INTEGER, minimum=1, maximum=MAX_LIMIT, default=DEFAULT_LIMIT),
        lambda text: parse_whole(text, MAX_LIMIT),
        f"a whole number from 1 to {MAX_LIMIT}",
        default=DEFAULT_LIMIT,
    ),
    Param(
        "before",
        "Only those with a lower id: `next` of the page before.",
        Schema(type=OpenAPIType.INTEGER, minimum=1),
        lambda text: parse_whole(text, MAX_ID),
        "an id",
    ),
)


def dead_letters_route(live: LiveService) -> HTTPRouteHandler:
    """`/api/v1/dead-letters`."""

    @get(
        "/api/v1/dead-letters",
        tags=["dead letters"],
        summary="What was rejected, and what became of it; newest first",
        operation_class=operation_of(PARAMS),
        responses=PROBLEMS,
        opt={"access": READ_PIPELINE, "devices": "one"},
    )
    async def dead_letters(request: Request[Any, Any, Any]) -> DeadLettersAnswer:
        query = read_params(request.query_params.dict(), PARAMS)
        if query["stream"] is not None and query["stream"] not in live.streams:
            raise BadParameterError("stream", query["stream"], f"one of {', '.join(live.streams)}")
        since, until = query["since"], query["until"]
        if since is not None and until is not None and until <= since:
            raise BadParameterError("until", until.isoformat(), "a time after since")
        selection = Selection(
            stream=query["stream"],
            fingerprint=query["fingerprint"],
            device_id=query["device_id"],
            since=since,
            until=until,
            states=tuple(query["state"]),
        )
        entries = await live.queries.dead_letters(selection, limit=query["limit"], before=query["before"])
        full = len(entries) == query["limit"]
        return DeadLettersAnswer(entries, entries[-1].id if full else None)

    return dead_letters
