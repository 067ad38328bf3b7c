"""Ports of this machine: free ones, taken ones and by whom, and whether somebody answers."""

import contextlib
import random
import socket
import struct

import psutil

LOOPBACK = "127.0.0.1"
PROBE_TIMEOUT_S = 0.5
# Below those that Linux gives to outgoing connections: none of them can sit on a port while its server is down.
FREE_PORTS = range(20_000, 32_768)
# ApiVersions, version 0, correlation id 1, no client id: the one request that every broker version answers.
KAFKA_API_VERSIONS = struct.pack(">ihhih", 10, 18, 0, 1, -1)

_handed_out: set[int] = set()


def free_port() -> int:
    """A port of the loopback interface that nobody listens on now; never the same twice in a process."""
    while (port := random.choice(FREE_PORTS)) in _handed_out or is_taken(port):  # noqa: S311 - no secret
        pass
    _handed_out.add(port)
    return port


def is_taken(port: int, host: str = LOOPBACK) -> bool:
    """Whether somebody listens on the port already."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        # As servers do: a port whose last connections are still closing is not taken.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return True
    return False


def who_listens(port: int) -> str:
    """Name and pid of the process that listens on a port, or an empty text if that cannot be known."""
    with contextlib.suppress(psutil.Error):
        for connection in psutil.net_connections("tcp"):
            at_port = getattr(connection.laddr, "port", None) == port
            if at_port and connection.status == psutil.CONN_LISTEN and connection.pid:
                return f"{psutil.Process(connection.pid).name()}, pid {connection.pid}"
    return ""


def answers_tcp(port: int, host: str = LOOPBACK) -> bool:
    """Whether a connection can be made."""
    try:
        with socket.create_connection((host, port), timeout=PROBE_TIMEOUT_S):
            return True
    except OSError:
        return False


def answers_kafka(port: int) -> bool:
    """Whether the broker on the port answers requests; it accepts connections long before it does."""
    try:
        with socket.create_connection((LOOPBACK, port), timeout=PROBE_TIMEOUT_S) as connection:
            connection.sendall(KAFKA_API_VERSIONS)
            return len(connection.recv(8)) > 0
    except OSError:
        return False
