"""A stream is a kind of reading, declared once in a TOML file; everything else is derived from it."""

import hashlib
import math
import re
import tomllib
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal, get_args

import msgspec
from msgspec import Meta

from hl_platform.core.errors import ConfigError
from hl_platform.core.presence import PresenceFilter

FieldType = Literal["float", "integer", "smallint", "text", "boolean"]
FieldKind = Literal["gauge", "counter", "state", "label"]
RetainedPolicy = Literal["ignore", "latest", "ingest"]

# PostgreSQL cuts identifiers at 63 bytes; the longest suffix we add is "_readings_p20260103".
Identifier = Annotated[str, Meta(pattern=r"^[a-z][a-z0-9_]*$", max_length=40)]

SQL_TYPES: Mapping[FieldType, str] = {
    "float": "double precision",
    "integer": "bigint",
    "smallint": "smallint",
    "text": "text",
    "boolean": "boolean",
}
KINDS_OF_TYPE: Mapping[FieldType, tuple[FieldKind, ...]] = {
    "float": ("gauge", "counter"),
    "integer": ("gauge", "counter", "state"),
    "smallint": ("gauge", "counter", "state"),
    "text": ("state", "label"),
    "boolean": ("state", "label"),
}
# Lowest and highest value of a column, both inclusive.
INTEGER_RANGES: Mapping[FieldType, tuple[int, int]] = {
    "integer": (-(2**63), 2**63 - 1),
    "smallint": (-(2**15), 2**15 - 1),
}
# A counter's own noise is far below this, and a meter that was reset far beyond it.
DEFAULT_JITTER_SHARE = 0.01
# Keys of a record that are never the device's name.
NEVER_A_DEVICE = ("timestamp", "received_at", "source")
# Columns and keys of every reading, whatever its stream.
RESERVED = ("device_id", "timestamp", "extra", "received_at", "ingested_at", "corrections", "source")


