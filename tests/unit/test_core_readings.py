"""Decoding: what a device declares is kept, what it invents is kept aside, what is wrong has a reason."""

import contextlib
import json
import math
import sys
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hl_platform.core.errors import PoisonRecordError
from hl_platform.core.readings import ADDED_BY_BRIDGE, Reading, ReadingDecoder, Source
from hl_platform.core.sections import ReadingSettings
from hl_platform.core.streams import parse_stream
from hl_platform.streams import load_streams

NOW = datetime(2026, 1, 3, 16, 0, 1, tzinfo=UTC)
STREAMS = load_streams()
ENERGY = ReadingDecoder(STREAMS["energy"], ReadingSettings())
TEMPERATURE = ReadingDecoder(STREAMS["temperature"], ReadingSettings())
COUNTS = ReadingDecoder(
    parse_stream(
        """
        name = "counts"
        mqtt_filter = "homelab/counts/#"
        kafka_topic = "homelab.counts"
        table = "counts"
        fields.small = { type = "smallint", kind = "gauge" }
        fields.large = { type = "integer", kind = "counter" }
        fields.source_ = { type = "text", kind = "label" }
        """,
        "counts.toml",
    ),
    ReadingSettings(),
)
EXAMPLE = {
    "timestamp": "2026-01-03T16:00:00Z",
    "total_energy_kwh": 12.45,
    "power_kw": 3.2,
    "voltage": 230,
    "current": 13.9,
}


def source_of(mqtt_topic: str = "homelab/energy/meter1") -> Source:
    return Source(mqtt_topic, qos=1, retained=False, bridge="bridge")


def encode(
    payload: object, decoder: ReadingDecoder = ENERGY, source: Source | None = None
) -> tuple[str, bytes]:
    raw = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
    return decoder.encode_record(raw, NOW, source or source_of())


def round_trip(payload: object, decoder: ReadingDecoder = ENERGY, source: Source | None = None) -> Reading:
    key, value = encode(payload, decoder, source)
    return decoder.decode_record(value, key, NOW + timedelta(days=1))


def poison_of(
    payload: object, decoder: ReadingDecoder = ENERGY, source: Source | None = None
) -> PoisonRecordError:
    with pytest.raises(PoisonRecordError) as caught:
        encode(payload, decoder, source)
    return caught.value


def test_the_example_of_the_design_becomes_a_row() -> None:
    assert round_trip(EXAMPLE) == Reading(
        "meter1", datetime(2026, 1, 3, 16, tzinfo=UTC), (12.45, 3.2, 230.0, 13.9), None, NOW
    )


def test_the_kafka_record_is_the_payload_and_where_it_came_from() -> None:
    key, value = encode(EXAMPLE)
    assert key == "meter1"
    assert json.loads(value) == EXAMPLE | {
        "device_id": "meter1",
        "received_at": "2026-01-03T16:00:01Z",
        "source": {"mqtt_topic": "homelab/energy/meter1", "qos": 1, "retained": False, "bridge": "bridge"},
    }


def test_an_optional_field_may_be_missing_or_null() -> None:
    payload = {key: value for key, value in EXAMPLE.items() if key != "voltage"} | {"current": None}
    assert round_trip(payload).values == (12.45, 3.2, None, None)


def test_unknown_fields_are_kept_aside() -> None:
    reading = round_trip(EXAMPLE | {"firmware": "1.2", "phases": [1, {"a": None}]})
    assert json.loads(reading.extra or "") == {"firmware": "1.2", "phases": [1, {"a": None}]}


@pytest.mark.parametrize("name", ["device_id", "received_at", "source"])
def test_a_devices_own_field_named_like_ours_is_kept_under_another_name(name: str) -> None:
    reading = round_trip(EXAMPLE | {name: "mine", f"{name}_": "other"})
    assert reading.device_id == "meter1"
    assert reading.received_at == NOW
    assert json.loads(reading.extra or "") == {f"{name}_": "other", f"{name}__": "mine"}


@pytest.mark.parametrize("name", ["extra", "ingested_at"])
def test_a_devices_own_field_named_like_a_column_is_kept(name: str) -> None:
    assert json.loads(round_trip(EXAMPLE | {name: 1}).extra or "") == {name: 1}


