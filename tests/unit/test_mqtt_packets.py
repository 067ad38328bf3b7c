"""Packets of MQTT 5, read from any pieces and written as paho reads them: paho packs the properties here."""

import contextlib
import random
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from hl_platform.adapters.mqtt.packets import (
    MAX_TOPICS_KEPT,
    ConnAck,
    Disconnect,
    Filter,
    MqttMessage,
    PacketReader,
    PingResp,
    SubAck,
    UnsubAck,
    encode_connect,
    encode_disconnect,
    encode_pubacks,
    encode_subscribe,
    encode_unsubscribe,
)
from hl_platform.adapters.mqtt.properties import (
    INTEGERS,
    MalformedPacketError,
    encode_length,
    read_length,
    read_properties,
    string,
    user_properties,
)


def packet(head: int, *parts: bytes) -> bytes:
    body = b"".join(parts)
    return bytes((head,)) + encode_length(len(body)) + body


def publish(
    topic: str = "homelab/energy/meter1",
    payload: bytes = b"{}",
    *,
    packet_id: int = 7,
    head: int = 0x32,
    properties: bytes = b"\0",
) -> bytes:
    number = packet_id.to_bytes(2, "big") if head & 6 else b""
    return packet(head, string(topic), number, properties, payload)


def all_properties_of_publish() -> Properties:
    found = Properties(PacketTypes.PUBLISH)
    found.PayloadFormatIndicator = 1
    found.MessageExpiryInterval = 60
    found.ContentType = "application/json"
    found.ResponseTopic = "answers"
    found.CorrelationData = b"\0\1\2"
    found.SubscriptionIdentifier = 200_000
    found.UserProperty = ("traceparent", "00-abc-def-01")
    found.UserProperty = ("traceparent", "again")
    return found


def test_a_message_at_qos_1_has_its_packet_id_and_payload() -> None:
    [message] = PacketReader().feed(publish(payload=b'{"a":1}', packet_id=513))
    assert message == MqttMessage("homelab/energy/meter1", b'{"a":1}', 1, False, None, 513)  # noqa: FBT003


def test_a_message_at_qos_0_has_no_packet_id() -> None:
    [message] = PacketReader().feed(publish(payload=b"x", head=0x30))
    assert message == MqttMessage("homelab/energy/meter1", b"x", 0, False)  # noqa: FBT003


def test_a_retained_message_says_so() -> None:
    [message] = PacketReader().feed(publish(head=0x33))
    assert isinstance(message, MqttMessage)
    assert message.retained


def test_all_properties_of_a_message_are_passed_over_and_those_of_users_can_be_read() -> None:
    [message] = PacketReader().feed(publish(payload=b"x", properties=all_properties_of_publish().pack()))
    assert isinstance(message, MqttMessage)
    assert message.payload == b"x"
    assert user_properties(message.properties) == [
        ("traceparent", "00-abc-def-01"),
        ("traceparent", "again"),
    ]


def test_connack_tells_of_the_session_and_of_another_keep_alive() -> None:
    properties = Properties(PacketTypes.CONNACK)
    properties.ServerKeepAlive = 30
    properties.AssignedClientIdentifier = "somebody"
    properties.ReasonString = "welcome"
    properties.UserProperty = ("a", "b")
    properties.MaximumQoS = 1
    properties.MaximumPacketSize = 1_000_000
    data = packet(0x20, b"\1\0", properties.pack()) + packet(0x20, b"\0\x87\0")
    assert PacketReader().feed(data) == [
        ConnAck(session_present=True, reason=0, keep_alive_s=30),
        ConnAck(session_present=False, reason=0x87, keep_alive_s=None),
    ]


def test_answers_of_the_broker_are_told_apart() -> None:
    data = (
        packet(0x90, b"\0\1\0\1\x87")
        + packet(0xB0, b"\0\2\0\0\x11")
        + packet(0xD0)
        + packet(0xE0)
        + packet(0xE0, b"\x8e\0")
    )
    assert PacketReader().feed(data) == [
        SubAck((1, 0x87)),
        UnsubAck((0, 0x11)),
        PingResp(),
        Disconnect(0),
        Disconnect(0x8E),
    ]


payloads = st.lists(st.binary(max_size=400), min_size=1, max_size=20)


@given(payloads=payloads, seed=st.integers())
def test_messages_come_out_whole_and_in_order_however_the_stream_was_cut(
    payloads: list[bytes], seed: int
) -> None:
    rng = random.Random(seed)
    stream = b"".join(
        publish(
            f"homelab/energy/m{number % 3}",
            payload,
            packet_id=number + 1,
            properties=rng.choice([b"\0", all_properties_of_publish().pack()]),
        )
        for number, payload in enumerate(payloads)
    )
    reader, found = PacketReader(), []
    while stream:
        size = rng.choice([1, 2, 3, 50, 1_000])
        found += reader.feed(stream[:size])
        stream = stream[size:]
    assert [message.payload for message in found if isinstance(message, MqttMessage)] == payloads
    assert reader._rest == b""


