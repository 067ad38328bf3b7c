"""What every request must pass and every answer carries, as long as there are no tokens.

The service listens on loopback only. A page on some other site can still make a browser on this machine talk
to it: by a name that it points at 127.0.0.1 (hence the check of Host), or by a WebSocket, which browsers let
any site open (hence the check of Origin).
"""

import ipaddress
from typing import Any
from urllib.parse import urlsplit

from litestar import Request
from litestar.exceptions import HTTPException
from litestar.types import Message, Scope

from hl_platform.core.errors import ConfigError

MAX_REQUEST_BYTES = 65_536

SECURITY_HEADERS = {
    # Scripts and styles of our own files only; uPlot and React set styles through the DOM, which is no inline style.
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "font-src 'self'; connect-src 'self'; manifest-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
_HEADER_LIST = [(name.lower().encode(), value.encode()) for name, value in SECURITY_HEADERS.items()]


def check_loopback(host: str) -> None:
    """Refuses to listen where others could connect.

    Raises:
        ConfigError: the address is not one of loopback.
    """
    if not is_loopback(host):
        msg = (
            f"HL_LIVE__HOST={host!r} is not allowed: without tokens, everyone who can reach that address could "
            "read everything. Use 127.0.0.1, ::1 or localhost, and an SSH tunnel or a proxy with a login before it."
        )
        raise ConfigError(msg)


def is_loopback(host: str) -> bool:
    """Whether a host name or address is this machine's loopback."""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def is_allowed_host(header: str | None) -> bool:
    """Whether a Host header names loopback; HTTP/1.0 has none."""
    return header is None or is_loopback(_name_of(f"//{header}"))


def is_allowed_origin(origin: str | None, host: str | None) -> bool:
    """Whether a WebSocket may be opened from a page of this origin.

    Args:
        origin: the Origin header; None from programs, which are not a browser's.
        host: the Host header.
    """
    if origin is None:
        return True
    scheme, _, netloc = origin.partition("://")
    if scheme not in ("http", "https"):
        return False
    return is_loopback(_name_of(f"//{netloc}")) or netloc == host


async def add_security_headers(message: Message, _scope: Scope) -> None:
    """Litestar's before_send hook: also covers errors and unknown paths."""
    if message["type"] == "http.response.start":
        message["headers"] = [*message["headers"], *_HEADER_LIST]


def check_host(request: Request[Any, Any, Any]) -> None:
    """Litestar's before_request hook: refuses what was meant for some other host."""
    if not is_allowed_host(request.headers.get("host")):
        raise HTTPException(
            status_code=421, detail="This service answers to loopback names only, such as localhost."
        )


def _name_of(url: str) -> str:
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""
