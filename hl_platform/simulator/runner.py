"""Publishes a plan of readings at its pace."""

import threading
from collections.abc import Callable, Iterable
from typing import NamedTuple, Protocol

from hl_platform.simulator.home import SECOND_US, Device, encode_reading

# Shorter waits cost more than they are worth: a reading may be this late, in seconds.
SHORTEST_WAIT_S = 0.001


class Publisher(Protocol):
    """Takes messages; see `hl_platform.adapters.mqtt.publisher.MqttPublisher`."""

    def publish(self, mqtt_topic: str, payload: bytes) -> bool:
        """Takes a message, or says that it was not taken because of a stop."""


class Pace:
    """Lets a plan's time pass.

    Args:
        start_us: the plan's first moment, in Unix microseconds.
        speed: seconds of the plan in a second of ours; None for as fast as possible.
        now_us: the time now, in Unix microseconds.
        stop: ends every wait.
    """

    def __init__(
        self, start_us: int, speed: float | None, now_us: Callable[[], int], stop: threading.Event
    ) -> None:
        self._start_us = start_us
        self._speed = speed
        self._now_us = now_us
        self._began_us = now_us()
        self._stop = stop

    def wait_until(self, due_us: int) -> bool:
        """Waits for a moment of the plan; False when stopped."""
        if self._speed is not None:
            at_us = self._began_us + (due_us - self._start_us) / self._speed
            wait_s = (at_us - self._now_us()) / SECOND_US
            if wait_s > 0:
                self._stop.wait(max(wait_s, SHORTEST_WAIT_S))
        return not self._stop.is_set()


class Limits(NamedTuple):
    """When to end; without any, a plan goes on until it is stopped.

    Args:
        n_readings: after so many.
        end_us: before this moment of the plan, in Unix microseconds.
        until_now: when the plan reaches the present.
    """

    n_readings: int | None = None
    end_us: int | None = None
    until_now: bool = False


def run_plan(
    plan: Iterable[tuple[int, Device]],
    publisher: Publisher,
    pace: Pace,
    limits: Limits,
    *,
    now_us: Callable[[], int],
    on_reading: Callable[[int, int], None],
) -> int:
    """Publishes until a limit or a stop.

    Args:
        plan: (moment, device), in order of time.
        publisher: takes the readings.
        pace: when each may go.
        limits: when to end.
        now_us: the time now, in Unix microseconds.
        on_reading: told how many were published and the moment of the last, after each.

    Returns:
        How many readings the publisher took.
    """
    n = 0
    for due_us, device in plan:
        if limits.n_readings is not None and n >= limits.n_readings:
            break
        if limits.end_us is not None and due_us >= limits.end_us:
            break
        if limits.until_now and due_us > now_us():
            break
        if not pace.wait_until(due_us):
            break
        if not publisher.publish(device.mqtt_topic, encode_reading(device, due_us)):
            break
        n += 1
        on_reading(n, due_us)
    return n
