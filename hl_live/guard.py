"""What every request must pass and every answer carries, with tokens or without.

A page on some other site can make a browser talk to us: by a name that it points at our address (hence the check
of Host), or by a WebSocket, which browsers let any site open (hence the check of Origin).
"""

import ipaddress
from collections.abc import Callable, Mapping
from urllib.parse import urlsplit

import structlog
from litestar.config.cors import CORSConfig
from litestar.exceptions import HTTPException
from litestar.types import Message, Scope

from hl_platform.core.errors import ConfigError
from hl_platform.core.live_sections import LiveSettings
from hl_platform.core.settings import Settings

log = structlog.get_logger()

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
# Where in the state of a request its headers about the rate of requests are, once it has been counted.
RATE_HEADERS = "rate_headers"
_HEADER_LIST = [(name.lower().encode(), value.encode()) for name, value in SECURITY_HEADERS.items()]


def asks_for_tokens(settings: Settings) -> bool:
    """Whether clients must show a token: whenever anybody but this machine may reach us."""
    live = settings.live
    reached = not is_loopback(live.host) or live.allowed_hosts or live.trusted_proxies
    return settings.auth.required or bool(reached)


def check_exposure(settings: Settings, has_token: Callable[[], bool]) -> None:
    """Refuses to listen where others could connect, while nobody could show a token.

    Args:
        settings: of the service.
        has_token: whether there is a token that opens something.

    Raises:
        ConfigError: the address is not one of loopback, and there are no tokens.
    """
    host = settings.live.host
    if not is_loopback(host) and not has_token():
        msg = (
            f"HL_LIVE__HOST={host!r} is not allowed without tokens: everyone who can reach that address could "
            "read everything. Start on 127.0.0.1, make one with `hl token create --name NAME --scope read:*` or "
            "set HL_AUTH__ISSUER, then start again. docs/security.md says more."
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


class Doors:
    """Under which names the service may be spoken to, and from which pages.

    Args:
        live: with the address that it listens on, and what is allowed beside it.
    """

    def __init__(self, live: LiveSettings) -> None:
        self._host = live.host
        self._open = not is_loopback(live.host)
        self._hosts = frozenset(name.lower() for name in listed(live.allowed_hosts))
        self._origins = frozenset(listed(live.allowed_origins))

    def is_allowed_host(self, header: str | None) -> bool:
        """Whether a Host header names us; HTTP/1.0 has none."""
        if header is None:
            return True
        name = _name_of(f"//{header}")
        if is_loopback(name) or name in self._hosts:
            return True
        # An address cannot be pointed elsewhere, as a name can.
        return self._open and (name == self._host or _is_address(name))

    def is_allowed_origin(self, origin: str | None, host: str | None) -> bool:
        """Whether a WebSocket may be opened from a page of this origin.

        Args:
            origin: the Origin header; None from programs, which are not a browser's.
            host: the Host header.
        """
        if origin is None or origin in self._origins:
            return True
        scheme, _, netloc = origin.partition("://")
        if scheme not in ("http", "https"):
            return False
        return is_loopback(_name_of(f"//{netloc}")) or netloc == host

    def check_write(self, headers: Mapping[str, str]) -> None:
        """Refuses what a page of another origin makes a browser send, where nobody is asked for a token.

        Programs send neither header. A page on another port of this machine is another origin, too.

        Raises:
            HTTPException: 403.
        """
        origin, host = headers.get("origin"), headers.get("host")
        own = origin is None or origin in self._origins or origin.partition("://")[2] == host
        if not own or (origin is None and headers.get("sec-fetch-site") in ("cross-site", "same-site")):
            log.warning("write_refused", origin=origin, host=host)
            raise HTTPException(status_code=403, detail="This is not for pages from elsewhere.")

    def check(self, headers: Mapping[str, str], *, socket: bool) -> None:
        """Refuses what was meant for some other host, and sockets from elsewhere.

        Raises:
            HTTPException: 421, or 403 for a socket, of which such a page learns nothing.
        """
        host, origin = headers.get("host"), headers.get("origin")
        right = self.is_allowed_host(host)
        if socket and not (right and self.is_allowed_origin(origin, host)):
            log.warning("feed_origin_refused", origin=origin, host=host)
            raise HTTPException(status_code=403, detail="The feed is not for pages from elsewhere.")
        if not right:
            detail = "This service answers to loopback names only, such as localhost."
            if self._open or self._hosts:
                detail = "This service has other names; HL_LIVE__ALLOWED_HOSTS lists them."
            raise HTTPException(status_code=421, detail=detail)


def listed(text: str) -> list[str]:
    """The parts of a setting that is a list with commas."""
    return [part.strip() for part in text.split(",") if part.strip()]


def cors_of(live: LiveSettings) -> CORSConfig | None:
    """What pages of other origins may do: nothing unless they are listed, and never with cookies."""
    origins = listed(live.allowed_origins)
    if not origins:
        return None
    return CORSConfig(
        allow_origins=origins,
        allow_methods=["GET", "POST"],
        allow_headers=["Authorization", "Content-Type"],
        expose_headers=[
            *("ETag", "Link", "Retry-After", "RateLimit", "RateLimit-Policy"),
            "Content-Disposition",
        ],
    )


async def add_headers(message: Message, scope: Scope) -> None:
    """Litestar's before_send hook: also covers errors and unknown paths."""
    if message["type"] == "http.response.start":
        rates: Mapping[str, str] = scope["state"].get(RATE_HEADERS, {})
        told = [(name.lower().encode(), value.encode()) for name, value in rates.items()]
        message["headers"] = [*message["headers"], *_HEADER_LIST, *told]


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _name_of(url: str) -> str:
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""
