"""The bridge's side of MQTT: a session that the broker keeps while we are away, acknowledged by hand.

Everything happens in the thread that asks: the bridge receives, hands on and acknowledges in turns. Two threads would
spend more time on handing over Python's lock than on the messages.
"""

import random
import time
from collections.abc import Iterable, Sequence
from typing import NamedTuple, Protocol

import structlog

from hl_platform.adapters.mqtt.client import refusal
from hl_platform.adapters.mqtt.packets import (
    PING,
    ConnAck,
    Disconnect,
    Filter,
    MqttMessage,
    Packet,
    PacketReader,
    SubAck,
    UnsubAck,
    encode_connect,
    encode_disconnect,
    encode_pubacks,
    encode_subscribe,
)
from hl_platform.adapters.mqtt.properties import MalformedPacketError
from hl_platform.adapters.mqtt.reasons import MALFORMED, TOO_MANY, is_failure, reason_text
from hl_platform.adapters.mqtt.wire import Opening, Wire, WireError, make_tls
from hl_platform.core.ack_window import AckWindow
from hl_platform.core.backoff import Backoff
from hl_platform.core.errors import ConfigError
from hl_platform.core.sections import MqttSettings
from hl_platform.core.settings import require_address

log = structlog.get_logger()

Token = int

KEEPALIVE_S = 15
# A broker that has said nothing for so many keepalives, though it was pinged, is gone: MQTT 5.0, 3.1.2.10.
PATIENCE = 1.5
# MQTT 5.0, 3.8.3.1: retained messages at every subscription, only at a new one, or never.
RETAIN_HANDLING = {"ingest": 0, "latest": 1, "ignore": 2}
# MQTT 5.0, 2.2.1: a packet id has two bytes, and an unacknowledged message's is not used again.
MAX_PACKET_IDS = 65_535
SUBSCRIBE_ID, UNSUBSCRIBE_ID = 1, 2


class Subscription(NamedTuple):
    """What to subscribe to.

    Args:
        mqtt_filter: topics.
        retained: policy of the stream: `ignore`, `latest` or `ingest`.
    """

    mqtt_filter: str
    retained: str


class MqttSession(Protocol):
    """A persistent session that delivers messages and acknowledges those that are settled. One thread."""

    def receive(self, timeout_s: float) -> Sequence[MqttMessage]:
        """What has come, in order; waits for it, but no longer than this. Connects, again and again if need be.

        Raises:
            ConfigError: the broker refuses us for good.
        """

    def settle(self, tokens: Iterable[Token]) -> None:
        """Says that messages are safe elsewhere. Any order.

        Guarantee: PUBACKs go out in the order in which the messages came.
        """

    def is_awaited(self, token: Token) -> bool:
        """Whether this message came over the connection that stands and was not settled yet.

        Else settling it changes nothing: it is settled, or its connection broke and the broker sends it again.
        """

    def keep_alive(self) -> None:
        """Tells the broker that we live. `receive` does so itself."""

    def stop(self) -> None:
        """Sends what may be acknowledged, disconnects and keeps the session at the broker."""


