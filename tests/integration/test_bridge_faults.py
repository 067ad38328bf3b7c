"""What devices and brokers do to the bridge: retained messages, redelivery, garbage, a queue that fills."""

import hashlib
import threading

import msgspec
import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from hl_platform.adapters.mqtt.client import disconnect
from hl_platform.core.accounts import StageStats
from hl_platform.pipeline.mqtt_queue import CODE, MqttQueueAlarm
from hl_platform.stack.mosquitto import EmbeddedMosquitto
from tests.home import Home, eventually, reading

pytestmark = pytest.mark.slow

N_RECONNECTIONS = 50


def push_out(home: Home) -> None:
    """Takes the bridge's session for a moment, so that the bridge must connect again; the session stays."""
    client = paho.Client(
        CallbackAPIVersion.VERSION2, client_id=f"{home.prefix}-bridge", protocol=paho.MQTTv5, manual_ack=True
    )
    connected = threading.Event()
    client.on_connect = lambda *_: connected.set()
    properties = Properties(PacketTypes.CONNECT)
    properties.SessionExpiryInterval = 3_600
    client.connect(
        home.env["HL_MQTT__HOST"], int(home.env["HL_MQTT__PORT"]), clean_start=False, properties=properties
    )
    client.loop_start()
    assert connected.wait(30)
    disconnect(client)


def send_live(home: Home, number: int) -> None:
    """Sends a reading and waits for its row: the bridge is connected again."""
    home.publish((home.topic("live"), reading(seq=number)))
    eventually(
        lambda: home.query("select count(*) from {energy} where device_id = 'live'")[0][0],
        lambda n: n == number + 1,
    )


@pytest.mark.parametrize("policy", ["ignore", "latest", "ingest"])
def test_reconnecting_fifty_times_adds_no_row_whatever_the_policy_of_retained_messages(
    home: Home, policy: str
):
    home.streams["energy"] = msgspec.structs.replace(home.energy, retained=policy)
    home.publish((home.topic("kept"), reading()), retain=True)
    with home.running("bridge", "sink"):
        send_live(home, 0)
        # Else the first reconnection would have it redelivered.
        eventually(lambda: home.account("bridge")["in_flight"] == 0)
        for number in range(1, N_RECONNECTIONS + 1):
            push_out(home)
            send_live(home, number)
        eventually(lambda: home.account("bridge")["in_flight"] == 0)
    kept = home.query("select count(*) from {energy} where device_id = 'kept'")[0][0]
    on_kafka = [record.key() for record in home.records(home.energy.kafka_topic)].count(b"kept")
    assert kept == (0 if policy == "ignore" else 1)
    assert (on_kafka == 0, on_kafka == 1, on_kafka > 1) == (
        policy == "ignore",
        policy == "latest",
        policy == "ingest",
    )


def test_live_message_with_the_retain_flag_is_taken_even_where_retained_ones_are_ignored(home: Home):
    home.streams["energy"] = msgspec.structs.replace(home.energy, retained="ignore")
    with home.running("bridge"):
        home.publish((home.topic("meter1"), reading()), retain=True)
        [found] = eventually(lambda: home.records(home.energy.kafka_topic))
    assert msgspec.json.decode(found.value())["source"]["retained"] is False


def test_redelivery_after_a_cut_connection_makes_no_second_row_and_the_accounts_balance(home: Home):
    n = 2_000
    with home.running("bridge", "sink"):
        for start in range(0, n, 200):
            home.publish(*((home.topic("meter1"), reading(seq=start + part)) for part in range(200)))
            push_out(home)
        eventually(home.n_rows, lambda rows: rows >= n)
        eventually(lambda: home.account("bridge")["in_flight"] == 0)
        eventually(
            lambda: home.account("sink")["received"] == home.account("bridge")["forwarded"],
        )
    bridge, sink = home.account("bridge"), home.account("sink")
    assert home.query("select count(*), count(distinct extra ->> 'seq') from {energy}") == [(n, n)]
    assert bridge["received"] == bridge["forwarded"]
    assert sink["forwarded"] == n
    assert sink["duplicates"] + sink["corrected"] == bridge["forwarded"] - n


GARBAGE = [
    b"",
    b"  \n",
    b"not json",
    b"[1, 2]",
    b"\xff\xfe",
    b"\x00",
    b'{"a": "\xed\xa0\x80"}',
    b"NaN",
    reading()[:-1] + b', "x": NaN}',
    reading()[:-1] + b', "x": 1e999}',
    reading()[:-1] + b', "x": ' + b"9" * 400 + b"}",
    reading()[:-1] + b', "x": "\\u0000"}',
    reading()[:-1] + b', "power_kw": 1}',
    reading()[:-1] + b', "x": ' + b"[" * 100 + b"]" * 100 + b"}",
    b"[" * 60_000,
    reading(power_kw="a lot"),
    reading(power_kw=None),
    reading(power_kw={"value": 1}),
    b'{"' + b"k" * 65_400 + b'": 1}',
]


def test_every_kind_of_garbage_is_a_dead_letter_with_its_bytes_and_stops_nothing(home: Home):
    with home.running("bridge", "sink"):
        for payload in GARBAGE:
            home.publish((home.topic("mad"), payload), (home.topic("good"), reading()))
        eventually(home.n_rows, lambda n: n == len(GARBAGE))
        dead = eventually(
            lambda: home.records(home.energy.dead_letter_topic), lambda found: len(found) == len(GARBAGE)
        )
    assert [record.value() or b"" for record in dead] == GARBAGE


def test_payload_over_the_limit_is_kept_cut_and_says_so_with_the_hash_of_the_whole(home: Home):
    payload = b'{"x": "' + b"y" * 500_000 + b'"}'
    with home.running("bridge"):
        home.publish((home.topic("meter1"), payload))
        [dead] = eventually(lambda: home.records(home.energy.dead_letter_topic))
    headers = dict(dead.headers())
    assert dead.value() == payload[: home.settings.reading.max_payload_bytes]
    assert headers["hl.reason"] == b"too_large"
    assert headers["hl.truncated_from_bytes"] == str(len(payload)).encode()
    assert headers["hl.sha256"] == hashlib.sha256(payload).hexdigest().encode()


def test_alarm_is_raised_when_the_brokers_queue_fills_and_ends_when_it_is_empty(
    home: Home, own_mosquitto: EmbeddedMosquitto
):
    home.env |= {"HL_MQTT__PORT": str(own_mosquitto.port), "HL_MQTT__MAX_QUEUED_BYTES": "200000"}
    with home.running("bridge"):
        pass
    stats = StageStats()
    alarm = MqttQueueAlarm(home.settings.mqtt, "bridge", stats)
    watching = threading.Thread(target=alarm.run)
    watching.start()
    try:
        home.publish(*((home.topic("meter1"), reading(text="x" * 500)) for _ in range(300)))
        eventually(lambda: ("", CODE) in stats.alerts, patience_s=60)
        with home.running("bridge"):
            eventually(lambda: home.account("bridge")["forwarded"], lambda n: n == 300)
            eventually(lambda: not stats.alerts, patience_s=60)
    finally:
        alarm.stop()
        watching.join()
