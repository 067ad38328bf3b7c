"""A connection to the broker that never waits but where it is told to: TCP, or TLS over it."""

import contextlib
import select
import socket
import ssl
import threading
import time

from hl_platform.core.errors import ConfigError, TransientError
from hl_platform.core.sections import MqttSettings

# Some hundred readings at a time: the cost of a turn is shared, and none waits long.
RECEIVE_BYTES = 64 * 1024
OPEN_TIMEOUT_S = 10.0
# How long the broker may take to read our last words, in seconds.
LINGER_S = 2.0


class WireError(TransientError):
    """The connection is broken, or could not be made."""


class Wire:
    """A connected socket, for one thread.

    Args:
        connected: the socket, which belongs to the wire now.
    """

    def __init__(self, connected: socket.socket) -> None:
        connected.setblocking(False)  # noqa: FBT003
        self._socket = connected
        self._out = bytearray()
        self._poll = select.poll()
        self._poll.register(connected, select.POLLIN)

    def receive(self, timeout_s: float) -> bytes:
        """What has come; waits for it, but no longer than this. Empty when nothing did.

        Raises:
            WireError: the connection is broken.
        """
        self.flush()
        data = self._receive_now()
        if data is None and timeout_s > 0:
            self._poll.modify(self._socket, select.POLLIN | (select.POLLOUT if self._out else 0))
            if self._poll.poll(timeout_s * 1000):
                data = self._receive_now()
        return data or b""

    def send(self, data: bytes) -> None:
        """Sends as much as the socket takes now; the rest with the next call of anything.

        Raises:
            WireError: the connection is broken.
        """
        self._out += data
        self.flush()

    def flush(self) -> None:
        """Sends what waits, as far as the socket takes it.

        Raises:
            WireError: the connection is broken.
        """
        try:
            while self._out:
                del self._out[: self._socket.send(self._out)]
        except (BlockingIOError, InterruptedError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return
        except OSError as exc:
            raise WireError(str(exc)) from exc

    def close(self) -> None:
        """Cuts the connection."""
        with contextlib.suppress(OSError):
            self._socket.close()

    def finish(self) -> None:
        """Sends what waits, and closes when the other side has read it.

        With anything unread, closing at once would be a reset, and the broker lose our last acknowledgements.
        """
        until = time.monotonic() + LINGER_S
        with contextlib.suppress(WireError, OSError):
            while self._out and time.monotonic() < until:
                self._poll.modify(self._socket, select.POLLOUT)
                self._poll.poll(100)
                self.flush()
            self._socket.shutdown(socket.SHUT_WR)
            while time.monotonic() < until:
                self.receive(0.1)
        self.close()

    def _receive_now(self) -> bytes | None:
        try:
            data = self._socket.recv(RECEIVE_BYTES)
        except (BlockingIOError, InterruptedError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return None
        except OSError as exc:
            raise WireError(str(exc)) from exc
        if not data:
            raise WireError("the broker closed the connection")
        return data


class Opening:
    """Opens a connection in the background: names, routes and handshakes may take long, and nobody else should.

    Args:
        address: host and port of the broker.
        tls: how to secure it; None for plain TCP.
    """

    def __init__(self, address: tuple[str, int], tls: ssl.SSLContext | None) -> None:
        self._address, self._tls = address, tls
        self._socket: socket.socket | None = None
        self._fault = ""
        self._lock = threading.Lock()
        self._abandoned = False
        self._done = threading.Event()
        threading.Thread(target=self._run, name="mqtt-open", daemon=True).start()

    def wait(self, timeout_s: float) -> Wire | None:
        """The wire; None while it is not open yet.

        Raises:
            WireError: it cannot be opened.
        """
        if not self._done.wait(timeout_s):
            return None
        if self._socket is None:
            raise WireError(self._fault)
        return Wire(self._socket)

    def abandon(self) -> None:
        """The connection is not wanted any more."""
        with self._lock:
            self._abandoned = True
            if self._socket is not None:
                self._socket.close()

    def _run(self) -> None:
        try:
            opened = _open(self._address, self._tls)
        except OSError as exc:
            self._fault = str(exc) or type(exc).__name__
        else:
            with self._lock:
                if self._abandoned:
                    opened.close()
                else:
                    self._socket = opened
        self._done.set()


def make_tls(mqtt: MqttSettings) -> ssl.SSLContext | None:
    """How connections are secured; None if they are not.

    Raises:
        ConfigError: a file cannot be used.
    """
    if not mqtt.tls:
        return None
    try:
        context = ssl.create_default_context(cafile=mqtt.tls_ca_file)
        if mqtt.tls_cert_file is not None:
            context.load_cert_chain(mqtt.tls_cert_file, mqtt.tls_key_file)
    except OSError as exc:
        raise ConfigError(
            f"A file of HL_MQTT__TLS_CA_FILE, HL_MQTT__TLS_CERT_FILE and HL_MQTT__TLS_KEY_FILE cannot be used: {exc}"
        ) from exc
    return context


def _open(address: tuple[str, int], tls: ssl.SSLContext | None) -> socket.socket:
    plain = socket.create_connection(address, timeout=OPEN_TIMEOUT_S)
    try:
        # An acknowledgement must not wait for company.
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return plain if tls is None else tls.wrap_socket(plain, server_hostname=address[0])
    except BaseException:
        plain.close()
        raise
