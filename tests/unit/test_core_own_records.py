"""The quick way reads what our bridge writes, and never says anything else than the decoder that looks closely."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hl_platform.core.errors import PoisonRecordError
from hl_platform.core.readings import Moment, Reading, ReadingDecoder, Source
from hl_platform.core.sections import ReadingSettings
from hl_platform.core.streams import parse_stream
from hl_platform.streams import load_streams

NOW = datetime(2026, 1, 3, 16, 0, 1, tzinfo=UTC)
MIXED = parse_stream(
    """
    name = "mixed"
    mqtt_filter = "homelab/mixed/#"
    kafka_topic = "homelab.mixed"
    table = "mixed"
    device_id_field = "serial"
    fields.level = { type = "float", kind = "gauge" }
    fields.count = { type = "integer", kind = "counter", required = false }
    fields.mode = { type = "text", kind = "state", required = false }
    fields.on = { type = "boolean", kind = "state", required = false }
    """,
    "mixed.toml",
)
# Devices that say device_id themselves; and a key of theirs that Python could not name.
NAMED, SPACED = (
    parse_stream(
        f"""
        name = "{name}"
        mqtt_filter = "homelab/{name}/#"
        kafka_topic = "homelab.{name}"
        table = "{name}"
        device_id_field = "{key}"
        fields.level = {{ type = "float", kind = "gauge" }}
        """,
        f"{name}.toml",
    )
    for name, key in (("named", "device_id"), ("spaced", "Serial No"))
)
STREAMS = [*load_streams().values(), MIXED, NAMED, SPACED]


DECODERS = {stream.name: ReadingDecoder(stream, ReadingSettings()) for stream in STREAMS}
GOOD: dict[str, dict[str, Any]] = {
    "energy": {"total_energy_kwh": 12.5, "power_kw": 3.2, "voltage": 230, "current": 13.9},
    "temperature": {"sensor_id": "d1", "temperature": 21.5, "humidity": 40.0},
    "mixed": {"serial": "d1", "level": 1.5, "count": 3, "mode": "heat", "on": True},
    "named": {"device_id": "d1", "level": 1.5},
    "spaced": {"Serial No": "d1", "level": 1.5},
}


def quickly(stream: str, value: bytes) -> tuple[Reading, str] | tuple[str, str]:
    """As everybody decodes a record."""
    try:
        return DECODERS[stream].decode_own(value) or closely(stream, value)
    except PoisonRecordError as fault:
        return fault.reason, fault.detail


def closely(stream: str, value: bytes) -> tuple[Reading, str] | tuple[str, str]:
    try:
        return DECODERS[stream].decode_attributed(value, "d1", NOW)
    except PoisonRecordError as fault:
        return fault.reason, fault.detail


def as_written(stream: str, **changes: object) -> bytes:
    payload = {"timestamp": "2026-01-03T16:00:00Z", **GOOD[stream], **changes}
    source = Source(f"homelab/{stream}/d1", 1, retained=False, bridge="bridge")
    compact = json.dumps(payload, separators=(",", ":")).encode()
    return DECODERS[stream].encode_record(compact, NOW, source)[1]


@pytest.mark.parametrize("stream", GOOD)
def test_what_our_bridge_writes_is_read_the_quick_way(stream: str):
    found = DECODERS[stream].decode_own(as_written(stream))
    assert found is not None
    assert found == closely(stream, as_written(stream))


@pytest.mark.parametrize("missing", [["count"], ["mode"], ["on"], ["count", "mode", "on"], ["serial"]])
def test_what_is_optional_may_be_missing_or_null(missing: list[str]):
    record = json.loads(as_written("mixed"))
    for value in (
        {name: one for name, one in record.items() if name not in missing},
        record | {name: None for name in missing if name != "serial"},
    ):
        text = json.dumps(value).encode()
        assert DECODERS["mixed"].decode_own(text) == closely("mixed", text)


@pytest.mark.parametrize(
    "record",
    [
        # Instead of a missing one, so that the number of quotes is right.
        as_written("mixed").replace(b'"count":3', b'"level":2.5'),
        as_written("mixed").replace(b'"mode":"heat"', b'"mode":"heat","mode":"cool"'),
        as_written("mixed").replace(b'"bridge":"bridge"', b'"bridge":"a","bridge":"b"'),
    ],
)
def test_a_key_that_comes_twice_is_seen(record: bytes):
    assert quickly("mixed", record) == closely("mixed", record)
    assert quickly("mixed", record)[0] == "invalid"


SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text(max_size=8)
    | st.just("\x00")
)
ODD = SCALARS | st.lists(SCALARS, max_size=2) | st.dictionaries(st.text(max_size=3), SCALARS, max_size=2)
TIMES = st.sampled_from(
    [
        "2026-01-03T16:00:00Z",
        "2026-01-03T17:00:00.25+01:00",
        "2026-01-03 16:00:00",
        "1970-01-01T00:00:00Z",
        "2999-01-01T00:00Z",
    ]
)


@st.composite
def records(draw: st.DrawFn) -> tuple[str, bytes]:
    """A record of our bridge with some of it changed, left out, added or said twice."""
    stream = draw(st.sampled_from(sorted(GOOD)))
    record = json.loads(as_written(stream))
    for name in draw(st.lists(st.sampled_from([*record, "other"]), max_size=3)):
        change = draw(st.sampled_from(["drop", "set", "time"]))
        if change == "drop":
            record.pop(name, None)
        else:
            record[name] = draw(ODD if change == "set" else TIMES)
    text = json.dumps(record, ensure_ascii=draw(st.booleans()))
    if record and draw(st.booleans()):
        twice = draw(st.sampled_from(sorted(record)))
        text = f"{text[:-1]}, {json.dumps(twice)}: {json.dumps(record[twice])}}}"
    return stream, text.encode(errors="replace")


@given(records())
def test_both_ways_say_the_same(case: tuple[str, bytes]):
    stream, value = case
    assert repr(quickly(stream, value)) == repr(closely(stream, value))


def made(stream: str, payload: bytes, mqtt_topic: str, *, closely: bool) -> tuple[str, object]:
    """Key and meaning of the record that a bridge makes of a payload; or why it makes none."""
    decoder, source = DECODERS[stream], Source(mqtt_topic, 1, retained=False, bridge="bridge")
    try:
        if closely:
            key, value = decoder._encode_any(payload, Moment.of(NOW), decoder.origin_of(source))
        else:
            key, value = decoder.encode_record(payload, NOW, source)
    except PoisonRecordError as fault:
        return fault.reason, fault.detail
    return key, json.loads(value, object_pairs_hook=lambda pairs: pairs)


OWN_KEYS = ("device_id", "received_at", "source")


@given(
    case=records(),
    padding=st.sampled_from([b"", b" ", b"\n\t"]),
    device=st.sampled_from(["/d1", "/d2", ""]),
    left_out=st.sets(st.sampled_from(OWN_KEYS), min_size=1),
)
def test_a_bridge_makes_the_same_record_of_a_payload_both_ways(
    case: tuple[str, bytes], padding: bytes, device: str, left_out: set[str]
):
    stream, record = case
    kept = [
        pair for pair in json.loads(record, object_pairs_hook=lambda pairs: pairs) if pair[0] not in left_out
    ]
    payload = (
        padding + ("{" + ", ".join(f"{json.dumps(k)}: {text(v)}" for k, v in kept) + "}").encode() + padding
    )
    topic = f"homelab/{stream}{device}"
    quick, close = made(stream, payload, topic, closely=False), made(stream, payload, topic, closely=True)
    assert repr(quick) == repr(close)


def text(value: object) -> str:
    """JSON of what a hook for pairs has made of an object within."""
    if isinstance(value, list) and value and all(isinstance(one, tuple) for one in value):
        return "{" + ", ".join(f"{json.dumps(k)}: {text(v)}" for k, v in value) + "}"
    return json.dumps(value)


@pytest.mark.parametrize("stream", sorted(GOOD.keys() - {"named"}))
def test_a_plain_payload_is_kept_as_the_device_wrote_it(stream: str):
    payload = (
        json.dumps({"timestamp": "2026-01-03T17:00:00.50+01:00", **GOOD[stream]}, indent=1).encode() + b"\n"
    )
    source = Source(f"homelab/{stream}/d1", 1, retained=False, bridge="bridge")
    key, value = DECODERS[stream].encode_record(payload, NOW, source)
    assert key == "d1"
    assert value.startswith(payload.rstrip()[:-1] + b',"device_id":"d1"')
    assert DECODERS[stream].decode_own(value) is not None


def test_a_device_may_say_device_id_itself():
    payload = b'{"timestamp": "2026-01-03T16:00:00Z", "level": 1.5, "device_id": "d2"}'
    source = Source("homelab/named/d1", 1, retained=False, bridge="bridge")
    key, value = DECODERS["named"].encode_record(payload, NOW, source)
    reading, bridge = DECODERS["named"].decode_attributed(value, key, NOW)
    assert (key, reading.device_id, reading.extra, bridge) == ("d2", "d2", None, "bridge")
    assert DECODERS["named"].decode_own(value) == (reading, bridge)
