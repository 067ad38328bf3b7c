"""`python -m bench.paced`: readings at a rate, from a process of its own, so that nothing delays them.

Reads an `Order` from its input as JSON; when the broker has acknowledged every reading it writes how late they were.
"""

import gc
import subprocess
import sys

import msgspec

from bench.bridge_load import Login, Plan, Publisher
from bench.stack import RunningStack, percentiles
from hl_platform.core.errors import ConfigError

# Beyond it a figure would be of a load that the publisher could not make, not of what receives it.
BEHIND_S = 0.1


class Order(msgspec.Struct, frozen=True):
    """Which readings of which devices.

    Args:
        prefix: of the devices' names, and part of the client id.
        n_readings, rate: how many, and how many a second.
    """

    prefix: str
    n_devices: int
    n_readings: int
    rate: float

    @property
    def plan(self) -> Plan:
        """Which device sends when; the same at every call."""
        return Plan(1, self.n_devices, self.prefix)

    @property
    def expected(self) -> dict[str, int]:
        """How many readings each device sends."""
        plan = self.plan
        plan.take(self.n_readings)
        return plan.expected


class Late(msgspec.Struct, frozen=True):
    """Seconds between when a reading was due and when it was sent: 99th percentile and maximum of the steps."""

    p99_s: float
    max_s: float

    @property
    def is_behind(self) -> bool:
        """Whether it could not keep the rate."""
        return self.p99_s > BEHIND_S


class _Task(msgspec.Struct):
    order: Order
    host: str
    port: int
    login: Login


def send_paced(stack: RunningStack, order: Order) -> Late:
    """Sends to the running stack, and returns when the broker has acknowledged everything.

    Raises:
        ConfigError: the broker asks for TLS.
    """
    mqtt = stack.settings.mqtt
    if mqtt.tls:
        raise ConfigError("HL_MQTT__TLS=true is not allowed here: this measurement publishes without TLS.")
    task = _Task(order, mqtt.host or "127.0.0.1", mqtt.port, Login(mqtt.username, mqtt.password))
    done = subprocess.run(
        [sys.executable, "-m", "bench.paced"],
        input=msgspec.json.encode(task),
        stdout=subprocess.PIPE,
        check=True,
    )
    return msgspec.json.decode(done.stdout, type=Late)


def main() -> None:
    """Does what the order says."""
    task = msgspec.json.decode(sys.stdin.buffer.read(), type=_Task)
    readings = task.order.plan.take(task.order.n_readings)
    publisher = Publisher(
        (task.host, task.port), task.order.prefix, f"{task.order.prefix}publisher", task.login
    )
    # Nothing here is garbage, and a collection would look through all readings.
    gc.disable()
    _, p99_s, max_s = percentiles(publisher.pace(readings, task.order.rate))
    publisher.close()
    sys.stdout.buffer.write(msgspec.json.encode(Late(p99_s, max_s)))


if __name__ == "__main__":
    main()
