"""Clients of the feed that cost next to nothing, so that it is the service that is measured."""

import asyncio
import re
import time
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, TypeVar

import msgspec

from bench.asgi import Counter

# What is wanted of a message: of a reading when it was measured, of a gap how many readings are missing.
WANTED = re.compile(rb'"timestamp":"([^"]+)"|"missed":(\d+)[,}]')
# One that has come in two parts is within so many bytes.
TAIL_BYTES = 64
WAIT_S = 0.05

C = TypeVar("C", bound=Counter)


class Reader(Counter):
    """A client; one that is watched notes the delay of each reading, in seconds, and what it was too slow for.

    Its first and last bytes came at `first_at` and `last_at`, in Unix seconds.
    """

    def __init__(self) -> None:
        super().__init__()
        self.delays: list[float] | None = None
        self.n_missed = 0
        self.first_at = self.last_at = 0.0
        self._tail = b""

    @property
    def n_told(self) -> int:
        """Readings that it has, and those of which it knows that it misses them."""
        return len(self.delays or ()) + self.n_missed

    def data_received(self, data: bytes) -> None:
        """Counts, and notes when each message arrived."""
        super().data_received(data)
        if self.delays is None:
            return
        now, end = time.time(), 0
        self.first_at, self.last_at = self.first_at or now, now
        data = self._tail + data
        for found in WANTED.finditer(data):
            if found[1] is None:
                self.n_missed += int(found[2])
            else:
                self.delays.append(now - datetime.fromisoformat(found[1].decode()).timestamp())
            end = found.end()
        self._tail = data[max(end, len(data) - TAIL_BYTES) :]


def wait_until(done: Callable[[], bool], patience_s: float) -> None:
    """Returns when it is done, or when patience ends."""
    until = time.monotonic() + patience_s
    while not done() and time.monotonic() < until:
        time.sleep(WAIT_S)


async def connect(kind: Callable[[], C], address: tuple[str, int], headers: Mapping[str, str]) -> C:
    """A client whose handshake is done.

    Args:
        kind: of client.
        address: of the service.
        headers: what it shows beside the handshake.
    """
    lines = [
        "GET /api/v1/feed HTTP/1.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n",
        *(f"{name}: {value}\r\n" for name, value in {"Host": address[0], **headers}.items()),
        "\r\n",
    ]
    _, client = await asyncio.get_running_loop().create_connection(kind, *address)
    client.transport.write("".join(lines).encode())
    await client.receive(1)
    assert client.head.startswith(b"HTTP/1.1 101"), client.head
    return client


def ask(client: Counter, wish: Mapping[str, Any]) -> None:
    """Sends a message: masked (RFC 6455, 5.2), with a mask of zeros that leaves the text as it is."""
    text = msgspec.json.encode(wish)
    assert len(text) < 1 << 16
    size = bytes((0x80 | len(text),)) if len(text) < 126 else b"\xfe" + len(text).to_bytes(2, "big")
    client.transport.write(b"\x81" + size + b"\0\0\0\0" + text)


async def join(
    n_clients: int, address: tuple[str, int], headers: Mapping[str, str], wish: Mapping[str, Any] | None
) -> list[Reader]:
    """Clients that have asked for something and were answered, with nothing counted yet."""
    readers = []
    for _ in range(n_clients):
        reader = await connect(Reader, address, headers)
        readers.append(reader)
        if wish is not None:
            n_bytes = reader.n_bytes
            ask(reader, wish)
            await reader.receive(n_bytes + 1)
    await asyncio.sleep(0.2)
    for reader in readers:
        reader.n_bytes = 0
    return readers
