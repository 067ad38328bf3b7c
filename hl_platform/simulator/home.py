"""A plausible home, and as many plausible devices as a load needs. Pure: no I/O and no clock.

Guarantee: what a device says at a moment depends on the seed, its name and that moment, and on nothing else.
Times are whole microseconds since 1970 in UTC, which is what a row's key can hold.
"""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import msgspec

from hl_platform.simulator.climate import HeatPump, Room, Weather
from hl_platform.simulator.meter import Meter
from hl_platform.simulator.noise import seed_of, unit

STREAMS = ("energy", "heatpump", "temperature")
SECOND_US = 1_000_000
UNIX = datetime(1970, 1, 1, tzinfo=UTC)

# Comfortable temperature in degrees Celsius, and relative humidity in percent.
ROOMS = {
    "living_room": (21.5, 45.0),
    "kitchen": (20.5, 50.0),
    "bedroom": (18.0, 52.0),
    "bathroom": (22.5, 60.0),
    "office": (21.0, 43.0),
}


class Device(NamedTuple):
    """One device that publishes.

    Args:
        stream: the stream its readings belong to.
        device_id: last level of its MQTT topic.
        interval_us: microseconds between two readings.
        values: the fields of its reading at a moment, in Unix seconds.
    """

    stream: str
    device_id: str
    interval_us: int
    values: Callable[[float], dict[str, Any]]

    @property
    def mqtt_topic(self) -> str:
        """Where it publishes."""
        return f"homelab/{self.stream}/{self.device_id}"

    @property
    def status_topic(self) -> str:
        """Where it says that it is there."""
        return f"{self.mqtt_topic}/availability"


def home_devices(seed: int) -> list[Device]:
    """The home: two meters each second, a heat pump every 30 s, five rooms every 5 minutes."""
    meters = [Device("energy", name, SECOND_US, _meter(seed, name)) for name in ("meter1", "meter2")]
    pump = Device("heatpump", "heatpump1", 30 * SECOND_US, _heat_pump(seed, "heatpump1"))
    rooms = [Device("temperature", name, 300 * SECOND_US, _room(seed, name)) for name in ROOMS]
    return [*meters, pump, *rooms]


def load_devices(seed: int, n_devices: int, streams: Sequence[str], prefix: str) -> list[Device]:
    """Devices for a load, spread evenly over streams, each sending once a second unless a plan says otherwise.

    Args:
        seed: same seed, same readings.
        n_devices: how many.
        streams: of `STREAMS`.
        prefix: what their names begin with.
    """
    makers = {"energy": _meter, "heatpump": _heat_pump, "temperature": _room}
    width = len(str(n_devices))
    devices = []
    for index in range(n_devices):
        stream, name = streams[index % len(streams)], f"{prefix}{index + 1:0{width}}"
        devices.append(Device(stream, name, SECOND_US, makers[stream](seed, name)))
    return devices


def encode_reading(device: Device, t_us: int) -> bytes:
    """The payload that a device publishes at a moment: always the same bytes for the same moment."""
    stamp = (UNIX + timedelta(microseconds=t_us)).isoformat().replace("+00:00", "Z")
    return msgspec.json.encode({"timestamp": stamp, **device.values(t_us / SECOND_US)})


def _meter(seed: int, name: str) -> Callable[[float], dict[str, Any]]:
    own = seed_of(seed, name)
    # A second household in the same house, a workshop: no two meters carry the same.
    return Meter(own, scale=0.5 + unit(own, 1)).values


def _heat_pump(seed: int, name: str) -> Callable[[float], dict[str, Any]]:
    return HeatPump(seed_of(seed, name), Weather(seed)).values


def _room(seed: int, name: str) -> Callable[[float], dict[str, Any]]:
    comfort_c, humidity = ROOMS.get(name, (20.5, 48.0))
    room = Room(seed_of(seed, name), Weather(seed), name, comfort_c, humidity)
    return lambda t_s: {"sensor_id": name, **room.values(t_s)}
