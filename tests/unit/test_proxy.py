"""The line that fault tests cut does to bytes what it says."""

import socket
import socketserver
import threading
import time
from collections.abc import Iterator

import pytest

from hl_platform.stack.net import LOOPBACK, answers_tcp
from tests.proxy import Proxy, proxied


class Echo(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        while data := self.request.recv(65_536):
            self.request.sendall(data)


class EchoServer(socketserver.ThreadingTCPServer):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """A line that was cut is what the tests want."""


@pytest.fixture
def line() -> Iterator[Proxy]:
    """A line to a server that repeats what it hears."""
    with EchoServer((LOOPBACK, 0), Echo) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        with proxied(server.server_address[1]) as proxy:
            yield proxy
        server.shutdown()


def dial(proxy: Proxy, timeout_s: float = 10.0) -> socket.socket:
    return socket.create_connection((LOOPBACK, proxy.port), timeout=timeout_s)


def receive(connection: socket.socket, n_bytes: int) -> bytes:
    data = b""
    while len(data) < n_bytes and (more := connection.recv(n_bytes - len(data))):
        data += more
    return data


def test_forwards_both_ways_and_in_order(line: Proxy) -> None:
    sent = bytes(range(256)) * 4_000
    with dial(line) as connection:
        threading.Thread(target=connection.sendall, args=(sent,)).start()
        assert receive(connection, len(sent)) == sent


def test_half_closed_connection_still_hands_over_the_answer(line: Proxy) -> None:
    with dial(line) as connection:
        connection.sendall(b"last words")
        connection.shutdown(socket.SHUT_WR)
        assert receive(connection, 100) == b"last words"


def test_cut_line_breaks_connections_and_refuses_further_ones(line: Proxy) -> None:
    with dial(line) as connection:
        connection.sendall(b"x")
        receive(connection, 1)
        n_broken = line.cut()
        assert (n_broken, ended(connection), answers_tcp(line.port)) == (1, True, False)


def ended(connection: socket.socket) -> bool:
    try:
        return connection.recv(1) == b""
    except ConnectionError:
        return True


def test_healed_line_takes_connections_on_the_same_port(line: Proxy) -> None:
    port = line.port
    line.cut()
    line.heal()
    with dial(line) as connection:
        connection.sendall(b"again")
        assert (line.port, receive(connection, 5)) == (port, b"again")


def test_stalled_line_accepts_holds_everything_back_and_hands_it_over_when_healed(line: Proxy) -> None:
    line.stall()
    with dial(line) as connection:
        connection.sendall(b"held")
        connection.settimeout(0.2)
        with pytest.raises(TimeoutError):
            connection.recv(1)
        line.heal()
        connection.settimeout(10)
        assert receive(connection, 4) == b"held"


def test_slow_line_takes_at_least_its_time(line: Proxy) -> None:
    line.slow(0.05, 20_000)
    with dial(line) as connection:
        started_at = time.monotonic()
        connection.sendall(bytes(4_000))
        receive(connection, 4_000)
        # 0.2 s of bytes and four pieces of 0.05 s, at least one way.
        assert time.monotonic() - started_at > 0.4


def test_connection_to_nobody_ends() -> None:
    with socket.socket() as unused:
        unused.bind((LOOPBACK, 0))
        with proxied(unused.getsockname()[1]) as proxy, dial(proxy) as connection:
            assert ended(connection)