class SocketSession:
    """MqttSession over a socket of its own.

    Args:
        mqtt: broker, credentials and session.
        service: makes the client id, so that a successor continues the same session.
        subscriptions: what to subscribe to, at QoS 1.
        shared: subscribe as one of several, each message to one of them.

    Raises:
        ConfigError: no broker is set, or a file for TLS cannot be used.
    """

    def __init__(
        self, mqtt: MqttSettings, service: str, subscriptions: Sequence[Subscription], *, shared: bool
    ) -> None:
        self._host = require_address(mqtt.host, "mqtt", "host")
        self._mqtt = mqtt
        self._tls = make_tls(mqtt)
        prefix = "$share/hl/" if shared else ""
        self._filters = [Filter(prefix + name, RETAIN_HANDLING[policy]) for name, policy in subscriptions]
        self._client_id = f"{mqtt.client_id_prefix}-{service}"
        self._window = AckWindow()
        self._wire: Wire | None = None
        self._opening: Opening | None = None
        self._reader = PacketReader()
        self._welcome = False
        self._had_session = False
        self._keep_alive_s = float(KEEPALIVE_S)
        self._sent_at = self._heard_at = self._open_at = 0.0
        # Jittered, so that many bridges do not return to a broker together.
        self._backoff = Backoff(random.Random(), first_s=0.4, max_s=6.0)  # noqa: S311

    def receive(self, timeout_s: float) -> Sequence[MqttMessage]:
        """See MqttSession."""
        try:
            if self._wire is None:
                self._open(timeout_s)
                return ()
            data = self._wire.receive(timeout_s)
            self._listen(heard=bool(data))
            return self._take(self._reader.feed(data)) if data else ()
        except MalformedPacketError as exc:
            self._lose(str(exc), say=MALFORMED)
        except WireError as exc:
            self._lose(str(exc))
        return ()

    def _listen(self, *, heard: bool) -> None:
        now = time.monotonic()
        if heard:
            self._heard_at = now
        elif now - self._heard_at > self._keep_alive_s * PATIENCE:
            raise WireError(f"not a word for {now - self._heard_at:.0f} s")
        self.keep_alive()

    def settle(self, tokens: Iterable[Token]) -> None:
        """See MqttSession."""
        packet_ids = self._window.settle(tokens)
        if packet_ids:
            self._send(encode_pubacks(packet_ids))

    def is_awaited(self, token: Token) -> bool:
        """See MqttSession."""
        return self._window.is_open(token)

    def keep_alive(self) -> None:
        """See MqttSession."""
        # Before it is due: what comes late costs the connection.
        if self._welcome and time.monotonic() - self._sent_at > self._keep_alive_s * 2 / 3:
            self._send(PING)

    def stop(self) -> None:
        """See MqttSession."""
        # Reason 0 keeps the session for its expiry interval.
        self._end(encode_disconnect())

    def _end(self, farewell: bytes) -> None:
        if self._opening is not None:
            self._opening.abandon()
        if self._wire is not None:
            self._send(farewell)
        # Sending may have lost it.
        if self._wire is not None:
            self._wire.finish()
            self._wire = None

    def _send(self, data: bytes) -> None:
        if self._wire is None:
            return
        self._sent_at = time.monotonic()
        try:
            self._wire.send(data)
        except WireError as exc:
            self._lose(str(exc))

    def _open(self, timeout_s: float) -> None:
        now = time.monotonic()
        if self._opening is None:
            if now < self._open_at:
                time.sleep(min(timeout_s, self._open_at - now))
                return
            self._opening = Opening((self._host, self._mqtt.port), self._tls)
        try:
            self._wire = self._opening.wait(timeout_s)
        except WireError:
            self._opening = None
            raise
        if self._wire is not None:
            self._opening = None
            self._introduce()

    def _introduce(self) -> None:
        self._reader = PacketReader()
        self._keep_alive_s = float(KEEPALIVE_S)
        self._heard_at = time.monotonic()
        self._send(
            encode_connect(
                self._client_id,
                keep_alive_s=KEEPALIVE_S,
                session_expiry_s=self._mqtt.session_expiry_s,
                receive_maximum=self._mqtt.receive_maximum,
                username=self._mqtt.username,
                password=self._mqtt.password,
            )
        )

    def _lose(self, reason: str, *, say: int | None = None) -> None:
        n_unacknowledged = len(self._window)
        # What it sends again comes under other packet ids.
        self._window.clear()
        if self._wire is not None:
            if say is not None:
                self._say(say)
            self._wire.close()
        self._wire = None
        self._welcome = False
        wait_s = self._backoff.next_s()
        self._open_at = time.monotonic() + wait_s
        log.warning(
            "mqtt_disconnected", reason=reason, n_unacknowledged=n_unacknowledged, retry_in_s=round(wait_s, 1)
        )

    def _say(self, reason: int) -> None:
        assert self._wire is not None  # noqa: S101 - only while connected
        try:
            self._wire.send(encode_disconnect(reason))
        except WireError as exc:
            log.debug("mqtt_farewell_failed", error=str(exc))

    def _take(self, packets: Iterable[Packet]) -> Sequence[MqttMessage]:
        messages: list[MqttMessage] = []
        for packet in packets:
            if type(packet) is MqttMessage:
                messages.append(packet)
            else:
                self._react(packet)
        if self._wire is None:
            # Lost on the way. What the broker will send again is not taken now.
            return [message for message in messages if not message.packet_id]
        if messages and not self._welcome:
            raise MalformedPacketError("a message before CONNACK")
        acknowledged = [message for message in messages if message.packet_id]
        tokens = self._window.open([message.packet_id for message in acknowledged])
        for message, token in zip(acknowledged, tokens, strict=True):
            message.token = token
        if len(self._window) > MAX_PACKET_IDS:
            # What it sends ahead fills our memory. Not the receive maximum: Mosquitto goes a little beyond it.
            self._lose(f"more than {MAX_PACKET_IDS} unacknowledged messages", say=TOO_MANY)
            return ()
        return messages

    def _react(self, packet: Packet) -> None:
        if isinstance(packet, ConnAck):
            self._greeted(packet)
        elif isinstance(packet, SubAck):
            self._subscribed(packet)
        elif isinstance(packet, UnsubAck):
            self._unsubscribed()
        elif isinstance(packet, Disconnect):
            self._lose(f"the broker says: {reason_text(packet.reason)}")

    def _greeted(self, answer: ConnAck) -> None:
        if self._welcome:
            raise MalformedPacketError("a second CONNACK")
        if is_failure(answer.reason):
            text = reason_text(answer.reason)
            log.error("mqtt_refused", reason=text)
            failure = refusal(answer.reason, text)
            if failure is not None:
                raise failure
            raise WireError(f"the broker refuses us: {text}")
        self._welcome = True
        self._backoff.reset()
        if answer.keep_alive_s:
            self._keep_alive_s = float(answer.keep_alive_s)
        self._connected(session_present=answer.session_present)

    def _connected(self, *, session_present: bool) -> None:
        filters = [one.mqtt_filter for one in self._filters]
        log.info("mqtt_connected", session_present=session_present, filters=filters)
        if self._had_session and not session_present:
            # What devices published meanwhile is gone, and nobody else will say so.
            log.error("mqtt_session_lost", client_id=self._client_id)
        self._had_session = True
        # At every connection: a broker that lost the session lost the subscriptions with it.
        self._send(encode_subscribe(SUBSCRIBE_ID, self._filters))

    def _subscribed(self, answer: SubAck) -> None:
        refused = [
            f"{one.mqtt_filter} ({reason_text(reason)})"
            for one, reason in zip(self._filters, answer.reasons, strict=False)
            if is_failure(reason)
        ]
        log.info("mqtt_subscribed", n_filters=len(answer.reasons) - len(refused), refused=refused)
        if refused:
            raise ConfigError(
                f"The MQTT broker refused the subscription to {', '.join(refused)}. Allow it for our user there."
            )

    def _unsubscribed(self) -> None:
        """Only a session that retires unsubscribes."""