class Field(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One value of a reading.

    Args:
        name: its key in the payload and its column.
        type: what the column holds.
        kind: what the aggregates make of it.
        unit: of a gauge or counter; empty where there is none.
        required: whether a reading without it is invalid.
        minimum, maximum: plausible range, both inclusive, in `unit`.
        max_rate_per_hour: of a counter, the largest plausible rise in an hour, in `unit`.
        jitter_share: of a counter, the share of its value by which it may fall without that being a reset.
    """

    name: str = ""
    type: FieldType
    kind: FieldKind
    unit: str = ""
    required: bool = False
    minimum: float | None = None
    maximum: float | None = None
    max_rate_per_hour: float | None = None
    jitter_share: Annotated[float, Meta(ge=0, lt=1)] = DEFAULT_JITTER_SHARE
    description: str = ""

    @property
    def sql_type(self) -> str:
        """The column's PostgreSQL type."""
        return SQL_TYPES[self.type]


class Stream(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A declared stream. Names that are not declared are derived from `name`.

    Args:
        mqtt_filter: what the bridge subscribes to; ends in `/#`.
        kafka_topic: where valid readings go, keyed by device.
        kafka_partitions: of `kafka_topic`; only ever raised.
        table: where readings are stored.
        device_id_field: payload field that names the device; without it, or where a payload lacks it,
            the last level of the MQTT topic does.
        retained: what becomes of messages that the broker keeps: `ignore` them, take the `latest` with a new
            subscription, or `ingest` them at every connection.
        presence_filter: topics on which devices, or their last wills, say `online` or `offline`; the level `+` is the
            device. What comes there is never a reading.
        max_gap_s: how long a value holds when no further reading comes; what is longer is a gap, in seconds.
        owner: who answers for it, shown in Dagster as `team:<owner>`.
    """

    name: Identifier
    title: str = ""
    description: str = ""
    owner: Annotated[str, Meta(pattern=r"^[a-z][a-z0-9_-]*$")] = "home"
    mqtt_filter: Annotated[str, Meta(pattern=r"^[^#+\x00$][^#+\x00]*/#$", max_length=200)]
    kafka_topic: Annotated[str, Meta(pattern=r"^[A-Za-z0-9._-]+$", max_length=200)]
    kafka_partitions: Annotated[int, Meta(ge=1, le=1000)] = 1
    table: Identifier
    device_id_field: str | None = None
    retained: RetainedPolicy = "latest"
    presence_filter: PresenceFilter | None = None
    max_gap_s: Annotated[float, Meta(gt=0, le=86_400)] = 3_600.0
    fields: tuple[Field, ...]

    @property
    def dead_letter_topic(self) -> str:
        """Kafka topic of what this stream had to reject."""
        return f"{self.kafka_topic}.dlq"

    @property
    def consumer_group(self) -> str:
        """Kafka consumer group of the sink."""
        return f"timescaledb-{self.name}"

    @property
    def feed_group(self) -> str:
        """Kafka consumer group under which the live feed shows its position."""
        return f"{self.name}-ws"

    @property
    def digest(self) -> str:
        """Eight hexadecimal digits that change with the declaration: what was rejected may be accepted then."""
        return hashlib.sha256(msgspec.json.encode(self)).hexdigest()[:8]

    @property
    def counters(self) -> tuple[Field, ...]:
        """The fields that count."""
        return tuple(field for field in self.fields if field.kind == "counter")

    @property
    def columns(self) -> tuple[str, ...]:
        """Columns of the table that come from the device, in order: key first, then the fields."""
        return ("device_id", "timestamp", *(field.name for field in self.fields))


def parse_stream(text: str, file: str) -> Stream:
    """The stream that a TOML file declares.

    Args:
        text: the file's content.
        file: its name, for messages.

    Raises:
        ConfigError: names the file, the key and what is allowed.
    """
    try:
        raw = tomllib.loads(text)
    except tomllib.TOMLDecodeError as exc:
        msg = f"{file}: not TOML: {exc}"
        raise ConfigError(msg) from exc
    fields = raw.get("fields")
    if not isinstance(fields, dict) or not fields:
        msg = f"{file}: key `fields`: declare at least one, as a table [fields.<name>]."
        raise ConfigError(msg)
    raw["fields"] = [_field_of(file, name, body) for name, body in fields.items()]
    try:
        stream = msgspec.convert(raw, Stream)
    except msgspec.ValidationError as exc:
        raise ConfigError(_explain(file, str(exc), list(fields))) from exc
    _check_device_key(file, stream.device_id_field)
    for field in stream.fields:
        _check_field(file, field)
    return stream


def check_streams(streams: Iterable[tuple[str, Stream]]) -> dict[str, Stream]:
    """Streams by name, after checking that no two claim the same thing.

    Args:
        streams: (file, stream) pairs.

    Raises:
        ConfigError: two files declare the same name, Kafka topic or table, or overlapping MQTT filters.
    """
    pairs = list(streams)
    for index, (file, stream) in enumerate(pairs):
        for other_file, other in pairs[:index]:
            for key in ("name", "kafka_topic", "table"):
                if getattr(stream, key) == getattr(other, key):
                    msg = (
                        f"{file}: key `{key}` = {getattr(stream, key)!r} is taken by {other_file}; "
                        "choose another."
                    )
                    raise ConfigError(msg)
            if stream.dead_letter_topic == other.kafka_topic or other.dead_letter_topic == stream.kafka_topic:
                msg = (
                    f"{file}: key `kafka_topic` = {stream.kafka_topic!r}: this or {other.kafka_topic!r} of "
                    f"{other_file} would be the dead-letter topic of the other; choose another."
                )
                raise ConfigError(msg)
            if _overlap(stream.mqtt_filter, other.mqtt_filter):
                msg = (
                    f"{file}: key `mqtt_filter` = {stream.mqtt_filter!r} overlaps {other.mqtt_filter!r} of "
                    f"{other_file}; a message must belong to one stream."
                )
                raise ConfigError(msg)
    return {stream.name: stream for _, stream in pairs}


def _field_of(file: str, name: str, body: Any) -> dict[str, Any]:  # noqa: ANN401 - straight from TOML
    if not isinstance(body, dict):
        msg = f"{file}: key `fields.{name}`: write a table [fields.{name}] with `type` and `kind`."
        raise ConfigError(msg)
    return {**body, "name": name}


def _check_device_key(file: str, key: str | None) -> None:
    if key is None:
        return
    if key in NEVER_A_DEVICE:
        msg = (
            f"{file}: key `device_id_field` = {key!r} is not allowed: a record says something else there; the others "
            f"that are not are {', '.join(name for name in NEVER_A_DEVICE if name != key)}."
        )
        raise ConfigError(msg)
    if not re.fullmatch(r'[^"\\\x00-\x1f]{1,128}', key):
        msg = (
            f"{file}: key `device_id_field` = {key!r} is not allowed; write 1 to 128 characters without quotes, "
            "backslashes and control characters."
        )
        raise ConfigError(msg)


def _check_field(file: str, field: Field) -> None:
    where = f"{file}: key `fields.{field.name}"
    if not re.fullmatch(r"[a-z][a-z0-9_]{0,62}", field.name):
        msg = f"{where}`: a field's name is lower case letters, digits and underscores, at most 63."
        raise ConfigError(msg)
    if field.name in RESERVED:
        msg = f"{where}`: this name is reserved; the reserved names are {', '.join(RESERVED)}."
        raise ConfigError(msg)
    allowed = KINDS_OF_TYPE[field.type]
    if field.kind not in allowed:
        msg = f"{where}.kind` = {field.kind!r} does not go with type {field.type!r}; allowed: {', '.join(allowed)}."
        raise ConfigError(msg)
    _check_limits(where, field)


def _check_limits(where: str, field: Field) -> None:
    if field.type in ("text", "boolean") and (field.minimum, field.maximum) != (None, None):
        msg = f"{where}`: `minimum` and `maximum` belong to numbers, not to type {field.type!r}."
        raise ConfigError(msg)
    for key in ("minimum", "maximum", "max_rate_per_hour"):
        value = getattr(field, key)
        # TOML has nan and inf; no comparison would ever hold against them.
        if value is not None and not math.isfinite(value):
            msg = f"{where}.{key}` = {value} is not allowed; write a number, or leave the key out."
            raise ConfigError(msg)
        if value is not None and field.type in INTEGER_RANGES and key != "max_rate_per_hour":
            _check_integer(f"{where}.{key}", value, field.type)
    if field.minimum is not None and field.maximum is not None and field.minimum > field.maximum:
        msg = f"{where}.minimum` = {field.minimum} is above `maximum` = {field.maximum}."
        raise ConfigError(msg)
    if field.max_rate_per_hour is not None and field.kind != "counter":
        msg = f"{where}.max_rate_per_hour`: only a counter has one, and this is a {field.kind}."
        raise ConfigError(msg)
    if field.jitter_share != DEFAULT_JITTER_SHARE and field.kind != "counter":
        msg = f"{where}.jitter_share`: only a counter has one, and this is a {field.kind}."
        raise ConfigError(msg)
    if field.max_rate_per_hour is not None and field.max_rate_per_hour <= 0:
        msg = f"{where}.max_rate_per_hour` = {field.max_rate_per_hour} is not allowed; it is above 0."
        raise ConfigError(msg)


def _check_integer(where: str, value: float, type_: FieldType) -> None:
    lowest, highest = INTEGER_RANGES[type_]
    if value != int(value) or not lowest <= value <= highest:
        msg = f"{where}` = {value} is not allowed; a {type_} is a whole number from {lowest} to {highest}."
        raise ConfigError(msg)


def _overlap(one: str, two: str) -> bool:
    # Both end in "/#" and have no other wildcard, so they overlap when one's prefix begins the other's.
    a, b = one.removesuffix("#"), two.removesuffix("#")
    return a.startswith(b) or b.startswith(a)


def _explain(file: str, message: str, field_names: list[str]) -> str:
    what, _, where = message.partition(" - at `$.")
    key = where.rstrip("`")
    if match := re.match(r"fields\[(\d+)\]", key):
        key = key.replace(match[0], f"fields.{field_names[int(match[1])]}", 1)
    closed = {"type": FieldType, "kind": FieldKind, "retained": RetainedPolicy}
    allowed = get_args(closed.get(key.rpartition(".")[2]))
    hint = f" Allowed: {', '.join(allowed)}." if allowed else ""
    return f"{file}: key `{key}`: {what}.{hint}" if key else f"{file}: {what}.{hint}"
