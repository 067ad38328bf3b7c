"""Ends connections whose peer has stopped to read altogether; a slow one stays.

A sender waits while the peer's socket is full. Without a bound a peer that never reads again would hold its place and
what waits for it for good: closing does not help, as that waits for the socket, too.
"""

import asyncio
import socket
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from hl_live.frame_protocol import FrameProtocol

# What the system may hold of a connection; its default grows to megabytes that a slow client gets far too late.
SEND_BUFFER_BYTES = 128 * 1024


class WriteGuard:
    """Aborts a transport when nothing of what waits for its peer has been read within some time.

    Args:
        transport: of the connection.
        timeout_s: how long.
    """

    def __init__(self, transport: asyncio.Transport, timeout_s: float) -> None:
        self._transport = transport
        self._timeout_s = timeout_s
        self._n_waiting = 0
        self._timer: asyncio.TimerHandle | None = None

    def pause(self) -> None:
        """The socket is full."""
        self._n_waiting = self._transport.get_write_buffer_size()
        self._timer = asyncio.get_running_loop().call_later(self._timeout_s, self._check)

    def resume(self) -> None:
        """The socket has room again, or is gone."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _check(self) -> None:
        if self._transport.get_write_buffer_size() < self._n_waiting:
            self.pause()
        else:
            self._transport.abort()


class Guarded(asyncio.Protocol):
    """Puts the connections of the protocol that it is mixed into under a guard."""

    write_timeout_s: float

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """The connection is open."""
        super().connection_made(transport)
        self.guard = _guard(transport, self.write_timeout_s)

    def pause_writing(self) -> None:
        """The socket is full."""
        super().pause_writing()
        self.guard.pause()

    def resume_writing(self) -> None:
        """The socket has room again."""
        super().resume_writing()
        self.guard.resume()

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone."""
        self.guard.resume()
        super().connection_lost(exc)


def guarded_protocols(timeout_s: float) -> dict[str, Any]:
    """The protocols for uvicorn's `http` and `ws`, each connection under a guard."""

    class Http(Guarded, HttpToolsProtocol):
        write_timeout_s = timeout_s

    # uvicorn's two protocols name the type of their transport differently.
    class WebSocket(Guarded, FrameProtocol):  # type: ignore[misc]
        write_timeout_s = timeout_s

    return {"http": Http, "ws": WebSocket}


def _guard(transport: asyncio.Transport, timeout_s: float) -> WriteGuard:
    line = transport.get_extra_info("socket")
    if line is not None:
        line.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
    return WriteGuard(transport, timeout_s)
