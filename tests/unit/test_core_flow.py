"""Routing, acknowledging in order, and accounts that balance."""

from hypothesis import given
from hypothesis import strategies as st

from hl_platform.core.accounts import StageStats
from hl_platform.core.ack_window import AckWindow
from hl_platform.core.routing import Router
from hl_platform.streams import load_streams

ROUTER = Router(load_streams().values())


def test_a_topic_belongs_to_the_stream_whose_filter_matches() -> None:
    stream = ROUTER.stream_of("homelab/energy/house/meter1")
    assert stream is not None
    assert stream.name == "energy"


def test_a_filter_matches_its_own_prefix_as_mqtt_says() -> None:
    assert ROUTER.stream_of("homelab/energy") is not None


def test_a_topic_of_no_stream_has_none() -> None:
    assert ROUTER.stream_of("homelab/energy2/meter1") is None


@given(st.permutations(range(1, 9)))
def test_acknowledgements_leave_in_order_of_arrival_each_once(order: list[int]) -> None:
    window = AckWindow()
    tokens = dict(zip(range(1, 9), window.open(range(1, 9)), strict=True))
    acknowledged = [packet_id for settled in order for packet_id in window.settle([tokens[settled]])]
    assert acknowledged == list(range(1, 9))
    assert len(window) == 0


def test_nothing_is_acknowledged_before_what_came_before_it() -> None:
    window = AckWindow()
    first, second = window.open([1, 2])
    assert window.settle([second]) == []
    assert window.settle([first]) == [1, 2]


def test_an_acknowledgement_does_not_outlive_its_connection() -> None:
    window = AckWindow()
    [old] = window.open([1])
    window.clear()
    [new] = window.open([1])
    assert window.settle([old]) == []
    assert window.settle([new]) == [1]


ways_out = st.sampled_from(["forwarded", "dead_lettered", "duplicates", "corrected", "dropped"])


@given(st.lists(ways_out))
def test_what_was_received_is_forwarded_set_aside_or_in_flight(ways: list[str]) -> None:
    stats = StageStats()
    stats.count("energy", received=len(ways) + 3)
    for way in ways:
        stats.count("energy", **{way: 1})  # type: ignore[arg-type]
    assert stats.snapshot()["energy"].in_flight == 3


def test_a_snapshot_stays_as_it_was() -> None:
    stats = StageStats()
    stats.count("energy", received=1)
    snapshot = stats.snapshot()
    stats.count("energy", received=1)
    assert snapshot["energy"].received == 1


def test_delays_are_handed_over_once() -> None:
    stats = StageStats()
    stats.delay("device_to_row", 5.0, 2)
    assert stats.take_delays()["device_to_row"].n == 2
    assert stats.take_delays() == {}
