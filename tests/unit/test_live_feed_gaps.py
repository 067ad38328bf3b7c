"""A resume over what is not as it was: logs made anew, retention, partitions found later. Gaps are told, and true."""

import asyncio

import pytest

from hl_live.feed.fanout import Place, RingSize
from hl_live.feed.past import Chunk
from tests.unit.feed_parts import Client, House

SMALL = RingSize(100, 10**6)


async def resuming(house: House, position: int, **options: object) -> Client:
    """A client that has been told the first chunk of 500, and has not read it."""
    client = house.client(max_messages=100_000).subscribe(positions={"energy": {0: position}}, **options)
    for _ in range(20):
        await asyncio.sleep(0)
    return client


@pytest.mark.parametrize("n_new", [50, 500, 1_500])
def test_a_topic_that_is_made_anew_under_a_resume_is_a_gap_and_then_all_of_its_records(n_new: int) -> None:
    """Wherever the new one ends: before the client's cursor, at it, or behind what memory holds."""

    async def run() -> Client:
        house = House(1_000, SMALL)
        client = await resuming(house, 0)
        house.make_anew(n_new)
        await client.settle()
        house.publish(["m1"])
        await client.settle()
        return client

    client = asyncio.run(run())
    assert client.offsets() == [*range(500), *range(n_new + 1)]
    assert client.gaps() == [(0, 500, 0, "replaced")]


@pytest.mark.parametrize(("cut_at", "gaps"), [(700, []), (300, [(0, 500, 300, "replaced")])])
def test_a_log_that_is_cut_under_a_resume_is_a_gap_only_where_the_client_had_more(
    cut_at: int, gaps: list[tuple[int, int, int, str]]
) -> None:
    async def run() -> Client:
        house = House(1_000, SMALL)
        client = await resuming(house, 0)
        del house.log["energy", 0][cut_at:]
        house.publish(["m1"] * 200)
        await client.settle()
        return client

    client = asyncio.run(run())
    assert client.offsets() == [*range(500), *range(min(cut_at, 500), cut_at + 200)]
    assert client.gaps() == gaps


def test_a_topic_that_is_made_anew_while_kafka_is_read_is_a_gap(monkeypatch: pytest.MonkeyPatch) -> None:
    async def run() -> Client:
        house = House(1_000, SMALL)
        read, go_on = house.past._read, asyncio.Event()

        async def read_slowly(place: Place, first: int, end: int) -> Chunk:
            chunk = await read(place, first, end)
            await go_on.wait()
            return chunk

        monkeypatch.setattr(house.past, "_read", read_slowly)
        client = await resuming(house, 100)
        house.make_anew(700)
        # It wants the same range of the new log, while that of the old one is under way.
        other = await resuming(house, 100)
        go_on.set()
        await client.settle()
        assert [first for _, first, _ in house.reads] == [0, 0, 500]
        await other.settle()
        assert other.offsets() == list(range(100, 700))
        return client

    client = asyncio.run(run())
    assert (client.offsets(), client.gaps()) == (list(range(700)), [(0, 100, 0, "replaced")])


def test_what_another_replica_told_of_a_log_that_is_no_more_hides_nothing_of_the_new_one() -> None:
    async def run() -> Client:
        house = House(10)
        # On Kafka, and told by another replica: this one has not read it yet. Its other partition is behind.
        house.publish(["m7"] * 3, partition=1)
        house.log["energy", 0] += house.log["energy", 0] * 19
        client = await resuming(house, 200)
        assert client.session._subscriptions["energy"].known_before == {0: 200}
        house.make_anew(30)
        await client.settle()
        return client

    client = asyncio.run(run())
    assert (client.offsets(), client.gaps()) == (list(range(30)), [(0, 200, 0, "replaced")])


def test_a_partition_that_is_found_during_a_resume_is_told_from_its_begin() -> None:
    async def run() -> Client:
        house = House(1_000)
        client = await resuming(house, 0)
        house.publish(["m7"] * 5, partition=1)
        await client.settle()
        house.publish(["m7"], partition=1)
        await client.settle()
        return client

    client = asyncio.run(run())
    assert client.offsets(1) == [0, 1, 2, 3, 4, 5]
    assert (client.offsets(0), client.gaps()) == (list(range(1_000)), [])


