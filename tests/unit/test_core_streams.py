"""Stream declarations: what is built in, and each mistake named with its file and key."""

from pathlib import Path

import pytest

from hl_platform.core.errors import ConfigError
from hl_platform.core.streams import Stream, check_streams, parse_stream
from hl_platform.streams import load_streams

SOLAR = """
name = "solar"
title = "Solar panels"
mqtt_filter = "homelab/solar/#"
kafka_topic = "homelab.solar"
table = "solar_readings"

[fields.power_kw]
type = "float"
kind = "gauge"
unit = "kW"
required = true
minimum = 0
maximum = 30

[fields.status]
type = "smallint"
kind = "state"
"""
# All of it up to the fields.
HEAD = SOLAR.partition("[")[0]


def message_of(text: str) -> str:
    with pytest.raises(ConfigError) as caught:
        parse_stream(text, "solar.toml")
    return str(caught.value)


def with_field(body: str) -> str:
    return SOLAR + "\n[fields.more]\n" + body


def stream(**changes: str) -> Stream:
    text = SOLAR
    for key, value in changes.items():
        old = next(line for line in text.splitlines() if line.startswith(f"{key} ="))
        text = text.replace(old, f"{key} = {value!r}")
    return parse_stream(text, "x.toml")


def conflict_of(one: Stream, two: Stream) -> str:
    with pytest.raises(ConfigError) as caught:
        check_streams([("one.toml", one), ("two.toml", two)])
    return str(caught.value)


OTHER = {
    "name": "wind",
    "mqtt_filter": "homelab/wind/#",
    "kafka_topic": "homelab.wind",
    "table": "wind_readings",
}


def test_the_house_has_three_streams() -> None:
    assert list(load_streams()) == ["energy", "heatpump", "temperature"]


@pytest.mark.parametrize(
    ("name", "mqtt_filter", "kafka_topic", "partitions", "table"),
    [
        ("energy", "homelab/energy/#", "homelab.energy", 3, "energy_readings"),
        ("heatpump", "homelab/heatpump/#", "homelab.heatpump", 1, "heatpump_status"),
        ("temperature", "homelab/temperature/#", "homelab.temperature", 2, "temperature_readings"),
    ],
)
def test_built_in_streams_are_named_as_designed(
    name: str, mqtt_filter: str, kafka_topic: str, partitions: int, table: str
) -> None:
    found = load_streams()[name]
    assert found.mqtt_filter == mqtt_filter
    assert (found.kafka_topic, found.kafka_partitions) == (kafka_topic, partitions)
    assert found.table == table
    assert found.consumer_group == f"timescaledb-{name}"
    assert found.feed_group == f"{name}-ws"
    assert found.dead_letter_topic == f"{kafka_topic}.dlq"


def test_a_fourth_stream_is_one_more_file(tmp_path: Path) -> None:
    (tmp_path / "solar.toml").write_text(SOLAR)
    streams = load_streams(str(tmp_path))
    assert sorted(streams) == ["energy", "heatpump", "solar", "temperature"]
    assert streams["solar"].columns == ("device_id", "timestamp", "power_kw", "status")


def test_a_file_of_the_same_name_replaces_the_built_in_one(tmp_path: Path) -> None:
    (tmp_path / "energy.toml").write_text(SOLAR.replace('"solar"', '"energy"'))
    assert load_streams(str(tmp_path))["energy"].table == "solar_readings"


def test_files_that_are_not_toml_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("not a stream")
    assert len(load_streams(str(tmp_path))) == 3


def test_a_mistake_in_an_own_file_names_its_path(tmp_path: Path) -> None:
    (tmp_path / "solar.toml").write_text(SOLAR.replace('"gauge"', '"gage"'))
    with pytest.raises(ConfigError) as caught:
        load_streams(str(tmp_path))
    assert str(caught.value).startswith(f"{tmp_path}/solar.toml: key `fields.power_kw.kind`")


def test_a_directory_that_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"HL_STREAMS_DIR=.*nowhere.* cannot be read"):
        load_streams(str(tmp_path / "nowhere"))


