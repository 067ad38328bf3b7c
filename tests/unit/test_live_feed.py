"""The fan-out, without sockets: who gets what, and what a slow client gets instead."""

import gc
import json
from datetime import timedelta

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hl_live.feed.fanout import Fanout
from hl_live.feed.frames import Frame, Span, decode_records
from hl_live.feed.messages import Position
from hl_live.feed.subscription import Subscription
from hl_live.feed.wire import text_frame
from hl_platform.adapters.kafka.feed_reader import FeedRecord
from hl_platform.core.accounts import StageStats
from hl_platform.core.readings import Reading, ReadingDecoder
from hl_platform.core.sections import ReadingSettings
from tests.unit.feed_parts import FIELDS, NOW, STREAMS, House, make_frame, payloads

ENERGY = STREAMS["energy"]


def record(value: bytes, offset: int = 0, key: str | None = "m1") -> FeedRecord:
    return FeedRecord(ENERGY.kafka_topic, 2, offset, key, value, NOW)


def body(**values: object) -> bytes:
    return msgspec.json.encode({"timestamp": NOW, "total_energy_kwh": 1.5, "power_kw": 2, **values})


def decode(records: list[FeedRecord], stats: StageStats | None = None) -> list[Span]:
    decoders = {ENERGY.kafka_topic: (ENERGY, ReadingDecoder(ENERGY, ReadingSettings()))}
    return decode_records(decoders, records, stats or StageStats())


def late_frame(late_s: float) -> Frame:
    reading = Reading("m1", NOW - timedelta(seconds=late_s), (0.0, 1.0, None, None), None, NOW)
    return Frame(ENERGY, reading, Position(0, 0))


