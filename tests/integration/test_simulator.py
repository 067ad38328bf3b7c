"""The simulator as a user runs it, on a real broker, with a connection that breaks."""

import json
import os
import queue
import re
import signal
import socket
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from hl_platform.adapters.mqtt.client import disconnect
from hl_platform.adapters.mqtt.publisher import MAX_UNACKNOWLEDGED, MqttPublisher
from hl_platform.core.sections import MqttSettings
from hl_platform.simulator.home import ROOMS
from hl_platform.stack.mosquitto import EmbeddedMosquitto
from hl_platform.stack.net import free_port
from tests.home import PATIENCE_S


class Subscriber:
    """Takes every message under a filter, each as (topic, payload)."""

    def __init__(self, broker: EmbeddedMosquitto, mqtt_filter: str) -> None:
        self.messages: queue.Queue[tuple[str, bytes]] = queue.Queue()
        ready = threading.Event()
        self._client = paho.Client(CallbackAPIVersion.VERSION2, protocol=paho.MQTTv5)
        self._client.on_message = lambda _c, _u, message: self.messages.put((message.topic, message.payload))
        self._client.on_subscribe = lambda *_: ready.set()
        self._client.connect(broker.host, broker.port)
        self._client.subscribe(mqtt_filter, qos=1)
        self._client.loop_start()
        assert ready.wait(PATIENCE_S)

    def take(self, n: int) -> list[tuple[str, bytes]]:
        return [self.messages.get(timeout=PATIENCE_S) for _ in range(n)]

    def take_until(self, wanted: Callable[[set[bytes]], bool]) -> set[bytes]:
        seen: set[bytes] = set()
        while not wanted(seen):
            seen.add(self.messages.get(timeout=PATIENCE_S)[1])
        return seen

    def close(self) -> None:
        disconnect(self._client)


class Line:
    """A TCP line to the broker that can be cut and kept down."""

    def __init__(self, broker: EmbeddedMosquitto) -> None:
        self._target = (broker.host, broker.port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self._pairs: list[socket.socket] = []
        self._up = threading.Event()
        self._up.set()
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def cut(self) -> None:
        """Breaks what is connected; new connections are taken."""
        pairs, self._pairs = self._pairs, []
        for end in pairs:
            hang_up(end)

    def down(self) -> None:
        self._up.clear()
        self.cut()

    def up(self) -> None:
        self._up.set()

    def close(self) -> None:
        # Wakes the thread that waits in accept.
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut()
        for thread in self._threads:
            thread.join(PATIENCE_S)

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            if not self._up.is_set():
                hang_up(near)
                continue
            far = socket.create_connection(self._target)
            self._pairs += [near, far]
            for one, two in ((near, far), (far, near)):
                self._threads.append(threading.Thread(target=self._pump, args=(one, two)))
                self._threads[-1].start()

    @staticmethod
    def _pump(one: socket.socket, two: socket.socket) -> None:
        try:
            while data := one.recv(65_536):
                two.sendall(data)
        except OSError:
            pass
        hang_up(one)
        hang_up(two)


def hang_up(end: socket.socket) -> None:
    with suppress(OSError):
        end.shutdown(socket.SHUT_RDWR)
    end.close()


@pytest.fixture
def line(mosquitto: EmbeddedMosquitto) -> Iterator[Line]:
    line = Line(mosquitto)
    yield line
    line.close()


@contextmanager
def subscribed(broker: EmbeddedMosquitto, mqtt_filter: str) -> Iterator[Subscriber]:
    subscriber = Subscriber(broker, mqtt_filter)
    try:
        yield subscriber
    finally:
        subscriber.close()


@contextmanager
def publishing(port: int, stop: threading.Event | None = None) -> Iterator[MqttPublisher]:
    publisher = MqttPublisher(MqttSettings(host="127.0.0.1", port=port), "test", stop or threading.Event())
    publisher.start()
    try:
        yield publisher
    finally:
        publisher.close()


def simulate(
    broker: EmbeddedMosquitto, *arguments: str, stderr: int = subprocess.DEVNULL
) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-m", "hl_platform.simulator", *arguments],
        env={**os.environ, "HL_MQTT__HOST": broker.host, "HL_MQTT__PORT": str(broker.port)},
        stdout=subprocess.PIPE,
        stderr=stderr,
        text=True,
    )


def finish(process: "subprocess.Popen[str]") -> tuple[int, list[int]]:
    """Exit code, and (sent, acknowledged, rejected) of the closing line."""
    output, _ = process.communicate(timeout=PATIENCE_S)
    found = re.search(r"sent (\d+), acknowledged (\d+), rejected (\d+)", output)
    return process.returncode, [int(number) for number in found.groups()] if found else []


def test_the_home_publishes_every_device_at_once_and_stops_when_asked(
    own_mosquitto: EmbeddedMosquitto,
) -> None:
    with subscribed(own_mosquitto, "homelab/+/+") as subscriber:
        process = simulate(own_mosquitto)
        try:
            messages = subscriber.take(12)
        finally:
            process.send_signal(signal.SIGTERM)
        code, (sent, acknowledged, rejected) = finish(process)
    assert {topic for topic, _ in messages[:8]} == {
        "homelab/energy/meter1",
        "homelab/energy/meter2",
        "homelab/heatpump/heatpump1",
        *(f"homelab/temperature/{room}" for room in ROOMS),
    }
    assert code == 0
    assert sent == acknowledged >= 12
    assert rejected == 0
    payload = json.loads(messages[0][1])
    assert set(payload) == {"timestamp", "total_energy_kwh", "power_kw", "voltage", "current"}