def test_room_is_never_made_in_a_declared_field() -> None:
    payload = {"timestamp": "2026-01-03T16:00:00Z", "source": 7}
    reading = round_trip(payload, COUNTS, source_of("homelab/counts/c1"))
    assert reading.values == (None, None, None)
    assert json.loads(reading.extra or "") == {"source__": 7}


def test_the_device_is_the_last_level_of_the_topic() -> None:
    assert round_trip(EXAMPLE, source=source_of("homelab/energy/garage/meter2")).device_id == "meter2"


def test_a_stream_may_name_the_field_with_the_device() -> None:
    payload = {"timestamp": "2026-01-03T16:00:00Z", "temperature": 21.5, "sensor_id": "t-17"}
    reading = round_trip(payload, TEMPERATURE, source_of("homelab/temperature/kitchen"))
    assert (reading.device_id, reading.extra) == ("t-17", None)


def test_without_that_field_the_topic_names_the_device() -> None:
    payload = {"timestamp": "2026-01-03T16:00:00Z", "temperature": 21.5}
    assert round_trip(payload, TEMPERATURE, source_of("homelab/temperature/kitchen")).device_id == "kitchen"


def test_a_late_reading_of_any_age_above_the_floor_is_welcome() -> None:
    assert round_trip(EXAMPLE | {"timestamp": "2015-01-01T00:00:00Z"}).timestamp.year == 2015


def test_a_clock_may_be_ahead_by_the_settable_limit() -> None:
    assert round_trip(EXAMPLE | {"timestamp": "2026-01-03T16:05:01Z"}).device_id == "meter1"


def test_limits_are_inclusive() -> None:
    assert round_trip(EXAMPLE | {"voltage": 1000, "total_energy_kwh": 0}).values[2] == 1000.0


def nested(depth: int) -> dict[str, object]:
    value: object = 1
    for _ in range(depth - 1):
        value = [value]
    return EXAMPLE | {"deep": value}


def test_thirty_two_levels_are_deep_enough() -> None:
    assert round_trip(nested(32)).extra is not None


@pytest.mark.parametrize(
    ("payload", "reason", "says"),
    [
        (b"", "not_json", "truncated"),
        (b"\xff\xfe", "not_json", "malformed"),
        (b'{"a": "\xff"}', "not_json", "utf-8"),
        (b"{} {}", "not_json", "malformed"),
        (b'{"power_kw": NaN}', "not_json", "malformed"),
        (b'{"power_kw": 1e999}', "not_json", "out of range"),
        (b"[" * 60_000, "not_json", "recursion"),
        (b"null", "not_json", "NoneType"),
        ([EXAMPLE], "not_json", "a list"),
        (b" " * 65_537, "too_large", "65536 are allowed"),
        ({}, "invalid", "timestamp"),
        (EXAMPLE | {"timestamp": None}, "invalid", "timestamp"),
        (EXAMPLE | {"timestamp": 1_767_456_000}, "invalid", "timestamp"),
        (EXAMPLE | {"timestamp": "2026-01-03T16:00:00"}, "invalid", "timezone"),
        (EXAMPLE | {"timestamp": "yesterday"}, "invalid", "timestamp"),
        (EXAMPLE | {"power_kw": None}, "invalid", "power_kw"),
        (EXAMPLE | {"power_kw": "3.2"}, "invalid", "power_kw"),
        (EXAMPLE | {"power_kw": True}, "invalid", "power_kw"),
        (EXAMPLE | {"power_kw": 101}, "invalid", "power_kw"),
        (EXAMPLE | {"voltage": 10**400}, "invalid", "range"),
        (EXAMPLE | {"total_energy_kwh": -0.001}, "invalid", "total_energy_kwh"),
        (EXAMPLE | {"note": "a\x00b"}, "invalid", "U+0000"),
        (EXAMPLE | {"a\x00b": 1}, "invalid", "U+0000"),
        (EXAMPLE | {"note": [{"deep": ["a\x00"]}]}, "invalid", "U+0000"),
        (nested(33), "invalid", "deeper than 32"),
        (nested(500), "invalid", "deeper than 32"),
        (EXAMPLE | {"timestamp": "2026-01-03T16:05:02Z"}, "clock_ahead", "301 s ahead"),
        (EXAMPLE | {"timestamp": "9999-12-31T23:59:59-12:00"}, "clock_ahead", "9999"),
        (EXAMPLE | {"timestamp": "1970-01-01T00:00:07Z"}, "clock_unset", "2015"),
        (EXAMPLE | {"timestamp": "0001-01-01T00:00:00+12:00"}, "clock_unset", "2015"),
    ],
    ids=lambda value: str(value)[:40] if isinstance(value, str) else None,
)
def test_a_bad_payload_has_its_reason(payload: object, reason: str, says: str) -> None:
    error = poison_of(payload)
    assert error.reason == reason
    assert says in error.detail


