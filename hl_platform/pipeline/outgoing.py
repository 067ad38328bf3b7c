"""What the bridge has made of a message, on its way to Kafka, directly or through the spool."""

from typing import Any

import msgspec

from hl_platform.adapters.mqtt.session import Token
from hl_platform.core.errors import InvariantError


class Outgoing(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """A record that is not on Kafka yet.

    Args:
        stream: name of its stream.
        dead: whether it is a dead letter.
        kafka_topic, key, value, headers: the record.
    """

    stream: str
    dead: bool
    kafka_topic: str
    key: str
    value: bytes
    headers: dict[str, Any] | None = None


class Waiting(msgspec.Struct, frozen=True, gc=False):
    """A record whose message was not acknowledged yet.

    Args:
        record: for Kafka.
        token: settles the message; None where nobody wants to know.
        since: when it came, on the outlet's clock.
    """

    record: Outgoing
    token: Token | None
    since: float


class Arrived(msgspec.Struct, frozen=True, gc=False):
    """A record that Kafka has.

    Args:
        record: as it was sent.
        kafka_partition, offset: where it is.
    """

    record: Outgoing
    kafka_partition: int
    offset: int


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Outgoing)


def encode_entry(record: Outgoing) -> bytes:
    """A record as the spool keeps it."""
    return _encoder.encode(record)


def decode_entry(entry: bytes) -> Outgoing:
    """What `encode_entry` wrote.

    Raises:
        InvariantError: it is something else.
    """
    try:
        return _decoder.decode(entry)
    except msgspec.DecodeError as exc:
        raise InvariantError(f"An entry of the spool is no record: {exc}") from exc
