"""Lines of the access log, with a small application and no network."""

import asyncio
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
from structlog.testing import capture_logs

from hl_live.access_log import MAX_LINES, PER_S, AccessLog, Mode, note_session
from hl_platform.core.access import Grant

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
GRANT = Grant(subject="grafana", key="0a1b2c3d", scopes=frozenset(("read:*",)))


class Counted(NamedTuple):
    n_sent: int
    n_bytes_pushed: int
    n_missed_ever: int


class Client:
    """An application that answers as it is told, and the log of it."""

    def __init__(self, mode: Mode) -> None:
        self.now = 0.0
        self.events: list[dict[str, Any]] = []
        self.session: Counted | None = None
        self.takes_s = 0.0
        self.headers: list[tuple[bytes, bytes]] = []
        self._log = AccessLog(self._answer, mode, lambda: self.now)

    def http(self, status: int = 200, body: bytes = b"12345", kind: bytes = b"text/plain") -> list[Any]:
        start = {"type": "http.response.start", "status": status, "headers": [(b"content-type", kind)]}
        self.events = [start, {"type": "http.response.body", "body": body}]
        return self._run("http")

    def websocket(self, *texts: str) -> list[Any]:
        self.events = [
            {"type": "websocket.accept"},
            *({"type": "websocket.send", "text": text} for text in texts),
        ]
        return self._run("websocket")

    def _run(self, kind: str) -> list[Any]:
        scope: Any = {
            "type": kind,
            "headers": self.headers,
            "client": ("127.0.0.1", 1),
            "query_string": b"token=secret",
        }
        if kind == "http":
            scope["method"] = "GET"

        async def nothing(*_: object) -> Any:  # noqa: ANN401
            return None

        with capture_logs() as lines:
            asyncio.run(self._log(scope, nothing, nothing))
        return lines

    async def _answer(self, scope: Any, _receive: Callable[..., Any], send: Callable[..., Any]) -> None:  # noqa: ANN401
        scope |= {"path_template": "/api/v1/{stream}/raw", "auth": GRANT}
        if self.session is not None:
            note_session(scope, self.session)
        for event in self.events:
            await send(event)
        self.now += self.takes_s


def test_a_request_is_one_line_with_its_template_and_without_its_query() -> None:
    client = Client("all")
    client.headers = [
        (b"traceparent", f"00-{TRACE}-00f067aa0ba902b7-01".encode()),
        (b"authorization", b"Bearer secret"),
    ]
    assert client.http() == [
        {
            "event": "request",
            "log_level": "info",
            "method": "GET",
            "path": "/api/v1/{stream}/raw",
            "client": "127.0.0.1",
            "token": "grafana",
            "trace_id": TRACE,
            "duration_ms": 0.0,
            "n_bytes": 5,
            "status": 200,
        }
    ]


@pytest.mark.parametrize("mode", ["off", "notable"])
def test_what_is_well_has_no_line_unless_all_are_wanted(mode: Mode) -> None:
    client = Client(mode)
    assert (client.http(), client.http(404), client.websocket("a")) == ([], [], [])


def test_failures_and_slow_requests_are_notable() -> None:
    client = Client("notable")
    [failed] = client.http(503)
    client.takes_s = 1.5
    [slow] = client.http()
    assert (failed["status"], slow["duration_ms"], slow["log_level"]) == (503, 1_500.0, "warning")


def test_a_connection_that_lasts_has_two_lines() -> None:
    client = Client("all")
    client.session, client.takes_s = Counted(2, 7, 0), 60.0
    opened, closed = client.websocket("abc", "de")
    assert (opened["event"], closed["event"]) == ("feed_opened", "feed_closed")
    assert (closed["method"], closed["n_messages"], closed["n_bytes"]) == ("WEBSOCKET", 2, 5 + 7)
    opened, closed = client.http(kind=b"text/event-stream; charset=utf-8")
    assert (opened["event"], closed["n_messages"]) == ("feed_opened", 2)


def test_a_client_that_missed_readings_is_notable_and_one_that_stayed_long_is_not() -> None:
    client = Client("notable")
    client.session, client.takes_s = Counted(2, 0, 0), 60.0
    assert client.websocket("a") == []
    client.session = Counted(2, 0, 7)
    assert [line["n_missed"] for line in client.websocket("a")] == [7]


def test_a_flood_of_failures_does_not_fill_the_disk() -> None:
    client = Client("notable")
    lines = [line for _ in range(MAX_LINES + 100) for line in client.http(500)]
    assert len(lines) == MAX_LINES
    client.now += PER_S
    assert [line["n_unsaid_before"] for line in client.http(500)] == [100]
