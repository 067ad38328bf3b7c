"""The feed as a WebSocket."""

import asyncio
import contextlib
from typing import Any, Literal

from litestar import WebSocket, websocket
from litestar.handlers import WebsocketRouteHandler
from litestar.params import FromPath

from hl_live.access_log import note_session
from hl_live.auth.access import FEED, grant_of
from hl_live.feed.messages import ErrorMessage, Subscribe, encode_message
from hl_live.feed.session import BadRequestError, Session, SessionFailedError
from hl_live.feed.wire import Write, text_frame
from hl_live.frame_protocol import FRAMES
from hl_live.params import DEVICES, read_params
from hl_live.problems import BadParameterError
from hl_live.service import LiveService

Socket = WebSocket[Any, Any, Any]

# A subscription to 200 devices with long names.
MAX_INPUT_BYTES = 65_536
# RFC 6455 section 7.4.1, and 4000 to 4999 for our own, after the HTTP status of the same meaning.
CLOSE_UNSUPPORTED, CLOSE_TRY_LATER, CLOSE_BAD_PARAMETER, CLOSE_UNKNOWN_STREAM = 1003, 1013, 4400, 4404
CLOSE_FAILED, CLOSE_FORBIDDEN = 1011, 4403
CLOSE_CODES = {
    "unknown_stream": CLOSE_UNKNOWN_STREAM,
    "forbidden": CLOSE_FORBIDDEN,
    "too_many_clients": CLOSE_TRY_LATER,
}


class Refusal(Exception):  # noqa: N818 - an answer, not a fault
    """The client cannot stay; it is told why."""

    def __init__(self, message: ErrorMessage, close_code: int) -> None:
        super().__init__(message.detail)
        self.message = message
        self.close_code = close_code


def feed_routes(live: LiveService) -> list[WebsocketRouteHandler]:
    """`/api/v1/feed`, and the older `/ws/{stream}?device_id=…`."""

    @websocket("/api/v1/feed", opt={"access": FEED})
    async def feed(socket: Socket) -> None:
        await _admit(live, socket, None)

    @websocket("/ws/{stream:str}")
    async def feed_of_stream(socket: Socket, stream: FromPath[str]) -> None:
        await _admit(live, socket, stream)

    return [feed, feed_of_stream]


async def _admit(live: LiveService, socket: Socket, stream: str | None) -> None:
    await socket.accept()
    # A client that is gone, in whatever way, is no fault.
    with contextlib.suppress(OSError):
        try:
            await _serve(live, socket, stream)
        except Refusal as refusal:
            await _send(socket, encode_message(refusal.message))
            await socket.close(code=refusal.close_code, reason=refusal.message.code)
        except SessionFailedError:
            await socket.close(code=CLOSE_FAILED, reason="failed")


async def _serve(live: LiveService, socket: Socket, stream: str | None) -> None:
    session = live.open_session(grant_of(socket))
    if session is None:
        detail = f"All {live.settings.live.max_clients} places are taken. Try again later."
        raise Refusal(ErrorMessage("too_many_clients", detail), CLOSE_TRY_LATER)
    note_session(socket.scope, session)
    tasks: list[asyncio.Task[None]] = []
    try:
        if stream is not None:
            _subscribe_by_address(session, socket, stream)
        tasks = [
            asyncio.create_task(_send_messages(socket, session)),
            asyncio.create_task(_read_client(socket, session)),
        ]
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        live.close_session(session)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _subscribe_by_address(session: Session, socket: Socket, stream: str) -> None:
    """The older protocol: one stream, from now on."""
    try:
        device_ids = read_params(socket.query_params.dict(), (DEVICES,))["device_id"]
        session.subscribe(Subscribe(streams=[stream], device_id=device_ids, snapshot=False))
    except BadParameterError as exc:
        raise Refusal(ErrorMessage("bad_parameter", str(exc)), CLOSE_BAD_PARAMETER) from exc
    except BadRequestError as exc:
        raise Refusal(exc.message, CLOSE_CODES.get(exc.message.code, CLOSE_BAD_PARAMETER)) from exc


async def _send_messages(socket: Socket, session: Session) -> None:
    extensions: Any = socket.scope.get("extensions") or {}
    write: Write | None = extensions.get(FRAMES, {}).get("write")
    session.push_to(write)
    while True:
        taken = await session.next()
        n_sent = 0
        try:
            if write is not None:
                await _send_frames(socket, b"".join(text_frame(outgoing.text) for outgoing in taken))
                n_sent = len(taken)
            else:
                for outgoing in taken:
                    await _send(socket, outgoing.text)
                    n_sent += 1
        finally:
            session.settle(taken[:n_sent], taken[n_sent:])


async def _read_client(socket: Socket, session: Session) -> None:
    """Returns when the client is gone."""
    while (message := await socket.receive())["type"] != "websocket.disconnect":
        text: Any = message.get("text")
        if text is None:
            raise Refusal(ErrorMessage("bad_message", "Messages are JSON in text frames."), CLOSE_UNSUPPORTED)
        session.receive(text)
        await session.room()


async def _send(socket: Socket, text: str) -> None:
    event: dict[Literal["type", "bytes", "text"], Any] = {
        "type": "websocket.send",
        "bytes": None,
        "text": text,
    }
    await socket.send(event)  # type: ignore[arg-type]


async def _send_frames(socket: Socket, frames: bytes) -> None:
    event: Any = {"type": "websocket.send", "frames": frames}
    await socket.send(event)
