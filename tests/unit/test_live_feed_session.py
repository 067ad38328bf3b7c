"""One client's side of the protocol: requests that cannot be met, and connections that cannot go on."""

import asyncio
from types import SimpleNamespace
from typing import Any, cast

import pytest
from litestar import Litestar
from litestar.exceptions import WebSocketDisconnect
from litestar.testing import TestClient, WebSocketTestSession
from litestar.types import Receive, Scope, Send

from hl_live.client import FeedClient
from hl_live.feed.messages import encode_message
from hl_live.feed.session import Session, SessionFailedError
from hl_live.routes.feed import feed_routes
from hl_live.service import LiveService
from hl_platform.core.access import EVERYTHING
from tests.unit.feed_parts import Client, House


async def fail(*_: object) -> Any:  # noqa: ANN401
    raise OSError


def receive_all(socket: WebSocketTestSession) -> None:
    while True:
        socket.receive_json(timeout=5)


@pytest.mark.parametrize(
    "text",
    [
        '{"x": ' + "[" * 60_000 + "]" * 60_000 + ', "type": "ping"}',
        '{"type": "subscribe", "streams": ["energy"], "positions": ' + '{"a":' * 10_000 + "1" + "}" * 10_000,
        '{"type": "ping", "streams": []}',
        '{"type": "unsubscribe", "streams": ["energy"], "device_id": null}',
    ],
)
def test_what_cannot_be_understood_is_answered(text: str) -> None:
    client = House(3).client()
    client.session.receive(text)
    assert [(message["type"], message["code"]) for message in client.read()] == [("error", "bad_message")]


@pytest.mark.parametrize(
    "positions",
    [
        {"energy": dict.fromkeys(range(1_001), 0)},
        {f"stream{number}": {0: 0} for number in range(101)},
    ],
)
def test_positions_are_bounded(positions: dict[str, dict[int, int]]) -> None:
    client = House(3).client().subscribe(positions=positions)
    assert [message["type"] for message in client.read()] == ["error"]


def test_unsubscribing_ends_all_of_the_streams_or_none() -> None:
    house = House(3)
    client = house.client().subscribe("energy", "heatpump")
    client.read()
    client.ask(type="unsubscribe", streams=["energy", "nosuch", "heatpump"])
    assert [(message["type"], message["stream"]) for message in client.read()] == [("error", "nosuch")]
    house.publish()
    assert [message["type"] for message in client.read()] == ["data"]
    client.ask(type="unsubscribe", streams=["energy", "heatpump", "energy"])
    assert [(message["type"], message["stream"]) for message in client.read()] == [
        ("unsubscribed", "energy"),
        ("unsubscribed", "heatpump"),
    ]


def test_the_python_client_asks_for_all_of_its_streams_at_once() -> None:
    """So that it may name fields of each; it goes on where it was in those that it had."""
    fields = ["power_kw", "actual_temp"]
    known = {"energy": {0: 2}, "temperature": {0: 5}}
    asks = FeedClient("http://127.0.0.1", ["energy", "heatpump"], fields=fields, positions=known)

    async def run() -> Client:
        client = House(3).client()
        client.session.receive(encode_message(asks._request()))
        await client.settle()
        return client

    client = asyncio.run(run())
    assert client.of("error") == []
    assert [
        (one["stream"], one["fields"], one["resumed"], one["positions"]) for one in client.of("subscribed")
    ] == [("energy", ["power_kw"], True, {"0": 2}), ("heatpump", ["actual_temp"], False, {})]


def test_a_session_whose_resume_cannot_go_on_fails() -> None:
    async def run() -> None:
        house = House(10)
        house.past._read = fail
        client = house.client().subscribe(positions={"energy": {0: 5}})
        client.read()
        with pytest.raises(SessionFailedError):
            await asyncio.wait_for(client.session.next(), 5)

    asyncio.run(run())


def test_a_connection_whose_resume_cannot_go_on_is_closed() -> None:
    house = House(10)
    house.past._read = fail
    live = SimpleNamespace(
        settings=SimpleNamespace(live=SimpleNamespace(max_clients=1)),
        open_session=lambda _: house.client().session,
        close_session=Session.close,
    )
    routes = Litestar(feed_routes(cast("LiveService", live)), openapi_config=None, logging_config=None)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        scope["auth"] = EVERYTHING  # type: ignore[typeddict-item]
        await routes(scope, receive, send)

    with TestClient(app) as client, client.websocket_connect("/api/v1/feed") as socket:
        socket.send_json({"type": "subscribe", "streams": ["energy"], "positions": {"energy": {"0": 5}}})
        with pytest.raises(WebSocketDisconnect) as end:
            receive_all(socket)
    # Clients come back after this one: RFC 6455, 7.4.1.
    assert end.value.code == 1011
