"""Properties of MQTT 5 packets: checked always, read only when somebody asks.

Source: MQTT 5.0, 1.5 (types) and 2.2.2 (properties).
"""

from collections.abc import Iterator

from hl_platform.core.errors import TransientError
from hl_platform.core.trace_context import TRACEPARENT, parse_traceparent

Value = int | bytes | str | tuple[str, str]

USER_PROPERTY = 0x26
TOPIC_ALIAS = 0x23
# Of integers: how many bytes. 0 is a variable byte integer.
INTEGERS = {
    **dict.fromkeys((0x01, 0x17, 0x19, 0x24, 0x25, 0x28, 0x29, 0x2A), 1),
    **dict.fromkeys((0x13, 0x21, 0x22, TOPIC_ALIAS), 2),
    **dict.fromkeys((0x02, 0x11, 0x18, 0x27), 4),
    0x0B: 0,
}
STRINGS = frozenset((0x03, 0x08, 0x12, 0x15, 0x1A, 0x1C, 0x1F))
BINARIES = frozenset((0x09, 0x16))
MAX_LENGTH_BYTES = 4


class MalformedPacketError(TransientError):
    """What came is not MQTT 5 as a broker speaks it; a new connection may do better."""


def read_length(data: bytes, at: int) -> tuple[int, int]:
    """A variable byte integer, and where it ends; (0, 0) if more bytes are to come.

    Raises:
        MalformedPacketError: it is too long.
    """
    value = 0
    for position, digit in enumerate(data[at : at + MAX_LENGTH_BYTES]):
        value |= (digit & 127) << 7 * position
        if digit < 128:  # noqa: PLR2004 - 1.5.5: the last digit
            return value, at + position + 1
    if len(data) - at < MAX_LENGTH_BYTES:
        return 0, 0
    raise MalformedPacketError("a length of more than four bytes")


def encode_length(value: int) -> bytes:
    """A variable byte integer."""
    digits = bytearray()
    while value > 127:  # noqa: PLR2004 - 1.5.5
        digits.append(value & 127 | 128)
        value >>= 7
    digits.append(value)
    return bytes(digits)


def string(text: str) -> bytes:
    """Text with its length before it."""
    raw = text.encode()
    return len(raw).to_bytes(2, "big") + raw


def encode_property(identifier: int, value: int) -> bytes:
    """A property that is an integer of fixed size."""
    return bytes((identifier,)) + value.to_bytes(INTEGERS[identifier], "big")


def read_properties(body: bytes, at: int) -> tuple[dict[int, Value], int]:
    """All properties that begin with their length, and where they end; of one that comes twice the last.

    Raises:
        MalformedPacketError: they are none.
        IndexError: the packet ends before them.
    """
    if at >= len(body):
        raise IndexError
    length, start = read_length(body, at)
    end = start + length
    if not start or end > len(body):
        raise IndexError
    return dict(_read(body[start:end])), end


def check_properties(raw: bytes, *, n_bytes: int) -> None:
    """Makes sure that a PUBLISH's properties can be read.

    Args:
        raw: without their length.
        n_bytes: what their length says.

    Raises:
        MalformedPacketError: they cannot, or they name a topic alias, which we never allow.
    """
    if len(raw) != n_bytes:
        raise MalformedPacketError("PUBLISH ends within its properties")
    for identifier, _ in _read(raw):
        if identifier == TOPIC_ALIAS:
            raise MalformedPacketError("a topic alias, though we allow none")


def user_properties(raw: bytes) -> list[tuple[str, str]]:
    """The user properties of a message, in order; names may come more than once.

    Args:
        raw: `MqttMessage.properties`.
    """
    return [value for _, value in _read(raw) if isinstance(value, tuple)] if raw else []


def trace_of(raw: bytes) -> dict[str, str] | None:
    """The headers of a record whose message belongs to a trace; None where it belongs to none.

    Args:
        raw: `MqttMessage.properties`.
    """
    for name, value in user_properties(raw):
        if name == TRACEPARENT and parse_traceparent(value) is not None:
            return {TRACEPARENT: value}
    return None


def _read(raw: bytes) -> Iterator[tuple[int, Value]]:
    at = 0
    while at < len(raw):
        identifier = raw[at]
        value, at = _read_value(raw, at + 1, identifier)
        yield identifier, value


def _read_value(raw: bytes, at: int, identifier: int) -> tuple[Value, int]:
    if identifier in INTEGERS:
        n_bytes = INTEGERS[identifier]
        if not n_bytes:
            number, end = read_length(raw, at)
            if not end:
                raise MalformedPacketError("a property ends too soon")
            return number, end
        return int.from_bytes(_cut(raw, at, n_bytes), "big"), at + n_bytes
    if identifier in BINARIES:
        return _read_binary(raw, at)
    if identifier in STRINGS:
        return _read_string(raw, at)
    if identifier == USER_PROPERTY:
        name, at = _read_string(raw, at)
        text, at = _read_string(raw, at)
        return (name, text), at
    raise MalformedPacketError(f"unknown property {identifier:#04x}")


def _read_binary(raw: bytes, at: int) -> tuple[bytes, int]:
    length = int.from_bytes(_cut(raw, at, 2), "big")
    return _cut(raw, at + 2, length), at + 2 + length


def _read_string(raw: bytes, at: int) -> tuple[str, int]:
    value, at = _read_binary(raw, at)
    try:
        return value.decode(), at
    except UnicodeDecodeError as exc:
        raise MalformedPacketError("a property is not UTF-8") from exc


def _cut(raw: bytes, at: int, n_bytes: int) -> bytes:
    found = raw[at : at + n_bytes]
    if len(found) != n_bytes:
        raise MalformedPacketError("a property ends too soon")
    return found
