"""One line for each reading that passes. Pure."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, NamedTuple

import msgspec

from hl_platform.core.readings import ADDED_BY_BRIDGE, device_of_topic
from hl_platform.core.streams import Stream

MAX_RAW_CHARS = 200
# A payload may be 64 KiB; a terminal is not the place for it.
MAX_VALUES_CHARS = 600
NOT_VALUES = (*ADDED_BY_BRIDGE, "timestamp")


class Seen(NamedTuple):
    """A reading as it passed.

    Args:
        at: its own time as far as it can be read, else when it was rejected or empty.
        device_id: as far as it can be told, else empty.
        values: its values with their units, or what it is instead.
        position: where it is.
    """

    at: str
    device_id: str
    values: str
    position: str

    @property
    def line(self) -> str:
        """For a terminal: nothing that a device sends can move its cursor."""
        values = self.values[:MAX_VALUES_CHARS] + "…" * (len(self.values) > MAX_VALUES_CHARS)
        text = f"{self.at:<23}  {self.device_id or '-':<16}  {values}  [{self.position}]"
        return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text)


def seen_body(stream: Stream, body: bytes, position: str, device_id: str = "") -> Seen:
    """What a device or a bridge has written, valid or not.

    Args:
        stream: whose it is.
        body: JSON, one hopes.
        position: where it is.
        device_id: where the body names none.
    """
    try:
        read: Any = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        read = None
    if not isinstance(read, dict):
        return Seen("", device_id, f"not JSON of a reading: {raw_text(body)}", position)
    named = read.get("device_id") or (read.get(stream.device_id_field) if stream.device_id_field else None)
    values = {name: value for name, value in read.items() if name not in NOT_VALUES}
    return Seen(
        time_text(read.get("timestamp")), str(named or device_id), values_text(stream, values), position
    )


def seen_message(stream: Stream, mqtt_topic: str, payload: bytes) -> Seen:
    """What a device has published."""
    return seen_body(stream, payload, mqtt_topic, device_of_topic(mqtt_topic) or "")


def values_text(stream: Stream, values: Mapping[str, object]) -> str:
    """Values by name, each with its unit; what is absent is left out."""
    units = {field.name: field.unit for field in stream.fields}
    shown = [
        f"{name} {_value_text(value)} {units.get(name, '')}".rstrip()
        for name, value in values.items()
        if value is not None and name != stream.device_id_field
    ]
    return ", ".join(shown) or "no values"


def time_text(timestamp: object) -> str:
    """A time in UTC with milliseconds; what is no time is shown as it is."""
    try:
        at = msgspec.convert(timestamp, datetime)
    except msgspec.ValidationError:
        return "no time" if timestamp is None else str(timestamp)[:40]
    if at.tzinfo is None:
        return str(timestamp)[:40]
    return at.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S.%f")[:-3]


def raw_text(body: bytes) -> str:
    """Bytes as text, cut."""
    text = body[: 4 * MAX_RAW_CHARS].decode(errors="replace")
    return text if len(text) <= MAX_RAW_CHARS else f"{text[:MAX_RAW_CHARS]}… ({len(body)} bytes)"


def _value_text(value: object) -> str:
    if isinstance(value, str | int | float | bool):
        return str(value).lower() if isinstance(value, bool) else str(value)
    return msgspec.json.encode(value).decode()
