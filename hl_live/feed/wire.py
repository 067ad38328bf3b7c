"""A feed's message as the bytes of a WebSocket. Pure."""

from collections.abc import Callable

# Writes whole frames now; False where the client's socket has no room, or its connection is at its end.
Write = Callable[[bytes], bool]

_FIN_AND_TEXT = 0x81
_SIZE_IN_2, _SIZE_IN_8 = 126, 127


def text_frame(text: str) -> bytes:
    """A message of one frame, as a server sends it: not masked (RFC 6455, 5.2)."""
    payload = text.encode()
    size = len(payload)
    if size < _SIZE_IN_2:
        return bytes((_FIN_AND_TEXT, size)) + payload
    if size < 1 << 16:
        return bytes((_FIN_AND_TEXT, _SIZE_IN_2)) + size.to_bytes(2, "big") + payload
    return bytes((_FIN_AND_TEXT, _SIZE_IN_8)) + size.to_bytes(8, "big") + payload
