"""A TCP line that a test can cut, hold and slow down: listens on loopback and forwards to another port there."""

import asyncio
import contextlib
import threading
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from typing import Any

from hl_platform.stack.net import LOOPBACK, free_port

CHUNK_BYTES = 65_536
# A slow line hands over in pieces of so much time, in seconds.
SLICE_S = 0.05


class Proxy:
    """Forwards connections to `target_port` until told otherwise. Its methods may be called from any thread.

    Args:
        target_port: where connections go on to; nobody need listen there yet.

    Guarantee: bytes of a direction arrive in order, each once, or the connection ends; a line that is healed
    hands over what it held back.
    """

    def __init__(self, target_port: int) -> None:
        self.port = free_port()
        self._target_port = target_port
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name=f"proxy-{self.port}", daemon=True)
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.Task[None]] = set()
        self._open = asyncio.Event()
        self._delay_s = 0.0
        self._bytes_per_s: float | None = None

    def start(self) -> None:
        """Listens."""
        self._thread.start()
        self.heal()

    def close(self) -> None:
        """Ends all connections and the listening."""
        self.cut()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    @property
    def n_connections(self) -> int:
        """Connections that are forwarded now."""
        return len(self._connections)

    def cut(self) -> int:
        """Breaks all connections and refuses further ones; returns how many it broke."""
        return self._do(self._cut())

    def stall(self) -> None:
        """Goes on accepting connections and forwards nothing."""
        self._do(self._stall())

    def slow(self, delay_s: float, bytes_per_s: float | None = None) -> None:
        """Holds each piece back for `delay_s` and lets through at most `bytes_per_s`, per direction."""
        self._do(self._slow(delay_s, bytes_per_s))

    def heal(self) -> None:
        """Forwards as if nothing had happened."""
        self._do(self._heal())

    def _do(self, work: Coroutine[Any, Any, int]) -> int:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    async def _cut(self) -> int:
        if self._server is not None:
            self._server.close()
            self._server = None
        broken = list(self._connections)
        for connection in broken:
            connection.cancel()
        await asyncio.gather(*broken, return_exceptions=True)
        return len(broken)

    async def _stall(self) -> int:
        self._open.clear()
        return 0

    async def _slow(self, delay_s: float, bytes_per_s: float | None) -> int:
        self._delay_s, self._bytes_per_s = delay_s, bytes_per_s
        self._open.set()
        return 0

    async def _heal(self) -> int:
        self._delay_s, self._bytes_per_s = 0.0, None
        self._open.set()
        if self._server is None:
            self._server = await asyncio.start_server(self._accept, LOOPBACK, self.port)
        return 0

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        try:
            # A line that is cut ends its connections by cancelling them, and that is their orderly end.
            with contextlib.suppress(OSError, asyncio.CancelledError):
                await self._forward(reader, writer)
        finally:
            self._connections.discard(task)
            writer.transport.abort()

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection(LOOPBACK, self._target_port)
        ways = [
            asyncio.ensure_future(self._pump(reader, far_writer)),
            asyncio.ensure_future(self._pump(far_reader, writer)),
        ]
        try:
            await asyncio.gather(*ways)
        finally:
            for way in ways:
                way.cancel()
            far_writer.transport.abort()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(self._piece()):
            if self._delay_s or self._bytes_per_s:
                await asyncio.sleep(self._delay_s + len(data) / (self._bytes_per_s or float("inf")))
            await self._open.wait()
            writer.write(data)
            await writer.drain()
        # The other direction may have more to say.
        writer.write_eof()

    def _piece(self) -> int:
        return CHUNK_BYTES if self._bytes_per_s is None else max(1, int(self._bytes_per_s * SLICE_S))


@contextmanager
def proxied(target_port: int) -> Iterator[Proxy]:
    """A line to a port, gone afterwards."""
    proxy = Proxy(target_port)
    proxy.start()
    try:
        yield proxy
    finally:
        proxy.close()
