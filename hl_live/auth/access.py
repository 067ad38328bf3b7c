"""The door: every request passes here before its route, and what it may not see never reaches a route.

A route says by its `opt` who may pass:

| `opt` | who |
|---|---|
| `access="public"` | everybody; the page's own files |
| `access="any"` | who has any token; the route asks `grant_of(request)` itself |
| `access="feed"` | the same, also with a ticket; the connection is closed when the token ends |
| `access="read:pipeline"` | who has that scope |
| `stream="energy"`, or `{stream}` in its path | who may read it; `device_id` is narrowed to the token's devices |
| none of these | who may read everything, so that a new route is closed until somebody has thought about it |
"""

import asyncio
import time
from typing import Any

import msgspec
from litestar.connection import ASGIConnection
from litestar.datastructures import Headers
from litestar.enums import ScopeType
from litestar.exceptions import HTTPException
from litestar.types import ASGIApp, Message, Receive, Scope, Send

from hl_live.auth.attempts import network_of
from hl_live.auth.connections import Connection
from hl_live.auth.gate import Gate
from hl_live.auth.narrowing import Pairs, narrow, read_query, take_ticket, write_query
from hl_live.guard import RATE_HEADERS
from hl_live.problems import PROBLEM_JSON, ForbiddenError, TooManyError, UnauthorizedError, problem_of
from hl_platform.core.access import READ_ALL, Grant, stream_scope
from hl_platform.core.errors import HlError

PUBLIC, ANY, FEED = "public", "any", "feed"
CLOSE_UNAUTHORIZED = 4401
SAFE_METHODS = ("GET", "HEAD", "OPTIONS")
DENIAL = "websocket.http.response"
CLOSING_S = 1.0
NO_VALUES: dict[str, Any] = {}


def grant_of(connection: ASGIConnection[Any, Any, Any, Any]) -> Grant:
    """What the client of a request or a socket may read."""
    grant: Grant = connection.scope["auth"]
    return grant