@pytest.mark.parametrize(
    "mqtt_topic", ["homelab/energy", "homelab/energy/", "homelab/energy/" + "x" * 129, "homelab/energy/a\x7f"]
)
def test_a_topic_without_a_usable_device_is_refused(mqtt_topic: str) -> None:
    assert poison_of(EXAMPLE, source=source_of(mqtt_topic)).reason == "no_device_id"


@pytest.mark.parametrize("sensor_id", [17, "", "a/b", ["t"], "a\nb"])
def test_a_device_field_that_names_no_device_is_refused(sensor_id: object) -> None:
    payload = {"timestamp": "2026-01-03T16:00:00Z", "temperature": 21.5, "sensor_id": sensor_id}
    assert poison_of(payload, TEMPERATURE, source_of("homelab/temperature/kitchen")).reason == "no_device_id"


@pytest.mark.parametrize(
    ("field", "value"),
    [("small", 32_768), ("small", -32_769), ("large", 2**63), ("large", -(2**63) - 1), ("small", 1.5)],
)
def test_what_its_column_cannot_hold_is_refused_before_the_database(field: str, value: float) -> None:
    payload = {"timestamp": "2026-01-03T16:00:00Z", field: value}
    assert poison_of(payload, COUNTS, source_of("homelab/counts/c1")).reason == "invalid"


def test_the_extremes_of_a_column_are_kept() -> None:
    payload = {"timestamp": "2026-01-03T16:00:00Z", "small": -32_768, "large": 2**63 - 1}
    assert round_trip(payload, COUNTS, source_of("homelab/counts/c1")).values[:2] == (-32_768, 2**63 - 1)


def test_a_record_of_another_program_takes_device_and_time_from_kafka() -> None:
    reading = ENERGY.decode_record(json.dumps(EXAMPLE).encode(), "meter9", NOW)
    assert (reading.device_id, reading.received_at, reading.extra) == ("meter9", NOW, None)


@pytest.mark.parametrize(
    ("changes", "key", "reason"),
    [
        ({}, None, "no_device_id"),
        ({"device_id": 5}, "meter1", "no_device_id"),
        ({"received_at": "now"}, "meter1", "invalid"),
        ({"received_at": "2026-01-03T16:00:00"}, "meter1", "invalid"),
        ({"power_kw": "a lot"}, "meter1", "invalid"),
    ],
)
def test_a_record_of_another_program_is_held_to_the_same_rules(
    changes: dict[str, object], key: str | None, reason: str
) -> None:
    with pytest.raises(PoisonRecordError) as caught:
        ENERGY.decode_record(json.dumps(EXAMPLE | changes).encode(), key, NOW)
    assert caught.value.reason == reason


text = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=12)
numbers = st.integers(-(2**60), 2**60) | st.floats(allow_nan=False, allow_infinity=False)
anything = st.recursive(
    st.none() | st.booleans() | numbers | text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(text, inner, max_size=3),
    max_leaves=8,
)
names = text | st.sampled_from([*ADDED_BY_BRIDGE, "source_", "device_id_", "extra", "ingested_at"])
declared = st.fixed_dictionaries(
    {
        "timestamp": st.datetimes(datetime(2015, 1, 1), datetime(2026, 1, 3)).map(  # noqa: DTZ001 - hypothesis wants naive
            lambda when: when.isoformat() + "Z"
        ),
        "total_energy_kwh": st.floats(0, 1e12),
        "power_kw": st.floats(-100, 100),
    },
    optional={"voltage": st.none() | st.floats(0, 1000), "current": st.floats(-1000, 1000)},
)
FIELDS = ("total_energy_kwh", "power_kw", "voltage", "current")


