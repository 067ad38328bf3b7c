"""Clients that come back, on a real Kafka: by WebSocket with the Python client, and by server-sent events."""

import asyncio
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient

from hl_live.client import FeedClient, FeedRefusedError
from hl_live.feed.messages import Answer, DataMessage, GapMessage, PositionsMessage, SubscribedMessage
from hl_platform.stack.kafka import EmbeddedKafka
from tests.home import PATIENCE_S, eventually
from tests.integration.live_service import LiveProcess


@pytest.fixture
def live(tmp_path: Path, database_url: str, kafka: EmbeddedKafka) -> Iterator[LiveProcess]:
    # A small ring, so that most of what is asked for again lies behind it.
    made = LiveProcess(tmp_path, database_url, kafka.bootstrap_servers, HL_LIVE__RING_MESSAGES="50")
    made.make_tables()
    made.make_topics()
    yield made.start_reading()
    made.close()


def listen(live: LiveProcess, until: float, **options: Any) -> tuple[list[Answer], FeedClient]:  # noqa: ANN401
    """All messages up to the reading with this counter."""

    async def run() -> tuple[list[Answer], FeedClient]:
        got: list[Answer] = []
        async with asyncio.timeout(PATIENCE_S), client_of(live, **options) as client:
            async for message in client:
                got.append(message)
                if isinstance(message, DataMessage) and message.data["total_energy_kwh"] == until:
                    return got, client
        raise AssertionError

    return asyncio.run(run())


def client_of(live: LiveProcess, **options: Any) -> FeedClient:  # noqa: ANN401
    return FeedClient(f"http://127.0.0.1:{live.port}", ["energy"], **options)


def values(messages: list[Answer]) -> list[object]:
    """Counters of the readings that are not of a snapshot."""
    return [
        one.data["total_energy_kwh"] for one in messages if isinstance(one, DataMessage) and not one.snapshot
    ]


def gaps(messages: list[Answer]) -> list[tuple[object, ...]]:
    return [(one.from_offset, one.to_offset, one.reason) for one in messages if isinstance(one, GapMessage)]


def _make_anew(live: LiveProcess) -> None:
    """Deletes the Kafka topic and makes one of the same name."""
    admin = AdminClient({"bootstrap.servers": live.env["HL_KAFKA__BOOTSTRAP_SERVERS"], "log_level": 0})
    admin.delete_topics([live.topic])[live.topic].result(PATIENCE_S)
    eventually(lambda: live.topic not in admin.list_topics(timeout=PATIENCE_S).topics)
    live.make_topics()


def positions_now(live: LiveProcess) -> dict[str, dict[int, int]]:
    """What a client is told that subscribes now."""

    async def run() -> dict[str, dict[int, int]]:
        async with asyncio.timeout(PATIENCE_S), client_of(live) as client:
            async for message in client:
                if isinstance(message, SubscribedMessage):
                    return {"energy": dict(message.positions)}
        raise AssertionError

    return asyncio.run(run())


def test_a_client_begins_with_the_newest_readings(live: LiveProcess) -> None:
    live.produce("m1", [1, 2])
    live.produce("m2", [7])
    eventually(live.latest, lambda found: found == {"m1": 2, "m2": 7})
    got, _ = listen(live, until=7)
    shown = {one.device_id: one.data["total_energy_kwh"] for one in got if isinstance(one, DataMessage)}
    assert isinstance(got[0], SubscribedMessage)
    assert shown == {"m1": 2, "m2": 7}
    assert values(got) == []


def test_after_a_restart_the_newest_readings_come_from_the_database(live: LiveProcess) -> None:
    live.store("m9", (datetime.now(UTC) - timedelta(hours=1), 42.0, 1.0))
    live.stop()
    live.restart()
    got, _ = listen(live, until=42)
    [shown] = [one for one in got if isinstance(one, DataMessage)]
    assert (shown.device_id, shown.snapshot, shown.position) == ("m9", True, None)


def test_a_client_misses_nothing_while_the_service_is_restarted(live: LiveProcess) -> None:
    """One client through it all: readings before, during and after, each once and in order."""

    async def run() -> tuple[list[Answer], int]:
        got: list[Answer] = []
        async with asyncio.timeout(PATIENCE_S), client_of(live) as client:
            async for message in client:
                got.append(message)
                if isinstance(message, SubscribedMessage) and client.n_connections == 1:
                    await asyncio.to_thread(live.produce, "m1", range(100))
                if values([message]) == [99]:
                    await asyncio.to_thread(live.stop)
                    await asyncio.to_thread(live.produce, "m1", range(100, 1_300))
                    await asyncio.to_thread(live.restart)
                    await asyncio.to_thread(live.produce, "m1", range(1_300, 1_400))
                if values([message]) == [1_399]:
                    return got, client.n_connections
        raise AssertionError

    got, n_connections = asyncio.run(run())
    assert values(got) == list(range(1_400))
    assert n_connections >= 2
    assert gaps(got) == []


