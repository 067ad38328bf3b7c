"""Settings: every mistake is named, with its value and what is allowed."""

from datetime import UTC, datetime

import msgspec
import pytest

from hl_platform.core.environment import is_secret
from hl_platform.core.errors import ConfigError
from hl_platform.core.settings import Settings, describe_settings, environment_name, load_settings


def message_of(env: dict[str, str]) -> str:
    with pytest.raises(ConfigError) as caught:
        load_settings(env)
    return str(caught.value)


def test_no_variables_give_the_defaults() -> None:
    assert load_settings({}) == Settings()


def test_variables_of_other_programs_are_ignored() -> None:
    assert load_settings({"PATH": "/bin", "HLX": "1"}) == Settings()


def test_two_underscores_lead_into_a_section() -> None:
    settings = load_settings({"HL_KAFKA__BOOTSTRAP_SERVERS": "a:9092,b:9092", "HL_MQTT__PORT": "8883"})
    assert settings.kafka.bootstrap_servers == "a:9092,b:9092"
    assert settings.mqtt.port == 8883


def test_an_empty_variable_counts_as_unset() -> None:
    assert load_settings({"HL_MQTT__HOST": "", "HL_MQTT__PORT": ""}) == Settings()


@pytest.mark.parametrize("doc", describe_settings(), ids=lambda doc: doc.variable)
def test_every_setting_can_be_set_to_its_own_default(doc) -> None:  # noqa: ANN001 - one row of the table
    assert load_settings({doc.variable: doc.default}) == Settings()


@pytest.mark.parametrize("doc", describe_settings(), ids=lambda doc: doc.variable)
def test_every_setting_is_described(doc) -> None:  # noqa: ANN001 - one row of the table
    assert doc.description
    assert doc.allowed


@pytest.mark.parametrize(
    ("variable", "value", "allowed"),
    [
        ("HL_MQTT__PORT", "0", "a whole number from 1 to 65535"),
        ("HL_MQTT__PORT", "65536", "a whole number from 1 to 65535"),
        ("HL_MQTT__PORT", "mqtt", "a whole number from 1 to 65535"),
        ("HL_MQTT__TLS", "yes", "true, false"),
        ("HL_KAFKA__SECURITY_PROTOCOL", "TLS", "PLAINTEXT, SASL_PLAINTEXT, SASL_SSL, SSL"),
        ("HL_KAFKA__SASL_MECHANISM", "GSSAPI", "PLAIN, SCRAM-SHA-256, SCRAM-SHA-512"),
        ("HL_SINK__LAYOUT", "both", "per_stream, together"),
        ("HL_SINK__MAX_BATCH_AGE_MS", "101", "a whole number from 0 to 100"),
        ("HL_SERVICE__HEARTBEAT_S", "0", "a number above 0"),
        ("HL_SERVICE__MAX_AGE_S", "inf", "a number above 0"),
        ("HL_SERVICE__MAX_AGE_S", "nan", "a number above 0"),
        ("HL_BRIDGE__INSTANCES", "1.5", "a whole number of at least 1"),
        ("HL_LOG__LEVEL", "INFO", "debug, error, info, warning"),
        ("HL_READING__FLOOR", "2015", "a date like 2015-01-31"),
        ("HL_READING__FLOOR", "1420070400", "a date like 2015-01-31"),
        ("HL_READING__FLOOR", "20150101", "a date like 2015-01-31"),
        ("HL_READING__FLOOR", "2015-02-30", "a date like 2015-01-31"),
        ("HL_READING__FLOOR", "2015-01-01T00:00:00", "a time with an offset"),
        ("HL_TIMEZONE", "Mars/Olympus", "a name of the time zone database"),
        ("HL_TIMEZONE", "Europe", "a name of the time zone database"),
        ("HL_TIMEZONE", "../../etc/passwd", "a name of the time zone database"),
    ],
)
def test_a_wrong_value_is_named_with_what_is_allowed(variable: str, value: str, allowed: str) -> None:
    message = message_of({variable: value})
    assert message.startswith(f"{variable}={value!r} is not allowed; allowed: ")
    assert allowed in message


@pytest.mark.parametrize(
    ("floor", "expected"),
    [
        ("2020-02-29", datetime(2020, 2, 29, tzinfo=UTC)),
        ("2020-01-01T02:00:00+02:00", datetime(2020, 1, 1, tzinfo=UTC)),
        ("2020-01-01T00:00:00Z", datetime(2020, 1, 1, tzinfo=UTC)),
    ],
)
def test_the_floor_is_an_iso_date_or_time(floor: str, expected: datetime) -> None:
    assert load_settings({"HL_READING__FLOOR": floor}).reading.floor == expected


def test_a_typing_mistake_is_an_error_that_knows_better() -> None:
    assert message_of({"HL_MQTT__PROT": "1883"}) == (
        "HL_MQTT__PROT is not a setting of hl. Did you mean HL_MQTT__PORT?"
    )


def test_an_unknown_variable_like_no_other_points_to_the_list() -> None:
    assert "docs/configuration.md" in message_of({"HL_XYZZY": "1"})


@pytest.mark.parametrize("variable", ["HL_MQTT", "HL_mqtt__host", "HL_MQTT__", "HL_"])
def test_half_a_name_is_not_a_setting(variable: str) -> None:
    assert f"{variable} is not a setting of hl" in message_of({variable: "1"})


def test_heartbeats_may_come_late_before_a_service_counts_as_dead() -> None:
    message = message_of({"HL_SERVICE__HEARTBEAT_S": "2", "HL_SERVICE__STALE_AFTER_S": "3"})
    assert message.startswith("HL_SERVICE__STALE_AFTER_S=3 is not allowed; allowed: at least twice")


def test_sasl_without_a_mechanism_is_refused() -> None:
    message = message_of({"HL_KAFKA__SECURITY_PROTOCOL": "SASL_SSL"})
    assert message.startswith("HL_KAFKA__SASL_MECHANISM is unset")
    assert "SCRAM-SHA-512" in message


def test_a_client_certificate_needs_its_key() -> None:
    assert "belong together" in message_of({"HL_MQTT__TLS_CERT_FILE": "/c.pem"})


@pytest.mark.parametrize(
    "variable", ["HL_MQTT__PASSWORD", "HL_KAFKA__SASL_PASSWORD", "HL_DATABASE__READ_URL", "HL_DATABASE__URL"]
)
def test_what_may_hold_a_password_is_secret(variable: str) -> None:
    assert {doc.variable: is_secret(doc) for doc in describe_settings()}[variable]


def test_settings_cannot_be_changed() -> None:
    with pytest.raises(AttributeError):
        load_settings({}).mqtt.port = 1  # type: ignore[misc]


def test_environment_name_is_the_variable_of_a_path() -> None:
    assert environment_name("kafka", "port") == "HL_KAFKA__PORT"


def test_settings_survive_a_trip_through_json() -> None:
    settings = load_settings({"HL_MQTT__HOST": "broker", "HL_READING__FLOOR": "2020-01-01"})
    assert msgspec.json.decode(msgspec.json.encode(settings), type=Settings) == settings
