"""Snapshot and resume: no hole and no duplicate between what was, what was missed and what is live."""

import asyncio
import gc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hl_live.feed.fanout import RingSize
from hl_live.feed.frames import Frame, Span
from hl_live.feed.resume import Resume
from hl_live.feed.ring import Ring
from hl_live.feed.session import Session
from hl_live.feed.subscription import Subscription
from hl_platform.core.errors import ConfigError, HlError, InvariantError, TransientError
from tests.unit.feed_parts import STREAMS, Client, House, make_frame

STEPS = st.lists(
    st.sampled_from(["publish", "read", "subscribe", "wait", "take", "room", "full"]), max_size=40
)


@given(STEPS, st.sampled_from([None, ["m1"], ["m0", "m2"]]))
def test_snapshot_and_live_adjoin_wherever_a_client_subscribes(
    steps: list[str], device_id: list[str] | None
) -> None:
    house, number, joined_at = House(), 0, None
    client = house.client()
    for step in [*steps, "subscribe"]:
        if step == "publish":
            house.publish([f"m{number % 3}"])
            number += 1
        elif step == "subscribe" and joined_at is None:
            joined_at = number
            client.subscribe(device_id=device_id)
        else:
            client.step(step)
    client.read()
    shown = [one for one in range(number) if device_id is None or f"m{one % 3}" in device_id]
    assert joined_at is not None
    assert client.offsets() == [one for one in shown if one >= joined_at]
    snapshot = [one["position"]["offset"] for one in client.of("data") if one.get("snapshot")]
    newest = {one % 3: one for one in shown if one < joined_at}
    assert sorted(snapshot) == sorted(newest.values())


@given(
    st.integers(0, 60),
    st.integers(0, 60),
    st.integers(1, 30),
    STEPS,
    st.sampled_from([None, ["m1"], ["m0", "m2"]]),
)
def test_a_client_that_comes_back_gets_everything_since_exactly_once(
    n_before: int, position: int, room: int, steps: list[str], device_id: list[str] | None
) -> None:
    """Before the service began, in the ring or behind it, and while others are published."""

    async def run() -> tuple[House, Client]:
        house = House(n_before, RingSize(room, 10**6))
        house.publish([f"m{(n_before + number) % 3}" for number in range(20)])
        client = house.client()
        client.subscribe(positions={"energy": {0: min(position, n_before + 20)}}, device_id=device_id)
        for step in steps:
            if step == "publish":
                house.publish([f"m{len(house.log['energy', 0]) % 3}"])
            elif not client.step(step):
                await asyncio.sleep(0)
        await client.settle()
        client.session.close()
        return house, client

    house, client = asyncio.run(run())
    since = [frame for frame in house.log["energy", 0] if frame.offset >= min(position, n_before + 20)]
    wanted = [frame.offset for frame in since if device_id is None or frame.reading.device_id in device_id]
    assert client.offsets() == wanted
    assert client.of("gap") == []


@given(st.integers(0, 60), st.integers(1, 30), STEPS, st.sampled_from([{"mode": "latest"}, {"max_hz": 3}]))
def test_a_client_of_the_latest_that_comes_back_has_the_latest_of_each_device(
    position: int, room: int, steps: list[str], options: dict[str, object]
) -> None:
    async def run() -> tuple[House, Client]:
        house = House(40, RingSize(room, 10**6))
        house.publish([f"m{number % 3}" for number in range(20)])
        client = house.client().subscribe(positions={"energy": {0: position}}, **options)
        for step in steps:
            house.now += 0.1
            if step == "publish":
                house.publish([f"m{len(house.log['energy', 0]) % 3}"])
            elif not client.step(step):
                await asyncio.sleep(0)
        await client.settle()
        house.now += 1
        await client.settle()
        client.session.close()
        return house, client

    house, client = asyncio.run(run())
    newest = {
        frame.reading.device_id: frame.offset for frame in house.log["energy", 0] if frame.offset >= position
    }
    assert set(newest.values()) <= set(client.offsets())
    assert client.offsets() == sorted(set(client.offsets()))
    assert client.of("gap") == []
    assert all(frame.n_pending == 0 for frame in house.log["energy", 0])


def test_what_kafka_no_longer_has_is_one_gap() -> None:
    async def run() -> Client:
        client = House(1_000, low=700).client().subscribe(positions={"energy": {0: 100}})
        await client.settle()
        return client

    client = asyncio.run(run())
    gap = {"type": "gap", "stream": "energy", "partition": 0, "from_offset": 100, "to_offset": 700}
    assert client.of("gap") == [gap | {"reason": "retention"}]
    assert client.offsets() == list(range(700, 1_000))


