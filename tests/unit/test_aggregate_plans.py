"""Plans of a refresh: how much at a time, which days in one run, who has been silent for too long."""

from datetime import UTC, datetime, timedelta

import pytest

from dbt_like_sql.engine.audit import Audited
from dbt_like_sql.engine.drain import Drained
from dbt_like_sql.engine.marks import MAX_DAYS, plan_range
from dbt_like_sql.engine.pace import FIRST_MARKS, MAX_MARKS, MAX_PAUSE_S, Chunk, plan_chunk
from dbt_like_sql.engine.soundness import judge_backlog, judge_fresh, silence_allowed
from hl_platform.defs.aggregates import type_of
from hl_platform.streams import load_streams

DAY = datetime(2026, 1, 31, tzinfo=UTC)


def days(*before: int) -> list[datetime]:
    return [DAY - timedelta(days=n) for n in before]


@pytest.mark.parametrize(
    ("last", "expected"),
    [
        ((0, 0.0, 0.0), Chunk(FIRST_MARKS, 0.0)),
        ((100, 250.0, 1.0), Chunk(100, 0.0)),
        ((100, 1.0, 1.0), Chunk(200, 0.0)),
        ((100, 500.0, 1.0), Chunk(50, 0.0)),
        ((100, 60_000.0, 1.0), Chunk(25, 0.0)),
        ((1, 60_000.0, 1.0), Chunk(1, 0.0)),
        ((MAX_MARKS, 1.0, 1.0), Chunk(MAX_MARKS, 0.0)),
        ((100, 250.0, 20.0), Chunk(25, 0.5)),
        ((100, 250.0, 10_000.0), Chunk(25, MAX_PAUSE_S)),
    ],
)
def test_a_chunk_takes_a_quarter_of_a_second_and_less_of_a_slow_database(
    last: tuple[int, float, float], expected: Chunk
) -> None:
    assert plan_chunk(*last) == expected


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        ([], None),
        (days(0), (DAY, DAY)),
        (days(0, 1, 5, 12), (DAY - timedelta(days=12), DAY)),
        (days(0, 1, 20, 21), (DAY - timedelta(days=1), DAY)),
        (days(*range(500)), (DAY - timedelta(days=MAX_DAYS), DAY)),
    ],
)
def test_a_run_takes_the_newest_days_that_are_near_to_each_other(
    found: list[datetime], expected: tuple[datetime, datetime] | None
) -> None:
    assert plan_range(found) == expected


def test_drained_adds_up() -> None:
    first, second = Drained("m", 1, 2, 3.0, 1, {DAY: 2}, 7, 7), Drained("m", 1, 1, 1.0, 1, {DAY: 1}, 9, 9)
    assert Drained("m").plus(first).plus(second) == Drained("m", 2, 3, 4.0, 2, {DAY: 3}, 7, 9)


@pytest.mark.parametrize(("interval_s", "expected"), [(1.0, 600.0), (300.0, 900.0), (None, 3600.0)])
def test_a_device_may_miss_a_few_of_its_own_readings(interval_s: float | None, expected: float) -> None:
    assert silence_allowed(interval_s, 3_600.0) == expected


def test_a_dead_device_is_named_among_fresh_ones() -> None:
    found = judge_fresh("t", [("a", 5.0, 1.0), ("b", 1_200.0, 1.0)], 3_600.0)
    assert (found.passed, found.explanation) == (False, "Silent for longer than usual: b for 20 min.")


@pytest.mark.parametrize(("oldest_s", "passed"), [(None, True), (60.0, True), (4_000.0, False)])
def test_what_is_dirty_for_long_is_told(oldest_s: float | None, *, passed: bool) -> None:
    assert judge_backlog("m", oldest_s).passed is passed


def test_an_audit_names_what_it_found() -> None:
    text = Audited("m", 10, 2, (("meter1", DAY),), 1.0).text
    assert "meter1 2026-01-31T00:00:00+00:00 and 1 more" in text


@pytest.mark.parametrize(
    ("column", "expected"),
    [
        ("bucket", "timestamptz"),
        ("n_readings", "bigint"),
        ("room", "text"),
        ("mode_seconds", "jsonb"),
        ("power_kw_max", "double precision"),
        ("consumption_kwh", "double precision"),
    ],
)
def test_a_column_is_shown_with_its_type(column: str, expected: str) -> None:
    fields = {field.name: field for stream in load_streams(None).values() for field in stream.fields}
    assert type_of(column, fields) == expected
