"""MQTT 5 packets as a subscriber needs them: bytes in, packets out, and the other way round. No sockets.

Source: MQTT 5.0 (OASIS), https://docs.oasis-open.org/mqtt/mqtt/v5.0/os/mqtt-v5.0-os.html; numbers are its sections.
"""

import struct
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import msgspec

from hl_platform.adapters.mqtt.properties import (
    MalformedPacketError,
    check_properties,
    encode_length,
    encode_property,
    read_length,
    read_properties,
    string,
)

# 2.1.2: types of packets, with the flags of those that have no choice.
CONNECT, CONNACK, PUBLISH, PUBACK, SUBSCRIBE, SUBACK = 0x10, 0x20, 0x30, 0x40, 0x82, 0x90
UNSUBSCRIBE, UNSUBACK, PINGRESP, DISCONNECT = 0xA2, 0xB0, 0xD0, 0xE0
PING = b"\xc0\x00"
PUBACK_HEAD = 0x40_02_00_00
PROTOCOL_VERSION = 5
USERNAME_FLAG, PASSWORD_FLAG = 0x80, 0x40
SESSION_EXPIRY_INTERVAL, SERVER_KEEP_ALIVE, RECEIVE_MAXIMUM = 0x11, 0x13, 0x21
# At some 190 bytes each: those of a fleet's devices, beside which a broker has few. A publisher gone mad must not fill
# the memory.
MAX_TOPICS_KEPT = 200_000
MAX_KEPT_TOPIC_BYTES = 256


class MqttMessage(msgspec.Struct, gc=False):
    """One PUBLISH packet.

    Args:
        mqtt_topic: where it was published.
        payload: as the device sent it.
        qos: 0 or 1.
        retained: whether the broker kept it from before; not what the device asked for.
        token: to settle it with; None at QoS 0, which nobody acknowledges.
        packet_id: 0 at QoS 0.
        properties: as they came, without their length; `user_properties` reads them.
    """

    mqtt_topic: str
    payload: bytes
    qos: int
    retained: bool
    token: int | None = None
    packet_id: int = 0
    properties: bytes = b""


class ConnAck(NamedTuple):
    """The broker's answer to CONNECT.

    Args:
        session_present: whether it still knows the session.
        reason: 0, or why it refuses.
        keep_alive_s: what it wants instead of what we asked for.
    """

    session_present: bool
    reason: int
    keep_alive_s: int | None


class SubAck(NamedTuple):
    """The broker's answer to SUBSCRIBE: granted QoS or refusal of each filter."""

    reasons: tuple[int, ...]


class UnsubAck(NamedTuple):
    """The broker's answer to UNSUBSCRIBE."""

    reasons: tuple[int, ...]


class PingResp(NamedTuple):
    """The broker lives."""


class Disconnect(NamedTuple):
    """The broker ends the connection, and says why."""

    reason: int


Packet = MqttMessage | ConnAck | SubAck | UnsubAck | PingResp | Disconnect


class PacketReader:
    """Cuts a stream of bytes into packets, wherever it was split on its way.

    Guarantee: whatever the bytes are, it returns packets or raises MalformedPacketError, and keeps no more than one
    incomplete packet, whose length MQTT bounds to 256 MiB.
    """

    def __init__(self) -> None:
        self._rest = bytearray()
        self._wanted = 0
        # Devices publish to the same topics again and again.
        self._topics: dict[bytes, str] = {}

    def feed(self, data: bytes) -> list[Packet]:
        """The packets that are complete now.

        Raises:
            MalformedPacketError: these are no packets of a broker's. The connection is to be closed.
        """
        if self._rest:
            self._rest += data
            # Else a long packet would be copied at each of its pieces.
            if len(self._rest) < self._wanted:
                return []
            data = bytes(self._rest)
        packets: list[Packet] = []
        at = self._read_all(data, packets)
        self._rest = bytearray(data[at:])
        return packets

    def _read_all(self, data: bytes, packets: list[Packet]) -> int:
        at, n_bytes = 0, len(data)
        while at + 1 < n_bytes:
            length, body = data[at + 1], at + 2
            if length > 127:  # noqa: PLR2004 - 1.5.5: more digits follow
                if body < n_bytes and data[body] < 128:  # noqa: PLR2004 - two digits: nearly every reading
                    length, body = length & 127 | data[body] << 7, body + 1
                else:
                    length, body = read_length(data, at + 1)
            end = body + length
            if not body or end > n_bytes:
                self._wanted = end - at if body else 0
                return at
            head = data[at]
            if head & 0xF0 == PUBLISH:
                packets.append(self._read_publish(data, head, body, end))
            else:
                packets.append(_read_other(head, data[body:end]))
            at = end
        self._wanted = 0
        return at

    def _read_publish(self, data: bytes, head: int, body: int, end: int) -> MqttMessage:
        try:
            at = body + 2 + (data[body] << 8 | data[body + 1])
            topic = self._topics.get(data[body + 2 : at]) or self._new_topic(data[body + 2 : at])
            qos = head >> 1 & 3
            packet_id = 0
            if qos:
                packet_id = data[at] << 8 | data[at + 1]
                at += 2
                # 3.3.2.2; and we never ask for more than QoS 1.
                if qos > 1 or not packet_id:
                    raise MalformedPacketError(f"PUBLISH with QoS {qos} and packet id {packet_id}")
            properties = b""
            if data[at]:
                length, at = read_length(data, at)
                if not at:
                    raise MalformedPacketError("PUBLISH ends within its properties")
                properties = data[at : at + length]
                check_properties(properties, n_bytes=length)
                at += length
            else:
                at += 1
        except IndexError as exc:
            raise MalformedPacketError("PUBLISH ends too soon") from exc
        if at > end:
            raise MalformedPacketError("PUBLISH is shorter than its parts")
        return MqttMessage(topic, data[at:end], qos, head & 1 == 1, None, packet_id, properties)

    def _new_topic(self, raw: bytes) -> str:
        try:
            topic = raw.decode()
        except UnicodeDecodeError as exc:
            raise MalformedPacketError("a topic is not UTF-8") from exc
        # 3.3.2.1, 4.7.3. An empty one would need an alias, which we never allow.
        if not topic or "\0" in topic or "+" in topic or "#" in topic:
            raise MalformedPacketError(f"{topic!r:.80} is no topic to publish to")
        if len(self._topics) >= MAX_TOPICS_KEPT:
            self._topics.clear()
        if len(raw) <= MAX_KEPT_TOPIC_BYTES:
            self._topics[raw] = topic
        return topic


