"""The delay histogram: close percentiles, and merging is adding."""

import math

from hypothesis import given
from hypothesis import strategies as st

from hl_platform.core.histogram import (
    N_BUCKETS,
    SMALLEST_MS,
    STEPS_PER_DOUBLING,
    UPPER_BOUNDS,
    DelayHistogram,
    upper_ms,
)

ERROR = 2 ** (1 / STEPS_PER_DOUBLING)
delays = st.lists(st.floats(min_value=0, max_value=1e9), min_size=1, max_size=50)


def histogram_of(values: list[float]) -> DelayHistogram:
    histogram = DelayHistogram()
    for value in values:
        histogram.add(value)
    return histogram


@given(st.lists(st.floats(min_value=SMALLEST_MS, max_value=3e6), min_size=1), st.floats(0, 1))
def test_a_percentile_is_at_most_nine_percent_too_high_and_never_too_low(
    values: list[float], share: float
) -> None:
    exact = sorted(values)[max(1, math.ceil(share * len(values))) - 1]
    found = histogram_of(values).percentile(share)
    assert found is not None
    assert exact / (1 + 1e-9) <= found <= exact * ERROR * (1 + 1e-9)


@given(delays, delays)
def test_merging_two_is_adding_all_to_one(one: list[float], two: list[float]) -> None:
    merged, other = histogram_of(one), histogram_of(two)
    merged.merge(other.counts, other.max_ms)
    assert merged == histogram_of(one + two)


@given(delays)
def test_the_maximum_is_exact_at_any_size(values: list[float]) -> None:
    assert histogram_of(values).percentile(1.0) == max(values)


@given(st.lists(st.floats(min_value=-1e9, max_value=1e9) | st.sampled_from(UPPER_BOUNDS), max_size=50))
def test_adding_a_batch_is_adding_one_by_one(values: list[float]) -> None:
    batch = DelayHistogram()
    batch.add_all(values)
    assert batch == histogram_of(values)


def test_adding_many_at_once_is_adding_one_by_one() -> None:
    at_once = DelayHistogram()
    at_once.add(5.0, 3)
    assert at_once == histogram_of([5.0, 5.0, 5.0])


def test_an_empty_one_has_no_percentile() -> None:
    assert DelayHistogram().percentile(0.99) is None


def test_a_delay_below_zero_counts_as_none() -> None:
    histogram = histogram_of([-5_000.0])
    assert (histogram.n, histogram.counts[0], histogram.percentile(0.5)) == (1, 1, 0.0)


def test_the_buckets_reach_from_a_tenth_of_a_millisecond_to_most_of_an_hour() -> None:
    assert upper_ms(0) == SMALLEST_MS
    assert upper_ms(N_BUCKETS - 1) > 50 * 60 * 1000