@given(st.lists(st.binary(max_size=60), max_size=20))
def test_arbitrary_bytes_are_packets_wait_for_more_or_are_refused_and_nothing_else(
    pieces: list[bytes],
) -> None:
    reader, n_bytes = PacketReader(), 0
    try:
        for piece in pieces:
            n_bytes += len(piece)
            reader.feed(piece)
            assert len(reader._rest) <= n_bytes
    except MalformedPacketError:
        pass


@given(data=st.binary(max_size=40), at=st.integers(0, 80), flip=st.integers(1, 255))
def test_a_damaged_message_is_a_message_or_refused_and_nothing_else(data: bytes, at: int, flip: int) -> None:
    whole = bytearray(publish(payload=data, properties=all_properties_of_publish().pack()))
    whole[at % len(whole)] ^= flip
    with contextlib.suppress(MalformedPacketError):
        PacketReader().feed(bytes(whole))


@pytest.mark.parametrize(
    "data",
    [
        publish(packet_id=0),
        publish(head=0x34),
        publish(head=0x36),
        publish(topic=""),
        publish(topic="a/+/b"),
        publish(topic="a/#"),
        publish(topic="a\0b"),
        packet(0x32, b"\0\1\xff\0\1\0"),
        packet(0x32, b"\0\xffa"),
        packet(0x32, b"\0\1a"),
        packet(0x32, b"\0\1a\0\1"),
        publish(properties=b"\2\x23\0"),
        publish(properties=b"\3\x23\0\1"),
        publish(properties=b"\2\x7f\0"),
        publish(properties=b"\5\x26\0\1\xff\0", payload=b""),
        publish(properties=b"\x7f", payload=b""),
        publish("a/b", properties=b"\x80", payload=b""),
        publish("a/b", properties=b"\xff\xff\xff", payload=b""),
        b"\x32\xff\xff\xff\xff\x01",
        b"\x00\x00",
        b"\x40\x02\x00\x01",
        b"\xf0\x00",
        b"\xd0\x01\x00",
        b"\x20\x00",
        b"\x20\x02\x00\x00",
        b"\x90\x02\x00\x01",
    ],
)
def test_what_no_broker_may_send_is_refused(data: bytes) -> None:
    with pytest.raises(MalformedPacketError):
        PacketReader().feed(data)


def test_ever_new_topics_do_not_fill_the_memory() -> None:
    reader = PacketReader()
    for number in range(MAX_TOPICS_KEPT + 500):
        reader.feed(publish(f"t/{number}"))
    reader.feed(publish("t/" + "x" * 60_000))
    assert len(reader._topics) <= 500
    assert max(map(len, reader._topics)) < 100


@given(st.integers(0, 268_435_455))
def test_lengths_are_read_as_they_were_written(value: int) -> None:
    data = encode_length(value)
    assert read_length(data, 0) == (value, len(data))


def test_connect_continues_a_session_with_its_credentials() -> None:
    data = encode_connect(
        "hl-bridge",
        keep_alive_s=15,
        session_expiry_s=604_800,
        receive_maximum=2_000,
        username="bridge",
        password="secret",
    )
    properties = Properties(PacketTypes.CONNECT)
    properties.SessionExpiryInterval = 604_800
    properties.ReceiveMaximum = 2_000
    assert data == packet(
        0x10,
        b"\0\4MQTT\5\xc0\0\x0f",
        properties.pack(),
        b"\0\x09hl-bridge\0\x06bridge\0\x06secret",
    )


def test_subscriptions_are_at_qos_1_with_their_handling_of_retained_messages() -> None:
    filters = [Filter("a/#", 0), Filter("b/#", 1), Filter("c/#", 2)]
    assert encode_subscribe(1, filters) == packet(
        0x82, b"\0\1\0", b"\0\3a/#\x01", b"\0\3b/#\x11", b"\0\3c/#\x21"
    )
    assert encode_unsubscribe(2, ["a/#"]) == packet(0xA2, b"\0\2\0\0\3a/#")


def test_acknowledgements_are_in_the_order_given() -> None:
    assert encode_pubacks([1, 258, 65_535]) == b"\x40\x02\0\1" + b"\x40\x02\1\2" + b"\x40\x02\xff\xff"


def test_disconnect_keeps_the_session_unless_told_otherwise() -> None:
    assert encode_disconnect() == b"\xe0\x01\x00"
    assert encode_disconnect(session_expiry_s=0) == b"\xe0\x07\x00\x05\x11\0\0\0\0"


@pytest.mark.parametrize("identifier", sorted(INTEGERS))
def test_every_integer_property_is_passed_over_by_its_size(identifier: int) -> None:
    value = b"\x05" if not INTEGERS[identifier] else struct.pack(">I", 5)[-INTEGERS[identifier] :]
    raw = bytes((identifier,)) + value
    assert read_properties(encode_length(len(raw)) + raw, 0)[0] == {identifier: 5}
