"""Rows of files as records: the same that a device's reading becomes, and the same rules."""

from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import msgspec
import pytest
from msgspec.structs import replace

from hl_platform.core.coverage import FORWARDED, NO_BRIDGE, bridge_of_record
from hl_platform.core.errors import PoisonRecordError
from hl_platform.core.import_columns import plan_columns
from hl_platform.core.import_rows import RowReader
from hl_platform.core.import_times import TimeReader
from hl_platform.core.import_values import converter_of, guess, uses_decimal_comma
from hl_platform.core.readings import Reading, ReadingDecoder, Source
from hl_platform.core.sections import ReadingSettings
from hl_platform.core.streams import FieldType
from hl_platform.streams import load_streams

STREAMS = load_streams()
RULES = ReadingSettings()
NOW = datetime(2026, 1, 3, 16, tzinfo=UTC)
AT = "2024-01-03T16:00:00Z"
NAMES = ["timestamp", "device_id", "total_energy_kwh", "power_kw", "voltage", "note"]


def reader(
    names: list[str] | None = None, stream: str = "energy", *, overwrite: bool = False, comma: bool = False
) -> RowReader:
    plan = plan_columns(STREAMS[stream], names or NAMES, {}, None)
    decoder = ReadingDecoder(STREAMS[stream], RULES)
    times = TimeReader(ZoneInfo("UTC"))
    return RowReader(plan, times, decoder, decimal_comma=comma, now=NOW, overwrite=overwrite)


def stored(value: bytes, stream: str = "energy") -> Reading:
    """What the sink makes of a record, without the time at which it was received."""
    found = ReadingDecoder(STREAMS[stream], RULES).decode_record(value, None, NOW)
    return replace(found, received_at=NOW)


def rejected(*cells: object) -> PoisonRecordError:
    with pytest.raises(PoisonRecordError) as caught:
        reader().read(cells)
    return caught.value


@pytest.mark.parametrize(
    ("stream", "payload", "names", "cells"),
    [
        (
            "energy",
            {"total_energy_kwh": 12.45, "power_kw": 3.2, "voltage": 230, "note": "x", "seq": 5},
            [*NAMES, "seq"],
            [AT, "meter1", "12.45", "3.2", "230", "x", "5"],
        ),
        (
            "temperature",
            {"sensor_id": "meter1", "room": "007", "temperature": 21.5},
            ["timestamp", "sensor_id", "room", "temperature", "humidity"],
            [AT, "meter1", "007", "21.5", ""],
        ),
        (
            "heatpump",
            {
                "mode": "heat",
                "target_temp": 21,
                "actual_temp": 20,
                "compressor_running": True,
                "power_consumption_kw": 1,
            },
            [
                "timestamp",
                "device_id",
                "mode",
                "target_temp",
                "actual_temp",
                "compressor_running",
                "power_consumption_kw",
            ],
            [AT, "meter1", "heat", "21", "20", "on", "1"],
        ),
    ],
)
def test_a_row_is_stored_as_the_same_reading_of_a_device(
    stream: str, payload: dict[str, Any], names: list[str], cells: list[str]
):
    topic = STREAMS[stream].mqtt_filter.removesuffix("#") + "meter1"
    sent = msgspec.json.encode({"timestamp": AT, **payload})
    _, of_device = ReadingDecoder(STREAMS[stream], RULES).encode_record(
        sent, NOW, Source(topic, 1, retained=False, bridge="bridge")
    )
    record = reader(names, stream).read(cells)
    assert stored(record.value, stream) == stored(of_device, stream)
    assert record.device_id == "meter1"


def test_a_record_says_that_no_bridge_wrote_it():
    value = reader().read([AT, "meter1", "1", "2", "3", ""]).value
    assert msgspec.json.decode(value)["source"] == {
        "mqtt_topic": "",
        "qos": 0,
        "retained": False,
        "bridge": "",
    }
    assert bridge_of_record(FORWARDED, value, [("hl.import", b"x.csv")]) == NO_BRIDGE


@pytest.mark.parametrize("ahead_s", [0, 0.5, 299.9])
def test_an_import_is_older_than_whatever_a_bridge_received(ahead_s: float):
    """Also where the device's clock was ahead, so that the bridge received it before its own time."""
    at = datetime(2024, 1, 3, 16, tzinfo=UTC)
    value = reader().read([at, "meter1", "1", "2", "3", ""]).value
    imported = ReadingDecoder(STREAMS["energy"], RULES).decode_record(value, None, NOW)
    assert imported.received_at < at - timedelta(seconds=ahead_s)


