"""Publishing at QoS 1 with a bounded number of unacknowledged messages, across reconnections."""

import random
import secrets
import select
import socket
import ssl
import threading
from collections import deque
from collections.abc import Callable
from time import monotonic

import paho.mqtt.client as paho
import structlog
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from hl_platform.adapters.mqtt.client import make_client, refusal
from hl_platform.core.backoff import Backoff
from hl_platform.core.errors import HlError, InvariantError
from hl_platform.core.sections import MqttSettings
from hl_platform.core.settings import require_address

log = structlog.get_logger()

KEEPALIVE_S = 15
# Enough to keep a broker on loopback busy, few enough to be sent again at once after a reconnection.
MAX_UNACKNOWLEDGED = 2_000
# A publisher that was held back goes on when so many are left: two threads that take turns at every message
# are several times slower than two that take turns at every thousandth.
LOW_WATER = MAX_UNACKNOWLEDGED // 2
# MQTT 5.0, 3.2.2.3.3: a broker that names no receive maximum takes as many as there are packet ids.
DEFAULT_RECEIVE_MAXIMUM = 65_535
# MQTT 5.0, 3.4.2.1: accepted, and there was nobody to give it to.
NO_MATCHING_SUBSCRIBERS = 0x10
# Seconds after which a connection without CONNACK is given up.
CONNACK_TIMEOUT_S = 5.0
# So that a stop is noticed while nothing else happens, in seconds.
WAKE_UP_S = 0.2
# Messages handed to paho between two looks at what the broker sent.
BURST = 64


