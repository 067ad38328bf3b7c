"""Listens to a broker beside everybody else, for a person who looks."""

import secrets
import threading
from collections.abc import Callable, Sequence
from typing import NamedTuple

import paho.mqtt.client as paho
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from hl_platform.adapters.mqtt.client import disconnect, make_client, refusal
from hl_platform.core.errors import ConfigError, HlError, TransientError
from hl_platform.core.sections import MqttSettings
from hl_platform.core.settings import require_address

KEEPALIVE_S = 30
DO_NOT_SEND_RETAINED = 2


class Heard(NamedTuple):
    """A message as it passed."""

    mqtt_topic: str
    payload: bytes
    qos: int
    retained: bool


class MqttListener:
    """Hears what is published from now on, under a client id of its own and without a session that would outlive it.

    Guarantee: takes nothing from a bridge, and nothing is queued for it: at QoS 0 the broker drops what a listener is
    too slow for.

    Args:
        mqtt: broker and credentials.
        name: makes the client id, with a random ending.
        filters: what to subscribe to.
        on_message: told of each message, in another thread.
    """

    def __init__(
        self, mqtt: MqttSettings, name: str, filters: Sequence[str], on_message: Callable[[Heard], None]
    ) -> None:
        self._host, self._port = require_address(mqtt.host, "mqtt", "host"), mqtt.port
        self._filters = filters
        self._on_message = on_message
        self._answered = threading.Event()
        self._failure: HlError | None = None
        self._client = make_client(mqtt, f"{mqtt.client_id_prefix}-{name}-{secrets.token_hex(4)}")
        self._client.on_connect = self._connected
        self._client.on_subscribe = self._subscribed
        self._client.on_message = self._received

    def open(self, timeout_s: float) -> None:
        """Connects and returns once it hears; goes on by itself after a later outage.

        Raises:
            TransientError: the broker does not answer within the time.
            ConfigError: it refused us for good.
        """
        self._client.connect_timeout = timeout_s
        try:
            self._client.connect(self._host, self._port, keepalive=KEEPALIVE_S, clean_start=True)
        except OSError as exc:
            raise TransientError(f"no MQTT broker answers at {self._host}:{self._port} ({exc})") from exc
        self._client.loop_start()
        answered = self._answered.wait(timeout_s)
        if self._failure is not None or not answered:
            self.close()
            raise self._failure or TransientError(
                f"the MQTT broker at {self._host}:{self._port} did not answer within {timeout_s:g} s"
            )

    def publish(self, mqtt_topic: str, payload: bytes) -> None:
        """Publishes at QoS 1."""
        self._client.publish(mqtt_topic, payload, qos=1)

    def close(self) -> None:
        """Disconnects. Harmless when it never was connected."""
        disconnect(self._client)

    def _connected(
        self,
        client: paho.Client,
        _userdata: object,
        _flags: paho.ConnectFlags,
        reason: ReasonCode,
        _properties: Properties | None,
    ) -> None:
        if reason.is_failure:
            self._failure = refusal(reason.value, str(reason)) or TransientError(
                f"the MQTT broker refused us: {reason}"
            )
            self._answered.set()
            return
        options = SubscribeOptions(qos=0, retainHandling=DO_NOT_SEND_RETAINED)
        client.subscribe([(one, options) for one in self._filters])

    def _subscribed(
        self,
        _client: paho.Client,
        _userdata: object,
        _mid: int,
        reasons: list[ReasonCode],
        _properties: Properties | None,
    ) -> None:
        refused = [reason for reason in reasons if reason.is_failure]
        if refused:
            self._failure = ConfigError(
                f"The MQTT broker does not let us subscribe to {', '.join(self._filters)}: {refused[0]}."
            )
        self._answered.set()

    def _received(self, _client: paho.Client, _userdata: object, message: paho.MQTTMessage) -> None:
        self._on_message(Heard(message.topic, bytes(message.payload), message.qos, message.retain))