def test_overwriting_is_as_new_as_the_import():
    value = reader(overwrite=True).read([AT, "meter1", "1", "2", "3", ""]).value
    assert ReadingDecoder(STREAMS["energy"], RULES).decode_record(value, None, NOW).received_at == NOW


def test_extra_of_an_own_table_is_unfolded():
    names = ["timestamp", "device_id", "total_energy_kwh", "power_kw", "extra"]
    found = stored(reader(names).read([AT, "meter1", "1", "2", '{"seq": 5}']).value)
    assert found.extra == '{"seq":5}'


@pytest.mark.parametrize(
    ("cells", "reason", "said"),
    [
        ((AT, "meter1", "x", "1", "1", ""), "invalid", "'x' is no number - in column 'total_energy_kwh'"),
        ((AT, "meter1", "", "1", "1", ""), "invalid", "total_energy_kwh"),
        ((AT, "meter1", "-1", "1", "1", ""), "invalid", ">= 0"),
        ((AT, "meter1", "inf", "1", "1", ""), "invalid", "infinity"),
        ((AT, "", "1", "1", "1", ""), "no_device_id", "missing"),
        ((AT, "a/b", "1", "1", "1", ""), "no_device_id", "a/b"),
        (("2027-01-03T16:00:00Z", "meter1", "1", "1", "1", ""), "clock_ahead", "ahead"),
        (("1970-01-03T16:00:00Z", "meter1", "1", "1", "1", ""), "clock_unset", "before"),
        ((AT, "meter1", "1", "1", "1", "\udcff"), "invalid", "UTF-8"),
        ((AT, "meter1", "1", "1", "1", "a\x00b"), "invalid", "U+0000"),
        ((AT, "meter1", "1", "1", "1", "x" * 70_000), "too_large", "bytes"),
    ],
)
def test_a_bad_row_says_why(cells: tuple[str, ...], reason: str, said: str):
    fault = rejected(*cells)
    assert (fault.reason, said in fault.detail) == (reason, True)


@pytest.mark.parametrize(
    ("type_", "comma", "cell", "value"),
    [
        ("float", False, " 12.45 ", 12.45),
        ("float", False, 3, 3),
        ("float", False, "n/a", None),
        ("float", False, float("nan"), None),
        ("float", True, "12,45", 12.45),
        ("float", True, "1.234,5", 1234.5),
        ("float", True, "7", 7.0),
        ("integer", False, "9007199254740993", 9007199254740993),
        ("integer", False, "5.0", 5),
        ("smallint", False, "", None),
        ("text", False, "007", "007"),
        ("text", False, 7, "7"),
        ("text", False, "", None),
        ("boolean", False, "ON", True),
        ("boolean", False, 0, False),
        ("boolean", False, "unknown", None),
    ],
)
def test_cells_as_values(type_: FieldType, comma: bool, cell: object, value: object):  # noqa: FBT001
    found = converter_of(type_, decimal_comma=comma)(cell)
    assert (found, type(found)) == (value, type(value))


@pytest.mark.parametrize(
    ("type_", "comma", "cell"),
    [
        ("float", False, "1_000"),
        ("float", False, "12,45"),
        ("float", True, "12.450"),
        ("boolean", False, "maybe"),
    ],
)
def test_what_could_be_misread_is_rejected(type_: FieldType, comma: bool, cell: str):  # noqa: FBT001
    with pytest.raises(ValueError, match=cell.replace(".", r"\.")):
        converter_of(type_, decimal_comma=comma)(cell)


@pytest.mark.parametrize(
    ("cells", "delimiter", "comma"),
    [
        (["12,45", "7"], ";", True),
        (["12,450"], ";", True),
        (["12,450"], ",", False),
        (["12,45"], ",", True),
        (["12.45", "1,5"], ";", False),
        (["7"], ";", False),
    ],
)
def test_how_numbers_are_written(cells: list[str], delimiter: str, comma: bool):  # noqa: FBT001
    assert uses_decimal_comma(cells, delimiter) is comma


@pytest.mark.parametrize(
    ("cell", "value"),
    [("5", 5), ("5.5", 5.5), ("007", "007"), ("true", True), ("", None), ("1e999", "1e999"), ("x", "x")],
)
def test_an_undeclared_value_is_what_it_looks_like(cell: str, value: object):
    assert guess(cell, decimal_comma=False) == value
