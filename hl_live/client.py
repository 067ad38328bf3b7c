"""A client of the live feed for Python programs.

async with FeedClient("http://127.0.0.1:8000", ["energy"], device_id=["meter1"]) as client:
    async for message in client:
        match message:
            case DataMessage():
                print(message.device_id, message.data)
            case GapMessage():
                print("missing", message)
"""

import asyncio
import random
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from types import TracebackType
from typing import Self

import msgspec
import structlog
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import InvalidStatus, WebSocketException

from hl_live.feed.messages import (
    Answer,
    DataMessage,
    ErrorMessage,
    GapMessage,
    Mode,
    PongMessage,
    PositionsMessage,
    Subscribe,
    SubscribedMessage,
    encode_message,
)
from hl_platform.core.backoff import Backoff
from hl_platform.core.errors import HlError

log = structlog.get_logger()

# A connection that lasted this long was a success: its end starts with a short wait again.
STEADY_S = 5.0
FIRST_WAIT_S = 0.4
MAX_WAIT_S = 8.0
# Silence for so long is asked about, and is an end when there is no answer.
PING_S = 15.0
# Statuses that only another token, or another name of the service, would change.
REFUSED = (401, 403)
# Answers that say that it is no use to ask again.
FOR_GOOD = ("unknown_stream", "bad_parameter", "bad_message", "forbidden")

_decoder: msgspec.json.Decoder[Answer] = msgspec.json.Decoder(Answer)


class FeedRefusedError(HlError):
    """The service will never serve what was asked for.

    Args:
        code: the protocol's.
        detail: for a person.
    """

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(f"{code}: {detail}")
        self.code = code


class FeedClient:
    """Everything of some streams, through any number of reconnections.

    Args:
        url: of the service, such as http://127.0.0.1:8000.
        streams: their names.
        device_id: only these; None for every device.
        fields: only these of the data, each declared by one of the streams; None for all.
        mode: `all`, or the `latest` of each device.
        max_hz: readings a second of each device at most.
        positions: by stream and Kafka partition, where an earlier client ended (its `positions`).
        token: where the service asks for one.

    Raises:
        FeedRefusedError: while it is read; what was asked for cannot be.

    Guarantee: hands on every reading in order, or the gap in its place. `positions` is behind the last message that was
    handed on, so that a program which stores it with its own work resumes exactly there.
    """

    def __init__(
        self,
        url: str,
        streams: Sequence[str],
        *,
        device_id: Sequence[str] | None = None,
        fields: Sequence[str] | None = None,
        mode: Mode = "all",
        max_hz: float | None = None,
        positions: Mapping[str, Mapping[int, int]] | None = None,
        token: str | None = None,
    ) -> None:
        scheme, _, rest = url.rstrip("/").partition("://")
        self._url = f"{'wss' if scheme in ('https', 'wss') else 'ws'}://{rest}/api/v1/feed"
        self._headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        self._streams = list(streams)
        self._device_id = None if device_id is None else list(device_id)
        self._fields = None if fields is None else list(fields)
        self._mode: Mode = mode
        self._max_hz = max_hz
        self.positions = {name: dict(found) for name, found in (positions or {}).items()}
        self.n_connections = 0
        # Random so that many clients do not return to a restarted service together.
        self._backoff = Backoff(random.Random(), first_s=FIRST_WAIT_S, max_s=MAX_WAIT_S)  # noqa: S311
        self._messages = self._run()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._messages.aclose()

    def __aiter__(self) -> AsyncIterator[Answer]:
        return self._messages

    async def _run(self) -> AsyncGenerator[Answer, None]:
        while True:
            began = asyncio.get_running_loop().time()
            try:
                async with connect(
                    self._url,
                    additional_headers=self._headers,
                    compression=None,
                    ping_interval=PING_S,
                    ping_timeout=PING_S,
                ) as connection:
                    self.n_connections += 1
                    async for message in self._listen(connection):
                        yield message
            except (OSError, WebSocketException) as exc:
                if isinstance(exc, InvalidStatus) and exc.response.status_code in REFUSED:
                    raise FeedRefusedError("refused", f"status {exc.response.status_code}") from exc
                log.info("feed_client_lost", url=self._url, error=str(exc))
            if asyncio.get_running_loop().time() - began >= STEADY_S:
                self._backoff.reset()
            await asyncio.sleep(self._backoff.next_s())

    async def _listen(self, connection: ClientConnection) -> AsyncGenerator[Answer, None]:
        await connection.send(encode_message(self._request()))
        async for text in connection:
            message = _decoder.decode(text)
            if isinstance(message, ErrorMessage) and message.code in FOR_GOOD:
                raise FeedRefusedError(message.code, message.detail)
            if isinstance(message, PongMessage):
                continue
            note_progress(self.positions, message)
            yield message

    def _request(self) -> Subscribe:
        # One for all streams: each field need be declared by one of them only.
        known = {name: found for name in self._streams if (found := self.positions.get(name))}
        return Subscribe(
            streams=self._streams,
            device_id=self._device_id,
            fields=self._fields,
            mode=self._mode,
            max_hz=self._max_hz,
            positions=known or None,
        )


def note_progress(positions: dict[str, dict[int, int]], message: Answer) -> None:
    """Notes how far a message leads: what to ask for after a reconnection.

    Args:
        positions: by stream and Kafka partition, the next offset to ask for; changed in place.
        message: of the service.
    """
    match message:
        case SubscribedMessage():
            positions[message.stream] = dict(message.positions)
        case PositionsMessage():
            positions.setdefault(message.stream, {}).update(message.positions)
        case DataMessage(position=position) if position is not None and not message.snapshot:
            positions.setdefault(message.stream, {})[position.partition] = position.offset + 1
        case GapMessage(partition=int(partition), to_offset=int(to_offset)):
            positions.setdefault(message.stream, {})[partition] = to_offset
        case _:
            pass
