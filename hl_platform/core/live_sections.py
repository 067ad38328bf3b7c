"""The sections of the settings that the live service has, and those who ask it."""

import re
from typing import Annotated, Literal

from msgspec import Meta

from hl_platform.core.sections import Port, PositiveFloat, PositiveInt, Section

# Keys that came over an open line could be anybody's.
ISSUER = re.compile(r"(https://|http://(127\.0\.0\.1|localhost|\[::1\])[:/]).+")
ISSUER_ALLOWED = "an https:// address, or http:// on loopback"


class LiveSettings(Section, frozen=True):
    """The live service: REST, WebSocket and the page."""

    host: Annotated[
        str, Meta(description="Address to listen on. Any but loopback needs tokens: see docs/security.md.")
    ] = "127.0.0.1"
    port: Annotated[Port, Meta(description="Port of the page and the API.")] = 8000
    instance: Annotated[str, Meta(description="Name of this instance when there are several.")] = ""
    client_queue_messages: Annotated[
        PositiveInt,
        Meta(
            description="Readings of a stream that may wait for one slow client; beyond that it gets the latest of "
            "each device and is told how many it missed."
        ),
    ] = 1_000
    max_clients: Annotated[PositiveInt, Meta(description="Clients of the feed at a time.")] = 2_000
    write_timeout_s: Annotated[
        PositiveFloat,
        Meta(
            description="A client that reads nothing for so long, while something waits for it, is disconnected."
        ),
    ] = 30.0
    ring_messages: Annotated[
        PositiveInt,
        Meta(description="Readings of each Kafka partition kept in memory for clients that come back."),
    ] = 10_000
    ring_bytes: Annotated[
        PositiveInt, Meta(description="Memory that they may take for each partition, about.")
    ] = 8 * 2**20
    max_resume_messages: Annotated[
        PositiveInt,
        Meta(
            description="Records of a Kafka partition that are read again for a client that comes back; what is "
            "further away is a gap."
        ),
    ] = 100_000
    token: Annotated[
        str | None,
        Meta(
            description="What `hl check`, `hl tail feed` and the measurements show a service that asks for a token."
        ),
    ] = None
    access_log: Annotated[
        Literal["off", "notable", "all"],
        Meta(
            description="Which requests have a line in the log: `notable` are failures, those that take a second or "
            "longer, and clients of the feed that missed readings, at most 60 a minute."
        ),
    ] = "notable"
    max_clients_per_address: Annotated[
        PositiveInt,
        Meta(description="Feed connections of one address at a time, where clients need a token."),
    ] = 100
    max_requests_per_minute: Annotated[
        PositiveInt,
        Meta(
            description="Requests of one token in a minute, or of one address where nobody is asked for a token; "
            "beyond that the answer is a 429."
        ),
    ] = 60_000
    allowed_hosts: Annotated[
        str,
        Meta(
            description=(
                "Names under which others reach the service, such as a proxy's, with commas between. "
                "With one of them clients need a token."
            )
        ),
    ] = ""
    allowed_origins: Annotated[
        str,
        Meta(
            description=(
                "Origins of other pages that may use the API (CORS) and the feed, with commas between, "
                "such as https://dash.example."
            )
        ),
    ] = ""
    trusted_proxies: Annotated[
        str,
        Meta(
            description=(
                "Addresses of proxies whose X-Forwarded-For is believed, with commas between, or networks, such as "
                "127.0.0.1 for one on this machine. Unset: nobody's. With one of them clients need a token."
            )
        ),
    ] = ""


class AuthSettings(Section, frozen=True):
    """Who may read through the live service."""

    required: Annotated[
        bool, Meta(description="Ask for a token on loopback as well, as behind a proxy on the same machine.")
    ] = False
    issuer: Annotated[
        str | None,
        Meta(
            description="OpenID Connect issuer whose JWTs are taken, exactly as in `iss`. Unset: none.",
            # Not checked by its type but by `_check_together`.
            extra={"allowed": ISSUER_ALLOWED},
        ),
    ] = None
    audience: Annotated[str | None, Meta(description="What must be in `aud` of those JWTs.")] = None
