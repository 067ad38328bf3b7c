"""The bridge's side of MQTT: a session that the broker keeps while we are away, acknowledged by hand.

The bridge knows only `MqttSession`, so that another implementation can take the place of paho's.
"""

import random
import threading
from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

import paho.mqtt.client as paho
import structlog
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from hl_platform.adapters.mqtt.client import make_client, refusal
from hl_platform.core.ack_window import AckWindow
from hl_platform.core.errors import ConfigError, HlError, TransientError
from hl_platform.core.settings import MqttSettings, require_address

log = structlog.get_logger()

Token = tuple[int, int]

KEEPALIVE_S = 15
# MQTT 5.0, 3.8.3.1: retained messages at every subscription, only at a new one, or never.
RETAIN_HANDLING = {"ingest": 0, "latest": 1, "ignore": 2}


class Subscription(NamedTuple):
    """What to subscribe to.

    Args:
        mqtt_filter: topics.
        retained: policy of the stream: `ignore`, `latest` or `ingest`.
    """

    mqtt_filter: str
    retained: str


class MqttMessage(NamedTuple):
    """One PUBLISH packet.

    Args:
        mqtt_topic: where it was published.
        payload: as the device sent it.
        qos: 0 or 1.
        retained: whether the broker kept it from before; not what the device asked for.
        token: to settle it with; None at QoS 0, which nobody acknowledges.
    """

    mqtt_topic: str
    payload: bytes
    qos: int
    retained: bool
    token: Token | None


class MqttSession(Protocol):
    """A persistent session that delivers messages and acknowledges those that are settled."""

    def start(self, on_message: Callable[[MqttMessage], None]) -> None:
        """Connects in the background, again and again if need be; calls `on_message` from its thread."""

    def settle(self, token: Token) -> None:
        """Says that a message is safe elsewhere. Any thread, any order.

        Guarantee: PUBACKs go out in the order in which the messages came.
        """

    def is_awaited(self, token: Token) -> bool:
        """Whether the broker still waits for this message to be settled; else it sends the message again."""

    def check(self) -> None:
        """Raises what ended the session for good, if anything did."""

    def stop(self) -> None:
        """Sends what may be acknowledged, disconnects and keeps the session at the broker."""


