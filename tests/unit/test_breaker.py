"""The circuit breaker: opens at a flood, lets probes through, closes by itself."""

from hypothesis import given
from hypothesis import strategies as st

from hl_platform.pipeline.breaker import MIN_RECORDS, PROBE_EVERY_S, PROBE_RECORDS, WINDOW_S, Breaker

BATCH = 10_000


def opened(share: float = 0.5) -> Breaker:
    breaker = Breaker(share)
    breaker.count(0.0, MIN_RECORDS, MIN_RECORDS)
    return breaker


def test_good_records_are_read_without_bounds():
    breaker = Breaker(0.5)
    breaker.count(0.0, BATCH, 0)
    assert breaker.plan_read(0.1, BATCH) == BATCH


def test_a_flood_of_rejected_records_stops_reading():
    assert opened().plan_read(0.1, BATCH) == 0


def test_exactly_the_share_is_not_a_flood():
    breaker = Breaker(0.5)
    breaker.count(0.0, 2 * MIN_RECORDS, MIN_RECORDS)
    assert not breaker.is_open


def test_a_few_rejected_records_are_not_a_flood_however_large_their_share():
    breaker = Breaker(0.5)
    breaker.count(0.0, MIN_RECORDS - 1, MIN_RECORDS - 1)
    assert not breaker.is_open


def test_good_records_never_open_it_whatever_came_before_them():
    breaker = Breaker(0.5)
    breaker.count(0.0, MIN_RECORDS - 1, MIN_RECORDS - 1)
    breaker.count(0.1, 10, 0)
    assert not breaker.is_open


def test_many_small_batches_are_a_flood_together():
    breaker = Breaker(0.5)
    for n in range(MIN_RECORDS):
        breaker.count(n * 0.001, 1, 1)
    assert breaker.is_open


def test_what_was_rejected_before_the_window_is_forgotten():
    breaker = Breaker(0.5)
    breaker.count(0.0, MIN_RECORDS - 1, MIN_RECORDS - 1)
    breaker.count(WINDOW_S, 1, 1)
    assert not breaker.is_open


def test_a_share_of_one_never_opens():
    assert not opened(share=1).is_open


def test_an_open_breaker_lets_a_probe_through_when_its_time_has_come():
    assert opened().plan_read(PROBE_EVERY_S, BATCH) == PROBE_RECORDS


def test_a_probe_that_finds_nothing_to_read_stays_due():
    breaker = opened()
    breaker.count(PROBE_EVERY_S, 0, 0)
    assert breaker.plan_read(PROBE_EVERY_S + 0.1, BATCH) == PROBE_RECORDS


def test_a_probe_that_fails_waits_for_the_next():
    breaker = opened()
    breaker.count(PROBE_EVERY_S, 100, 50)
    assert breaker.plan_read(PROBE_EVERY_S + 0.1, BATCH) == 0
    assert breaker.plan_read(2 * PROBE_EVERY_S, BATCH) == PROBE_RECORDS


def test_a_probe_that_passes_closes_it_and_old_rejections_are_forgotten():
    breaker = opened()
    breaker.count(PROBE_EVERY_S, 100, 49)
    breaker.count(PROBE_EVERY_S + 0.1, 1, 1)
    assert breaker.plan_read(PROBE_EVERY_S + 0.2, BATCH) == BATCH


batches = st.tuples(st.floats(0, 30), st.integers(0, 3_000), st.floats(0, 1))


@given(st.lists(batches), st.sampled_from([0.1, 0.5, 0.9, 1.0]))
def test_no_stream_stands_still_for_longer_than_the_time_between_probes(
    steps: list[tuple[float, int, float]], share: float
):
    breaker, now_s = Breaker(share), 0.0
    for wait_s, n_records, bad in steps:
        now_s += wait_s
        breaker.count(now_s, n_records, int(n_records * bad))
        assert breaker.plan_read(now_s + PROBE_EVERY_S, BATCH) > 0


@given(st.lists(batches))
def test_streams_below_the_share_are_never_paused(steps: list[tuple[float, int, float]]):
    breaker, now_s = Breaker(0.5), 0.0
    for wait_s, n_records, bad in steps:
        now_s += wait_s
        breaker.count(now_s, n_records, int(n_records * bad / 2))
        assert breaker.plan_read(now_s, BATCH) == BATCH