class Access:
    """Litestar's middleware, around every route.

    Args:
        app: what is behind the door.
        gate: who knows the clients.
    """

    def __init__(self, app: ASGIApp, gate: Gate) -> None:
        self._app = app
        self._gate = gate

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Lets a request through, or raises what `problems.py` answers."""
        socket = scope["type"] == ScopeType.WEBSOCKET
        opt = scope["route_handler"].opt if "route_handler" in scope else NO_VALUES
        try:
            grant = await self._admit(scope, opt, socket=socket)
        except (HlError, HTTPException) as error:
            if not socket:
                raise
            await _refuse(scope, send, error)
            return
        if grant is None or not self._gate.asks:
            await self._app(scope, receive, send)
        elif socket or opt.get("access") == FEED:
            await self._watched(scope, receive, send, grant)
        else:
            await self._app(scope, receive, _private(send))

    async def _admit(self, scope: Scope, opt: dict[str, Any], *, socket: bool) -> Grant | None:
        headers = Headers.from_scope(scope)
        self._gate.doors.check(headers, socket=socket)
        if opt.get("access") == PUBLIC:
            return None
        if not socket and not self._gate.asks and scope.get("method") not in SAFE_METHODS:
            # With tokens there is no need: a browser does not add one by itself.
            self._gate.doors.check_write(headers)
        takes_ticket = socket or opt.get("access") == FEED
        pairs, ticket = read_query(scope["query_string"]), None
        if takes_ticket:
            pairs, ticket = take_ticket(pairs)
        address = _address(scope)
        try:
            grant = await self._gate.admit(address, headers.get("authorization"), ticket)
        except UnauthorizedError:
            self._count(scope, network_of(address))
            raise
        # Before it is judged, so that the log says whose a refused request was.
        scope["auth"] = grant
        self._count(scope, grant.key or network_of(address))
        pairs = check_grant(grant, opt, scope["path_params"], pairs)
        if ticket is not None or grant.device_ids is not None:
            scope["query_string"] = write_query(pairs)
        if takes_ticket and self._gate.asks:
            self._gate.connections.check(address)
        return grant

    def _count(self, scope: Scope, client: str) -> None:
        """Counts a request.

        Raises:
            TooManyError: it is one too many.
        """
        rates = self._gate.rates
        quota = rates.take(client, time.monotonic())
        scope["state"][RATE_HEADERS] = rates.headers(quota)
        if not quota.allowed:
            detail = f"More than {rates.per_minute} requests in a minute. Wait."
            raise TooManyError(detail, quota.retry_after_s)

    async def _watched(self, scope: Scope, receive: Receive, send: Send, grant: Grant) -> None:
        """Serves a connection that lasts, until its grant ends."""
        started = False

        async def sending(message: Message) -> None:
            nonlocal started
            started = started or message["type"] == "http.response.start"
            await send(message)

        work = asyncio.ensure_future(self._app(scope, receive, sending))
        connection = Connection(grant, work.cancel)
        with self._gate.connections.hold(_address(scope), connection):
            # It may have ended while it was admitted.
            if not self._gate.is_good(grant):
                connection.end()
            try:
                await work
            except asyncio.CancelledError:
                if not connection.ended:
                    raise
                await _end(scope, send, started=started)


def check_grant(grant: Grant, opt: dict[str, Any], path_params: dict[str, Any], pairs: Pairs) -> Pairs:
    """Whether a grant opens a route; the query that the route may see.

    Raises:
        ForbiddenError: it does not, or the query names a device that it does not cover.
    """
    access = opt.get("access")
    if access in (ANY, FEED):
        return pairs
    if access is not None:
        if not grant.allows(access):
            raise ForbiddenError(access)
        limited = opt.get("devices") == "one" and grant.device_ids is not None
        return narrow(pairs, grant.device_ids or frozenset(), access, one=True) if limited else pairs
    stream = opt.get("stream") or path_params.get("stream")
    if stream is None:
        if READ_ALL not in grant.scopes or grant.device_ids is not None:
            raise ForbiddenError(READ_ALL)
        return pairs
    scope = stream_scope(str(stream)[:40])
    if not grant.may_read(str(stream)):
        raise ForbiddenError(scope)
    device_ids = grant.devices(str(stream))
    return pairs if device_ids is None else narrow(pairs, device_ids, scope)


def _address(scope: Scope) -> str:
    client = scope.get("client")
    return str(client[0]) if client else ""


def _private(send: Send) -> Send:
    """Marks answers as one client's own, so that no cache gives them to another."""

    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = list(message["headers"])
            if not any(name.lower() == b"cache-control" for name, _ in headers):
                headers.append((b"cache-control", b"private, no-cache"))
            message["headers"] = [*headers, (b"vary", b"Authorization")]
        await send(message)

    return sending


async def _refuse(scope: Scope, send: Send, error: Exception) -> None:
    """Answers a handshake with a problem, where the server can; closes it otherwise."""
    problem, headers = problem_of(error)
    if DENIAL not in (scope.get("extensions") or {}):
        await send({"type": "websocket.close", "code": 4000 + problem.status, "reason": problem.title})
        return
    listed = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
    start: Any = {
        "type": "websocket.http.response.start",
        "status": problem.status,
        "headers": [(b"content-type", PROBLEM_JSON.encode()), *listed],
    }
    await send(start)
    body: Any = {"type": "websocket.http.response.body", "body": msgspec.json.encode(problem)}
    await send(body)


async def _end(scope: Scope, send: Send, *, started: bool) -> None:
    """The last word to a client whose token has ended; one that does not read is not waited for."""
    last: Any = {"type": "http.response.body", "body": b"", "more_body": False}
    if scope["type"] == ScopeType.WEBSOCKET:
        last = {"type": "websocket.close", "code": CLOSE_UNAUTHORIZED, "reason": "token_ended"}
    elif not started:
        return
    try:
        async with asyncio.timeout(CLOSING_S):
            await send(last)
    except (OSError, RuntimeError, TimeoutError):
        # Gone already, or too slow: the server ends it when we return.
        return