class PahoSession:
    """MqttSession by paho-mqtt.

    Args:
        mqtt: broker, credentials and session.
        service: makes the client id, so that a successor continues the same session.
        subscriptions: what to subscribe to, at QoS 1.
        shared: subscribe as one of several, each message to one of them.
    """

    def __init__(
        self, mqtt: MqttSettings, service: str, subscriptions: Sequence[Subscription], *, shared: bool
    ) -> None:
        self._host = require_address(mqtt.host, "mqtt", "host")
        self._mqtt = mqtt
        self._filters = [
            f"$share/hl/{mqtt_filter}" if shared else mqtt_filter for mqtt_filter, _ in subscriptions
        ]
        # Retained as the broker kept it: a device may set the flag on every live message.
        self._options = [
            SubscribeOptions(qos=1, retainAsPublished=False, retainHandling=RETAIN_HANDLING[retained])
            for _, retained in subscriptions
        ]
        self._window = AckWindow()
        self._lock = threading.Lock()
        self._failure: HlError | None = None
        self._stopping = False
        self._had_session = False
        self._client_id = f"{mqtt.client_id_prefix}-{service}"
        self._on_message: Callable[[MqttMessage], None] = lambda _: None
        self._client = self._make_client()

    def start(self, on_message: Callable[[MqttMessage], None]) -> None:
        """See MqttSession."""
        self._on_message = on_message
        properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
        properties.SessionExpiryInterval = self._mqtt.session_expiry_s
        properties.ReceiveMaximum = self._mqtt.receive_maximum
        self._client.connect_async(
            self._host,
            self._mqtt.port,
            keepalive=KEEPALIVE_S,
            clean_start=False,
            properties=properties,
        )
        self._client.loop_start()

    def settle(self, token: Token) -> None:
        """See MqttSession."""
        with self._lock:
            # Under the lock, so that two threads cannot send their PUBACKs in the wrong order.
            for packet_id in self._window.settle(token):
                self._client.ack(packet_id, 1)

    def is_awaited(self, token: Token) -> bool:
        """See MqttSession."""
        with self._lock:
            return self._window.is_open(token)

    def check(self) -> None:
        """See MqttSession."""
        if self._failure is not None:
            raise self._failure

    def stop(self) -> None:
        """See MqttSession."""
        self._stopping = True
        # Queued behind the PUBACKs; reason 0 keeps the session for its expiry interval.
        self._client.disconnect()
        self._client.loop_stop()

    def _make_client(self) -> paho.Client:
        client = make_client(self._mqtt, self._client_id, manual_ack=True)
        # Different for every process, so that many bridges do not return to a broker together.
        first_s, max_s = random.uniform(0.1, 0.4), random.uniform(3, 6)  # noqa: S311
        client.reconnect_delay_set(first_s, max_s)  # type: ignore[arg-type] # it only adds and sleeps
        client.on_connect = self._connected
        client.on_subscribe = self._subscribed
        client.on_disconnect = self._disconnected
        client.on_message = self._received
        return client

    def _connected(
        self,
        client: paho.Client,
        _userdata: object,
        flags: paho.ConnectFlags,
        reason: ReasonCode,
        _properties: Properties | None,
    ) -> None:
        if reason.is_failure:
            log.error("mqtt_refused", reason=str(reason))
            self._failure = self._failure or refusal(reason)
            return
        log.info("mqtt_connected", session_present=flags.session_present, filters=self._filters)
        if self._had_session and not flags.session_present:
            # What devices published meanwhile is gone, and nobody else will say so.
            log.error("mqtt_session_lost", client_id=self._client_id)
        self._had_session = True
        # At every connection: a broker that lost the session lost the subscriptions with it.
        client.subscribe(list(zip(self._filters, self._options, strict=True)))

    def _subscribed(
        self,
        _client: paho.Client,
        _userdata: object,
        _packet_id: int,
        reasons: list[ReasonCode],
        _properties: Properties | None,
    ) -> None:
        refused = [
            f"{mqtt_filter} ({reason})"
            for mqtt_filter, reason in zip(self._filters, reasons, strict=False)
            if reason.is_failure
        ]
        if refused:
            self._failure = ConfigError(
                f"The MQTT broker refused the subscription to {', '.join(refused)}. Allow it for our user there."
            )
        log.info("mqtt_subscribed", n_filters=len(reasons) - len(refused), refused=refused)

    def _disconnected(
        self,
        _client: paho.Client,
        _userdata: object,
        _flags: paho.DisconnectFlags,
        reason: ReasonCode,
        _properties: Properties | None,
    ) -> None:
        with self._lock:
            n_unacknowledged = len(self._window)
            self._window.clear()
        if self._stopping:
            return
        log.warning("mqtt_disconnected", reason=str(reason), n_unacknowledged=n_unacknowledged)

    def _received(self, _client: paho.Client, _userdata: object, message: paho.MQTTMessage) -> None:
        if self._stopping:
            # Unacknowledged: the broker sends it to our successor.
            return
        token: Token | None = None
        if message.qos > 0:
            with self._lock:
                token = self._window.open(message.mid)
        try:
            self._on_message(
                MqttMessage(message.topic, bytes(message.payload), message.qos, message.retain, token)
            )
        except HlError as exc:
            self._failure = exc
        except Exception as exc:
            # paho would end its thread and say so nowhere that anyone looks.
            self._failure = TransientError(f"The bridge could not take a message: {exc!r}")
            log.exception("mqtt_message_failed", mqtt_topic=message.topic)
