"""From a device's payload to a validated reading, and from a Kafka record to a row.

One decoder per stream, built from its declaration. The bridge and the sink use the same one, so a record
that some other program put on the Kafka topic is held to the same rules.
"""

import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta

from hl_platform.core.coverage import NO_BRIDGE, bridge_named
from hl_platform.core.errors import PoisonRecordError
from hl_platform.core.own_records import AwareTime, OwnRecords, PlainPayloads
from hl_platform.core.payloads import parse_object
from hl_platform.core.probe import PROBE_DEVICE
from hl_platform.core.sections import ReadingSettings
from hl_platform.core.streams import INTEGER_RANGES, Field, Stream

PYTHON_TYPES: Mapping[str, type] = {
    "float": float,
    "integer": int,
    "smallint": int,
    "text": str,
    "boolean": bool,
}
# Long enough for any serial number, short enough for an index entry.
MAX_DEVICE_ID_CHARS = 128
DEVICE_ID = re.compile(r"[^\x00-\x1f\x7f/+#]{1,128}")
# A reading is live when the bridge received it this long after the device's own time, whose clock may be ahead.
LIVE_FROM = timedelta(seconds=-1)
LIVE_WITHIN = timedelta(seconds=10)
# What the bridge adds to a payload; a device's own key of that name is kept under a trailing underscore.
ADDED_BY_BRIDGE = ("device_id", "received_at", "source")
# In the headers of a record that a person imported: the name of the file.
IMPORT_OF = "hl.import"
# Another program may write any time into a record; near the end of what a datetime can hold, reckoning fails.
END_OF_TIME = datetime(9999, 1, 1, tzinfo=UTC)
BEFORE_SOURCE = b',"source":'


class Source(msgspec.Struct, frozen=True):
    """Where a reading came from, written by the bridge into the Kafka record."""

    mqtt_topic: str
    qos: int
    retained: bool
    bridge: str


# Of a reading that no bridge received: the accounts count it as another program's.
OF_AN_IMPORT = Source("", 0, retained=False, bridge="")


_encoder = msgspec.json.Encoder()


class _Received(msgspec.Struct, frozen=True):
    # A class, because msgspec looks at one only once, and at any other type for every value.
    received_at: AwareTime


class Origin(msgspec.Struct, frozen=True, gc=False):
    """What the records of one source have in common: the same for thousands of readings.

    Args:
        mqtt_topic: of the source.
        device_id: what its topic says of the device, if anything.
        before, after: what goes into a record before and after the time of `received_at`.
    """

    mqtt_topic: str
    device_id: str | None
    before: bytes
    after: bytes

    @property
    def source(self) -> msgspec.Raw:
        """The source as JSON. Not kept, because a fleet has many."""
        return msgspec.Raw(self.after[len(BEFORE_SOURCE) : -1])


class Moment(msgspec.Struct, frozen=True, gc=False):
    """When a bridge received some readings, also as JSON."""

    received_at: datetime
    encoded: bytes

    @classmethod
    def of(cls, received_at: datetime) -> "Moment":
        """Of an aware time."""
        return cls(received_at, _encoder.encode(received_at))


class Reading(msgspec.Struct, frozen=True, gc=False):
    """One valid reading. A struct, because it is made ten times as fast as a named tuple, and there are many.

    Args:
        device_id: which device.
        timestamp: the device's own time.
        values: the stream's fields, in declared order; None where an optional one is missing.
        extra: JSON text of the fields that the stream does not declare, or None.
        received_at: when the bridge received it.
    """

    device_id: str
    timestamp: datetime
    values: tuple[Any, ...]
    extra: str | None
    received_at: datetime

    @property
    def is_live(self) -> bool:
        """Whether it reached the bridge soon after its own time; the delay of others says nothing about us."""
        return LIVE_FROM <= self.received_at - self.timestamp <= LIVE_WITHIN and not self.is_probe

    @property
    def is_probe(self) -> bool:
        """Whether `hl check` sent it, and no device."""
        return self.device_id == PROBE_DEVICE