def _read_other(head: int, body: bytes) -> Packet:
    try:
        if head == PINGRESP and not body:
            return PingResp()
        if head == DISCONNECT:
            if len(body) > 1:
                read_properties(body, 1)
            return Disconnect(body[0] if body else 0)
        if head in (SUBACK, UNSUBACK):
            _, at = read_properties(body, 2)
            reasons = tuple(body[at:])
            return SubAck(reasons) if head == SUBACK else UnsubAck(reasons)
        if head == CONNACK:
            properties, _ = read_properties(body, 2)
            keep_alive_s = properties.get(SERVER_KEEP_ALIVE)
            return ConnAck(body[0] & 1 == 1, body[1], keep_alive_s if isinstance(keep_alive_s, int) else None)
    except IndexError as exc:
        raise MalformedPacketError(f"a packet of type {head:#04x} ends too soon") from exc
    raise MalformedPacketError(f"a packet of type {head:#04x} and {len(body)} bytes")


class Filter(NamedTuple):
    """One filter of a SUBSCRIBE.

    Args:
        mqtt_filter: topics, at QoS 1.
        retain_handling: 0: retained messages at every subscription, 1: only at a new one, 2: never.
    """

    mqtt_filter: str
    retain_handling: int


def encode_connect(
    client_id: str,
    *,
    keep_alive_s: int,
    session_expiry_s: int,
    receive_maximum: int,
    username: str | None,
    password: str | None,
) -> bytes:
    """CONNECT that continues the session of this client id, or begins it (clean start 0)."""
    flags = (USERNAME_FLAG if username is not None else 0) | (PASSWORD_FLAG if password is not None else 0)
    properties = encode_property(SESSION_EXPIRY_INTERVAL, session_expiry_s) + encode_property(
        RECEIVE_MAXIMUM, receive_maximum
    )
    return _packet(
        CONNECT,
        string("MQTT"),
        bytes((PROTOCOL_VERSION, flags)),
        keep_alive_s.to_bytes(2, "big"),
        encode_length(len(properties)),
        properties,
        string(client_id),
        *(string(text) for text in (username, password) if text is not None),
    )


def encode_subscribe(packet_id: int, filters: Iterable[Filter]) -> bytes:
    """SUBSCRIBE at QoS 1. Retained as the broker kept it: a device may set the flag on every live message."""
    wanted = [string(one.mqtt_filter) + bytes((one.retain_handling << 4 | 1,)) for one in filters]
    return _packet(SUBSCRIBE, packet_id.to_bytes(2, "big"), b"\0", *wanted)


def encode_unsubscribe(packet_id: int, mqtt_filters: Iterable[str]) -> bytes:
    """UNSUBSCRIBE."""
    return _packet(UNSUBSCRIBE, packet_id.to_bytes(2, "big"), b"\0", *map(string, mqtt_filters))


def encode_pubacks(packet_ids: Sequence[int]) -> bytes:
    """PUBACKs of success, one after the other."""
    # 3.4: of four bytes each: type, length, packet id.
    return struct.pack(f">{len(packet_ids)}I", *[PUBACK_HEAD | packet_id for packet_id in packet_ids])


def encode_disconnect(reason: int = 0, *, session_expiry_s: int | None = None) -> bytes:
    """DISCONNECT; the session lives on unless another expiry says otherwise."""
    if session_expiry_s is None:
        return _packet(DISCONNECT, bytes((reason,)))
    properties = encode_property(SESSION_EXPIRY_INTERVAL, session_expiry_s)
    return _packet(DISCONNECT, bytes((reason,)), encode_length(len(properties)), properties)


def _packet(head: int, *parts: bytes) -> bytes:
    body = b"".join(parts)
    return bytes((head,)) + encode_length(len(body)) + body