def test_a_hundred_clients_that_come_back_at_once_get_everything(live: LiveProcess) -> None:
    began = positions_now(live)
    live.stop()
    live.produce("m1", range(600))
    live.restart()

    async def one() -> list[Answer]:
        got: list[Answer] = []
        async with client_of(live, positions=began) as client:
            async for message in client:
                got.append(message)
                if values([message]) == [599]:
                    return got
        raise AssertionError

    async def run() -> list[list[Answer]]:
        async with asyncio.timeout(PATIENCE_S):
            return await asyncio.gather(*(one() for _ in range(100)))

    everything = asyncio.run(run())
    assert all(values(got) == list(range(600)) for got in everything)
    assert [got for got in everything if gaps(got)] == []


def test_what_has_left_the_memory_is_read_from_kafka(live: LiveProcess) -> None:
    began = positions_now(live)
    live.produce("m1", range(700))
    eventually(live.latest, lambda found: found == {"m1": 699})
    got, _ = listen(live, until=699, positions=began)
    assert (values(got), gaps(got)) == (list(range(700)), [])


def test_a_resume_is_filtered_too(live: LiveProcess) -> None:
    began = positions_now(live)
    for number in range(200):
        live.produce(f"m{number % 4}", [number])
    eventually(live.latest, lambda found: found.get("m3") == 199)
    got, _ = listen(live, until=199, positions=began, device_id=["m3"], fields=["total_energy_kwh"])
    found = [one for one in got if isinstance(one, DataMessage)]
    assert values(got) == list(range(3, 200, 4))
    assert {(one.device_id, *one.data) for one in found} == {("m3", "total_energy_kwh")}


def test_what_kafka_no_longer_has_is_a_gap(live: LiveProcess) -> None:
    began = positions_now(live)
    live.produce("m1", range(300))
    got, _ = listen(live, until=299, positions=began)
    [partition] = {one.position.partition for one in got if isinstance(one, DataMessage) and one.position}
    live.stop()
    admin = AdminClient({"bootstrap.servers": live.env["HL_KAFKA__BOOTSTRAP_SERVERS"], "log_level": 0})
    admin.delete_records([TopicPartition(live.topic, partition, 120)])[
        TopicPartition(live.topic, partition)
    ].result(PATIENCE_S)
    live.restart()
    got, client = listen(live, until=299, positions=began)
    assert (gaps(got), values(got)) == ([(0, 120, "retention")], list(range(120, 300)))
    assert client.positions["energy"][partition] == 300


def test_a_topic_that_was_made_anew_is_a_gap(live: LiveProcess) -> None:
    live.produce("m1", range(300))
    eventually(live.latest, lambda found: found == {"m1": 299})
    had = positions_now(live)
    live.stop()
    _make_anew(live)
    live.produce("m1", [1_000, 1_001])
    live.restart()
    got, _ = listen(live, until=1_001, positions=had)
    assert (gaps(got), values(got)) == ([(300, 0, "replaced")], [1_000, 1_001])


# The new topic ends before the offset at which the old one was read, at it, or behind it.
@pytest.mark.parametrize("n_new", [2, 300, 400])
def test_a_topic_that_is_made_anew_under_a_live_client_is_a_gap(live: LiveProcess, n_new: int) -> None:
    async def run() -> list[Answer]:
        got: list[Answer] = []
        async with asyncio.timeout(2 * PATIENCE_S), client_of(live) as client:
            async for message in client:
                got.append(message)
                if isinstance(message, SubscribedMessage):
                    await asyncio.to_thread(live.produce, "m1", range(300))
                if values([message]) == [299]:
                    await asyncio.to_thread(_make_anew, live)
                    await asyncio.to_thread(live.produce, "m1", range(1_000, 1_000 + n_new))
                if gaps(got) and values([message]) == [999 + n_new]:
                    return got
        raise AssertionError

    got, new = asyncio.run(run()), list(range(1_000, 1_000 + n_new))
    replaced = next(at for at, message in enumerate(got) if gaps([message]))
    # Those behind the offset may have been told before, as if they followed.
    early = values(got[:replaced])[300:]
    assert values(got[:replaced]) == [*range(300), *early]
    assert early == new[300 : 300 + len(early)]
    assert gaps(got) == [(300 + len(early), 0, "replaced")]
    assert values(got[replaced:]) == new