class ReadingDecoder:
    """Decodes and validates the readings of one stream.

    Raises from every method:
        PoisonRecordError: with reason `too_large`, `not_json`, `invalid`, `no_device_id`, `clock_ahead`
            or `clock_unset`.
    """

    def __init__(self, stream: Stream, rules: ReadingSettings) -> None:
        self._stream = stream
        self._max_payload_bytes = rules.max_payload_bytes
        self._floor = rules.floor
        self._max_ahead = timedelta(seconds=rules.max_ahead_s)
        self._shape = _shape_of(stream)
        hints = [_hint_of(field) for field in stream.fields]
        self._own = OwnRecords(stream, hints)
        self._plain = PlainPayloads(stream, hints)
        self._names = tuple(field.name for field in stream.fields)
        self._known = frozenset((*self._names, "timestamp", *ADDED_BY_BRIDGE))
        self._prefix_levels = stream.mqtt_filter.count("/")

    def encode_record(self, payload: bytes, received_at: datetime, source: Source) -> tuple[str, bytes]:
        """Validates a device's payload and makes the Kafka record of it.

        Args:
            payload: JSON object as the device sent it.
            received_at: now, aware.
            source: where it came from.

        Returns:
            The device id, which is the record's key, and the record's value: the same flat JSON plus
            `device_id`, `received_at` and `source`.
        """
        return self.encode(payload, Moment.of(received_at), self.origin_of(source))

    def encode(self, payload: bytes, moment: Moment, origin: Origin) -> tuple[str, bytes]:
        """`encode_record` for who has many readings of a moment, and of an origin."""
        plain = self._plain.read(payload) if len(payload) <= self._max_payload_bytes else None
        if plain is None:
            return self._encode_any(payload, moment, origin)
        device_id, before = origin.device_id, origin.before
        if self._plain.aside is not None:
            named = plain[self._plain.aside]
            if named is not UNSET and named is not None and named != device_id:
                device_id = _check_device_id(named)
                before = _before_received_at(device_id)
        if device_id is None:
            return self._encode_any(payload, moment, origin)
        self._check_time(plain[0], moment.received_at)
        # It was read to its end and has none of our keys, so they can be added without writing it anew.
        return device_id, b"".join((payload.rstrip()[:-1], before, moment.encoded, origin.after))

    def origin_of(self, source: Source) -> Origin:
        """What `encode` needs to know of a source."""
        device_id: str | None = None
        # "homelab/energy/#" also matches "homelab/energy", whose last level names no device.
        if source.mqtt_topic.count("/") >= self._prefix_levels:
            device_id = device_of_topic(source.mqtt_topic)
        before, after = _before_received_at(device_id or ""), BEFORE_SOURCE + _encoder.encode(source) + b"}"
        return Origin(source.mqtt_topic, device_id, before, after)

    def _encode_any(self, payload: bytes, moment: Moment, origin: Origin) -> tuple[str, bytes]:
        raw = self._parse_limited(payload)
        device_id = self._device_id_of(raw, origin)
        self._convert(raw, moment.received_at)
        return device_id, self._enrich(raw, device_id, msgspec.Raw(moment.encoded), origin.source)

    def encode_import(self, payload: bytes, device_id: str, now: datetime, *, overwrite: bool) -> bytes:
        """Validates a reading of a person's file and makes the Kafka record's value, as of a device's payload.

        Its `received_at` is the earliest at which a bridge would have believed it, so that nothing that a bridge
        received is changed by it; see decision 13.

        Args:
            payload: JSON object as the device would have sent it.
            device_id: the record's key.
            now: when the import began, aware.
            overwrite: whether it goes before what was received until now: `received_at` is `now` then.
        """
        raw = self._parse_limited(payload)
        if _check_device_id(device_id) == PROBE_DEVICE:
            raise PoisonRecordError("invalid", f"{PROBE_DEVICE} is no device: `hl check` sends its readings")
        timestamp: datetime = self._convert(raw, now).timestamp  # type: ignore[attr-defined]
        received_at = now if overwrite else timestamp - self._max_ahead
        return self._enrich(raw, device_id, received_at, OF_AN_IMPORT)

    def decode_record(self, value: bytes, key: str | None, kafka_time: datetime) -> Reading:
        """Validates a Kafka record.

        Args:
            value: the record's value.
            key: its key, the device where the value names none.
            kafka_time: its Kafka timestamp, taken as received_at where the value has none.
        """
        return (self.decode_own(value) or self.decode_attributed(value, key, kafka_time))[0]

    def decode_own(self, value: bytes) -> tuple[Reading, str] | None:
        """Validates a Kafka record that looks just as a bridge writes it, at a quarter of the cost.

        Returns:
            What `decode_attributed` would return; None where that must look.

        Guarantee: never says anything else than `decode_attributed`.
        """
        own = self._own.read_own(value)
        if own is None:
            return None
        device_id, timestamp, values, received_at, bridge = own
        _check_device_id(device_id)
        self._check_time(timestamp, received_at)
        return Reading(device_id, timestamp, values, None, received_at), bridge_named(bridge)

    def decode_attributed(self, value: bytes, key: str | None, kafka_time: datetime) -> tuple[Reading, str]:
        """Validates a Kafka record as `decode_record` does, looking at everything.

        Returns:
            The reading, and the bridge that its `source` names; NO_BRIDGE if it names none.
        """
        raw = parse_object(value)
        device_id = _check_device_id(raw.get("device_id", key))
        received_at = _received_at(raw, kafka_time)
        shaped = self._convert(raw, received_at)
        values = tuple([getattr(shaped, name) for name in self._names])
        timestamp: datetime = shaped.timestamp  # type: ignore[attr-defined]
        reading = Reading(device_id, timestamp, values, self._extra_of(raw), received_at)
        return reading, _bridge_of(raw.get("source"))

    def _enrich(
        self,
        raw: dict[str, Any],
        device_id: str,
        received_at: datetime | msgspec.Raw,
        source: Source | msgspec.Raw,
    ) -> bytes:
        if "device_id" in raw or "received_at" in raw or "source" in raw:
            self._make_room(raw, device_id)
        raw["device_id"] = device_id
        raw["received_at"] = received_at
        raw["source"] = source
        return _encoder.encode(raw)

    def _make_room(self, raw: dict[str, Any], device_id: str) -> None:
        for name in ADDED_BY_BRIDGE:
            if name not in raw or (name == "device_id" and raw[name] == device_id):
                continue
            free = f"{name}_"
            while free in raw or free in self._known:
                free += "_"
            raw[free] = raw.pop(name)

    def _parse_limited(self, payload: bytes) -> dict[str, Any]:
        if len(payload) > self._max_payload_bytes:
            raise PoisonRecordError(
                "too_large", f"{len(payload)} bytes; {self._max_payload_bytes} are allowed"
            )
        return parse_object(payload)

    def _convert(self, raw: dict[str, Any], received_at: datetime) -> msgspec.Struct:
        try:
            shaped = msgspec.convert(raw, self._shape)
        except msgspec.ValidationError as exc:
            raise PoisonRecordError("invalid", str(exc)) from exc
        timestamp: datetime = shaped.timestamp  # type: ignore[attr-defined]
        self._check_time(timestamp, received_at)
        return shaped

    def _check_time(self, timestamp: datetime, received_at: datetime) -> None:
        # Nearly every one; to reckon with times costs more than to compare them.
        if self._floor <= timestamp <= received_at < END_OF_TIME:
            return
        if received_at >= END_OF_TIME:
            raise PoisonRecordError(
                "invalid", f"received_at {received_at.isoformat()} is no time of a bridge's"
            )
        if timestamp - received_at > self._max_ahead:
            ahead_s = (timestamp - received_at).total_seconds()
            raise PoisonRecordError("clock_ahead", f"{timestamp.isoformat()} is {ahead_s:.0f} s ahead")
        if timestamp < self._floor:
            raise PoisonRecordError(
                "clock_unset", f"{timestamp.isoformat()} is before {self._floor.isoformat()}"
            )

    def _device_id_of(self, raw: dict[str, Any], origin: Origin) -> str:
        field = self._stream.device_id_field
        if field is not None and raw.get(field) is not None:
            return _check_device_id(raw[field])
        if origin.device_id is not None:
            return origin.device_id
        mqtt_topic = origin.mqtt_topic
        if mqtt_topic.count("/") < self._prefix_levels:
            raise PoisonRecordError("no_device_id", f"MQTT topic {mqtt_topic!r} has no level for a device")
        return _check_device_id(mqtt_topic.rpartition("/")[2])

    def _extra_of(self, raw: dict[str, Any]) -> str | None:
        if raw.keys() <= self._known:
            return None
        aside = self._stream.device_id_field
        extra = {
            key: value
            for key, value in raw.items()
            # The device's name under its own key is in device_id already.
            if key not in self._known and not (key == aside and value == raw.get("device_id"))
        }
        return msgspec.json.encode(extra).decode() if extra else None


