"""The bridge's MQTT session: on a real Mosquitto, and with a broker that says what no real one says on demand."""

import ipaddress
import socket
import ssl
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from typing import Any

import paho.mqtt.publish
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from paho.mqtt.enums import MQTTProtocolVersion
from structlog.testing import capture_logs

from hl_platform.adapters.mqtt.packets import MqttMessage
from hl_platform.adapters.mqtt.session import SocketSession, Subscription
from hl_platform.core.errors import ConfigError
from hl_platform.core.sections import MqttSettings
from hl_platform.stack.mosquitto import EmbeddedMosquitto
from tests.home import eventually

WELCOME, WELCOME_BACK = b"\x20\x03\x00\x00\x00", b"\x20\x03\x01\x00\x00"
SHUTTING_DOWN = b"\xe0\x01\x8b"
SUBSCRIBED = b"\x90\x04\x00\x01\x00\x01"
CONNECT, SUBSCRIBE, PINGREQ, PUBACK, DISCONNECT = 0x10, 0x82, 0xC0, 0x40, 0xE0
_numbers = count(1)

Script = Callable[["Line"], None]


class Line:
    """A broker's end of one connection."""

    def __init__(self, connected: socket.socket) -> None:
        self._socket = connected
        self._file = connected.makefile("rb")

    def send(self, data: bytes) -> None:
        self._socket.sendall(data)

    def read(self) -> tuple[int, bytes]:
        """Type and body of a packet; (0, b"") when there are no more."""
        head = self._file.read(2)
        return (head[0], self._file.read(head[1])) if len(head) == 2 else (0, b"")

    def expect(self, wanted: int) -> bytes:
        kind, body = self.read()
        assert kind == wanted, f"{kind:#04x} {body!r}"
        return body

    def welcome(self, answer: bytes = WELCOME) -> None:
        self.expect(CONNECT)
        self.send(answer)
        self.expect(SUBSCRIBE)
        self.send(SUBSCRIBED)


@contextmanager
def broker(*scripts: Script, tls: ssl.SSLContext | None = None) -> Iterator[int]:
    """The port of a broker that follows a script at each connection, then listens to its end."""
    listener = socket.create_server(("127.0.0.1", 0))
    failures: list[BaseException] = []

    def serve() -> None:
        try:
            for script in scripts:
                plain, _ = listener.accept()
                with tls.wrap_socket(plain, server_side=True) if tls else plain as connected:
                    line = Line(connected)
                    script(line)
                    while line.read()[0]:
                        pass
        except OSError:
            # The test has ended, or the session has left.
            return
        except AssertionError as exc:
            failures.append(exc)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield int(listener.getsockname()[1])
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join()
    assert failures == []


@contextmanager
def session(port: int, **settings: Any) -> Iterator[SocketSession]:  # noqa: ANN401
    made = SocketSession(
        MqttSettings(host="127.0.0.1", port=port, client_id_prefix=f"s{next(_numbers)}", **settings),
        "bridge",
        [Subscription("t/#", "ignore")],
        shared=False,
    )
    try:
        yield made
    finally:
        made.stop()


def message(packet_id: int) -> bytes:
    return b"\x32\x09\x00\x03t/a" + packet_id.to_bytes(2, "big") + b"\x00" + b"x"


def receive(at: SocketSession, n: int) -> list[MqttMessage]:
    found: list[MqttMessage] = []

    def more() -> int:
        found.extend(at.receive(0.05))
        return len(found)

    eventually(more, lambda n_found: n_found >= n)
    return found


def turn_until(at: SocketSession, condition: Callable[[], bool]) -> None:
    def turned() -> bool:
        at.receive(0.02)
        return condition()

    eventually(turned)


def tokens(messages: Sequence[MqttMessage]) -> list[int]:
    return [one.token for one in messages if one.token is not None]


def test_acknowledgements_go_out_in_the_order_of_arrival_however_messages_are_settled() -> None:
    acknowledged: list[int] = []

    def script(line: Line) -> None:
        line.welcome()
        line.send(message(7) + message(3) + message(9))
        acknowledged.extend(int.from_bytes(line.expect(PUBACK), "big") for _ in range(3))

    with broker(script) as port, session(port) as at:
        first, second, third = tokens(receive(at, 3))
        at.settle([third])
        at.settle([second, first])
        turn_until(at, lambda: len(acknowledged) == 3)
    assert acknowledged == [7, 3, 9]


def test_nothing_of_a_broken_connection_is_acknowledged_on_the_next() -> None:
    acknowledged: list[bytes] = []
    received = threading.Event()

    def break_off(line: Line) -> None:
        line.welcome()
        line.send(message(1) + message(2))
        assert received.wait(30)
        line.send(SHUTTING_DOWN)

    def go_on(line: Line) -> None:
        line.welcome(WELCOME_BACK)
        line.send(message(1))
        acknowledged.append(line.expect(PUBACK))

    with broker(break_off, go_on) as port, session(port) as at:
        stale = receive(at, 2)
        received.set()
        fresh = receive(at, 1)
        at.settle(tokens(stale))
        assert not at.is_awaited(tokens(stale)[0])
        assert at.is_awaited(tokens(fresh)[0])
        assert acknowledged == []
        at.settle(tokens(fresh))
        turn_until(at, lambda: bool(acknowledged))
    assert acknowledged == [b"\x00\x01"]


