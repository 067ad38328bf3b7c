"""From what a client shows to what it may read."""

import asyncio
import time

import structlog

from hl_live.auth.attempts import Attempts
from hl_live.auth.connections import Connections
from hl_live.auth.jwts import JwtWatch
from hl_live.auth.tickets import Tickets
from hl_live.auth.tokens import TokenWatch
from hl_live.guard import Doors, asks_for_tokens
from hl_live.problems import TooManyError, UnauthorizedError
from hl_live.rates import Rates
from hl_platform.adapters.postgres.tokens import TokenStore
from hl_platform.core.access import EVERYTHING, Grant
from hl_platform.core.settings import Settings, require_address

log = structlog.get_logger()

SHOW_A_TOKEN = "Show a token: `Authorization: Bearer …`. `hl token create` makes one."  # noqa: S105
# No token is longer, and a JWT rarely; what is longer is not looked at.
MAX_CHARS = 8_192


class Gate:
    """One for the service: knows tokens, tickets and open connections.

    Args:
        settings: of the service.

    Guarantee: asks the database for no request; bounded memory, whatever clients show.
    """

    def __init__(self, settings: Settings) -> None:
        self.asks = asks_for_tokens(settings)
        self.doors = Doors(settings.live)
        self.tickets = Tickets()
        self.connections = Connections(settings.live.max_clients_per_address)
        url = require_address(settings.database.url, "database", "url")
        self._tokens = TokenWatch(TokenStore(url, "hl-live-tokens"), self._end_connections)
        issuer, audience = settings.auth.issuer, settings.auth.audience
        self._jwts = JwtWatch(issuer, audience) if issuer and audience else None
        self.rates = Rates(settings.live.max_requests_per_minute)
        self._attempts = Attempts()
        self._watching: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Begins to watch the tokens; waits for nobody."""
        if self.asks:
            self._watching.append(asyncio.create_task(self._tokens.run()))
        if self.asks and self._jwts is not None:
            self._watching.append(asyncio.create_task(self._jwts.run()))

    async def stop(self) -> None:
        """Stops watching."""
        for task in self._watching:
            task.cancel()
        self._tokens.close()

    async def admit(self, address: str, authorization: str | None, ticket: str | None) -> Grant:
        """What a client may read, by its header or its ticket.

        Raises:
            UnauthorizedError: neither opens anything.
            TooManyError: the address has tried too often.
            DatabaseAwayError: it cannot be known now.
        """
        if not self.asks:
            return EVERYTHING
        if authorization is None and ticket is None:
            raise UnauthorizedError(SHOW_A_TOKEN)
        wait_s = self._attempts.wait_s(address, time.monotonic())
        if wait_s > 0:
            raise TooManyError("Too many wrong tokens from this address. Wait.", wait_s)
        grant = await self._find(authorization, ticket)
        if grant is None:
            self._attempts.fail(address, time.monotonic())
            kind = "ticket" if authorization is None else "token"
            log.warning("credential_refused", address=address, kind=kind)
            raise UnauthorizedError(f"This {kind} is unknown, over or revoked. {SHOW_A_TOKEN}", wrong=True)
        return grant

    def issue_ticket(self, grant: Grant) -> str:
        """A ticket for one connection.

        Raises:
            BackpressureError: too many are out.
        """
        return self.tickets.issue(grant, time.monotonic())

    def is_good(self, grant: Grant) -> bool:
        """Whether a grant still holds."""
        of_issuer = self._jwts is not None and self._jwts.holds(grant)
        return grant is EVERYTHING or of_issuer or self._tokens.holds(grant)

    async def _find(self, authorization: str | None, ticket: str | None) -> Grant | None:
        if authorization is None:
            grant = self.tickets.take(ticket or "", time.monotonic())
            return grant if grant is not None and self.is_good(grant) else None
        scheme, _, presented = authorization.partition(" ")
        presented = presented.strip()
        if scheme.lower() != "bearer" or len(presented) > MAX_CHARS:
            return None
        if self._jwts is not None and "." in presented:
            return await self._jwts.find(presented)
        return await self._tokens.find(presented)

    def _end_connections(self) -> None:
        n_ended = self.connections.end_unless(self.is_good)
        if n_ended:
            log.info("feeds_closed", n_connections=n_ended, reason="token is over or revoked")
