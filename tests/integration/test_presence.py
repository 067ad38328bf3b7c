"""Presence by last will: real Mosquitto, a bridge, the live service."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from hl_platform.adapters.mqtt.client import disconnect, stop_loop
from hl_platform.core.settings import load_settings
from hl_platform.pipeline.run_service import run_service
from hl_platform.pipeline.services import Service
from hl_platform.stack.kafka import EmbeddedKafka
from hl_platform.stack.mosquitto import EmbeddedMosquitto
from tests.home import PATIENCE_S, eventually
from tests.integration.live_service import LiveProcess
from tests.proxy import Proxy, proxied

# No device falls silent by itself while a busy machine keeps it from its broker.
KEEPALIVE_S = 60
# Of a device of which that is wanted.
SHORT_KEEPALIVE_S = 4


@pytest.fixture
def live(
    tmp_path: Path, database_url: str, kafka: EmbeddedKafka, mosquitto: EmbeddedMosquitto
) -> Iterator[LiveProcess]:
    mqtt = {"HL_MQTT__HOST": mosquitto.host, "HL_MQTT__PORT": str(mosquitto.port)}
    made = LiveProcess(tmp_path, database_url, kafka.bootstrap_servers, **mqtt)
    made.env |= {"HL_MQTT__CLIENT_ID_PREFIX": made.prefix, "HL_BRIDGE__SPOOL_DIR": str(tmp_path)}
    made.make_tables()
    made.make_topics()
    made.start_reading()
    made.produce("m1", [1.0])
    eventually(made.latest)
    yield made
    made.close()


@contextmanager
def bridge(live: LiveProcess, name: str = "bridge") -> Iterator[None]:
    """A bridge that works while the block lasts."""
    stop = threading.Event()
    service = Service(name, "bridge", tuple(live.streams.values()))
    thread = threading.Thread(target=run_service, args=(load_settings(live.env), service, "", stop))
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(PATIENCE_S)


def device(live: LiveProcess, port: int | None = None, keepalive_s: int = KEEPALIVE_S) -> paho.Client:
    """A device that is connected, with a last will."""
    client = paho.Client(CallbackAPIVersion.VERSION2, protocol=paho.MQTTv5)
    client.will_set(status_topic(live), b"offline", qos=1, retain=True)
    client.connect("127.0.0.1", port or int(live.env["HL_MQTT__PORT"]), keepalive=keepalive_s)
    client.loop_start()
    say(client, live, b"online")
    return client


def status_topic(live: LiveProcess, name: str = "m1") -> str:
    return f"{live.prefix}/energy/{name}/availability"


def say(client: paho.Client, live: LiveProcess, payload: bytes, name: str = "m1") -> None:
    client.publish(status_topic(live, name), payload, qos=1, retain=True).wait_for_publish(PATIENCE_S)


def online(live: LiveProcess) -> Any:  # noqa: ANN401 - any JSON
    [found] = live.get("/api/v1/devices").raise_for_status().json()["devices"]
    return found["online"]


def break_off(client: paho.Client) -> None:
    """Ends the connection as a device does that loses its power: without a word."""
    line = client.socket()
    assert line is not None
    stop_loop(client)
    line.shutdown(socket.SHUT_RDWR)


def test_a_device_whose_connection_breaks_is_offline(live: LiveProcess) -> None:
    assert online(live) is None
    with bridge(live):
        client = device(live)
        eventually(lambda: online(live) is True)
        break_off(client)
        eventually(lambda: online(live) is False)


def test_a_device_that_falls_silent_is_offline_after_its_keepalive(live: LiveProcess) -> None:
    with bridge(live), proxied(int(live.env["HL_MQTT__PORT"])) as line:
        client = device(live, line.port, SHORT_KEEPALIVE_S)
        eventually(lambda: online(live) is True)
        _hold(line, client)
        eventually(lambda: online(live) is False)


def _hold(line: Proxy, client: paho.Client) -> None:
    line.stall()
    stop_loop(client)


def test_what_happens_without_a_bridge_is_known_once_there_is_one(live: LiveProcess) -> None:
    client = device(live)
    with bridge(live):
        eventually(lambda: online(live) is True)
    live.stop()
    break_off(client)
    live.restart()
    live.produce("m1", [2.0])
    # What was known last outlives restarts.
    eventually(live.latest)
    assert online(live) is True
    with bridge(live):
        eventually(lambda: online(live) is False)


def test_two_bridges_and_a_status_taken_back(live: LiveProcess) -> None:
    with bridge(live), bridge(live, "bridge-2"):
        client = device(live)
        eventually(lambda: online(live) is True)
        since = live.query("select since from hl.presence")
        say(client, live, b'{"state":"online"}')
        say(client, live, b"neither")
        say(client, live, b"offline", "m2")
        eventually(lambda: live.query("select 1 from hl.presence where not online"))
        assert live.query("select since from hl.presence where online") == since
        say(client, live, b"")
        eventually(lambda: online(live) is None)
        disconnect(client)


def test_a_retained_status_is_no_reading_and_no_dead_letter(live: LiveProcess) -> None:
    client = device(live)
    with bridge(live):
        eventually(lambda: online(live) is True)
        client.publish(f"{live.prefix}/energy/m3", b"no reading", qos=1).wait_for_publish(PATIENCE_S)
        received = eventually(
            lambda: live.query("select received from hl.accounts where stage = 'bridge' and received > 0")
        )
    break_off(client)
    assert received == [(1,)]
