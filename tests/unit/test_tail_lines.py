"""Lines of `hl tail`."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hl_platform.stack.tail_lines import MAX_VALUES_CHARS, seen_body, seen_message
from hl_platform.streams import load_streams

ENERGY, TEMPERATURE = (load_streams()[name] for name in ("energy", "temperature"))
READING = (
    b'{"timestamp": "2026-01-03T17:00:00+01:00", "total_energy_kwh": 12.45, "fw": {"a": 1}, '
    b'"device_id": "meter1", "received_at": "2026-01-03T16:00:01Z", "source": {"bridge": "b"}}'
)


def test_line_has_time_device_values_with_units_and_position():
    line = seen_body(ENERGY, READING, "homelab.energy 0/17").line
    assert line.split() == [
        *("2026-01-03", "16:00:00.000", "meter1", "total_energy_kwh", "12.45", "kWh,"),
        *("fw", '{"a":1}', "[homelab.energy", "0/17]"),
    ]


def test_device_is_named_by_its_field_or_by_the_topic():
    body = b'{"timestamp": "2026-01-03T16:00:00Z", "sensor_id": "s1", "temperature": 20}'
    assert seen_message(TEMPERATURE, "homelab/temperature/x", body).device_id == "s1"
    assert seen_message(ENERGY, "homelab/energy/meter2", b"{}").device_id == "meter2"


@pytest.mark.parametrize("body", [b"", b"\xff\xfe", b"[1]", b"{", b'"text"', b"[" * 100_000])
def test_what_is_no_reading_is_shown_as_it_is(body: bytes):
    assert "not JSON of a reading" in seen_body(ENERGY, body, "p").line


@pytest.mark.parametrize("timestamp", [b"17", b'"yesterday"', b"null", b'"2026-01-03T16:00:00"'])
def test_what_is_no_time_is_shown_as_it_is(timestamp: bytes):
    assert seen_body(ENERGY, b'{"timestamp": %s, "power_kw": 1}' % timestamp, "p").values == "power_kw 1 kW"


@given(st.binary(max_size=2_000) | st.text().map(str.encode))
def test_nothing_that_a_device_sends_controls_the_terminal_or_floods_it(body: bytes):
    line = seen_message(ENERGY, "homelab/energy/meter1", body).line
    assert line.isprintable()
    assert len(line) < MAX_VALUES_CHARS + 200


def test_long_values_are_cut():
    body = b'{"timestamp": "2026-01-03T16:00:00Z", "x": "%s"}' % (b"y" * 60_000)
    assert len(seen_body(ENERGY, body, "p").line) < MAX_VALUES_CHARS + 200


def test_escape_sequence_in_a_value_is_made_harmless():
    line = seen_body(ENERGY, b'{"timestamp": "2026-01-03T16:00:00Z", "x": "\\u001b[2J\\u009b2J"}', "p").line
    assert "\x1b" not in line
    assert "\x9b" not in line
