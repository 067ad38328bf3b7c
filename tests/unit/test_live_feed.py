"""The fan-out, without sockets."""

import asyncio
import json
from datetime import UTC, datetime, timedelta

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hl_live.feed import Fanout, FeedClient, Frame, decode_records
from hl_platform.adapters.kafka.feed_reader import FeedRecord
from hl_platform.core.accounts import StageStats
from hl_platform.core.readings import Reading, ReadingDecoder
from hl_platform.core.settings import ReadingSettings
from hl_platform.streams import load_streams

NOW = datetime(2026, 1, 3, 16, 0, 0, tzinfo=UTC)
ENERGY = load_streams()["energy"]


def frame(number: int = 0, device_id: str = "m1", late_s: float = 0.1) -> Frame:
    at = NOW - timedelta(seconds=late_s)
    return Frame("energy", Reading(device_id, at, (float(number), 1.0, None, None), None, NOW), str(number))


def record(value: bytes, offset: int = 0, key: str | None = "m1") -> FeedRecord:
    return FeedRecord(ENERGY.kafka_topic, 2, offset, key, value, NOW)


def body(**values: object) -> bytes:
    return msgspec.json.encode({"timestamp": NOW, "total_energy_kwh": 1.5, "power_kw": 2, **values})


def decode(records: list[FeedRecord], stats: StageStats | None = None) -> list[Frame]:
    decoders = {ENERGY.kafka_topic: (ENERGY, ReadingDecoder(ENERGY, ReadingSettings()))}
    return decode_records(decoders, records, stats or StageStats())


def fanout(delays: list[float] | None = None, now: float = NOW.timestamp()) -> Fanout:
    return Fanout((delays if delays is not None else []).append, lambda: now)


def drain(client: FeedClient) -> tuple[int, list[str]]:
    """All that waits, and the sum of the gaps."""
    missed, texts = 0, []
    while client.n_waiting:
        taken = asyncio.run(client.take())
        missed += taken.missed
        texts += [waiting.text for waiting in taken.frames]
    return missed, texts


def test_a_frame_is_the_documented_json() -> None:
    received = NOW + timedelta(milliseconds=20)
    [made] = decode([record(body(device_id="m1", received_at=received, voltage=230, fw="1.2"), offset=7)])
    assert json.loads(made.text) == {
        "type": "data",
        "stream": "energy",
        "device_id": "m1",
        "timestamp": "2026-01-03T16:00:00Z",
        "received_at": "2026-01-03T16:00:00.020000Z",
        "data": {"total_energy_kwh": 1.5, "power_kw": 2.0, "voltage": 230.0, "current": None},
        "position": {"partition": 2, "offset": 7},
    }


def test_a_bad_record_is_counted_and_hides_no_good_one() -> None:
    stats = StageStats()
    frames = decode([record(body()), record(b"{"), record(body(power_kw="x")), record(body())], stats)
    account = stats.snapshot()["energy"]
    assert (len(frames), account.received, account.dropped) == (2, 4, 2)


def test_a_client_gets_its_devices_only() -> None:
    hub, everyone, one = fanout(), FeedClient("energy", None, 10), FeedClient("energy", ["m2"], 10)
    hub.join(everyone)
    hub.join(one)
    hub.publish([frame(1, "m1"), frame(2, "m2"), frame(3, "m3")])
    assert (drain(everyone), drain(one)) == ((0, ["1", "2", "3"]), (0, ["2"]))


def test_a_client_gets_its_stream_only() -> None:
    hub, other = fanout(), FeedClient("heatpump", None, 10)
    hub.join(other)
    hub.publish([frame()])
    assert other.n_waiting == 0


@given(st.lists(st.one_of(st.integers(0, 9), st.none()), max_size=60), st.integers(1, 5))
def test_a_client_gets_every_frame_or_a_count_of_what_it_missed(steps: list[int | None], room: int) -> None:
    """Steps: publish so many frames, or (None) let the client take what waits."""
    hub, client = fanout(), FeedClient("energy", None, room)
    hub.join(client)
    seen, published = 0, 0
    for step in [*steps, None]:
        if step is not None:
            hub.publish([frame(published + number) for number in range(step)])
            published += step
            assert client.n_waiting <= room
            continue
        missed, texts = drain(client)
        # The gap comes first and is exactly as long as the hole before the next frame.
        assert texts == [str(seen + missed + number) for number in range(len(texts))]
        seen += missed + len(texts)
    assert seen == published


def test_a_slow_client_takes_nothing_from_another() -> None:
    hub, slow, quick = fanout(), FeedClient("energy", None, 2), FeedClient("energy", None, 100)
    hub.join(slow)
    hub.join(quick)
    hub.publish([frame(number) for number in range(50)])
    assert (drain(slow), drain(quick)) == ((48, ["48", "49"]), (0, [str(number) for number in range(50)]))


def test_a_client_that_leaves_with_a_backlog_leaves_nothing_behind() -> None:
    hub = fanout()
    for _ in range(300):
        client = FeedClient("energy", None, 10)
        hub.join(client)
        hub.publish([frame(), frame()])
        hub.leave(client)
        hub.leave(client)
        assert client.n_waiting == 0
    assert (hub.n_clients, hub._clients) == (0, {})


def test_the_delay_ends_with_the_last_client() -> None:
    delays: list[float] = []
    clock = [NOW.timestamp()]
    hub = Fanout(delays.append, lambda: clock[0])
    first, last = FeedClient("energy", None, 10), FeedClient("energy", None, 10)
    hub.join(first)
    hub.join(last)
    shown = frame(late_s=0.0)
    hub.publish([shown])
    clock[0] += 0.01
    hub.settle([shown], sent=True)
    assert delays == []
    clock[0] += 0.02
    hub.settle([shown], sent=True)
    assert delays == [pytest.approx(30, abs=0.1)]


def test_without_a_client_the_delay_ends_when_the_frame_is_ready() -> None:
    delays: list[float] = []
    fanout(delays, NOW.timestamp() + 0.05).publish([frame(late_s=0.0)])
    assert delays == [pytest.approx(50, abs=0.1)]


def test_a_client_that_leaves_does_not_make_the_others_look_slow() -> None:
    delays: list[float] = []
    clock = [NOW.timestamp()]
    hub = Fanout(delays.append, lambda: clock[0])
    stays, leaves = FeedClient("energy", None, 10), FeedClient("energy", None, 10)
    hub.join(stays)
    hub.join(leaves)
    shown = frame(late_s=0.0)
    hub.publish([shown])
    clock[0] += 0.01
    hub.settle([shown], sent=True)
    clock[0] += 60
    hub.leave(leaves)
    assert delays == [pytest.approx(10, abs=0.1)]


@pytest.mark.parametrize(("late_s", "n_delays"), [(0.1, 1), (9.9, 1), (10.1, 0), (-0.9, 1), (-1.1, 0)])
def test_only_live_readings_are_measured(late_s: float, n_delays: int) -> None:
    delays: list[float] = []
    fanout(delays).publish([frame(late_s=late_s)])
    assert len(delays) == n_delays