def test_a_reading_of_kafka_that_began_earlier_makes_no_gap_for_who_wants_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def run() -> tuple[Client, Client]:
        house = House(100, RingSize(10, 10**6))
        read, go_on = house.past._read, asyncio.Event()

        async def read_slowly(place: Place, first: int, end: int) -> Chunk:
            await go_on.wait()
            return await read(place, first, end)

        monkeypatch.setattr(house.past, "_read", read_slowly)
        first = await resuming(house, 50)
        for _ in range(30):
            house.publish(["m1"])
        second = await resuming(house, 110)
        go_on.set()
        await first.settle()
        await second.settle()
        return first, second

    first, second = asyncio.run(run())
    assert (first.offsets(), first.gaps()) == (list(range(50, 130)), [])
    assert (second.offsets(), second.gaps()) == (list(range(110, 130)), [])


def test_a_chunk_of_kafka_is_read_once_while_what_memory_holds_moves_on() -> None:
    async def run() -> House:
        house = House(300, SMALL)
        house.publish(["m1"] * 150)
        clients = []
        for number in range(50):
            clients.append(await resuming(house, number))
            house.publish(["m1"])
        for client in clients:
            await client.settle()
        assert all(client.offsets() == list(range(number, 500)) for number, client in enumerate(clients))
        return house

    assert [(first, end) for _, first, end in asyncio.run(run()).reads] == [(0, 450)]


def places(client: Client) -> list[tuple[str, int]]:
    """Offsets of data and where gaps end, in the order in which they were told."""
    return [
        ("gap", message["to_offset"]) if message["type"] == "gap" else ("data", message["position"]["offset"])
        for message in client.got
        if message["type"] in ("data", "gap")
    ]


@pytest.mark.parametrize("options", [{"mode": "latest"}, {"max_hz": 0.1}])
def test_a_gap_comes_behind_older_readings_that_were_not_due_yet(options: dict[str, object]) -> None:
    house = House()
    client = house.client().subscribe(**options)
    house.publish()
    client.read()
    # More than are taken at once.
    house.publish([f"m{number}" for number in range(150)])
    house.make_anew(1)
    client.read()
    house.now += 60
    client.read()
    assert places(client) == [*(("data", offset) for offset in range(151)), ("gap", 0), ("data", 0)]
    client.session.close()
    assert all(frame.n_pending == 0 for frame in house.log["energy", 0])


def test_readings_that_wait_before_a_gap_are_let_go_where_their_client_leaves() -> None:
    house = House()
    client = house.client().subscribe(max_hz=0.1)
    house.publish()
    client.read()
    house.publish(["m1", "m2"])
    old = house.log["energy", 0]
    house.make_anew(1)
    assert [frame.n_pending for frame in old] == [0, 1, 1]
    client.session.close()
    assert [frame.n_pending for frame in old] == [0, 0, 0]


def test_a_gap_within_a_resume_comes_behind_older_readings_of_the_latest(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def run() -> Client:
        house = House(1_200, SMALL)
        read = house.past._read

        async def read_until_made_anew(place: Place, first: int, end: int) -> Chunk:
            if first == 500:
                house.make_anew(3)
            return await read(place, first, end)

        monkeypatch.setattr(house.past, "_read", read_until_made_anew)
        client = await resuming(house, 0, mode="latest")
        await client.settle()
        return client

    assert places(asyncio.run(run())) == [("data", 499), ("gap", 0), ("data", 2)]


def test_what_memory_has_is_told_though_kafka_has_deleted_it() -> None:
    async def run() -> Client:
        house = House(100, SMALL, low=150)
        for _ in range(100):
            house.publish(["m1"])
        client = await resuming(house, 50)
        await client.settle()
        return client

    client = asyncio.run(run())
    assert (client.offsets(), client.gaps()) == (list(range(100, 200)), [(0, 50, 100, "retention")])
