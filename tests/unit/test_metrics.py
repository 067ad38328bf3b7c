"""What is told to a metrics system, apart from servers."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hl_live.delay_totals import DelayTotals, histogram_of
from hl_live.health import plan_caught_up_check, plan_reader_check
from hl_live.metric_families import FeedFacts, families_of_rows, lag_family
from hl_live.schemas import Check
from hl_platform.adapters.kafka.feed_reader import FeedState
from hl_platform.adapters.postgres.metrics_reader import AccountRow, DelayRow, MetricRows
from hl_platform.core.histogram import N_BUCKETS, DelayHistogram


def histogram(*delays_ms: float) -> list[int]:
    made = DelayHistogram()
    for delay_ms in delays_ms:
        made.add(delay_ms)
    return made.counts


def row(minute_s: int, *delays_ms: float) -> DelayRow:
    return DelayRow("sink", "device_to_row", minute_s, histogram(*delays_ms))


def count(totals: DelayTotals) -> float:
    return totals.histograms()["sink", "device_to_row"].buckets[-1][1]


def facts(
    positions: dict[tuple[str, int], int], ends: dict[tuple[str, int], int], age_s: float = 1.0
) -> FeedFacts:
    return FeedFacts(FeedState(age_s, positions, ends, positions), {"t": "t-ws"}, 0, 0)


def samples(rows: MetricRows) -> dict[str, float]:
    return {
        sample.name: sample.value for family in families_of_rows(rows, {}, 3.0) for sample in family.samples
    }


def test_a_minute_that_grows_is_counted_once():
    totals = DelayTotals()
    totals.add([row(60, 10.0)])
    totals.add([row(60, 10.0, 20.0)])
    totals.add([row(60, 10.0, 20.0), row(120, 5.0)])
    assert count(totals) == 3


@given(st.lists(st.lists(st.floats(0.1, 1e5), max_size=4), min_size=1, max_size=8))
def test_totals_are_what_all_minutes_hold_however_often_they_are_read(minutes: list[list[float]]):
    totals = DelayTotals()
    for number, delays in enumerate(minutes):
        for n_seen in range(len(delays) + 1):
            rows = [row(60 * number, *delays[:n_seen])]
            if number:
                rows.append(row(60 * (number - 1), *minutes[number - 1]))
            totals.add(rows)
    assert count(totals) == sum(map(len, minutes))
    assert len(totals._known) <= 3


@given(st.lists(st.floats(0.1, 1e6), max_size=50))
def test_buckets_hold_what_is_within_their_bound_and_the_sum_is_close(delays_ms: list[float]):
    made = histogram_of(histogram(*delays_ms))
    numbers = [number for _, number in made.buckets]
    assert numbers == sorted(numbers)
    assert numbers[-1] == len(delays_ms)
    within = {bound: sum(delay <= float(bound) * 1000 for delay in delays_ms) for bound, _ in made.buckets}
    assert all(abs(number - within[bound]) == 0 for bound, number in made.buckets)
    assert made.sum_s == pytest.approx(sum(delays_ms) / 1000, rel=0.05)


def test_received_does_not_fall_when_a_successor_takes_back_what_was_in_flight():
    before = AccountRow("bridge", "bridge", "energy", 100, 90, 0, 0, 0, 0, 10, None)
    after = AccountRow("bridge", "bridge", "energy", 90, 90, 0, 0, 0, 0, 0, None)
    told = [
        samples(MetricRows([], [one], [], {}, [], []))["hl_readings_received_total"]
        for one in (before, after)
    ]
    assert told == [90, 90]


def test_lag_is_told_by_partition_for_sinks_and_the_feed():
    family = lag_family({("sink", "t", 0): 5, ("sink", "t", 1): 9}, facts({("t", 0): 8}, {("t", 0): 10}))
    told = {(s.labels["consumer_group"], s.labels["kafka_partition"]): s.value for s in family.samples}
    assert told == {("sink", "0"): 5, ("t-ws", "0"): 2}


def test_lag_is_not_told_while_kafka_is_silent():
    silent = facts({("t", 0): 8}, {("t", 0): 10}, age_s=60.0)
    assert lag_family({("sink", "t", 0): 5}, silent).samples == []


def test_histogram_has_as_many_counts_as_the_services_write():
    assert len(histogram(1.0)) == N_BUCKETS


@pytest.mark.parametrize(("lag", "status"), [(0, "ok"), (1_000, "ok"), (1_001, "degraded"), (None, "ok")])
def test_feed_that_is_far_behind_is_not_ready(lag: int | None, status: str):
    assert plan_caught_up_check(Check(status="ok", detail="reads", lag=lag)).status == status


def test_reader_that_has_ended_says_that_a_restart_helps():
    check = plan_reader_check(is_reading=False)
    assert (check.status, "restart" in check.detail) == ("degraded", True)
