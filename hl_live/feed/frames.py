"""From Kafka records to frames: one reading each, encoded once for each selection of fields."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import structlog

from hl_live.feed.messages import DataMessage, Position, encode_message
from hl_live.feed.wire import text_frame
from hl_platform.adapters.kafka.feed_reader import FeedRecord
from hl_platform.core.accounts import StageStats
from hl_platform.core.errors import PoisonRecordError
from hl_platform.core.readings import Reading, ReadingDecoder
from hl_platform.core.streams import Stream

log = structlog.get_logger()

# A frame that nobody waits for keeps this many of its texts, for those who come back.
MAX_TEXTS_KEPT = 4
# What a frame takes beside its record's bytes: the reading's values and a text of each.
FRAME_BYTES = 800

Decoders = Mapping[str, tuple[Stream, ReadingDecoder]]
# Indices of a stream's fields, in declared order; None is all.
Fields = tuple[int, ...] | None


class Frame:
    """One reading on its way to any number of clients.

    Args:
        stream: its declaration.
        reading: what is shown.
        position: where it lies on Kafka; None of one that the database told.
        size_bytes: about what it takes in memory.
    """

    __slots__ = ("_texts", "_wires", "n_pending", "position", "reading", "sent_at", "size_bytes", "stream")

    def __init__(
        self, stream: Stream, reading: Reading, position: Position | None, size_bytes: int = 0
    ) -> None:
        self.stream = stream
        self.reading = reading
        self.position = position
        self.size_bytes = size_bytes
        self.n_pending = 0
        self.sent_at = 0.0
        self._texts: dict[tuple[Fields, bool], str] = {}
        self._wires: dict[Fields, bytes] = {}

    @property
    def offset(self) -> int:
        """Its offset on Kafka; -1 of one that the database told."""
        return -1 if self.position is None else self.position.offset

    def text(self, fields: Fields = None, *, snapshot: bool = False) -> str:
        """Its message with these fields, for everyone who asks for the same ones."""
        key = (fields, snapshot)
        text = self._texts.get(key)
        if text is None:
            text = self._encode(fields, snapshot=snapshot)
            if self.n_pending or len(self._texts) < MAX_TEXTS_KEPT:
                self._texts[key] = text
        return text

    def wire(self, fields: Fields = None) -> bytes:
        """Its message as a WebSocket's frame, for everyone who gets it now."""
        wire = self._wires.get(fields)
        if wire is None:
            wire = self._wires[fields] = text_frame(self.text(fields))
        return wire

    def trim(self) -> None:
        """Forgets what is more than it keeps when nobody waits."""
        self._wires.clear()
        while len(self._texts) > MAX_TEXTS_KEPT:
            self._texts.popitem()

    def _encode(self, fields: Fields, *, snapshot: bool) -> str:
        declared, values = self.stream.fields, self.reading.values
        chosen = range(len(declared)) if fields is None else fields
        return encode_message(
            DataMessage(
                stream=self.stream.name,
                device_id=self.reading.device_id,
                timestamp=self.reading.timestamp,
                received_at=self.reading.received_at,
                data={declared[index].name: values[index] for index in chosen},
                position=self.position,
                snapshot=snapshot,
            )
        )


class Batch:
    """Frames that a client gets together, in the order of their offsets; as bytes once for each selection of fields."""

    __slots__ = ("_wires", "frames")

    def __init__(self, frames: list[Frame]) -> None:
        self.frames = frames
        self._wires: dict[Fields, bytes] = {}

    def wire(self, fields: Fields = None) -> bytes:
        """Their messages as a WebSocket's frames."""
        if len(self.frames) == 1:
            return self.frames[0].wire(fields)
        wire = self._wires.get(fields)
        if wire is None:
            wire = self._wires[fields] = b"".join(frame.wire(fields) for frame in self.frames)
        return wire


@dataclass(slots=True)
class Span:
    """What adjoining records of one Kafka partition hold.

    Args:
        stream: its name.
        first: offset of the first record.
        next_offset: behind the last one.
        frames: of those that are readings, in order.
    """

    stream: str
    partition: int
    first: int
    next_offset: int
    frames: list[Frame]


class Decoded(NamedTuple):
    """A batch of records.

    Args:
        problem: of the last record that is no reading.
    """

    spans: list[Span]
    problem: PoisonRecordError | None


def decode(decoders: Decoders, records: Iterable[FeedRecord]) -> Decoded:
    """The spans of a batch; what is not a reading is in a span without a frame.

    Args:
        decoders: stream and decoder, by Kafka topic.
        records: as read from Kafka.

    Guarantee: a span never reaches over a hole in the offsets.
    """
    spans: list[Span] = []
    open_spans: dict[tuple[str, int], Span] = {}
    problem: PoisonRecordError | None = None
    for record in records:
        stream, decoder = decoders[record.kafka_topic]
        place = (stream.name, record.kafka_partition)
        span = open_spans.get(place)
        if span is None or span.next_offset != record.offset:
            span = open_spans[place] = Span(*place, record.offset, record.offset, [])
            spans.append(span)
        span.next_offset = record.offset + 1
        try:
            reading = decoder.decode_record(record.value, record.key, record.kafka_time)
        except PoisonRecordError as exc:
            # The sink writes it to the dead letters; here it is only not shown.
            problem = exc
        else:
            position = Position(record.kafka_partition, record.offset)
            span.frames.append(Frame(stream, reading, position, len(record.value) + FRAME_BYTES))
    return Decoded(spans, problem)


def decode_records(decoders: Decoders, records: Iterable[FeedRecord], stats: StageStats) -> list[Span]:
    """The spans of a batch that has just arrived; what is not a reading is dropped, counted and logged.

    Args:
        decoders: stream and decoder, by Kafka topic.
        records: as read from Kafka.
        stats: gets received and dropped.
    """
    spans, problem = decode(decoders, records)
    for name in {span.stream: None for span in spans}:
        of_stream = [span for span in spans if span.stream == name]
        received = sum(span.next_offset - span.first for span in of_stream)
        times = [frame.reading.timestamp for span in of_stream for frame in span.frames]
        dropped = received - len(times)
        stats.count(name, received=received, dropped=dropped, last_reading_at=max(times, default=None))
        if dropped:
            log.warning("feed_records_dropped", stream=name, n_records=dropped, last_error=str(problem))
    return spans
