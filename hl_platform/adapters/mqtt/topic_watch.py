"""Listens to a few topics in the background, beside a bridge."""

import secrets
from collections.abc import Callable, Sequence

import paho.mqtt.client as paho
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from hl_platform.adapters.mqtt.client import disconnect, make_client, refusal
from hl_platform.core.sections import MqttSettings
from hl_platform.core.settings import require_address

KEEPALIVE_S = 60
RECONNECT_S = (1, 60)


class TopicWatch:
    """Listens on a connection and under a client id of its own, so that nothing it meets touches a bridge.

    What it is for is retained, or said again and again, so that a new connection is told all of it; hence no session.

    Guarantee: raises nothing and ends nobody.

    Args:
        mqtt: broker and credentials.
        name: makes the client id, with a random ending.
        filters: what to subscribe to, each with its QoS.
        on_message: told topic and payload of each, from another thread.
    """

    def __init__(
        self,
        mqtt: MqttSettings,
        name: str,
        filters: Sequence[tuple[str, int]],
        on_message: Callable[[str, bytes], None],
    ) -> None:
        self._host, self._port = require_address(mqtt.host, "mqtt", "host"), mqtt.port
        self._filters = filters
        self._on_message = on_message
        self._client = make_client(mqtt, f"{mqtt.client_id_prefix}-{name}-{secrets.token_hex(4)}")
        self._client.reconnect_delay_set(*RECONNECT_S)
        self._client.on_connect = self._connected
        self._client.on_message = self._received

    def start(self) -> None:
        """Connects in the background, again and again if need be."""
        self._client.connect_async(self._host, self._port, keepalive=KEEPALIVE_S, clean_start=True)
        self._client.loop_start()

    def stop(self) -> None:
        """Disconnects. Once."""
        disconnect(self._client)
        # It calls us back, and so holds us; and the library closes its last sockets when nobody holds it.
        del self._client

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
            client.subscribe(list(self._filters))

    def _received(self, _client: paho.Client, _userdata: object, message: paho.MQTTMessage) -> None:
        self._on_message(message.topic, bytes(message.payload))