def _before_received_at(device_id: str) -> bytes:
    return b',"device_id":' + _encoder.encode(device_id) + b',"received_at":'


def device_of_topic(mqtt_topic: str) -> str | None:
    """The device that an MQTT topic names by its last level, for a payload that cannot be read; None if none."""
    name = mqtt_topic.rpartition("/")[2]
    return name if DEVICE_ID.fullmatch(name) else None


def _shape_of(stream: Stream) -> type[msgspec.Struct]:
    fields: list[Any] = [("timestamp", AwareTime)]
    # Required ones first, as msgspec wants; attribute access makes the order immaterial.
    for field in sorted(stream.fields, key=lambda field: not field.required):
        hint = _hint_of(field)
        fields.append((field.name, hint) if field.required else (field.name, hint | None, None))
    return msgspec.defstruct(f"{stream.name}_reading", fields, frozen=True)


def _hint_of(field: Field) -> Any:  # noqa: ANN401 - a type built at run time
    base = PYTHON_TYPES[field.type]
    if base not in (int, float):
        return base
    # What the column cannot hold is the device's fault, and must not reach the database.
    lowest: float | None
    highest: float | None
    lowest, highest = INTEGER_RANGES.get(field.type, (None, None))
    lowest = lowest if field.minimum is None else base(field.minimum)
    highest = highest if field.maximum is None else base(field.maximum)
    # Two annotations, since msgspec's stubs allow no limit to be None.
    hint: Any = base if lowest is None else Annotated[base, Meta(ge=lowest)]
    return hint if highest is None else Annotated[hint, Meta(le=highest)]


def _check_device_id(value: object) -> str:
    # Nearly every one is of letters and digits, which is seen at a fifth of the cost.
    if isinstance(value, str) and len(value) <= MAX_DEVICE_ID_CHARS and value.isalnum():
        return value
    if not isinstance(value, str) or not DEVICE_ID.fullmatch(value):
        raise PoisonRecordError(
            "no_device_id",
            f"{value!r:.80} is not 1 to {MAX_DEVICE_ID_CHARS} characters without '/', '+', '#' and controls",
        )
    return value


def _bridge_of(source: object) -> str:
    # Any program may have written the record.
    bridge = source.get("bridge") if isinstance(source, dict) else None
    return bridge_named(bridge) if isinstance(bridge, str) else NO_BRIDGE


def _received_at(raw: dict[str, Any], kafka_time: datetime) -> datetime:
    if "received_at" not in raw:
        return kafka_time
    try:
        return msgspec.convert(raw, _Received).received_at
    except msgspec.ValidationError as exc:
        raise PoisonRecordError("invalid", str(exc)) from exc
