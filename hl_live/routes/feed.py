"""The WebSocket feed."""

import asyncio
import contextlib
from collections.abc import Sequence
from typing import Any, Literal

import msgspec
import structlog
from litestar import WebSocket, websocket
from litestar.handlers import WebsocketRouteHandler
from litestar.params import FromPath

from hl_live.feed import (
    ErrorFrame,
    Fanout,
    FeedClient,
    GapFrame,
    PongFrame,
    SubscribedFrame,
    encode_frame,
)
from hl_live.guard import is_allowed_host, is_allowed_origin
from hl_live.params import DEVICES, read_params
from hl_live.problems import BadParameterError
from hl_live.service import LiveService

log = structlog.get_logger()

Socket = WebSocket[Any, Any, Any]

# A ping is all that a client may say.
MAX_INPUT_BYTES = 4_096
# RFC 6455 section 7.4.1, and 4000 to 4999 for our own, after the HTTP status of the same meaning.
CLOSE_UNSUPPORTED, CLOSE_TRY_LATER, CLOSE_BAD_PARAMETER, CLOSE_UNKNOWN_STREAM = 1003, 1013, 4400, 4404


class Ping(msgspec.Struct, tag_field="type", tag="ping"):
    """What a client may send to see that the server is there."""


class Refusal(Exception):  # noqa: N818 - an answer, not a fault
    """The feed cannot be served; the client is told why."""

    def __init__(self, frame: ErrorFrame, close_code: int) -> None:
        super().__init__(frame.detail)
        self.frame = frame
        self.close_code = close_code


def feed_route(live: LiveService) -> WebsocketRouteHandler:
    """`/ws/{stream}?device_id=…`."""

    @websocket("/ws/{stream:str}")
    async def feed(socket: Socket, stream: FromPath[str]) -> None:
        host, origin = socket.headers.get("host"), socket.headers.get("origin")
        if not is_allowed_host(host) or not is_allowed_origin(origin, host):
            log.warning("feed_origin_refused", origin=origin, host=host)
            # Before the handshake, which makes it an HTTP 403: such a page learns nothing.
            await socket.close()
            return
        await socket.accept()
        # A client that is gone, in whatever way, is no fault.
        with contextlib.suppress(OSError):
            try:
                device_ids = _admit(live, socket, stream)
                await _serve(live, socket, stream, device_ids)
            except Refusal as refusal:
                await _send(socket, encode_frame(refusal.frame))
                await socket.close(code=refusal.close_code, reason=refusal.frame.code)

    return feed


def _admit(live: LiveService, socket: Socket, stream: str) -> list[str] | None:
    if stream not in live.streams:
        detail = f"There is no stream {stream!r:.100}. Streams: {', '.join(live.streams)}."
        raise Refusal(ErrorFrame("unknown_stream", detail), CLOSE_UNKNOWN_STREAM)
    try:
        device_ids: list[str] | None = read_params(socket.query_params.dict(), (DEVICES,))["device_id"]
    except BadParameterError as exc:
        raise Refusal(ErrorFrame("bad_parameter", str(exc)), CLOSE_BAD_PARAMETER) from exc
    if live.fanout.n_clients >= live.settings.live.max_clients:
        detail = f"All {live.settings.live.max_clients} places are taken. Try again later."
        raise Refusal(ErrorFrame("too_many_clients", detail), CLOSE_TRY_LATER)
    return device_ids


async def _serve(live: LiveService, socket: Socket, stream: str, device_ids: Sequence[str] | None) -> None:
    client = FeedClient(stream, device_ids, live.settings.live.client_queue_messages)
    # Before the first frame goes out: what arrives meanwhile waits in the queue.
    live.fanout.join(client)
    shown = None if device_ids is None else list(device_ids)
    tasks: list[asyncio.Task[None]] = []
    try:
        await _send(socket, encode_frame(SubscribedFrame(stream, shown)))
        tasks = [
            asyncio.create_task(_send_frames(socket, client, live.fanout)),
            asyncio.create_task(_read_client(socket)),
        ]
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        live.fanout.leave(client)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _send_frames(socket: Socket, client: FeedClient, fanout: Fanout) -> None:
    while True:
        missed, frames = await client.take()
        n_sent = 0
        try:
            if missed:
                await _send(socket, encode_frame(GapFrame(client.stream, missed)))
            for frame in frames:
                await _send(socket, frame.text)
                n_sent += 1
                fanout.settle((frame,), sent=True)
        finally:
            fanout.settle(frames[n_sent:], sent=False)


async def _read_client(socket: Socket) -> None:
    """Returns when the client is gone."""
    while (message := await socket.receive())["type"] != "websocket.disconnect":
        said: Any = message.get("text") or message.get("bytes") or ""
        try:
            if len(said) > MAX_INPUT_BYTES:
                raise msgspec.ValidationError("too long")
            msgspec.json.decode(said, type=Ping)
        except (msgspec.DecodeError, UnicodeDecodeError) as exc:
            detail = f'A client may only send {{"type":"ping"}}: {exc}'
            raise Refusal(ErrorFrame("bad_message", detail), CLOSE_UNSUPPORTED) from exc
        await _send(socket, encode_frame(PongFrame()))


async def _send(socket: Socket, text: str) -> None:
    event: dict[Literal["type", "bytes", "text"], Any] = {
        "type": "websocket.send",
        "bytes": None,
        "text": text,
    }
    await socket.send(event)  # type: ignore[arg-type]
