"""WebSockets that take frames which are made already.

Of the time that a thousand clients take, nearly all went on making the same frame for each, and on waking a task for
each. The rest of the protocol, handshake, pings and the end of it, is websockets'.
"""

from typing import Any

from uvicorn.protocols.utils import ClientDisconnected
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.http11 import Request
from websockets.protocol import OPEN

# An extension of ASGI, whose `write` is a `Write`. With it, an event `websocket.send` may have `frames`: whole frames,
# as bytes, which are written when the client's socket has room.
FRAMES = "hl.frames"


class FrameProtocol(WebSocketsSansIOProtocol):
    """Writes frames that are ready beside what its base sends."""

    def handle_connect(self, event: Request) -> None:
        """A client has asked for a WebSocket."""
        super().handle_connect(event)
        if not self.close_sent:
            # The application has not run yet.
            extensions = self.scope["extensions"] or {}
            self.scope["extensions"] = {**extensions, FRAMES: {"write": self.write_frames}}

    def write_frames(self, frames: bytes) -> bool:
        """Writes them now; False where the socket has no room, or the connection is at its end."""
        if not self.writable.is_set() or self._is_ending():
            return False
        self.transport.write(frames)
        return True

    async def send(self, message: Any) -> None:  # noqa: ANN401
        """Takes an event of the application."""
        frames = message.get("frames")
        if frames is None:
            await super().send(message)
            return
        while not self.write_frames(frames):
            if self._is_ending():
                raise ClientDisconnected
            await self.writable.wait()

    def _is_ending(self) -> bool:
        # Aborted by its guard, the transport is closing before anybody is told that it is lost.
        return self.transport.is_closing() or self.conn.state is not OPEN
