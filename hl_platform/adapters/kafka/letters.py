"""A record as it stands in a dead-letter topic, bytes and headers unchanged."""

from datetime import datetime
from typing import Any, NamedTuple

from confluent_kafka import Message

from hl_platform.adapters.kafka.times import kafka_time_of

Place = tuple[str, int]


class LetterRecord(NamedTuple):
    """A record of a dead-letter topic."""

    kafka_topic: str
    kafka_partition: int
    offset: int
    key: bytes | None
    value: bytes
    headers: tuple[tuple[str, bytes | None], ...]
    kafka_time: datetime


def letter_of(message: Message) -> LetterRecord:
    """The record of a message that is no error."""
    _, timestamp_ms = message.timestamp()
    headers: Any = message.headers() or ()
    key: Any = message.key()
    value: Any = message.value()
    return LetterRecord(
        message.topic() or "",
        message.partition() or 0,
        message.offset() or 0,
        key,
        value or b"",
        tuple(headers),
        kafka_time_of(timestamp_ms),
    )