def test_a_frame_is_the_documented_json() -> None:
    received = NOW + timedelta(milliseconds=20)
    [made] = decode([record(body(device_id="m1", received_at=received, voltage=230, fw="1.2"), offset=7)])
    assert json.loads(made.frames[0].text()) == {
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
    records = [
        record(value, offset) for offset, value in enumerate([body(), b"{", body(power_kw="x"), body()])
    ]
    [span] = decode(records, stats)
    account = stats.snapshot()["energy"]
    assert (len(span.frames), account.received, account.dropped) == (2, 4, 2)
    assert (span.first, span.next_offset) == (0, 4)


def test_a_span_ends_where_records_are_missing() -> None:
    spans = decode([record(body(), offset) for offset in (3, 4, 9)])
    assert [(span.first, span.next_offset) for span in spans] == [(3, 5), (9, 10)]


def test_a_client_gets_its_devices_only() -> None:
    house = House()
    everyone, one = house.client().subscribe(), house.client().subscribe(device_id=["m2"])
    house.publish(["m1", "m2", "m3"])
    everyone.read()
    one.read()
    assert (everyone.offsets(), one.offsets()) == ([0, 1, 2], [1])


def test_a_client_gets_its_stream_only() -> None:
    house = House()
    other = house.client().subscribe("heatpump")
    house.publish()
    assert [message["type"] for message in other.read()] == ["subscribed"]


SELECTIONS = st.fixed_dictionaries(
    {"streams": st.lists(st.sampled_from(sorted(STREAMS)), min_size=1, max_size=3)},
    optional={
        "device_id": st.lists(st.sampled_from(["m1", "m2", "m3"]), max_size=2),
        "fields": st.lists(
            st.sampled_from(sorted({one for names in FIELDS.values() for one in names})), max_size=3
        ),
        "mode": st.sampled_from(["all", "latest"]),
        "max_hz": st.sampled_from([0.5, 10]),
        "snapshot": st.booleans(),
    },
)
PUBLISHED = st.lists(
    st.tuples(st.sampled_from(sorted(STREAMS)), st.sampled_from(["m1", "m2", "m3"])), max_size=30
)


@given(st.lists(SELECTIONS, min_size=1, max_size=6), PUBLISHED, PUBLISHED)
def test_a_client_never_gets_what_it_did_not_ask_for(
    asked: list[dict[str, list[str]]], before: list[tuple[str, str]], after: list[tuple[str, str]]
) -> None:
    house = House()
    for stream, device in before:
        house.publish([device], stream)
    clients = [(one, house.client(max_messages=5).ask(type="subscribe", **one)) for one in asked]
    for stream, device in after:
        house.publish([device], stream)
    for one, client in clients:
        known = {name for stream in one["streams"] for name in FIELDS[stream]}
        if not set(one.get("fields", [])) <= known:
            assert {message["type"] for message in client.read()} == {"error"}
            continue
        for message in client.read():
            assert message["stream"] in one["streams"]
            if message["type"] == "data":
                assert message["device_id"] in one.get("device_id", [message["device_id"]])
                declared = FIELDS[message["stream"]]
                assert list(message["data"]) == [
                    name for name in declared if name in one.get("fields", declared)
                ]


def test_a_message_is_encoded_once_for_each_selection_of_fields(monkeypatch: pytest.MonkeyPatch) -> None:
    encoded: list[object] = []
    encode = Frame._encode
    monkeypatch.setattr(
        Frame, "_encode", lambda frame, *args, **kw: encoded.append(args) or encode(frame, *args, **kw)
    )
    house = House()
    clients = [house.client().subscribe(fields=fields) for fields in (None, ["power_kw"], ["voltage"]) * 20]
    house.publish()
    for client in clients:
        client.read()
    assert len(encoded) == 3


@given(
    st.lists(
        st.one_of(
            st.lists(st.sampled_from("abc"), max_size=9),
            st.sampled_from(["read", "take", "room", "full"]),
        ),
        max_size=40,
    ),
    st.integers(1, 5),
)
def test_a_client_gets_every_frame_or_a_count_of_what_it_missed(
    steps: list[list[str] | str], room: int
) -> None:
    """Steps: publish for these devices, or one of the client's."""
    house = House()
    client = house.client(max_messages=room).subscribe()
    newest: dict[str, int] = {}
    n_published = 0
    for step in [*steps, "read"]:
        if not isinstance(step, str):
            house.publish(step)
            newest |= {device: n_published + number for number, device in enumerate(step)}
            n_published += len(step)
            # At most what may wait, or two of each device.
            assert client.session.n_waiting <= max(room, 6) + 1
            continue
        client.step(step)
        if step != "read":
            continue
        offsets = client.offsets()
        assert offsets == sorted(set(offsets))
        assert len(offsets) + sum(gap["missed"] for gap in client.of("gap")) == n_published
        # However much it missed, it has the latest of each device.
        assert set(newest.values()) <= set(offsets)


def test_a_gap_is_told_before_the_reading_that_follows_the_first_hole() -> None:
    house = House()
    client = house.client(max_messages=2).subscribe()
    house.publish(["m1"] * 5)
    kinds = [(message["type"], message.get("missed")) for message in client.read()[1:]]
    assert kinds == [("gap", 4), ("data", None)]


def test_a_slow_client_takes_nothing_from_another() -> None:
    house = House()
    slow, quick = house.client(max_messages=2).subscribe(), house.client().subscribe()
    for _ in range(50):
        house.publish()
        quick.read()
    slow.read()
    assert (quick.offsets(), quick.of("gap")) == (list(range(50)), [])
    assert len(slow.offsets()) + sum(gap["missed"] for gap in slow.of("gap")) == 50


def test_a_reading_is_pushed_where_nothing_waits() -> None:
    house = House()
    client = house.client().subscribe()
    client.has_room = True
    house.publish()
    # The answer to its request waits still, and comes first.
    assert (client.n_pushed, client.got) == (0, [])
    client.read()
    house.publish()
    assert (client.n_pushed, client.session.n_sent, client.session.n_waiting) == (1, 3, 0)
    client.has_room = False
    house.publish()
    client.has_room = True
    house.publish()
    assert client.n_pushed == 1
    client.read()
    assert (client.offsets(), client.of("gap")) == ([0, 1, 2, 3], [])


def test_nothing_is_pushed_to_a_client_that_has_left() -> None:
    house = House()
    client = house.client().subscribe()
    client.read()
    client.has_room = True
    client.session.close()
    house.publish()
    assert client.n_pushed == 0


@pytest.mark.parametrize("n_bytes", [1, 125, 126, 127, 65_535, 65_536, 70_000])
def test_a_frame_is_what_websockets_reads(n_bytes: int) -> None:
    text = "ä" * (n_bytes // 2) + "x" * (n_bytes % 2)
    assert payloads(text_frame(text) + text_frame("next")) == [text.encode(), b"next"]


@pytest.mark.parametrize("options", [{"mode": "latest"}, {"max_hz": 5}, {"mode": "latest", "max_hz": 5}])
def test_the_latest_are_conflated_without_a_gap(options: dict[str, object]) -> None:
    house = House()
    client = house.client(max_messages=3).subscribe(**options)
    house.publish(["m1", "m2"] * 100)
    client.read()
    assert (client.offsets(), client.of("gap")) == ([198, 199], [])


def test_max_hz_holds_readings_back_until_they_are_due() -> None:
    house = House()
    client = house.client().subscribe(max_hz=2)
    seen = []
    for _ in range(40):
        house.publish()
        client.read()
        seen.append(len(client.offsets()))
        house.now += 0.1
    # 3.9 seconds at two a second, and the first at once.
    assert seen[-1] == 8
    assert client.offsets()[-1] >= 35


def test_ten_thousand_clients_that_leave_with_backlogs_leave_nothing_behind() -> None:
    house = House()
    for number in range(10_000):
        client = house.client(max_messages=10)
        client.subscribe(
            "energy", "heatpump", device_id=[f"m{number}", "m1"], max_hz=1 if number % 3 else None
        )
        client.subscribe("temperature", mode="latest" if number % 2 else "all")
        house.publish(["m1", f"m{number % 7}"])
        client.session.close()
        client.session.close()
        assert client.session.n_waiting == 0
    del client
    gc.collect()
    hub = house.fanout
    assert (hub.n_joined, hub._of_all, hub._of_device) == (0, {}, {})
    assert not any(isinstance(one, Subscription) for one in gc.get_objects())
    assert all(frame.n_pending == 0 for frame in house.log["energy", 0])


def shown_to(n: int, delays: list[float], clock: list[float]) -> tuple[Fanout, list[Subscription], Frame]:
    house = House()
    house.fanout._on_delay, house.fanout._now = delays.append, lambda: clock[0]
    clients = [house.client().subscribe() for _ in range(n)]
    frame = make_frame(0, at=NOW)
    house.fanout.publish([Span("energy", 0, 0, 1, [frame])])
    return house.fanout, [client.session._subscriptions["energy"] for client in clients], frame


def test_the_delay_ends_with_the_last_client() -> None:
    delays, clock = list[float](), [NOW.timestamp()]
    hub, _, frame = shown_to(2, delays, clock)
    clock[0] += 0.01
    hub.settle([frame], sent=True)
    assert delays == []
    clock[0] += 0.02
    hub.settle([frame], sent=True)
    assert delays == [pytest.approx(30, abs=0.1)]


def test_without_a_client_the_delay_ends_when_the_frame_is_ready() -> None:
    delays = list[float]()
    shown_to(0, delays, [NOW.timestamp() + 0.05])
    assert delays == [pytest.approx(50, abs=0.1)]


def test_a_client_that_leaves_does_not_make_the_others_look_slow() -> None:
    delays, clock = list[float](), [NOW.timestamp()]
    hub, [_, leaves], frame = shown_to(2, delays, clock)
    clock[0] += 0.01
    hub.settle([frame], sent=True)
    clock[0] += 60
    hub.leave(leaves)
    assert delays == [pytest.approx(10, abs=0.1)]


@pytest.mark.parametrize(("late_s", "n_delays"), [(0.1, 1), (9.9, 1), (10.1, 0), (-0.9, 1), (-1.1, 0)])
def test_only_live_readings_are_measured(late_s: float, n_delays: int) -> None:
    delays: list[float] = []
    Fanout(STREAMS, delays.append).publish([Span("energy", 0, 0, 1, [late_frame(late_s)])])
    assert len(delays) == n_delays
