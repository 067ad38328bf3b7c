"""What a client and the service say to each other. docs/feed.md explains each, asyncapi.json is made from them."""

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from hl_platform.core.access import MAX_DEVICES
from hl_platform.core.readings import MAX_DEVICE_ID_CHARS

MAX_FIELDS = 200
MAX_STREAMS = 100
# Of one stream; far beyond what a home's topics have.
MAX_PARTITIONS = 1_000
MAX_HZ = 1_000.0

Mode = Literal["all", "latest"]
Offset = Annotated[int, Meta(ge=0, le=2**63 - 1)]
Partition = Annotated[int, Meta(ge=0, le=2**31 - 1)]
Offsets = Annotated[dict[Partition, Offset], Meta(max_length=MAX_PARTITIONS)]
Name = Annotated[str, Meta(min_length=1, max_length=100)]
DeviceId = Annotated[str, Meta(min_length=1, max_length=MAX_DEVICE_ID_CHARS)]
ErrorCode = Literal[
    "unknown_stream", "bad_parameter", "bad_message", "too_many_clients", "not_subscribed", "forbidden"
]
GapReason = Literal["retention", "replaced", "too_far", "skipped"]


class Subscribe(
    msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="subscribe", forbid_unknown_fields=True
):
    """Asks for streams; once more for the same stream replaces what was asked before.

    Args:
        device_id: only these; without it every device.
        fields: only these of the data; without it all.
        mode: `all` readings, or of each device the `latest` that can be delivered.
        max_hz: at most so many readings a second of each device, the latest ones.
        positions: by stream and Kafka partition the next offset that the client wants; without it the newest
            readings come first.
        snapshot: whether the newest readings come first.
    """

    streams: Annotated[list[Name], Meta(min_length=1, max_length=MAX_STREAMS)]
    device_id: Annotated[list[DeviceId], Meta(max_length=MAX_DEVICES)] | None = None
    fields: Annotated[list[Name], Meta(max_length=MAX_FIELDS)] | None = None
    mode: Mode = "all"
    max_hz: Annotated[float, Meta(gt=0, le=MAX_HZ)] | None = None
    positions: Annotated[dict[Name, Offsets], Meta(max_length=MAX_STREAMS)] | None = None
    snapshot: bool = True


class Unsubscribe(
    msgspec.Struct, frozen=True, tag_field="type", tag="unsubscribe", forbid_unknown_fields=True
):
    """Ends the subscriptions of streams."""

    streams: Annotated[list[Name], Meta(min_length=1, max_length=MAX_STREAMS)]


class Ping(msgspec.Struct, frozen=True, tag_field="type", tag="ping", forbid_unknown_fields=True):
    """Asks whether the service is there."""


Request = Subscribe | Unsubscribe | Ping


class Position(msgspec.Struct, frozen=True, gc=False):
    """Where a reading lies on Kafka."""

    partition: int
    offset: int


class DataMessage(
    msgspec.Struct, frozen=True, tag_field="type", tag="data", kw_only=True, omit_defaults=True
):
    """A reading.

    Args:
        timestamp: the device's own time.
        received_at: when the bridge received it.
        data: the fields that were asked for.
        position: null only of a snapshot's reading that came from the database.
        snapshot: true of a reading that was the newest when the subscription began; else it is absent.
    """

    stream: str
    device_id: str
    timestamp: datetime
    received_at: datetime
    data: dict[str, float | int | str | bool | None]
    position: Position | None
    snapshot: bool = False


class SubscribedMessage(msgspec.Struct, frozen=True, tag_field="type", tag="subscribed", kw_only=True):
    """The first message of a stream's subscription, before its data.

    Args:
        device_id, fields, mode, max_hz: as asked; null is all.
        resumed: whether it begins with the positions that the client gave.
        complete: whether the snapshot holds every device; if not, others follow when the database has told them.
        positions: by Kafka partition, the next offset that this subscription will tell.
    """

    stream: str
    device_id: list[str] | None
    fields: list[str] | None
    mode: Mode
    max_hz: float | None
    resumed: bool
    complete: bool
    positions: Mapping[int, int]


class UnsubscribedMessage(msgspec.Struct, frozen=True, tag_field="type", tag="unsubscribed"):
    """Nothing of this stream comes any more."""

    stream: str


class PositionsMessage(msgspec.Struct, frozen=True, tag_field="type", tag="positions"):
    """All that was asked for up to these offsets has been told; for a resume, where few readings come."""

    stream: str
    positions: Mapping[int, int]


class GapMessage(msgspec.Struct, frozen=True, tag_field="type", tag="gap", kw_only=True, omit_defaults=True):
    """Readings that the client does not get.

    Args:
        missed: so many, as the client was too slow for them; newer ones of the same devices follow.
        partition, from_offset, to_offset: or all from this offset on, before that one.
        reason: of such a range: `retention`, Kafka no longer has it; `replaced`, the Kafka topic was made anew or cut;
            `too_far`, it is longer than the service reads again; `skipped`, the service itself has not seen it.
    """

    stream: str
    missed: int | None = None
    partition: int | None = None
    from_offset: int | None = None
    to_offset: int | None = None
    reason: GapReason | None = None


class ErrorMessage(msgspec.Struct, frozen=True, tag_field="type", tag="error", omit_defaults=True):
    """What is wrong; the connection stays, unless there is no room for it.

    Args:
        stream: the one that could not be subscribed, where it is one.
    """

    code: ErrorCode
    detail: str
    stream: str | None = None


class PongMessage(msgspec.Struct, frozen=True, tag_field="type", tag="pong"):
    """The answer to a ping."""


Answer = (
    DataMessage
    | SubscribedMessage
    | UnsubscribedMessage
    | PositionsMessage
    | GapMessage
    | ErrorMessage
    | PongMessage
)

_encoder = msgspec.json.Encoder()
_decoder: msgspec.json.Decoder[Request] = msgspec.json.Decoder(Request)


def encode_message(message: msgspec.Struct) -> str:
    """The text of a message."""
    return _encoder.encode(message).decode()


def decode_request(text: str | bytes) -> Request:
    """What a client says.

    Raises:
        msgspec.DecodeError: it is none of the requests.
    """
    return _decoder.decode(text)
