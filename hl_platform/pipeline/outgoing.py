"""What the bridge has made of a message, on its way to Kafka, directly or through the spool."""

from typing import Any

import msgspec

from hl_platform.adapters.mqtt.session import Token
from hl_platform.core.coverage import DEAD_LETTERED, FORWARDED, Place
from hl_platform.core.errors import InvariantError


class Outgoing(msgspec.Struct, eq=False, gc=False):
    """A record that is not on Kafka yet. One object for all of its way, because one is made for every reading.

    Args:
        stream: name of its stream.
        dead: whether it is a dead letter.
        kafka_topic, key, value, headers: the record.
        token: settles its message; None where nobody wants to know.
    """

    stream: str
    dead: bool
    kafka_topic: str
    key: str
    value: bytes
    headers: dict[str, Any] | None = None
    token: Token | None = None

    def place(self, kafka_partition: int) -> Place:
        """Where it is once it is in a Kafka partition, and what it is counted as."""
        kind = DEAD_LETTERED if self.dead else FORWARDED
        return Place(self.stream, kind, self.kafka_topic, kafka_partition)


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(tuple[str, bool, str, str, bytes, dict[str, Any] | None])


def encode_entry(record: Outgoing) -> bytes:
    """A record as the spool keeps it: without the token, which is acknowledged by then."""
    return _encoder.encode(
        (record.stream, record.dead, record.kafka_topic, record.key, record.value, record.headers)
    )


def decode_entry(entry: bytes) -> Outgoing:
    """What `encode_entry` wrote.

    Raises:
        InvariantError: it is something else.
    """
    try:
        return Outgoing(*_decoder.decode(entry))
    except msgspec.DecodeError as exc:
        raise InvariantError(f"An entry of the spool is no record: {exc}") from exc
