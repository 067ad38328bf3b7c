"""Readings for the bridge's measurement: made beforehand, and published over a bare socket."""

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
N_DEVICES = 50
# What the broker takes unacknowledged; hl's own Mosquitto allows as many as it sends ahead.
WINDOW = 1_500
PUBACK_BYTES = 4
CHUNK = 250


class Reading(NamedTuple):
    """One reading to publish."""

    device: int
    seq: int


class Plan:
    """Which device sends when; every device counts its own readings.

    Args:
        seed: the same one, the same readings.
    """

    def __init__(self, seed: int) -> None:
        self._rng = random.Random(seed)  # noqa: S311
        self._counts = [0] * N_DEVICES

    def take(self, n: int) -> list[Reading]:
        """The next readings."""
        readings = []
        for device in self._rng.choices(range(N_DEVICES), k=n):
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
        return {f"bench{device:03}": n for device, n in enumerate(self._counts) if n}


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


def packet_of(reading: Reading, packet_id: int) -> bytes:
    """A PUBLISH at QoS 1."""
    topic = string(f"{TOPIC}/bench{reading.device:03}")
    body = topic + packet_id.to_bytes(2, "big") + b"\0" + payload_of(reading)
    return b"\x32" + encode_length(len(body)) + body


def connect(address: tuple[str, int], client_id: str) -> socket.socket:
    """A socket on which the broker has said CONNACK; its session is kept."""
    connected = introduce(address, client_id)
    await_packet(connected)
    return connected


def introduce(address: tuple[str, int], client_id: str) -> socket.socket:
    """A socket on which CONNECT was sent."""
    connected = socket.create_connection(address)
    connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    greeting = encode_connect(
        client_id,
        keep_alive_s=0,
        session_expiry_s=3_600,
        receive_maximum=10_000,
        username=None,
        password=None,
    )
    connected.sendall(greeting)
    return connected


def await_packet(connected: socket.socket) -> None:
    """Reads until a packet has come."""
    reader = PacketReader()
    while not reader.feed(connected.recv(4096)):
        pass


def make_session(address: tuple[str, int], client_id: str) -> None:
    """A session with a subscription and nobody connected, so that the broker keeps what is published."""
    connected = connect(address, client_id)
    connected.sendall(encode_subscribe(1, [Filter(f"{TOPIC}/#", 2)]))
    await_packet(connected)
    connected.sendall(encode_disconnect())
    connected.close()


class Publisher:
    """Publishes as fast as the broker acknowledges, or at a rate.

    Args:
        address: of the broker.
    """

    def __init__(self, address: tuple[str, int]) -> None:
        self._socket = connect(address, "bench-publisher")
        self._n_sent = 0
        self._n_acknowledged = 0

    def publish(self, readings: Sequence[Reading], rate: float | None = None) -> None:
        """Returns when the broker has acknowledged them all.

        Args:
            readings: in order.
            rate: readings per second; None for as fast as it goes.
        """
        began = time.monotonic()
        size = CHUNK if rate is None else 1
        for at in range(0, len(readings), size):
            if rate is not None:
                time.sleep(max(0.0, began + at / rate - time.monotonic()))
            self._send(readings[at : at + size])
        self._await(self._n_sent)

    def close(self) -> None:
        """Says good-bye."""
        self._socket.sendall(encode_disconnect())
        self._socket.close()

    def _send(self, readings: Sequence[Reading]) -> None:
        self._await(self._n_sent + len(readings) - WINDOW)
        packets = []
        for reading in readings:
            packets.append(packet_of(reading, self._n_sent % 65_535 + 1))
            self._n_sent += 1
        self._socket.sendall(b"".join(packets))

    def _await(self, n: int) -> None:
        # With a subscription in place every PUBACK is a plain success.
        while self._n_acknowledged < n * PUBACK_BYTES:
            data = self._socket.recv(65_536)
            assert data, "the broker closed the publisher's connection"
            self._n_acknowledged += len(data)