def test_a_file_that_is_not_text_is_named(tmp_path: Path) -> None:
    (tmp_path / "solar.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="cannot be read"):
        load_streams(str(tmp_path))


def test_a_field_of_integers_has_the_limits_of_its_column() -> None:
    assert "a whole number from -32768 to 32767" in message_of(
        with_field('type = "smallint"\nkind = "gauge"\nmaximum = 40000')
    )


@pytest.mark.parametrize(
    ("text", "key", "says"),
    [
        ("name = ", "", "not TOML"),
        ('name = "solar"', "fields", "declare at least one"),
        (HEAD + "fields = 3", "fields", "declare at least one"),
        (HEAD + "[fields]", "fields", "declare at least one"),
        (HEAD + "[fields]\nx = 3", "fields.x", "write a table [fields.x]"),
        (SOLAR.replace('name = "solar"', ""), "", "missing required field `name`"),
        (SOLAR.replace('name = "solar"', 'name = "Solar Panels"'), "name", "matching regex"),
        (SOLAR.replace('"solar_readings"', f'"{"x" * 41}"'), "table", "length <= 40"),
        (SOLAR.replace("homelab/solar/#", "homelab/solar/+"), "mqtt_filter", "matching regex"),
        (SOLAR.replace("homelab/solar/#", "homelab/+/solar/#"), "mqtt_filter", "matching regex"),
        (SOLAR.replace("homelab/solar/#", "#"), "mqtt_filter", "matching regex"),
        (SOLAR.replace("homelab/solar/#", "$SYS/#"), "mqtt_filter", "matching regex"),
        (SOLAR.replace("homelab.solar", "homelab/solar"), "kafka_topic", "matching regex"),
        ("kafka_partitions = 0" + SOLAR, "kafka_partitions", ">= 1"),
        ("kafka_partitons = 2" + SOLAR, "", "unknown field `kafka_partitons`"),
        (
            SOLAR.replace('type = "float"', 'type = "double"'),
            "fields.power_kw.type",
            "float, integer, smallint",
        ),
        (SOLAR.replace('kind = "gauge"', 'kind = "meter"'), "fields.power_kw.kind", "gauge, counter, state"),
        (SOLAR.replace("required = true", 'required = "yes"'), "fields.power_kw.required", "Expected `bool`"),
        (with_field('type = "text"\nkind = "gauge"'), "fields.more.kind", "allowed: state, label"),
        (with_field('type = "text"\nkind = "label"\nmaximum = 3'), "fields.more", "belong to numbers"),
        (
            with_field('type = "float"\nkind = "gauge"\nminimum = 3\nmaximum = 2'),
            "fields.more.minimum",
            "above",
        ),
        (with_field('type = "float"\nkind = "gauge"\nminimum = nan'), "fields.more.minimum", "not allowed"),
        (
            with_field('type = "integer"\nkind = "gauge"\nminimum = 0.5'),
            "fields.more.minimum",
            "whole number",
        ),
        (
            with_field('type = "float"\nkind = "gauge"\nmax_rate_per_hour = 3'),
            "fields.more.max_rate_per_hour",
            "only a counter",
        ),
        (
            with_field('type = "float"\nkind = "counter"\nmax_rate_per_hour = 0'),
            "fields.more.max_rate_per_hour",
            "above 0",
        ),
        (SOLAR.replace("power_kw", "Power"), "fields.Power", "lower case"),
        (SOLAR.replace("power_kw", "timestamp"), "fields.timestamp", "reserved"),
        (SOLAR.replace("power_kw", "received_at"), "fields.received_at", "reserved"),
        ('device_id_field = "timestamp"\n' + SOLAR, "device_id_field", "received_at, source"),
        ('device_id_field = ""\n' + SOLAR, "device_id_field", "1 to 128 characters"),
        ("device_id_field = 'a\"b'\n" + SOLAR, "device_id_field", "without quotes"),
    ],
)
def test_a_mistake_names_the_file_the_key_and_what_is_allowed(text: str, key: str, says: str) -> None:
    message = message_of(text)
    assert message.startswith(f"solar.toml: key `{key}" if key else "solar.toml: ")
    assert says in message


@pytest.mark.parametrize("key", ["name", "kafka_topic", "table"])
def test_two_streams_cannot_claim_the_same(key: str) -> None:
    mine = stream()
    message = conflict_of(mine, stream(**{**OTHER, key: getattr(mine, key)}))
    assert message.startswith(f"two.toml: key `{key}`")
    assert "one.toml" in message


@pytest.mark.parametrize("mqtt_filter", ["homelab/solar/#", "homelab/solar/roof/#", "homelab/#"])
def test_overlapping_filters_are_refused(mqtt_filter: str) -> None:
    message = conflict_of(stream(), stream(**{**OTHER, "mqtt_filter": mqtt_filter}))
    assert message.startswith("two.toml: key `mqtt_filter`")
    assert "overlaps 'homelab/solar/#' of one.toml" in message


def test_filters_that_only_look_alike_do_not_overlap() -> None:
    pairs = [("a", stream()), ("b", stream(**{**OTHER, "mqtt_filter": "homelab/solar2/#"}))]
    assert list(check_streams(pairs)) == ["solar", "wind"]


def test_a_topic_cannot_be_the_dead_letters_of_another() -> None:
    message = conflict_of(stream(), stream(**{**OTHER, "kafka_topic": "homelab.solar.dlq"}))
    assert message.startswith("two.toml: key `kafka_topic`")
    assert "dead-letter" in message


def test_each_type_of_field_has_its_type_of_column() -> None:
    assert [field.sql_type for field in stream().fields] == ["double precision", "smallint"]