@given(declared, st.dictionaries(names, anything, max_size=6))
def test_every_declared_value_and_every_unknown_field_arrives(
    known: dict[str, object], unknown: dict[str, object]
) -> None:
    payload = unknown | known
    reading = round_trip(payload)
    assert reading.timestamp == datetime.fromisoformat(str(known["timestamp"]))
    assert reading.values == tuple(known.get(name) for name in FIELDS)
    kept = json.loads(reading.extra) if reading.extra else {}
    # A field named like one of ours got underscores; its value is there all the same.
    sent = [payload[name] for name in payload if name not in known and name not in FIELDS]
    told_twice = [payload["device_id"]] if payload.get("device_id") == "meter1" else []
    assert sorted(map(json.dumps, [*kept.values(), *told_twice])) == sorted(map(json.dumps, sent))
    untouched = unknown.keys() - known.keys() - set(FIELDS) - set(ADDED_BY_BRIDGE)
    assert {name: kept[name] for name in untouched} == {name: unknown[name] for name in untouched}


@given(st.binary() | st.builds(lambda value: json.dumps(value).encode(), anything))
def test_arbitrary_bytes_raise_nothing_but_poison(payload: bytes) -> None:
    with pytest.raises(PoisonRecordError):
        encode(payload)
    with pytest.raises(PoisonRecordError):
        ENERGY.decode_record(payload, "meter1", NOW)


@given(st.dictionaries(st.sampled_from([*EXAMPLE, "device_id", "received_at", "x"]), anything))
def test_a_well_formed_payload_is_either_decoded_or_poison(payload: dict[str, object]) -> None:
    try:
        assert round_trip(EXAMPLE | payload).device_id == "meter1"
    except PoisonRecordError as error:
        assert error.reason in {"invalid", "clock_ahead", "clock_unset", "not_json"}  # noqa: PT017 - both are right


@pytest.mark.parametrize(
    ("late_s", "live"), [(-1.5, False), (-1.0, True), (0.0, True), (10.0, True), (10.5, False)]
)
def test_a_reading_is_live_when_it_came_soon_after_its_own_time(late_s: float, live: bool):  # noqa: FBT001 - a table
    at = datetime(2026, 1, 3, 16, tzinfo=UTC)
    assert Reading("meter1", at, (), None, at + timedelta(seconds=late_s)).is_live is live


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"   ",
        b"null",
        b"[1, 2]",
        b'"text"',
        b"NaN",
        b"\x00",
        b"\xff\xfe",
        b"{",
        b"[" * 60_000,
        b'{"a":' * 10_000,
        b'{"timestamp": NaN}',
        b'{"a": Infinity}',
        b'{"a": 1e999}',
        b'{"a": -1e999}',
        b'{"a": "\x00"}',
        b'{"a": "\\ud800"}',
        b'{"a": "\xed\xa0\x80"}',
        b'{"a": ' + b"9" * 5_000 + b"}",
    ],
)
def test_what_is_no_json_object_is_a_dead_letter(payload: bytes) -> None:
    assert poison_of(payload).reason == "not_json"


@pytest.mark.parametrize(
    "extra",
    [
        b'"power_kw": 9',
        b'"power\\u005fkw": 9',
        b'"x": {"y": 1, "y": 2}',
        b'"x": [{"y": 1, "y": 2}]',
        b'"x": "\\"", "x": 1',
        b'"x": {"s": "text", "s": "text"}',
        b'"x": 1, "x": 1',
    ],
)
def test_a_key_that_comes_twice_makes_a_reading_invalid_instead_of_losing_a_value(extra: bytes) -> None:
    payload = json.dumps(EXAMPLE).encode()[:-1] + b", " + extra + b"}"
    fault = poison_of(payload)
    assert (fault.reason, "twice" in fault.detail) == ("invalid", True)


@pytest.mark.parametrize(
    "extra",
    [{"x": 'a "quoted" text'}, {"x": ["a", "b"]}, {"x": {"y": {"y": "y"}}}, {"x": [{"y": 1}, {"y": 2}]}],
)
def test_quotes_in_texts_and_arrays_are_no_keys_that_come_twice(extra: dict[str, object]) -> None:
    assert json.loads(round_trip(EXAMPLE | extra).extra or "") == extra


