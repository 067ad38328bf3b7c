import threading

import msgspec
import pytest
from structlog.testing import capture_logs

from hl_platform.core.errors import ConfigError
from hl_platform.stack.kafka import EmbeddedKafka
from hl_platform.stack.mosquitto import EmbeddedMosquitto
from tests.home import Home, eventually, reading


def test_valid_reading_is_on_kafka_keyed_by_its_device(home: Home):
    with home.running("bridge"):
        home.publish((home.topic("meter1"), reading(fw="1.2")))
        [found] = eventually(lambda: home.records(home.energy.kafka_topic))
    value = msgspec.json.decode(found.value())
    assert found.key() == b"meter1"
    assert value["device_id"] == "meter1"
    assert value["power_kw"] == 3.2
    assert value["fw"] == "1.2"
    assert value["source"] == {
        "mqtt_topic": home.topic("meter1"),
        "qos": 1,
        "retained": False,
        "bridge": "bridge",
    }


def test_invalid_payload_is_a_dead_letter_with_its_bytes_unchanged(home: Home):
    with home.running("bridge"):
        home.publish((home.topic("meter1"), b"\xff not json"), (home.topic("meter1"), reading()))
        [dead] = eventually(lambda: home.records(home.energy.dead_letter_topic))
        eventually(lambda: home.records(home.energy.kafka_topic))
    headers = dict(dead.headers())
    assert dead.value() == b"\xff not json"
    assert headers["hl.reason"] == b"not_json"
    assert headers["hl.mqtt_topic"] == home.topic("meter1").encode()
    assert headers["hl.stage"] == b"bridge"


def test_readings_published_while_the_bridge_is_away_arrive(home: Home):
    with home.running("bridge"):
        home.publish((home.topic("meter1"), reading()))
        eventually(lambda: home.records(home.energy.kafka_topic))
    home.publish(*((home.topic("meter1"), reading(power_kw=number)) for number in range(50)))
    with home.running("bridge"):
        eventually(lambda: len(home.records(home.energy.kafka_topic)), lambda n: n == 51)


def test_readings_of_one_device_keep_their_order_through_restarts(home: Home):
    for part in range(3):
        with home.running("bridge"):
            home.publish(*((home.topic("meter1"), reading(seq=part * 100 + n)) for n in range(100)))
            eventually(lambda: home.account("bridge")["forwarded"], lambda n, part=part: n >= part * 100 + 50)
    with home.running("bridge"):
        found = eventually(lambda: home.records(home.energy.kafka_topic), lambda found: len(found) >= 300)
    first_seen = list(dict.fromkeys(msgspec.json.decode(record.value())["seq"] for record in found))
    assert first_seen == list(range(300))


def test_retained_message_is_not_taken_again_at_reconnection(home: Home):
    home.publish((home.topic("meter1"), reading()), retain=True)
    for _ in range(3):
        with home.running("bridge"):
            home.publish((home.topic("meter2"), reading()))
            eventually(lambda: home.account("bridge")["in_flight"] == 0)
    keys = [record.key() for record in home.records(home.energy.kafka_topic)]
    assert keys.count(b"meter1") == 1


def test_accounts_balance_with_nothing_in_flight_after_a_stop(home: Home):
    with home.running("bridge"):
        home.publish(*((home.topic("meter1"), payload) for payload in [reading(), b"x", reading(), b"{}"]))
        eventually(lambda: home.account("bridge")["received"], lambda n: n == 4)
    account = home.account("bridge")
    assert account == {
        "received": 4,
        "forwarded": 2,
        "dead_lettered": 2,
        "duplicates": 0,
        "corrected": 0,
        "dropped": 0,
        "in_flight": 0,
    }


def test_two_bridges_share_the_load_and_each_reading_goes_through_one(home: Home):
    home.env["HL_BRIDGE__INSTANCES"] = "2"
    sent = 0
    with home.running("bridge-1", "bridge-2"):

        def both_had_some() -> bool:
            nonlocal sent
            home.publish(*((home.topic(f"meter{n}"), reading()) for n in range(10)))
            sent += 10
            counts = home.query("select received from hl.accounts where stream = %s", home.energy.name)
            return len(counts) == 2

        eventually(both_had_some)
        eventually(lambda: home.account("bridge")["forwarded"], lambda n: n == sent)
    assert len(home.records(home.energy.kafka_topic)) == sent


def test_reading_is_not_acknowledged_while_kafka_is_away(home_of_its_own: Home, own_kafka: EmbeddedKafka):
    home = home_of_its_own
    with capture_logs() as logs, home.running("bridge"):
        home.publish((home.topic("meter1"), reading()))
        eventually(lambda: home.account("bridge")["forwarded"] == 1)
        own_kafka.kill()
        home.publish((home.topic("meter1"), reading()))
        eventually(lambda: home.account("bridge")["in_flight"] == 1)
    # What the producer dropped at its end was refused by nobody.
    assert [entry for entry in logs if entry["event"] == "kafka_refused_record"] == []
    assert [entry["n_left_to_mqtt"] for entry in logs if entry["event"] == "bridge_stopped"] == [1]
    # The bridge has stopped without Kafka's word; the broker must still have the reading.
    own_kafka.start()
    own_kafka.wait_ready()
    with home.running("bridge"):
        eventually(lambda: len(home.records(home.energy.kafka_topic)), lambda n: n == 2)


def test_wrong_password_is_said_and_not_retried_for_ever(home: Home, closed_mosquitto: EmbeddedMosquitto):
    home.env["HL_MQTT__PORT"] = str(closed_mosquitto.port)
    home.env |= {"HL_MQTT__USERNAME": "bridge", "HL_MQTT__PASSWORD": "wrong"}
    with pytest.raises(ConfigError, match="HL_MQTT__PASSWORD"):
        home.run("bridge", threading.Event())
