from collections.abc import Mapping
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hl_platform.adapters.mqtt.packets import MqttMessage
from hl_platform.core.dead_letters import DeadLetter, entry_name, fingerprint_of, parse_entry_name
from hl_platform.core.errors import PoisonRecordError
from hl_platform.pipeline.dead_letters import BridgeLetters, make_dead_letter
from hl_platform.streams import load_streams

NOON = datetime(2026, 1, 3, 12, tzinfo=UTC)


def test_headers_hold_everything_and_nothing_else():
    letter = DeadLetter(
        stream="energy",
        stage="sink",
        reason="sqlstate_22003",
        detail="smallint out of range",
        fingerprint="f" * 16,
        attempts=3,
        first_failed_at=NOON,
        last_failed_at=NOON,
        version="0.1.0",
        sqlstate="22003",
        kafka_topic="homelab.energy",
        kafka_partition=2,
        offset=7,
        retained=False,
    )
    headers = letter.to_headers()
    assert headers["hl.offset"] == "7"
    assert headers["hl.retained"] == "false"
    assert "hl.mqtt_topic" not in headers
    pairs = [(name, value.encode() if isinstance(value, str) else value) for name, value in headers.items()]
    assert DeadLetter.from_headers([*pairs, ("other", b"x")]) == letter


def test_headers_of_the_version_before_are_understood():
    old = {
        "stream": b"energy",
        "stage": b"bridge",
        "reason": b"not_json",
        "detail": b"?",
        "failed_at": NOON.isoformat().encode(),
        "version": b"0.1.0",
        "qos": b"1",
        "retained": b"false",
    }
    letter = DeadLetter.from_headers((f"hl.{name}", value) for name, value in old.items())
    assert (letter.last_failed_at, letter.qos, letter.retained) == (NOON, 1, False)


def test_headers_of_something_else_are_refused():
    with pytest.raises(PoisonRecordError, match="not_a_dead_letter"):
        DeadLetter.from_headers([("hl.stage", b"sink")])


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Expected `float`, got `str` - at `$.power_kw`", "Expected `float`, got `str` - at `$.power_kw`"),
        ("70000 bytes; 65536 are allowed", "80001 bytes; 65536 are allowed"),
        ('value "33700" is out of range', 'value "-40000" is out of range'),
        ("2027-01-01T00:00:00+00:00 is 3600 s ahead", "2026-05-01T00:00:00+00:00 is 900 s ahead"),
    ],
)
def test_failures_that_differ_only_in_values_have_one_fingerprint(one: str, other: str):
    prints = {fingerprint_of("energy", "sink", PoisonRecordError("invalid", text)) for text in (one, other)}
    assert len(prints) == 1


def test_failures_of_different_fields_have_different_fingerprints():
    faults = [PoisonRecordError("invalid", f"Expected `float` - at `$.{name}`") for name in ("a", "b")]
    assert len({fingerprint_of("energy", "sink", fault) for fault in faults}) == 2


@given(st.text(min_size=1), st.integers(0), st.integers(0))
def test_names_of_entries_are_read_back(topic: str, partition: int, offset: int):
    assert parse_entry_name(entry_name(topic, partition, offset)) == (topic, partition, offset)


@pytest.mark.parametrize("payload", [b"not json", b"x" * 5_000])
def test_the_bridges_fast_way_makes_the_same_dead_letter(payload: bytes) -> None:
    stream, at = load_streams()["energy"], datetime(2026, 1, 3, 16, 0, 1, 5, tzinfo=UTC)
    fault = PoisonRecordError("not_json", "invalid character (byte 3)")
    message = MqttMessage("homelab/energy/meter1", payload, 1, True, None)  # noqa: FBT003
    fast = BridgeLetters(stream, "bridge-2", 1_000).make(fault, message, at)
    slow = make_dead_letter(
        stream,
        "bridge",
        fault,
        payload,
        at,
        max_kept_bytes=1_000,
        device_id="meter1",
        mqtt_topic="homelab/energy/meter1",
        qos=1,
        retained=True,
        received_at=at,
        bridge="bridge-2",
    )
    assert fast.value == slow.value
    assert DeadLetter.from_headers(encoded(fast.headers)) == DeadLetter.from_headers(encoded(slow.headers))


def encoded(headers: Mapping[str, str | bytes]) -> list[tuple[str, bytes | None]]:
    return [(name, text.encode() if isinstance(text, str) else text) for name, text in headers.items()]
