from hypothesis import given
from hypothesis import strategies as st

from hl_platform.core.ack_window import AckWindow


def test_nothing_is_acknowledged_before_what_came_first():
    window = AckWindow()
    first, second = window.open([1, 2])
    assert window.settle([second]) == []
    assert window.settle([first]) == [1, 2]


def test_a_token_of_a_broken_connection_acknowledges_nothing():
    window = AckWindow()
    [stale] = window.open([7])
    window.clear()
    window.open([7])
    assert window.settle([stale]) == []
    assert len(window) == 1


def test_settling_twice_acknowledges_once():
    window = AckWindow()
    [token] = window.open([3])
    assert window.settle([token]) == [3]
    assert window.settle([token]) == []


@given(st.permutations(range(1, 30)))
def test_any_order_of_settling_acknowledges_all_in_order_of_arrival(order: list[int]):
    window = AckWindow()
    tokens = dict(zip(range(1, 30), window.open(range(1, 30)), strict=True))
    acknowledged = [packet_id for settled in order for packet_id in window.settle([tokens[settled]])]
    assert acknowledged == list(range(1, 30))
    assert len(window) == 0
