"""Borders of buckets on the household's clock, and which level a chart reads."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hl_platform.core.levels import GRAINS, HOUR, Grain, bucket_end, bucket_start, buckets, coarsest

ZONES = ["UTC", "Europe/Berlin", "Asia/Kolkata", "Australia/Lord_Howe", "America/St_Johns", "America/Havana"]
START = datetime(2026, 1, 1, tzinfo=UTC)


@given(
    st.sampled_from(GRAINS),
    st.datetimes(datetime(2020, 1, 1), datetime(2030, 1, 1)),  # noqa: DTZ001 - made aware below
    st.sampled_from(ZONES),
)
def test_every_time_lies_in_its_bucket(grain: Grain, time: datetime, zone: str) -> None:
    at = time.replace(tzinfo=UTC)
    start = bucket_start(grain, at, ZoneInfo(zone))
    end = bucket_end(grain, start, ZoneInfo(zone))
    assert start <= at < end
    assert bucket_start(grain, end - timedelta(microseconds=1), ZoneInfo(zone)) == start
    assert bucket_start(grain, end, ZoneInfo(zone)) == end


@given(
    st.datetimes(datetime(2020, 1, 1), datetime(2030, 1, 1)),  # noqa: DTZ001 - made aware below
    st.integers(1, 40 * 86_400),
    st.sampled_from(ZONES),
)
def test_hours_follow_each_other_without_a_hole(time: datetime, length_s: int, zone: str) -> None:
    start = time.replace(tzinfo=UTC)
    found = list(buckets("hour", start, start + timedelta(seconds=length_s), ZoneInfo(zone)))
    assert all(before[1] == after[0] for before, after in pairwise(found))
    assert all(timedelta(0) < end - begin <= HOUR for begin, end in found)


@pytest.mark.parametrize(("day", "n"), [((2026, 3, 29), 23), ((2026, 10, 25), 25), ((2026, 6, 1), 24)])
def test_a_day_has_as_many_hours_as_its_clock_shows(day: tuple[int, int, int], n: int) -> None:
    zone = ZoneInfo("Europe/Berlin")
    start = datetime(*day, tzinfo=zone)
    assert len(list(buckets("hour", start, bucket_end("day", start.astimezone(UTC), zone), zone))) == n


def test_a_day_whose_midnight_comes_twice_begins_with_the_first() -> None:
    zone = ZoneInfo("America/Havana")
    start = bucket_start("day", datetime(2026, 11, 1, 12, tzinfo=zone), zone)
    assert start == datetime(2026, 11, 1, 4, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("length", "max_points", "grain"),
    [
        (timedelta(hours=6), 500, "minute"),
        (timedelta(hours=24), 500, "hour"),
        (timedelta(days=2), 2_880, "minute"),
        (timedelta(days=2, seconds=1), 10_000, "hour"),
        (timedelta(days=20), 500, "hour"),
        (timedelta(days=21), 500, "day"),
        (timedelta(days=500), 500, "day"),
        (timedelta(days=501), 500, "month"),
        (timedelta(days=365), 8_760, "hour"),
        (timedelta(days=3_650), 100, "year"),
        (timedelta(days=3_650), 1, "year"),
    ],
)
def test_a_chart_reads_the_finest_level_that_it_can_show(
    length: timedelta, max_points: int, grain: Grain
) -> None:
    assert coarsest(START, START + length, max_points, "UTC") == grain
