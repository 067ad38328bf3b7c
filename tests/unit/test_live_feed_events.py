"""Server-sent events, without sockets: the id of each says where its client is."""

import asyncio
import json
from contextlib import aclosing
from typing import Any

import msgspec

from hl_live.client import note_progress
from hl_live.feed.messages import Answer
from hl_live.routes.feed_events import Positions, _events, read_event_id
from tests.unit.feed_parts import Client, House

Event = tuple[Positions, dict[str, Any]]


async def read_events(client: Client, n: int, positions: Positions | None = None) -> list[Event]:
    """The next n events: where each says that the client is, and its message."""
    found: list[Event] = []
    known = {name: dict(offsets) for name, offsets in (positions or {}).items()}
    async with aclosing(_events(client.session, known)) as stream:
        async for text in stream:
            for event in text.decode().split("\n\n"):
                if event.startswith("id: "):
                    told, _, message = event.removeprefix("id: ").partition("\ndata: ")
                    found.append((read_event_id(told), json.loads(message)))
            if len(found) >= n:
                break
    return found


def test_the_first_event_says_where_the_client_is_in_every_partition() -> None:
    async def run() -> list[Event]:
        house = House(3)
        house.publish(["m7"] * 50, partition=1)
        client = house.client().subscribe("energy", "heatpump", snapshot=False)
        first = await read_events(client, 2)
        house.publish(["m1"])
        return first + await read_events(client, 1, first[-1][0])

    (subscribed, _), _, (after_one, data) = asyncio.run(run())
    assert subscribed == {"energy": {0: 3, 1: 50}}
    assert (data["position"], after_one) == ({"partition": 0, "offset": 3}, {"energy": {0: 4, 1: 50}})


def test_each_stream_is_in_the_id_from_its_first_event_on() -> None:
    async def run() -> list[Event]:
        house = House(3)
        house.publish(["h1"] * 2, "heatpump")
        client = house.client().subscribe("energy", "heatpump", snapshot=False)
        house.publish(["m1"])
        return await read_events(client, 3)

    assert [positions for positions, _ in asyncio.run(run())] == [
        {"energy": {0: 3}},
        {"energy": {0: 3}, "heatpump": {0: 2}},
        {"energy": {0: 4}, "heatpump": {0: 2}},
    ]


def test_events_end_where_a_resume_cannot_go_on() -> None:
    async def run() -> list[Event]:
        house = House(10)
        house.past._read = house.past._find_range = fail
        client = house.client().subscribe(positions={"energy": {0: 5}})
        return await read_events(client, 2)

    async def fail(*_: object) -> Any:  # noqa: ANN401
        raise OSError

    assert [message["type"] for _, message in asyncio.run(run())] == ["subscribed"]


def test_an_id_is_what_other_clients_note_of_the_messages() -> None:
    """Of a resume over a gap, of a snapshot, of a slow client's gap, of positions and of what is live."""

    async def run() -> list[Event]:
        house = House(1_000, low=700)
        house.publish(["h1"] * 2, "heatpump")
        asked: Positions = {"energy": {0: 100}}
        client = house.client(max_messages=3).subscribe("energy", "heatpump", positions=asked)
        events = await read_events(client, 304, asked)
        house.publish(["m1"] * 9)
        house.publish(["h1"], "heatpump")
        house.fanout.tell_positions()
        return events + await read_events(client, 5, events[-1][0])

    noted: dict[str, dict[int, int]] = {"energy": {0: 100}}
    events = asyncio.run(run())
    for positions, message in events:
        note_progress(noted, msgspec.convert(message, Answer, str_keys=True))
        assert positions == noted
    kinds = {message["type"] for _, message in events}
    assert kinds == {"subscribed", "gap", "data", "positions"}
    assert any(message.get("snapshot") for _, message in events)