def test_a_home_that_starts_before_anybody_listens_tells_every_device_later(
    own_mosquitto: EmbeddedMosquitto,
) -> None:
    process = simulate(own_mosquitto, stderr=subprocess.PIPE)
    try:
        assert process.stderr is not None
        # The first readings follow at once, to nobody.
        assert "mqtt_connected" in process.stderr.readline()
        with publishing(own_mosquitto.port) as watcher:
            watcher.publish("homelab/energy/meter1", b"{}")
            assert watcher.drain(PATIENCE_S)
            assert watcher.unheard == 1
        # All of it: what tells the simulator that somebody listens is any device's acknowledgement.
        with subscribed(own_mosquitto, "homelab/+/+") as subscriber:
            rooms = {f'"sensor_id":"{room}"'.encode() for room in ROOMS}
            subscriber.take_until(
                lambda seen: all(any(room in payload for payload in seen) for room in rooms)
            )
    finally:
        process.terminate()
        process.communicate(timeout=PATIENCE_S)


def test_a_load_sends_exactly_its_count_spread_over_its_devices(own_mosquitto: EmbeddedMosquitto) -> None:
    with subscribed(own_mosquitto, "homelab/energy/#") as subscriber:
        process = simulate(
            own_mosquitto,
            *(
                "--rate",
                "5000",
                "--devices",
                "10",
                "--count",
                "5000",
                "--streams",
                "energy",
                "--prefix",
                "x-",
            ),
        )
        messages = subscriber.take(5_000)
        assert finish(process) == (0, [5_000, 5_000, 0])
    assert Counter(topic for topic, _ in messages) == {f"homelab/energy/x-{i:02}": 500 for i in range(1, 11)}
    assert len({(topic, json.loads(payload)["timestamp"]) for topic, payload in messages}) == 5_000


def test_a_history_is_the_same_bytes_every_time(own_mosquitto: EmbeddedMosquitto) -> None:
    arguments = ("--start", "2026-01-03T16:00:00Z", "--duration", "600", "--seed", "3")
    histories = []
    for _ in range(2):
        with subscribed(own_mosquitto, "homelab/+/+") as subscriber:
            process = simulate(own_mosquitto, *arguments)
            code, (sent, acknowledged, _) = finish(process)
            assert (code, sent) == (0, acknowledged)
            histories.append(subscriber.take(sent))
    assert histories[0] == histories[1]
    assert histories[0][0][1].startswith(b'{"timestamp":"2026-01-03T16:00:00Z"')


def test_nothing_taken_is_lost_when_the_line_breaks_again_and_again(
    mosquitto: EmbeddedMosquitto, line: Line
) -> None:
    payloads = [str(number).encode() for number in range(20_000)]
    with subscribed(mosquitto, "broken-line/#") as subscriber, publishing(line.port) as publisher:
        for number, payload in enumerate(payloads):
            if number % 4_000 == 2_000:
                line.cut()
            assert publisher.publish("broken-line/x", payload)
        assert publisher.drain(PATIENCE_S)
        assert (publisher.sent, publisher.acknowledged, publisher.rejected) == (20_000, 20_000, 0)
        subscriber.take_until(lambda seen: len(seen) == len(payloads))


def test_readings_wait_in_a_bounded_queue_while_the_broker_is_away(
    mosquitto: EmbeddedMosquitto, line: Line
) -> None:
    line.down()
    stop = threading.Event()
    with subscribed(mosquitto, "away/#") as subscriber, publishing(line.port, stop) as publisher:
        taken: list[bytes] = []

        def publish_until_stopped() -> None:
            for number in range(10 * MAX_UNACKNOWLEDGED):
                if not publisher.publish("away/x", str(number).encode()):
                    return
                taken.append(str(number).encode())

        thread = threading.Thread(target=publish_until_stopped)
        thread.start()
        while publisher.unacknowledged < MAX_UNACKNOWLEDGED:
            assert thread.is_alive()
        stop.set()
        thread.join(PATIENCE_S)
        assert len(taken) == publisher.sent == MAX_UNACKNOWLEDGED
        line.up()
        assert publisher.drain(PATIENCE_S)
        assert subscriber.take_until(lambda seen: len(seen) == len(taken)) == set(taken)


def test_messages_arrive_in_the_order_in_which_they_were_taken(mosquitto: EmbeddedMosquitto) -> None:
    with subscribed(mosquitto, "order/#") as subscriber, publishing(mosquitto.port) as publisher:
        for number in range(5_000):
            publisher.publish("order/x", str(number).encode())
        assert [int(payload) for _, payload in subscriber.take(5_000)] == list(range(5_000))


def test_without_a_broker_it_stops_when_asked_and_owns_up_to_what_was_not_sent() -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "hl_platform.simulator", "--rate", "1000"],
        env={**os.environ, "HL_MQTT__HOST": "127.0.0.1", "HL_MQTT__PORT": str(free_port())},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stderr is not None
    # It tries, and says so; the first time perhaps before there is anything to be sent.
    assert b"mqtt_unreachable" in process.stderr.readline()
    assert b"mqtt_unreachable" in process.stderr.readline()
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 1
    assert b"acknowledged 0" in output