def test_a_quiet_client_is_told_how_far_it_is(live: LiveProcess) -> None:
    async def run() -> PositionsMessage:
        async with asyncio.timeout(PATIENCE_S), client_of(live, device_id=["nobody"]) as client:
            async for message in client:
                if isinstance(message, SubscribedMessage):
                    await asyncio.to_thread(live.produce, "m1", range(10))
                if isinstance(message, PositionsMessage) and sum(message.positions.values()) == 10:
                    return message
        raise AssertionError

    assert asyncio.run(run()).stream == "energy"


def test_a_client_that_asks_for_what_cannot_be_is_told_so(live: LiveProcess) -> None:
    with pytest.raises(FeedRefusedError, match="unknown_stream"):
        listen_refused(live)


def listen_refused(live: LiveProcess) -> None:
    async def run() -> None:
        async with FeedClient(f"http://127.0.0.1:{live.port}", ["gas"]) as client:
            async for _ in client:
                pass

    asyncio.run(run())


def test_a_client_asks_for_fields_of_several_streams(live: LiveProcess) -> None:
    async def run() -> list[Answer]:
        async with (
            asyncio.timeout(PATIENCE_S),
            FeedClient(
                f"http://127.0.0.1:{live.port}", ["energy", "heatpump"], fields=["power_kw", "actual_temp"]
            ) as client,
        ):
            return [await anext(aiter(client)) for _ in range(2)]

    told = [(one.stream, one.fields) for one in asyncio.run(run()) if isinstance(one, SubscribedMessage)]
    assert told == [("energy", ["power_kw"]), ("heatpump", ["actual_temp"])]


@contextmanager
def events(
    live: LiveProcess, last_id: str | None = None, **query: object
) -> Iterator[Callable[[], tuple[str, Any]]]:
    """Server-sent events: each call gives the next one's id and message."""
    headers = {} if last_id is None else {"Last-Event-ID": last_id}
    url = f"http://127.0.0.1:{live.port}/api/v1/feed/events"
    with httpx.stream(
        "GET", url, params={"stream": "energy", **query}, headers=headers, timeout=PATIENCE_S
    ) as answer:  # type: ignore[dict-item]
        assert answer.raise_for_status().headers["content-type"].startswith("text/event-stream")
        lines = answer.iter_lines()

        def following() -> tuple[str, Any]:
            event_id = ""
            for line in lines:
                if line.startswith("id: "):
                    event_id = line[4:]
                elif line.startswith("data: "):
                    return event_id, json.loads(line[6:])
            raise AssertionError

        yield following


def test_events_are_the_same_messages_and_resume_by_their_id(live: LiveProcess) -> None:
    with events(live, device_id="m1", fields="total_energy_kwh") as following:
        assert following()[1]["type"] == "subscribed"
        live.produce("m2", [5])
        live.produce("m1", [1, 2])
        first, second = following(), following()
    assert [message["data"] for _, message in (first, second)] == [
        {"total_energy_kwh": 1.0},
        {"total_energy_kwh": 2.0},
    ]
    live.produce("m1", range(3, 200))
    live.stop()
    live.restart()
    with events(live, last_id=first[0], device_id="m1") as following:
        assert following()[1]["resumed"] is True
        got = [following()[1]["data"]["total_energy_kwh"] for _ in range(198)]
    assert got == list(range(2, 200))


def test_a_reader_of_events_that_leaves_gives_its_place_back(
    tmp_path: Path, database_url: str, kafka: EmbeddedKafka
) -> None:
    live = LiveProcess(tmp_path, database_url, kafka.bootstrap_servers, HL_LIVE__MAX_CLIENTS="1")
    live.make_tables()
    live.make_topics()
    live.start_reading()
    try:
        for _ in range(20):
            eventually(lambda: _reads_one_event(live))
    finally:
        live.close()


def _reads_one_event(live: LiveProcess) -> bool:
    try:
        with events(live) as following:
            return bool(following()[1]["type"] == "subscribed")
    except httpx.HTTPStatusError:
        # All places are taken: the one before has not been given back yet.
        return False
