"""One line for each request, and two for each connection that lasts; never a token, a query or a path's parts.

| event | when | beside method, path's template, client, token's name and trace |
|---|---|---|
| `request` | it has been answered, or refused | `status`, `duration_ms`, `n_bytes` |
| `feed_opened` | a WebSocket or a stream of events has begun | |
| `feed_closed` | it has ended | `duration_ms`, `n_bytes`, `n_messages`, `n_missed` |
"""

import time
from collections.abc import Callable, MutableMapping
from typing import Any, Literal, Protocol

import structlog
from litestar.types import ASGIApp, Message, Receive, Scope, Send

from hl_platform.core.trace_context import TRACEPARENT, parse_traceparent

log = structlog.get_logger()

Mode = Literal["off", "notable", "all"]

# A request that takes so long is notable.
SLOW_MS = 1_000.0
FAILED_FROM = 500
# Of what is notable: a box's disk must not fill because everything fails, or somebody makes it fail.
MAX_LINES, PER_S = 60, 60.0
SESSION = "hl.session"
EVENTS = b"text/event-stream"


class Counts(Protocol):
    """What a session knows of itself."""

    @property
    def n_sent(self) -> int:
        """Messages sent."""

    @property
    def n_bytes_pushed(self) -> int:
        """Bytes that went to the socket beside the application's events."""

    @property
    def n_missed_ever(self) -> int:
        """Readings that it was too slow for."""


def note_session(scope: Scope, session: Counts) -> None:
    """Has the line of a connection's end tell what its session did."""
    values: MutableMapping[str, Any] = scope  # type: ignore[assignment]
    values[SESSION] = session


def trace_id_of(scope: Scope) -> str | None:
    """The trace that a request belongs to, as its client says; None where it says nothing."""
    for name, value in scope["headers"]:
        if name == TRACEPARENT.encode() and (parent := parse_traceparent(value.decode("latin-1"))):
            return f"{parent.trace_id:032x}"
    return None


class AccessLog:
    """The outermost layer of the application.

    Args:
        app: what it is around.
        mode: `notable` are failures, what is slow, and clients that missed readings; at most so many lines a minute.
        clock: steady seconds.
    """

    def __init__(self, app: ASGIApp, mode: Mode, clock: Callable[[], float] = time.perf_counter) -> None:
        self._app = app
        self._mode = mode
        self._clock = clock
        self._budget = _Budget(clock)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves, and says so."""
        if self._mode == "off" or scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        line = _Line(scope, self._clock)

        async def sending(message: Message) -> None:
            if line.take(message) and self._mode == "all":
                log.info("feed_opened", **line.about())
            await send(message)

        try:
            await self._app(scope, receive, sending)
        finally:
            self._write(line)

    def _write(self, line: "_Line") -> None:
        values = line.values()
        notable = line.is_notable(values)
        if self._mode == "all" or (notable and self._budget.take()):
            level = log.warning if notable else log.info
            level("feed_closed" if line.lasting else "request", **values, **self._budget.unsaid())


class _Line:
    """What is known of one request."""

    def __init__(self, scope: Scope, clock: Callable[[], float]) -> None:
        self._scope = scope
        self._clock = clock
        self._began = clock()
        self._n_bytes = 0
        self._status = 0
        self.lasting = False

    def take(self, message: Message) -> bool:
        """Counts what is sent; True where a connection that lasts begins."""
        kind: str = message["type"]
        event: Any = message
        if kind in ("http.response.body", "websocket.http.response.body"):
            self._n_bytes += len(event.get("body") or b"")
        elif kind == "websocket.send":
            self._n_bytes += len(event.get("frames") or event.get("text") or "")
        elif kind in ("http.response.start", "websocket.http.response.start"):
            self._status = event["status"]
            self.lasting = any(
                name.lower() == b"content-type" and value.startswith(EVENTS)
                for name, value in event["headers"]
            )
            return self.lasting
        elif kind == "websocket.accept":
            self._status, self.lasting = 101, True
            return True
        return False

    def about(self) -> dict[str, Any]:
        """Whose it is."""
        scope: MutableMapping[str, Any] = self._scope  # type: ignore[assignment]
        client, grant = scope.get("client"), scope.get("auth")
        known = {
            "method": scope.get("method", "WEBSOCKET"),
            "path": scope.get("path_template") or "(unknown)",
            "client": client[0] if client else None,
            "token": grant.subject if grant is not None and grant.key else None,
            "trace_id": trace_id_of(self._scope),
        }
        return {name: value for name, value in known.items() if value is not None}

    def values(self) -> dict[str, Any]:
        """All of it, at the end."""
        values = self.about()
        values["duration_ms"] = round((self._clock() - self._began) * 1_000, 1)
        values["n_bytes"] = self._n_bytes
        if not self.lasting:
            # Without an answer, the client was gone or the application failed.
            return {**values, "status": self._status or None}
        session: Counts | None = self._scope.get(SESSION)  # type: ignore[assignment]
        if session is not None:
            values["n_bytes"] += session.n_bytes_pushed
            values |= {"n_messages": session.n_sent, "n_missed": session.n_missed_ever}
        return values

    def is_notable(self, values: dict[str, Any]) -> bool:
        """Whether a person should know."""
        if self.lasting:
            return bool(values.get("n_missed"))
        return self._status >= FAILED_FROM or values["duration_ms"] >= SLOW_MS


class _Budget:
    """So many lines in so much time; counts those that were too many."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._began = clock()
        self._n_taken = 0
        self._n_unsaid = 0

    def take(self) -> bool:
        if self._clock() - self._began >= PER_S:
            self._began, self._n_taken = self._clock(), 0
        if self._n_taken >= MAX_LINES:
            self._n_unsaid += 1
            return False
        self._n_taken += 1
        return True

    def unsaid(self) -> dict[str, int]:
        n_unsaid, self._n_unsaid = self._n_unsaid, 0
        return {"n_unsaid_before": n_unsaid} if n_unsaid else {}