def test_integer_beyond_double_is_invalid() -> None:
    assert poison_of(EXAMPLE | {"x": 10**309}).reason == "invalid"
    assert poison_of(EXAMPLE | {"x": {"y": [-(10**4_000)]}}).reason == "invalid"
    assert poison_of(EXAMPLE | {"power_kw": 10**400}).reason == "invalid"
    assert round_trip(EXAMPLE | {"x": 10**308}).extra == '{"x":1' + "0" * 308 + "}"


def test_key_of_64_kilobytes_is_too_large_or_kept_aside() -> None:
    assert poison_of(EXAMPLE | {"k" * 65_536: 1}).reason == "too_large"
    assert round_trip(EXAMPLE | {"k" * 60_000: 1}).extra == json.dumps(
        {"k" * 60_000: 1}, separators=(",", ":")
    )


# Close to a reading, so that much of it gets far; and anything at all.
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text()
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3)
)
NEARLY = st.builds(
    lambda base, keys, extra, dropped: {k: v for k, v in (base | keys | extra).items() if k not in dropped},
    st.just(EXAMPLE),
    st.dictionaries(st.sampled_from([*EXAMPLE, *ADDED_BY_BRIDGE, "source_"]), VALUES, max_size=3),
    st.dictionaries(st.text(), VALUES, max_size=4),
    st.sets(st.sampled_from(sorted(EXAMPLE)), max_size=1),
)


def mutated(text: str, edits: list[tuple[int, bytes]]) -> bytes:
    payload = bytearray(text.encode(errors="surrogatepass"))
    for place, piece in edits:
        at = place % (len(payload) + 1)
        payload[at : at + 1] = piece
    return bytes(payload)


PAYLOADS = (
    st.binary(max_size=300)
    | st.builds(json.dumps, NEARLY).map(str.encode)
    | st.builds(
        mutated,
        st.builds(json.dumps, NEARLY, ensure_ascii=st.booleans()),
        st.lists(st.tuples(st.integers(0, 10_000), st.binary(max_size=3)), max_size=3),
    )
)


def storable_by_postgresql(value: object) -> bool:
    if isinstance(value, float):
        return math.isfinite(value)
    if isinstance(value, str):
        return "\x00" not in value and value.encode() is not None
    if isinstance(value, dict):
        return all(storable_by_postgresql(part) for pair in value.items() for part in pair)
    if isinstance(value, list | tuple):
        return all(map(storable_by_postgresql, value))
    return not isinstance(value, int) or abs(value) <= sys.float_info.max


@settings(max_examples=300, deadline=None)
@given(payload=PAYLOADS, decoder=st.sampled_from([ENERGY, TEMPERATURE, COUNTS]))
def test_any_bytes_are_a_reading_that_can_be_stored_or_a_dead_letter(
    payload: bytes, decoder: ReadingDecoder
) -> None:
    try:
        key, value = decoder.encode_record(payload, NOW, source_of())
    except PoisonRecordError:
        return
    found = decoder.decode_record(value, key, NOW)
    assert storable_by_postgresql(found.values)
    assert storable_by_postgresql(json.loads(found.extra or "{}"))
    assert found.device_id == key


@settings(max_examples=100, deadline=None)
@given(value=PAYLOADS, key=st.none() | st.text())
def test_any_record_of_another_program_is_a_reading_or_a_dead_letter(value: bytes, key: str | None) -> None:
    with contextlib.suppress(PoisonRecordError):
        assert storable_by_postgresql(ENERGY.decode_record(value, key, NOW).values)


@pytest.mark.parametrize("bridge", ["bridge", 5])
@pytest.mark.parametrize(
    "received_at", ["9999-12-31T23:59:59Z", "9999-12-31T23:59:59-05:00", "0001-01-01T00:00:00+05:00"]
)
def test_a_received_at_at_the_end_of_time_is_poison(received_at: str, bridge: object):
    source = {"mqtt_topic": "homelab/energy/meter1", "qos": 1, "retained": False, "bridge": bridge}
    record = EXAMPLE | {"device_id": "meter1", "received_at": received_at, "source": source}
    with pytest.raises(PoisonRecordError):
        ENERGY.decode_record(json.dumps(record).encode(), "meter1", NOW)
