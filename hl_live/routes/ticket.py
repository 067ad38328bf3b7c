"""`POST /api/v1/ticket`: a token for a ticket."""

from typing import Any

import msgspec
from litestar import Request, Response, post
from litestar.handlers import HTTPRouteHandler

from hl_live.auth.access import ANY, grant_of
from hl_live.auth.gate import Gate
from hl_live.auth.tickets import LIFE_S
from hl_live.params import operation_of
from hl_live.problems import PROBLEMS


class TicketAnswer(msgspec.Struct, frozen=True):
    """A ticket for one connection to the feed, to be given as `?ticket=`.

    Args:
        expires_in_s: for how long it is good, unless it is used.
    """

    ticket: str
    expires_in_s: int


def ticket_route(gate: Gate) -> HTTPRouteHandler:
    """The route; browsers cannot send a header with a WebSocket, and a token has no place in an address."""

    @post(
        "/api/v1/ticket",
        status_code=200,
        tags=["feed"],
        operation_class=operation_of(()),
        responses=PROBLEMS,
        summary="A ticket for one connection to the feed",
        opt={"access": ANY},
    )
    async def ticket(request: Request[Any, Any, Any]) -> Response[TicketAnswer]:
        answer = TicketAnswer(gate.issue_ticket(grant_of(request)), LIFE_S)
        return Response(answer, headers={"Cache-Control": "no-store"})

    return ticket
