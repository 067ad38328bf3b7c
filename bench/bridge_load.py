"""Readings that are published over a bare socket: which were planned, when they are sent, how late that was."""

import random
import socket
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import NamedTuple

from hl_platform.adapters.mqtt.packets import (
    Filter,
    PacketReader,
    encode_connect,
    encode_disconnect,
    encode_subscribe,
)
from hl_platform.adapters.mqtt.properties import encode_length, string

TOPIC = "homelab/energy"
PREFIX = "bench"
N_DEVICES = 50
# What the broker takes unacknowledged; hl's own Mosquitto allows as many as it sends ahead.
WINDOW = 1_500
PUBACK_BYTES = 4
CHUNK = 250
# Between two looks at what is due: short beside every delay that is measured, long enough to be no load.
STEP_S = 0.005


class Reading(NamedTuple):
    """One reading to publish."""

    device: int
    seq: int


class Login(NamedTuple):
    """What a broker may ask for."""

    username: str | None
    password: str | None


NOBODY = Login(None, None)


class Plan:
    """Which device sends when; every device counts its own readings.

    Args:
        seed: the same one, the same readings.
        n_devices: how many send.
        prefix: of their names.
    """

    def __init__(self, seed: int, n_devices: int = N_DEVICES, prefix: str = PREFIX) -> None:
        self._rng = random.Random(seed)  # noqa: S311
        self._counts = [0] * n_devices
        self._prefix = prefix

    def take(self, n: int) -> list[Reading]:
        """The next readings."""
        readings = []
        for device in self._rng.choices(range(len(self._counts)), k=n):
            readings.append(Reading(device, self._counts[device]))
            self._counts[device] += 1
        return readings

    @property
    def n(self) -> int:
        """How many were taken."""
        return sum(self._counts)

    @property
    def expected(self) -> dict[str, int]:
        """How many of each device were taken."""
        return {name_of(self._prefix, device): n for device, n in enumerate(self._counts) if n}


def name_of(prefix: str, device: int) -> str:
    """The name of a device."""
    return f"{prefix}{device:03}"


def payload_of(reading: Reading) -> bytes:
    """As an energy meter sends it; what it has counted is its number."""
    at = datetime.now(UTC).isoformat()
    return (
        f'{{"timestamp":"{at}","total_energy_kwh":{1000 + reading.seq / 100:.2f},"power_kw":3.2,'
        '"voltage":230.1,"current":13.9}'
    ).encode()


def number_of(total_energy_kwh: float) -> int:
    """The number of a device's reading."""
    return round((total_energy_kwh - 1000) * 100)


def packet_of(reading: Reading, packet_id: int, prefix: str) -> bytes:
    """A PUBLISH at QoS 1, with the time of now."""
    topic = string(f"{TOPIC}/{name_of(prefix, reading.device)}")
    body = topic + packet_id.to_bytes(2, "big") + b"\0" + payload_of(reading)
    return b"\x32" + encode_length(len(body)) + body


def connect(address: tuple[str, int], client_id: str, login: Login = NOBODY) -> socket.socket:
    """A socket on which the broker has said CONNACK; its session is kept."""
    connected = introduce(address, client_id, login)
    await_packet(connected)
    return connected


def introduce(address: tuple[str, int], client_id: str, login: Login = NOBODY) -> socket.socket:
    """A socket on which CONNECT was sent."""
    connected = socket.create_connection(address)
    connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    greeting = encode_connect(
        client_id,
        keep_alive_s=0,
        session_expiry_s=3_600,
        receive_maximum=10_000,
        username=login.username,
        password=login.password,
    )
    connected.sendall(greeting)
    return connected


def await_packet(connected: socket.socket) -> None:
    """Reads until a packet has come."""
    reader = PacketReader()
    while not reader.feed(connected.recv(4096)):
        pass


def make_session(address: tuple[str, int], client_id: str, *, is_shared: bool = False) -> None:
    """A session with a subscription and nobody connected, so that the broker keeps what is published.

    Args:
        address: of the broker.
        client_id: whose session.
        is_shared: each reading goes to one of those who share the subscription, as several bridges do.
    """
    connected = connect(address, client_id)
    prefix = "$share/hl/" if is_shared else ""
    connected.sendall(encode_subscribe(1, [Filter(f"{prefix}{TOPIC}/#", 2)]))
    await_packet(connected)
    connected.sendall(encode_disconnect())
    connected.close()


def end_session(address: tuple[str, int], client_id: str) -> None:
    """Makes the broker forget a session, so that it keeps nothing for it any more."""
    connected = connect(address, client_id)
    connected.sendall(encode_disconnect(session_expiry_s=0))
    connected.close()


class Publisher:
    """Publishes as fast as the broker acknowledges, or at a rate.

    Args:
        address: of the broker.
        prefix: of the devices' names.
        client_id, login: what the broker is told.
    """

    def __init__(
        self,
        address: tuple[str, int],
        prefix: str = PREFIX,
        client_id: str = "bench-publisher",
        login: Login = NOBODY,
    ) -> None:
        self._socket = connect(address, client_id, login)
        self._prefix = prefix
        self._n_sent = 0
        self._n_acknowledged = 0

    def publish(self, readings: Sequence[Reading]) -> None:
        """Returns when the broker has acknowledged them all."""
        for at in range(0, len(readings), CHUNK):
            self._send(readings[at : at + CHUNK])
        self._await(self._n_sent)

    def pace(self, readings: Sequence[Reading], rate: float) -> list[float]:
        """Publishes each when it is due, whatever became of those before; returns when all are acknowledged.

        Args:
            readings: in order.
            rate: readings per second.

        Returns:
            Seconds by which the oldest of each step was late. Only a step or more means that it fell behind.
        """
        began = time.monotonic()
        at, late = 0, []
        while at < len(readings):
            passed = time.monotonic() - began
            n_due = min(int(passed * rate) + 1 - at, CHUNK)
            if n_due > 0:
                late.append(passed - at / rate)
                self._send(readings[at : at + n_due])
                at += n_due
            if (left := began + at / rate - time.monotonic()) > 0:
                time.sleep(max(left, STEP_S))
        self._await(self._n_sent)
        return late

    def close(self) -> None:
        """Says good-bye, and leaves no session."""
        self._socket.sendall(encode_disconnect(session_expiry_s=0))
        self._socket.close()

    def _send(self, readings: Sequence[Reading]) -> None:
        self._await(self._n_sent + len(readings) - WINDOW)
        packets = []
        for reading in readings:
            packets.append(packet_of(reading, self._n_sent % 65_535 + 1, self._prefix))
            self._n_sent += 1
        self._socket.sendall(b"".join(packets))

    def _await(self, n: int) -> None:
        # With a subscription in place every PUBACK is a plain success.
        while self._n_acknowledged < n * PUBACK_BYTES:
            data = self._socket.recv(65_536)
            assert data, "the broker closed the publisher's connection"
            self._n_acknowledged += len(data)
