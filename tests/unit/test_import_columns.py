"""Columns of a file find their place in a stream, or the message says what to write."""

import pytest

from hl_platform.core.errors import ConfigError
from hl_platform.core.import_columns import plan_columns, plan_stream
from hl_platform.streams import load_streams

STREAMS = load_streams()
ENERGY, TEMPERATURE = STREAMS["energy"], STREAMS["temperature"]
NAMES = ["timestamp", "device_id", "total_energy_kwh", "power_kw"]


def kinds(
    names: list[str], renames: dict[str, str] | None = None, device: str | None = None
) -> list[tuple[str, str]]:
    plan = plan_columns(ENERGY, names, renames or {}, device)
    return [(column.kind, column.target) for column in plan.columns]


def test_declared_names_are_fields_and_others_go_to_extra():
    assert kinds([*NAMES, "Firmware"]) == [
        ("timestamp", "timestamp"),
        ("device", "device_id"),
        ("field", "total_energy_kwh"),
        ("field", "power_kw"),
        ("extra", "Firmware"),
    ]


def test_case_spaces_and_dashes_do_not_matter():
    assert kinds(["Timestamp", "Device ID", "total-energy-kwh", " Power kW"]) == kinds(NAMES)


def test_a_column_that_is_mapped_goes_before_one_that_has_the_name():
    found = kinds(["when", *NAMES], {"when": "timestamp"})
    assert found[:2] == [("timestamp", "timestamp"), ("extra", "timestamp_")]


def test_an_empty_target_leaves_a_column_out():
    assert kinds(NAMES, {"device_id": ""}, "meter1")[1] == ("ignored", "")


def test_what_hl_itself_adds_is_left_out_and_extra_is_unfolded():
    own = ["extra", "received_at", "ingested_at", "corrections", "hl_line", "hl_reason", "hl_detail"]
    assert [kind for kind, _ in kinds([*NAMES, *own])[4:]] == ["extra_object", *["ignored"] * 6]


def test_a_stream_that_names_its_device_otherwise_takes_both_names():
    for name in ("sensor_id", "device_id"):
        plan = plan_columns(TEMPERATURE, ["timestamp", name, "temperature"], {}, None)
        assert plan.columns[1].kind == "device"


@pytest.mark.parametrize(
    ("names", "renames", "device", "said"),
    [
        (NAMES[1:], {}, None, "No column is the timestamp"),
        (["Zeit", *NAMES[1:]], {}, None, '--map "Zeit=timestamp"'),
        (
            ["timestamp", "device_id", "power_kw", "Energy (kWh)"],
            {},
            None,
            '--map "Energy (kWh)=total_energy_kwh"',
        ),
        (NAMES[:1] + NAMES[2:], {}, None, "--device meter1"),
        (NAMES, {}, "meter1", '--map "device_id="'),
        (NAMES, {"Power": "power_kw"}, None, "There are: timestamp, device_id"),
        (NAMES, {"power_kw": "powerkw"}, None, "Did you mean 'power_kw'?"),
        ([*NAMES, "Power_KW"], {}, None, '--map "Power_KW="'),
        ([*NAMES, "power_kw"], {}, None, "Two columns"),
    ],
)
def test_what_does_not_fit_says_what_to_write(
    names: list[str], renames: dict[str, str], device: str | None, said: str
):
    with pytest.raises(ConfigError) as caught:
        plan_columns(ENERGY, names, renames, device)
    assert said in str(caught.value)


def test_the_stream_is_the_only_one_that_fits():
    assert plan_stream(STREAMS, None, NAMES, {}, None).stream.name == "energy"


@pytest.mark.parametrize(("wanted", "said"), [("enrgy", "Did you mean 'energy'?"), (None, "--stream")])
def test_a_stream_that_is_not_clear_is_asked_for(wanted: str | None, said: str):
    with pytest.raises(ConfigError) as caught:
        plan_stream(STREAMS, wanted, ["timestamp", "x"], {}, "meter1")
    assert said in str(caught.value)
