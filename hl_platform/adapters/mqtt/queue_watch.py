"""How much the broker holds for those that are away, as Mosquitto tells it under `$SYS`."""

import secrets
from collections.abc import Callable

import paho.mqtt.client as paho
import structlog
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from hl_platform.adapters.mqtt.client import make_client, refusal
from hl_platform.core.settings import MqttSettings, require_address

log = structlog.get_logger()

# Payloads of all stored messages, in bytes, retained ones included; Mosquitto says it anew every 10 s while it changes.
STORED_BYTES = "$SYS/broker/store/messages/bytes"
KEEPALIVE_S = 60
RECONNECT_S = (1, 60)


class MqttQueueWatch:
    """Listens on a connection and under a client id of its own, so that nothing it meets touches a bridge.

    Guarantee: raises nothing and ends nobody. A broker that tells nothing is as good as one that holds nothing.

    Args:
        mqtt: broker and credentials.
        name: makes the client id, with a random ending.
        on_bytes: told how many bytes of payload the broker holds, from another thread.
    """

    def __init__(self, mqtt: MqttSettings, name: str, on_bytes: Callable[[int], None]) -> None:
        self._host, self._port = require_address(mqtt.host, "mqtt", "host"), mqtt.port
        self._on_bytes = on_bytes
        self._client = make_client(mqtt, f"{mqtt.client_id_prefix}-{name}-{secrets.token_hex(4)}")
        self._client.reconnect_delay_set(*RECONNECT_S)
        self._client.on_connect = self._connected
        self._client.on_message = self._received

    def start(self) -> None:
        """Connects in the background, again and again if need be."""
        self._client.connect_async(self._host, self._port, keepalive=KEEPALIVE_S, clean_start=True)
        self._client.loop_start()

    def stop(self) -> None:
        """Disconnects."""
        self._client.disconnect()
        self._client.loop_stop()

    def _connected(
        self,
        client: paho.Client,
        _userdata: object,
        _flags: paho.ConnectFlags,
        reason: ReasonCode,
        _properties: Properties | None,
    ) -> None:
        if refusal(reason.value, str(reason)) is not None:
            # The bridge says so; asking again is of no use.
            client.disconnect()
        elif not reason.is_failure:
            client.subscribe(STORED_BYTES)

    def _received(self, _client: paho.Client, _userdata: object, message: paho.MQTTMessage) -> None:
        try:
            n_bytes = int(message.payload)
        except ValueError:
            log.warning("mqtt_queue_size_unreadable", payload=bytes(message.payload[:40]))
            return
        self._on_bytes(n_bytes)