def test_what_is_further_away_than_the_bound_is_one_gap() -> None:
    async def run() -> Client:
        client = House(5_000).client(max_resume=1_200).subscribe(positions={"energy": {0: 100}})
        await client.settle()
        return client

    client = asyncio.run(run())
    assert [(gap["from_offset"], gap["to_offset"], gap["reason"]) for gap in client.of("gap")] == [
        (100, 3_800, "too_far")
    ]
    assert client.offsets() == list(range(3_800, 5_000))


def test_a_topic_that_was_made_anew_is_a_gap_and_then_its_records() -> None:
    async def run() -> Client:
        client = House(30).client().subscribe(positions={"energy": {0: 100}})
        await client.settle()
        return client

    client = asyncio.run(run())
    assert [(gap["from_offset"], gap["to_offset"], gap["reason"]) for gap in client.of("gap")] == [
        (100, 0, "replaced")
    ]
    assert client.offsets() == list(range(30))


def test_a_topic_that_is_made_anew_under_a_live_client_is_a_gap() -> None:
    house = House()
    client = house.client().subscribe()
    house.publish(["m1"] * 5)
    house.fanout.publish([Span("energy", 0, 0, 1, [make_frame(0)])])
    client.read()
    assert client.offsets() == [0, 1, 2, 3, 4, 0]
    assert [(gap["from_offset"], gap["to_offset"], gap["reason"]) for gap in client.of("gap")] == [
        (5, 0, "replaced")
    ]


def test_a_client_that_another_replica_has_told_more_gets_nothing_twice() -> None:
    async def run() -> Client:
        house = House(10)
        # On Kafka, and sent by another replica; this one has not read it yet.
        house.log["energy", 0] += [make_frame(10), make_frame(11)]
        client = house.client().subscribe(positions={"energy": {0: 12}})
        await client.settle()
        house.fanout.publish([Span("energy", 0, 10, 12, house.log["energy", 0][10:12])])
        house.publish()
        await client.settle()
        return client

    client = asyncio.run(run())
    assert (client.offsets(), client.of("gap")) == ([12], [])


def test_a_partition_that_the_client_has_not_heard_of_is_told_from_its_begin() -> None:
    async def run() -> Client:
        house = House(3)
        house.publish(["m7"] * 4, partition=1)
        client = house.client().subscribe(positions={"energy": {0: 3}})
        await client.settle()
        return client

    assert asyncio.run(run()).offsets(1) == [0, 1, 2, 3]


