"""Joins requests to the traces of their clients; only there while a collector is set."""

from collections.abc import MutableMapping
from typing import Any

from litestar.types import ASGIApp, Message, Receive, Scope, Send

from hl_platform.adapters.tracing import Tracing, traceparent_of
from hl_platform.core.trace_context import TRACEPARENT

NAME = TRACEPARENT.encode()
# W3C Trace Context, Level 2 (draft): tells the client which span answered.
ANSWER = b"traceresponse"
FAILED_FROM = 500


class RequestTraces:
    """A layer of the application, inside the access log.

    Args:
        app: what it is around.
        tracing: where spans go.
    """

    def __init__(self, app: ASGIApp, tracing: Tracing) -> None:
        self._app = app
        self._tracing = tracing

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves, and ends the span with the answer."""
        values: MutableMapping[str, Any] = scope  # type: ignore[assignment]
        given = next((value for name, value in values.get("headers", ()) if name == NAME), None)
        span = None
        if values["type"] == "http" and given is not None:
            span = self._tracing.begin(values["method"], given.decode("latin-1"))
        if span is None:
            await self._app(scope, receive, send)
            return
        status = 0

        async def sending(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message["headers"], (ANSWER, traceparent_of(span).encode())]
            await send(message)

        try:
            await self._app(scope, receive, sending)
        finally:
            route = values.get("path_template") or "(unknown)"
            span.update_name(f"{values['method']} {route}")
            about = {"http.request.method": values["method"], "http.route": route}
            span.set_attributes({**about, "http.response.status_code": status})
            if status >= FAILED_FROM:
                span.set_attribute("error.type", str(status))
            span.end()
