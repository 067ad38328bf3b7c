"""Raises the alarm before the broker's queue is full, which it would say to nobody."""

import threading

from hl_platform.adapters.mqtt.queue_watch import MqttQueueWatch
from hl_platform.core.accounts import StageStats
from hl_platform.core.sections import MqttSettings

CODE = "mqtt_queue_filling"
# Share of the bound from which it is time to do something.
FILLING_FROM = 0.8


class MqttQueueAlarm:
    """A worker beside the bridge that watches the broker's queue.

    Args:
        mqtt: broker and bound.
        service: the bridge.
        stats: where the alert goes.
    """

    def __init__(self, mqtt: MqttSettings, service: str, stats: StageStats) -> None:
        self._bound = mqtt.max_queued_bytes
        self._stats = stats
        self._stop = threading.Event()
        self._watch = MqttQueueWatch(mqtt, f"{service}-watch", self.look)

    def run(self) -> None:
        """Watches until `stop`."""
        self._watch.start()
        self._stop.wait()
        self._watch.stop()

    def stop(self) -> None:
        """Ends `run`. Any thread."""
        self._stop.set()

    def look(self, n_bytes: int) -> None:
        """Compares what the broker holds with its bound."""
        if n_bytes < FILLING_FROM * self._bound:
            self._stats.clear_alert("", CODE)
            return
        self._stats.alert(
            "",
            CODE,
            f"The MQTT broker holds {n_bytes} bytes of messages, and its queue ends at {self._bound}: what comes "
            "after that is lost. Find out why the bridge takes nothing, or raise HL_MQTT__MAX_QUEUED_BYTES.",
        )
