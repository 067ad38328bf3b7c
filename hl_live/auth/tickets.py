"""Tickets: what a browser, which cannot send a header with a WebSocket, shows instead of its token."""

import secrets
from collections import OrderedDict

from hl_platform.core.access import Grant
from hl_platform.core.errors import BackpressureError

LIFE_S = 30
MAX_TICKETS = 10_000
# More than a page with all its streams asks for; beyond it the oldest are dropped.
MAX_TICKETS_OF_ONE = 50


class Tickets:
    """Tickets of this process, each good for one connection within 30 seconds."""

    def __init__(self) -> None:
        self._open: OrderedDict[str, tuple[Grant, float]] = OrderedDict()

    def issue(self, grant: Grant, now: float) -> str:
        """A new ticket.

        Raises:
            BackpressureError: too many are out.
        """
        self._forget(now)
        own = [ticket for ticket, (of, _) in self._open.items() if of.key == grant.key]
        for ticket in own[: max(0, len(own) - MAX_TICKETS_OF_ONE + 1)]:
            del self._open[ticket]
        if len(self._open) >= MAX_TICKETS:
            raise BackpressureError("too many tickets are out", retry_after_s=LIFE_S)
        ticket = secrets.token_urlsafe(32)
        self._open[ticket] = (grant, now + LIFE_S)
        return ticket

    def take(self, ticket: str, now: float) -> Grant | None:
        """The grant of a ticket, this one time; None if it is not one, or not any more."""
        grant, ends_at = self._open.pop(ticket, (None, 0.0))
        return grant if now < ends_at else None

    def _forget(self, now: float) -> None:
        while self._open:
            ticket, (_, ends_at) = next(iter(self._open.items()))
            if now < ends_at:
                return
            del self._open[ticket]
