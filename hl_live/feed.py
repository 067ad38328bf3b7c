"""The fan-out: from batches of readings to the bounded queue of each client.

    reader thread                         event loop
    records -> decode_records -> frames -> Fanout.publish -> FeedClient queues -> sender tasks

Everything here is pure: no sockets, no Kafka. `decode_records` may run in any thread, the rest belongs to
the event loop's.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Collection, Iterable, Mapping
from datetime import datetime
from typing import Literal, NamedTuple

import msgspec
import structlog

from hl_platform.adapters.kafka.feed_reader import FeedRecord
from hl_platform.core.accounts import StageStats
from hl_platform.core.errors import PoisonRecordError
from hl_platform.core.readings import Reading, ReadingDecoder
from hl_platform.core.streams import Stream

log = structlog.get_logger()

# What a sender takes at once; what it holds is no longer in the queue, so this adds to the queue's bound.
TAKE_AT_ONCE = 100

_encoder = msgspec.json.Encoder()


class Position(msgspec.Struct, frozen=True):
    """Where a reading lies on Kafka."""

    partition: int
    offset: int


class DataFrame(msgspec.Struct, frozen=True, tag_field="type", tag="data", kw_only=True):
    """A reading as a client gets it."""

    stream: str
    device_id: str
    timestamp: datetime
    received_at: datetime
    data: dict[str, float | int | str | bool | None]
    position: Position


class SubscribedFrame(msgspec.Struct, frozen=True, tag_field="type", tag="subscribed"):
    """The first frame: what the client will get; None is every device."""

    stream: str
    device_id: list[str] | None


class GapFrame(msgspec.Struct, frozen=True, tag_field="type", tag="gap"):
    """Comes before the next data: so many readings were dropped as the client was too slow for them."""

    stream: str
    missed: int


class ErrorFrame(msgspec.Struct, frozen=True, tag_field="type", tag="error"):
    """Why the server closes."""

    code: Literal["unknown_stream", "bad_parameter", "bad_message", "too_many_clients", "forbidden_origin"]
    detail: str


class PongFrame(msgspec.Struct, frozen=True, tag_field="type", tag="pong"):
    """The answer to a ping."""


def encode_frame(frame: msgspec.Struct) -> str:
    """The text of a frame."""
    return _encoder.encode(frame).decode()


class Frame:
    """One reading, encoded once, on its way to any number of clients."""

    __slots__ = ("n_pending", "reading", "sent_at", "stream", "text")

    def __init__(self, stream: str, reading: Reading, text: str) -> None:
        self.stream = stream
        self.reading = reading
        self.text = text
        self.n_pending = 0
        self.sent_at = 0.0


def decode_records(
    decoders: Mapping[str, tuple[Stream, ReadingDecoder]], records: Iterable[FeedRecord], stats: StageStats
) -> list[Frame]:
    """The frames of a batch, in its order; what is not valid is dropped, counted and logged.

    Args:
        decoders: stream and decoder, by Kafka topic.
        records: as read from Kafka.
        stats: gets received and dropped.
    """
    frames: list[Frame] = []
    counts: dict[str, tuple[int, int]] = {}
    newest: dict[str, datetime] = {}
    problem: PoisonRecordError | None = None
    for record in records:
        stream, decoder = decoders[record.kafka_topic]
        received, dropped = counts.get(stream.name, (0, 0))
        try:
            reading = decoder.decode_record(record.value, record.key, record.kafka_time)
        except PoisonRecordError as exc:
            # The sink writes it to the dead letters; here it is only not shown.
            problem, dropped = exc, dropped + 1
        else:
            frames.append(Frame(stream.name, reading, _text_of(stream, reading, record)))
            newest[stream.name] = max(reading.timestamp, newest.get(stream.name, reading.timestamp))
        counts[stream.name] = (received + 1, dropped)
    for name, (received, dropped) in counts.items():
        stats.count(name, received=received, dropped=dropped, last_reading_at=newest.get(name))
        if dropped:
            log.warning("feed_records_dropped", stream=name, n_records=dropped, last_error=str(problem))
    return frames


def _text_of(stream: Stream, reading: Reading, record: FeedRecord) -> str:
    frame = DataFrame(
        stream=stream.name,
        device_id=reading.device_id,
        timestamp=reading.timestamp,
        received_at=reading.received_at,
        data=dict(zip((field.name for field in stream.fields), reading.values, strict=True)),
        position=Position(record.kafka_partition, record.offset),
    )
    return encode_frame(frame)


class Taken(NamedTuple):
    """What a sender has to send now: first the gap, if any, then the frames."""

    missed: int
    frames: list[Frame]


class FeedClient:
    """One client's queue.

    Args:
        stream: its name.
        device_ids: only these; None for all.
        max_messages: how many may wait.

    Guarantee: holds at most `max_messages`. When it is full the oldest is dropped and counted, and the count
    is handed out before the frame that follows the hole.
    """

    def __init__(self, stream: str, device_ids: Collection[str] | None, max_messages: int) -> None:
        self.stream = stream
        self.device_ids = None if device_ids is None else frozenset(device_ids)
        self._max_messages = max_messages
        self._waiting: deque[Frame] = deque()
        self._missed = 0
        self._ready = asyncio.Event()

    def wants(self, reading: Reading) -> bool:
        """Whether the client asked for this device; for a probe it must have named it."""
        if self.device_ids is None:
            return not reading.is_probe
        return reading.device_id in self.device_ids

    def put(self, frame: Frame) -> Frame | None:
        """Queues a frame; returns the one that had to go for it."""
        gone = None
        if len(self._waiting) >= self._max_messages:
            gone = self._waiting.popleft()
            self._missed += 1
        self._waiting.append(frame)
        self._ready.set()
        return gone

    async def take(self) -> Taken:
        """Waits for something to send."""
        await self._ready.wait()
        frames = [self._waiting.popleft() for _ in range(min(TAKE_AT_ONCE, len(self._waiting)))]
        missed, self._missed = self._missed, 0
        if not self._waiting:
            self._ready.clear()
        return Taken(missed, frames)

    def empty(self) -> list[Frame]:
        """Takes out all that still waits, for a client that leaves."""
        left = list(self._waiting)
        self._waiting.clear()
        return left

    @property
    def n_waiting(self) -> int:
        """How many frames wait."""
        return len(self._waiting)


class Fanout:
    """Who gets which frames.

    Args:
        on_delay: called with milliseconds from a live reading's own time until its frame was sent to the
            last client, or was ready where there is none.
        now: Unix time in seconds.

    Guarantee: every client gets every frame of its stream and devices in order, or a count of what it missed.
    Publishing never waits for a client.
    """

    def __init__(self, on_delay: Callable[[float], None], now: Callable[[], float] = time.time) -> None:
        self._on_delay = on_delay
        self._now = now
        self._clients: dict[str, set[FeedClient]] = {}
        self.n_missed = 0

    @property
    def n_clients(self) -> int:
        """How many clients are joined."""
        return sum(len(clients) for clients in self._clients.values())

    def join(self, client: FeedClient) -> None:
        """Begins to queue frames for a client."""
        self._clients.setdefault(client.stream, set()).add(client)

    def leave(self, client: FeedClient) -> None:
        """Forgets a client and what waits for it. Harmless when it has left already."""
        clients = self._clients.get(client.stream, set())
        clients.discard(client)
        if not clients:
            self._clients.pop(client.stream, None)
        self.settle(client.empty(), sent=False)

    def publish(self, frames: Iterable[Frame]) -> None:
        """Queues frames for everyone who wants them."""
        for frame in frames:
            for client in self._clients.get(frame.stream, ()):
                if not client.wants(frame.reading):
                    continue
                frame.n_pending += 1
                if (gone := client.put(frame)) is not None:
                    self.n_missed += 1
                    self.settle((gone,), sent=False)
            if not frame.n_pending:
                frame.sent_at = self._now()
                self._measure(frame)

    def settle(self, frames: Iterable[Frame], *, sent: bool) -> None:
        """Notes that one client has been sent these frames, or will never be."""
        for frame in frames:
            if sent:
                frame.sent_at = self._now()
            frame.n_pending -= 1
            if not frame.n_pending and frame.sent_at:
                self._measure(frame)

    def _measure(self, frame: Frame) -> None:
        if frame.reading.is_live:
            self._on_delay((frame.sent_at - frame.reading.timestamp.timestamp()) * 1000)
