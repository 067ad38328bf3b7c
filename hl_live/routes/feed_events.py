"""The feed as server-sent events, for clients that cannot or need not speak: the same messages, one way.

The id of an event is how far the client is with it; a browser's EventSource sends it back in Last-Event-ID by itself.
"""

import re
from collections.abc import AsyncGenerator, Callable
from typing import Any

import msgspec
from litestar import Request, get
from litestar.handlers import HTTPRouteHandler
from litestar.openapi.spec import Schema
from litestar.openapi.spec.enums import OpenAPIType
from litestar.response import Stream as StreamResponse
from litestar.types import Receive, Scope, Send

from hl_live.access_log import note_session
from hl_live.auth.access import FEED, grant_of
from hl_live.feed.messages import MAX_HZ, Subscribe
from hl_live.feed.session import BadRequestError, Session, SessionFailedError
from hl_live.feed.subscription import Outgoing
from hl_live.params import DEVICES, Param, operation_of, read_params
from hl_live.problems import PROBLEMS, BadParameterError, ForbiddenError
from hl_live.service import LiveService
from hl_platform.core.access import stream_scope
from hl_platform.core.errors import BackpressureError

# A comment in silence, so that both ends notice a line that is dead.
BEAT_S = 15.0
RETRY_AFTER_S = 5.0
RETRY_MS = 2_000
ID_ALLOWED = "what an event had as its id, such as energy/0:17,energy/1:5"
ID_PART = re.compile(r"([a-z][a-z0-9_]*)/(\d{1,10}):(\d{1,18})")

Positions = dict[str, dict[int, int]]


def write_event_id(positions: Positions) -> str:
    """How far a client is, as the id of an event."""
    return ",".join(
        f"{stream}/{number}:{offset}"
        for stream, offsets in sorted(positions.items())
        for number, offset in sorted(offsets.items())
    )


def read_event_id(text: str) -> Positions:
    """The positions in an event's id; raises ValueError where it is none of ours."""
    positions: Positions = {}
    for part in filter(None, text.split(",")):
        found = ID_PART.fullmatch(part)
        if found is None:
            raise ValueError(text)
        positions.setdefault(found[1], {})[int(found[2])] = int(found[3])
    return positions


def _hz(text: str) -> float:
    value = float(text)
    if not 0 < value <= MAX_HZ:
        raise ValueError(text)
    return value


def _mode(text: str) -> str:
    if text not in ("all", "latest"):
        raise ValueError(text)
    return text


_TEXT = Schema(type=OpenAPIType.STRING)
_TEXTS = Schema(type=OpenAPIType.ARRAY, items=_TEXT)
STREAMS = Param(
    "stream",
    "Which streams; may be given several times.",
    _TEXTS,
    str,
    "a stream's name",
    required=True,
    many=True,
)
FIELDS = Param(
    "fields",
    "Only these fields of the data; may be given several times, or with commas between.",
    _TEXTS,
    lambda text: [name.strip() for name in text.split(",")],
    "names of fields",
    many=True,
    join=lambda lists: [name for names in lists for name in names],
)
MODE = Param(
    "mode", "All readings, or of each device the latest that can be delivered.",
    Schema(type=OpenAPIType.STRING, enum=["all", "latest"]), _mode, "all or latest", default="all",
)  # fmt: skip
HZ = Param(
    "max_hz", "At most so many readings a second of each device.",
    Schema(type=OpenAPIType.NUMBER), _hz, f"a number above 0, up to {MAX_HZ:g}",
)  # fmt: skip
LAST_ID = Param(
    "last_event_id",
    "Go on behind this event; the header Last-Event-ID comes first.",
    _TEXT,
    read_event_id,
    ID_ALLOWED,
)
PARAMS = (STREAMS, DEVICES, FIELDS, MODE, HZ, LAST_ID)


class EventResponse(StreamResponse):
    """A stream that is closed however it ends, also where its client was gone before it began."""

    def __init__(
        self,
        content: AsyncGenerator[bytes, None],
        *,
        close: Callable[[], None],
        **options: Any,  # noqa: ANN401
    ) -> None:
        super().__init__(content, **options)
        self._events = content
        self._close = close

    def to_asgi_response(self, *args: Any, **options: Any) -> Any:  # noqa: ANN401 - as its base has them
        """The application that sends it."""
        send_events = super().to_asgi_response(*args, **options)

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            try:
                await send_events(scope, receive, send)
            finally:
                await self._events.aclose()
                self._close()

        return app


def feed_events_route(live: LiveService) -> HTTPRouteHandler:
    """`GET /api/v1/feed/events?stream=…`."""

    @get(
        "/api/v1/feed/events",
        tags=["feed"],
        operation_class=operation_of(PARAMS),
        responses=PROBLEMS,
        media_type="text/event-stream",
        summary="The live feed as server-sent events",
        opt={"access": FEED},
    )
    async def feed_events(request: Request[Any, Any, Any]) -> StreamResponse:
        wish = _read_wish(request)
        session = live.open_session(grant_of(request))
        if session is None:
            raise BackpressureError("All places of the feed are taken.", retry_after_s=RETRY_AFTER_S)
        try:
            session.subscribe(wish)
        except BadRequestError as exc:
            live.close_session(session)
            if exc.message.code == "forbidden":
                raise ForbiddenError(stream_scope(exc.message.stream or ""), exc.message.detail) from exc
            name = {"unknown_stream": "stream"}.get(exc.message.code, "fields")
            raise BadParameterError(name, exc.message.detail, "what is declared") from exc
        note_session(request.scope, session)
        positions = {name: dict(offsets) for name, offsets in (wish.positions or {}).items()}
        return EventResponse(
            _events(session, positions),
            media_type="text/event-stream",
            headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
            close=lambda: live.close_session(session),
        )

    return feed_events


def _read_wish(request: Request[Any, Any, Any]) -> Subscribe:
    query = read_params(request.query_params.dict(), PARAMS)
    positions = query["last_event_id"]
    if header := request.headers.get("last-event-id"):
        try:
            positions = read_event_id(header)
        except ValueError as exc:
            raise BadParameterError("Last-Event-ID", header, ID_ALLOWED) from exc
    names = ("device_id", "fields", "mode", "max_hz")
    wish = {
        "streams": query["stream"],
        "positions": positions or None,
        **{name: query[name] for name in names},
    }
    try:
        return msgspec.convert({"type": "subscribe", **wish}, Subscribe, str_keys=True)
    except msgspec.ValidationError as exc:
        raise BadParameterError("stream", str(exc), "what the feed's subscribe takes") from exc


async def _events(session: Session, positions: Positions) -> AsyncGenerator[bytes, None]:
    """The events of one client, as it takes them."""
    yield f"retry: {RETRY_MS}\n\n".encode()
    while True:
        try:
            taken = await session.next(BEAT_S)
        except SessionFailedError:
            # An EventSource comes back by itself, with the id of its last event.
            return
        if not taken:
            yield b": nothing new\n\n"
            continue
        is_sent = False
        try:
            # Written together, as those of a WebSocket are.
            yield b"".join(_event(outgoing, positions) for outgoing in taken)
            is_sent = True
        finally:
            session.settle(*((taken, []) if is_sent else ([], taken)))


def _event(outgoing: Outgoing, positions: Positions) -> bytes:
    known = positions.setdefault(outgoing.stream, {}) if outgoing.reached else {}
    for partition, offset in outgoing.reached:
        known[partition] = offset
    return f"id: {write_event_id(positions)}\ndata: {outgoing.text}\n\n".encode()