class MqttPublisher:
    """Publishes at QoS 1, in order, and counts what the broker acknowledged.

    One thread of its own runs the connection and everything of paho's; `publish` only fills a queue. With
    paho's thread and `publish` in another, both wait for the interpreter's lock at every message.

    Guarantee: what `publish` took is sent again after every reconnection until the broker acknowledges it;
    at most `MAX_UNACKNOWLEDGED` messages wait, and never more than the broker's receive maximum are under
    way.

    Args:
        mqtt: broker and credentials.
        name: makes the client id, with a random ending so that two publishers never push each other out.
        stop: once set, `publish` takes nothing more.
    """

    def __init__(self, mqtt: MqttSettings, name: str, stop: threading.Event) -> None:
        self._host, self._port = require_address(mqtt.host, "mqtt", "host"), mqtt.port
        # Written by the caller's thread only.
        self.sent = 0
        # Written by the connection's thread only.
        self.acknowledged = 0
        self.rejected = 0
        # Acknowledged, and nobody was subscribed: brokers that do not tell leave it at zero.
        self.unheard = 0
        self._under_way = 0
        self._receive_maximum = DEFAULT_RECEIVE_MAXIMUM
        self._connected = False
        self._failure: HlError | None = None

        self._stop = stop
        self._closing = False
        self._queue: deque[tuple[str, bytes]] = deque()
        self._changed = threading.Condition()
        self._awake = True
        self._wake_receiver, self._wake_sender = socket.socketpair()
        self._wake_receiver.setblocking(False)  # noqa: FBT003 - the socket's own signature
        self._client = self._make_client(mqtt, f"{mqtt.client_id_prefix}-{name}-{secrets.token_hex(4)}")
        self._thread = threading.Thread(target=self._run, name="mqtt-publisher", daemon=True)

    @property
    def unacknowledged(self) -> int:
        """Messages taken and not yet answered by the broker."""
        return self.sent - self.acknowledged - self.rejected

    def start(self) -> None:
        """Connects in the background, again and again if need be."""
        self._thread.start()

    def publish(self, mqtt_topic: str, payload: bytes) -> bool:
        """Takes a message, once there is room for it. One thread at a time.

        Returns:
            False when it was not taken because of a stop.

        Raises:
            ConfigError: the broker refused us for good.
        """
        if self.unacknowledged >= MAX_UNACKNOWLEDGED:
            self._wait_for(lambda: self.unacknowledged <= LOW_WATER or self._stop.is_set(), None)
        self._check()
        if self._stop.is_set():
            return False
        # Counted before it is queued: the acknowledgement may come first.
        self.sent += 1
        self._queue.append((mqtt_topic, payload))
        if not self._awake:
            self._wake_sender.send(b"\0")
        return True

    def drain(self, timeout_s: float) -> bool:
        """Waits until everything is acknowledged, also after a stop; says whether it is.

        Raises:
            ConfigError: the broker refused us for good.
        """
        self._wait_for(lambda: self.unacknowledged == 0, timeout_s)
        self._check()
        return self.unacknowledged == 0

    def close(self) -> None:
        """Disconnects. What is unacknowledged by now may be lost."""
        self._closing = True
        self._wake_sender.send(b"\0")
        self._thread.join()
        self._wake_sender.close()
        self._wake_receiver.close()

    def _wait_for(self, ready: Callable[[], bool], timeout_s: float | None) -> None:
        until = None if timeout_s is None else monotonic() + timeout_s
        with self._changed:
            while not (ready() or self._failure):
                if until is not None and monotonic() >= until:
                    return
                self._changed.wait(WAKE_UP_S)

    def _check(self) -> None:
        if self._failure is not None:
            raise self._failure

    def _run(self) -> None:
        try:
            # Different for every process, so that many do not return to a broker together.
            backoff = Backoff(random.Random())  # noqa: S311 - jitter is no secret
            self._client.connect_async(self._host, self._port, keepalive=KEEPALIVE_S, clean_start=True)
            while not self._closing and self._failure is None:
                if self._connect():
                    backoff.reset()
                    self._serve()
                else:
                    self._sleep(backoff.next_s())
            self._client.disconnect()
        except Exception as exc:
            # A thread that ends unseen would leave `publish` waiting for ever.
            log.exception("mqtt_publisher_failed")
            self._failure = InvariantError(f"The MQTT publisher failed: {exc!r}")
        finally:
            with self._changed:
                self._changed.notify_all()

    def _connect(self) -> bool:
        try:
            self._client.reconnect()
        except OSError as exc:
            log.warning("mqtt_unreachable", host=self._host, port=self._port, error=str(exc))
            return False
        until = monotonic() + CONNACK_TIMEOUT_S
        while not self._connected and not self._closing and self._failure is None and monotonic() < until:
            if not self._step(WAKE_UP_S):
                return False
        return self._connected

    def _serve(self) -> None:
        while not self._closing and self._failure is None:
            may_send = self._queue and self._under_way < self._receive_maximum
            if not self._step(0 if may_send else 1.0):
                return
            for _ in range(BURST):
                if not self._queue or self._under_way >= self._receive_maximum or not self._connected:
                    break
                mqtt_topic, payload = self._queue[0]
                if self._client.publish(mqtt_topic, payload, qos=1).rc == paho.MQTT_ERR_QUEUE_SIZE:
                    # Packet ids went around once, and an old message still has the next one.
                    break
                self._queue.popleft()
                self._under_way += 1

    def _step(self, timeout_s: float) -> bool:
        """Waits for the socket, a wake-up or the time, and lets paho do its part; False without connection."""
        sock = self._client.socket()
        if sock is None:
            return False
        writing = [sock] if self._client.want_write() else []
        self._awake = False
        # Looked at again, now that a publisher knows it has to wake us.
        timeout_s = 0 if self._queue and self._under_way < self._receive_maximum else timeout_s
        # TLS may hold bytes that select cannot see.
        pending = isinstance(sock, ssl.SSLSocket) and sock.pending() > 0
        readable, writable, _ = select.select(
            [sock, self._wake_receiver], writing, [], 0 if pending else timeout_s
        )
        self._awake = True
        if self._wake_receiver in readable:
            self._wake_receiver.recv(4096)
        if sock in readable or pending:
            self._client.loop_read()
        if writable:
            self._client.loop_write()
        self._client.loop_misc()
        self._report()
        return self._client.socket() is not None

    def _report(self) -> None:
        # Once per burst and not per message: a lock taken at every acknowledgement halves the rate.
        if self.unacknowledged <= LOW_WATER:
            with self._changed:
                self._changed.notify_all()

    def _sleep(self, seconds: float) -> None:
        select.select([self._wake_receiver], [], [], seconds)

    def _make_client(self, mqtt: MqttSettings, client_id: str) -> paho.Client:
        client = make_client(mqtt, client_id)
        # We keep to the broker's limit ourselves; what paho queues behind its own can wait for ever.
        client.max_inflight_messages_set(DEFAULT_RECEIVE_MAXIMUM)
        client.on_connect = self._on_connect
        client.on_disconnect = self._on_disconnect
        client.on_publish = self._on_publish
        return client

    def _on_connect(
        self,
        _client: paho.Client,
        _userdata: object,
        _flags: paho.ConnectFlags,
        reason: ReasonCode,
        properties: Properties | None,
    ) -> None:
        if not reason.is_failure:
            self._receive_maximum = getattr(properties, "ReceiveMaximum", DEFAULT_RECEIVE_MAXIMUM)
            self._connected = True
            log.info("mqtt_connected", receive_maximum=self._receive_maximum, n_sent_again=self._under_way)
            return
        log.error("mqtt_refused", reason=str(reason))
        self._failure = self._failure or refusal(reason.value, str(reason))

    def _on_disconnect(
        self,
        _client: paho.Client,
        _userdata: object,
        _flags: paho.DisconnectFlags,
        reason: ReasonCode,
        _properties: Properties | None,
    ) -> None:
        self._connected = False
        if reason.is_failure:
            log.warning("mqtt_disconnected", reason=str(reason), n_unacknowledged=self.unacknowledged)

    def _on_publish(
        self,
        _client: paho.Client,
        _userdata: object,
        _packet_id: int,
        reason: ReasonCode,
        _properties: Properties,
    ) -> None:
        self._under_way -= 1
        if reason.is_failure:
            self.rejected += 1
            log.warning("mqtt_publish_rejected", reason=str(reason), n_rejected=self.rejected)
        else:
            self.acknowledged += 1
            self.unheard += reason.value == NO_MATCHING_SUBSCRIBERS
