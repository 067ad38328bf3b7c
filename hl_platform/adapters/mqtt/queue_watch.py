"""How much the broker holds for those that are away, as Mosquitto tells it under `$SYS`."""

from collections.abc import Callable

import structlog

from hl_platform.adapters.mqtt.topic_watch import TopicWatch
from hl_platform.core.sections import MqttSettings

log = structlog.get_logger()

# Payloads of all stored messages, in bytes, retained ones included; Mosquitto says it anew every 10 s while it changes.
STORED_BYTES = "$SYS/broker/store/messages/bytes"


class MqttQueueWatch(TopicWatch):
    """Tells how much the broker holds.

    Guarantee: raises nothing and ends nobody. A broker that tells nothing is as good as one that holds nothing.

    Args:
        mqtt: broker and credentials.
        name: makes the client id, with a random ending.
        on_bytes: told how many bytes of payload the broker holds, from another thread.
    """

    def __init__(self, mqtt: MqttSettings, name: str, on_bytes: Callable[[int], None]) -> None:
        super().__init__(mqtt, name, [(STORED_BYTES, 0)], self._heard)
        self._on_bytes = on_bytes

    def _heard(self, _mqtt_topic: str, payload: bytes) -> None:
        try:
            n_bytes = int(payload)
        except ValueError:
            log.warning("mqtt_queue_size_unreadable", payload=payload[:40])
            return
        self._on_bytes(n_bytes)