def test_a_thousand_clients_that_come_back_at_once_read_kafka_once() -> None:
    async def run() -> tuple[House, list[Client]]:
        house = House(1_000)
        clients = [
            house.client().subscribe(positions={"energy": {0: 480 + number // 2}}) for number in range(1_000)
        ]
        await asyncio.gather(*(client.settle() for client in clients))
        return house, clients

    house, clients = asyncio.run(run())
    assert house.reads == [(("energy", 0), first, first + 500) for first in (0, 500)]
    assert all(
        client.offsets() == list(range(480 + number // 2, 1_000)) for number, client in enumerate(clients)
    )


def test_a_client_that_leaves_while_it_resumes_leaves_nothing_behind() -> None:
    async def run() -> tuple[House, int]:
        house = House(3_000)
        for _ in range(50):
            client = house.client().subscribe(positions={"energy": {0: 5}})
            await asyncio.sleep(0)
            client.session.close()
        for _ in range(20):
            await asyncio.sleep(0)
        return house, len(asyncio.all_tasks())

    house, n_tasks = asyncio.run(run())
    assert (house.fanout.n_joined, n_tasks) == (0, 1)


def test_ten_thousand_clients_that_leave_while_they_resume_leave_nothing_behind() -> None:
    """With a backlog of the past, of the ring, or of what is live; at whatever step they leave."""

    def n_alive() -> int:
        gc.collect()
        return sum(isinstance(one, Subscription | Resume | Session) for one in gc.get_objects())

    async def run() -> tuple[House, int, int]:
        house = House(100, RingSize(20, 10**6))
        house.publish(["m1"] * 40)
        n_before = n_alive()
        for number in range(10_000):
            client = house.client(max_messages=10)
            client.subscribe(
                positions={"energy": {0: number % 150}}, mode="latest" if number % 7 == 0 else "all"
            )
            for _ in range(number % 5):
                await asyncio.sleep(0)
            if number % 3 == 0:
                client.session.take()
            if number % 100 == 0:
                house.publish(["m1"])
            client.session.close()
        await asyncio.sleep(0)
        await client.settle()
        del client
        return house, n_before, n_alive()

    house, n_before, n_after = asyncio.run(run())
    assert n_after == n_before
    assert (house.fanout.n_joined, house.past._under_way) == (0, {})
    assert all(frame.n_pending == 0 for frame in house.log["energy", 0])


def test_a_client_that_does_not_read_is_replayed_one_chunk_only() -> None:
    async def run() -> int:
        house = House(50_000)
        client = house.client().subscribe(positions={"energy": {0: 0}})
        for _ in range(500):
            await asyncio.sleep(0)
        client.session._answers.clear()
        n_waiting = client.session.n_waiting
        client.session.close()
        return n_waiting

    assert asyncio.run(run()) == 500


@pytest.mark.parametrize("error", [TransientError("away"), ConfigError("refused"), InvariantError("odd")])
def test_an_outage_of_kafka_is_waited_out(monkeypatch: pytest.MonkeyPatch, error: HlError) -> None:
    """Also one in which it refuses us for a while."""
    monkeypatch.setattr("hl_live.feed.resume.AGAIN_S", 0)
    failures = [error, error]

    async def run() -> Client:
        house = House(10)
        read = house.past._read

        async def read_later(*what: object) -> object:
            if failures:
                raise failures.pop()
            return await read(*what)  # type: ignore[arg-type]

        monkeypatch.setattr(house.past, "_read", read_later)
        client = house.client().subscribe(positions={"energy": {0: 5}})
        await client.settle()
        return client

    assert asyncio.run(run()).offsets() == [5, 6, 7, 8, 9]


def test_a_reading_that_the_database_told_first_is_not_told_again() -> None:
    house = House()
    stored = make_frame(7, "m1")
    client = house.client().subscribe()
    house.fanout.put_stored("energy", [Frame(STREAMS["energy"], stored.reading, None)])
    house.publish(["m1"] * 10)
    client.read()
    [shown] = [message for message in client.of("data") if message.get("snapshot")]
    assert (shown["data"]["total_energy_kwh"], shown["position"]) == (7, None)
    assert client.offsets() == [0, 1, 2, 3, 4, 5, 6, 8, 9]


@pytest.mark.parametrize("options", [{"snapshot": False}, {"positions": {"energy": {0: 4}}}])
def test_a_client_that_has_no_snapshot_is_not_shown_what_the_database_tells_later(
    options: dict[str, object],
) -> None:
    async def run() -> Client:
        house = House(4)
        stored = make_frame(7, "m1")
        client = house.client().subscribe(**options)
        await client.settle()
        house.fanout.put_stored("energy", [Frame(STREAMS["energy"], stored.reading, None)])
        house.publish(["m1"] * 6)
        await client.settle()
        return client

    client = asyncio.run(run())
    assert [message for message in client.of("data") if message.get("snapshot")] == []
    # Nor is the reading held for one that it has been shown.
    assert client.offsets() == [4, 5, 6, 7, 8, 9]


def test_positions_are_told_when_everything_before_them_has_been() -> None:
    house = House()
    client = house.client().subscribe(device_id=["m1"])
    house.publish(["m1", "m2", "m2"])
    house.fanout.tell_positions()
    assert [message["type"] for message in client.read()] == ["subscribed", "data", "positions"]
    assert client.of("positions") == [{"type": "positions", "stream": "energy", "positions": {"0": 3}}]


@given(st.lists(st.integers(1, 4), max_size=400), st.integers(1, 20), st.integers(100, 3_000))
def test_a_ring_holds_everything_since_its_start_within_its_bounds(
    steps: list[int], max_frames: int, max_bytes: int
) -> None:
    ring, offset, frames = Ring(5, max_frames, max_bytes), 5, []
    for step in steps:
        # Some offsets hold no reading.
        offset += step
        frames.append(make_frame(offset - 1))
        ring.append(frames[-1:], offset)
        assert len(ring) <= max_frames
        assert ring.n_bytes <= max_bytes
    kept = [frame for frame in frames if frame.offset >= ring.start]
    read, at = [], ring.start
    while at < ring.next_offset:
        some, at = ring.read(at, 3)
        read += some
    assert (read, at) == (kept, offset)