def test_what_came_at_qos_0_just_before_the_broker_left_is_taken() -> None:
    def leave(line: Line) -> None:
        line.welcome()
        line.send(message(1) + b"\x30\x07\x00\x03t/a\x00y" + SHUTTING_DOWN)

    with broker(leave) as port, session(port) as at:
        found = receive(at, 1)
    assert [one.payload for one in found] in ([b"y"], [b"x", b"y"])


def test_garbage_ends_the_connection_loudly_and_another_is_made() -> None:
    farewell: list[bytes] = []

    def garble(line: Line) -> None:
        line.welcome()
        line.send(b"\x36\x00")
        farewell.append(line.expect(DISCONNECT))

    def behave(line: Line) -> None:
        line.welcome(WELCOME_BACK)
        line.send(message(1))

    with capture_logs() as logs, broker(garble, behave) as port, session(port) as at:
        receive(at, 1)
    assert farewell == [b"\x81"]
    assert any(entry["event"] == "mqtt_disconnected" for entry in logs)


def test_a_lost_session_is_said() -> None:
    def forget(line: Line) -> None:
        line.welcome()
        line.send(message(1))

    with capture_logs() as logs, broker(lambda line: line.welcome(), forget) as port, session(port) as at:
        turn_until(at, lambda: any(entry["event"] == "mqtt_subscribed" for entry in logs))
        at._lose("the test says so")
        receive(at, 1)
    assert any(entry["event"] == "mqtt_session_lost" for entry in logs)


def test_a_silent_broker_is_pinged_and_left() -> None:
    pinged = threading.Event()

    def fall_silent(line: Line) -> None:
        line.expect(CONNECT)
        # It wants to be pinged every second.
        line.send(b"\x20\x06\x00\x00\x03\x13\x00\x01")
        line.expect(SUBSCRIBE)
        line.expect(PINGREQ)
        pinged.set()

    def behave(line: Line) -> None:
        line.welcome(WELCOME_BACK)
        line.send(message(1))

    with broker(fall_silent, behave) as port, session(port) as at:
        receive(at, 1)
    assert pinged.is_set()


def test_a_refused_subscription_is_no_outage() -> None:
    def refuse(line: Line) -> None:
        line.expect(CONNECT)
        line.send(WELCOME)
        line.expect(SUBSCRIBE)
        line.send(b"\x90\x04\x00\x01\x00\x87")

    with broker(refuse) as port, session(port) as at, pytest.raises(ConfigError, match="not authorized"):
        receive(at, 1)


def test_a_broker_that_is_busy_is_tried_again() -> None:
    def refuse(line: Line) -> None:
        line.expect(CONNECT)
        line.send(b"\x20\x03\x00\x89\x00")

    def behave(line: Line) -> None:
        line.welcome()
        line.send(message(1))

    with broker(refuse, behave) as port, session(port) as at:
        assert len(receive(at, 1)) == 1


def test_messages_come_through_tls(tmp_path: Path) -> None:
    key, certificate = make_certificate(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    n = 3_000

    def script(line: Line) -> None:
        line.welcome()
        line.send(b"".join(message(number + 1) for number in range(n)))

    with broker(script, tls=context) as port, session(port, tls=True, tls_ca_file=str(certificate)) as at:
        found = receive(at, n)
    assert [one.packet_id for one in found] == list(range(1, n + 1))


def test_a_file_for_tls_that_is_missing_is_named() -> None:
    with (
        pytest.raises(ConfigError, match="HL_MQTT__TLS_CA_FILE"),
        session(1, tls=True, tls_ca_file="/nowhere"),
    ):
        pass


def test_what_was_settled_before_a_stop_does_not_come_again(mosquitto: EmbeddedMosquitto) -> None:
    prefix = f"stop{next(_numbers)}"
    settings = MqttSettings(host=mosquitto.host, port=mosquitto.port, client_id_prefix=prefix)

    def connect() -> SocketSession:
        return SocketSession(settings, "bridge", [Subscription(f"{prefix}/#", "ignore")], shared=False)

    first = connect()
    with capture_logs() as logs:
        turn_until(first, lambda: any(entry["event"] == "mqtt_subscribed" for entry in logs))
    messages = [{"topic": f"{prefix}/a", "payload": str(number), "qos": 1} for number in range(500)]
    paho.mqtt.publish.multiple(
        messages,  # type: ignore[arg-type]
        hostname=mosquitto.host,
        port=mosquitto.port,
        protocol=MQTTProtocolVersion.MQTTv5,
    )
    some = receive(first, 1)
    # The rest stays unread in the socket.
    first.settle(tokens(some))
    first.stop()
    second = connect()
    rest = receive(second, 500 - len(some))
    second.settle(tokens(rest))
    second.stop()
    payloads = [one.payload for one in [*some, *rest]]
    assert payloads == [str(number).encode() for number in range(500)]


def make_certificate(directory: Path) -> tuple[Path, Path]:
    """Key and certificate of 127.0.0.1, signed by itself."""
    key, name = ec.generate_private_key(ec.SECP256R1()), x509.Name([])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=True
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    key_file, certificate_file = directory / "key.pem", directory / "certificate.pem"
    key_file.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    certificate_file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    return key_file, certificate_file
