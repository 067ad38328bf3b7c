"""Chunks of buckets and the memory that keeps them."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hl_live.chunks import (
    MAX_READS,
    ORIGIN,
    Key,
    Part,
    PartCache,
    Range,
    chunk_at,
    first_of,
    last_begin,
    number_of,
    numbers_of,
    plan_reads,
    within,
)
from hl_live.tagged import etag_of, is_known, json_around

DAY = timedelta(days=1)
BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
KEY: Key = ("energy_hourly", "meter1", 7)
times = st.datetimes(datetime(2020, 1, 1), datetime(2020, 2, 1), timezones=st.just(UTC))  # noqa: DTZ001 - the zone follows
spans = st.tuples(times, st.timedeltas(timedelta(microseconds=1), timedelta(days=9))).map(
    lambda one: Range(one[0], one[0] + one[1])
)


def part_of(n: int) -> Part:
    objects = [
        b'{"device_id":"a]},{","start":"2026-01-01T%02d:00:00Z","x":[1,{}]}' % hour for hour in range(n)
    ]
    return Part(n, b",".join(objects))


def begins(part: Part) -> list[str]:
    return [one["start"][11:13] for one in msgspec.json.decode(b"[" + part.body + b"]")]


@given(at=times, width=st.sampled_from([DAY, 28 * DAY]))
def test_a_time_lies_in_its_chunk(at: datetime, width: timedelta) -> None:
    chunk = chunk_at(number_of(at, width), width)
    assert chunk.start <= at < chunk.end
    assert (chunk.start - ORIGIN) % width == timedelta(0)


@given(span=spans)
def test_the_chunks_of_a_range_hold_it_and_nothing_needless(span: Range) -> None:
    numbers = numbers_of(span, DAY)
    first, last = chunk_at(numbers[0], DAY), chunk_at(numbers[-1], DAY)
    assert first.start <= span.start < first.end
    assert last.start < span.end <= last.end


@given(wanted=st.lists(spans, max_size=12))
def test_what_is_read_holds_all_that_is_wanted(wanted: list[Range]) -> None:
    reads = plan_reads(wanted)
    assert all(any(read.start <= one.start and one.end <= read.end for read in reads) for one in wanted)
    assert len(reads) <= MAX_READS
    assert all(one.end < following.start for one, following in pairwise(reads))


def test_adjoining_days_are_read_in_one_go_and_days_apart_are_not() -> None:
    days = [Range(BEGIN + n * DAY, BEGIN + (n + 1) * DAY) for n in (0, 1, 2, 7)]
    assert plan_reads(days) == [Range(BEGIN, BEGIN + 3 * DAY), days[3]]


def test_a_part_is_cut_at_the_begins_of_its_buckets() -> None:
    hours = Range(BEGIN + timedelta(hours=1), BEGIN + timedelta(hours=3))
    assert begins(within(part_of(5), hours)) == ["01", "02"]
    assert within(part_of(5), Range(BEGIN, BEGIN + DAY)) == part_of(5)
    assert within(part_of(0), hours) == part_of(0)


def test_the_first_buckets_of_a_part_and_its_last_begin() -> None:
    assert first_of(part_of(5), 2) == part_of(2)
    assert last_begin(part_of(5)) == BEGIN + timedelta(hours=4)


def test_a_part_is_found_under_its_print_only() -> None:
    cache = PartCache()
    cache.put(KEY, (24, 1), part_of(3))
    assert cache.get(KEY, (24, 1)) == part_of(3)
    assert cache.get(KEY, (24, 2)) is None
    assert cache.get(KEY, (23, 1)) is None
    cache.put(KEY, (24, 2), part_of(2))
    assert cache.get(KEY, (24, 1)) is None
    assert len(cache) == 1


@given(sizes=st.lists(st.tuples(st.integers(0, 9), st.integers(0, 24)), max_size=60))
def test_what_is_kept_never_takes_more_than_it_may(sizes: list[tuple[int, int]]) -> None:
    cache = PartCache(6_000)
    for number, n in sizes:
        cache.put(("about", "meter1", number), (n, 0), part_of(n))
        assert 0 <= cache.n_bytes <= 6_000
    assert (cache.n_bytes == 0) == (len(cache) == 0)


def test_what_was_not_asked_for_since_longest_goes_first() -> None:
    one_takes = PartCache()
    one_takes.put(("x", "d", 0), (1, 1), part_of(1))
    cache = PartCache(one_takes.n_bytes * 2)
    for number in (1, 2):
        cache.put(("x", "d", number), (1, 1), part_of(1))
    cache.get(("x", "d", 1), (1, 1))
    cache.put(("x", "d", 3), (1, 1), part_of(1))
    assert [cache.get(("x", "d", number), (1, 1)) is not None for number in (1, 2, 3)] == [True, False, True]


@pytest.mark.parametrize(
    ("header", "known"),
    [
        ('"a"', True),
        ('W/"a"', True),
        ('"b", "a"', True),
        ("*", True),
        ('"b"', False),
        ("a", False),
        ("", False),
        (None, False),
    ],
)
def test_a_tag_is_known_by_who_names_it(header: str | None, known: bool) -> None:  # noqa: FBT001 - a table of cases
    assert is_known(header, '"a"') is known


def test_a_tag_tells_apart_what_it_is_made_of() -> None:
    assert etag_of("a", "bc") == etag_of("a", "bc")
    assert len({etag_of("a", "bc"), etag_of("ab", "c"), etag_of("a", b"bc")}) == 3


@pytest.mark.parametrize("n", [0, 1, 3])
def test_an_answer_around_parts_is_the_answer_with_them(n: int) -> None:
    answer = msgspec.defstruct("Answer", [("stream", str), ("buckets", list[int]), ("next", str)])
    body = b"".join(json_around(answer('"buckets":[', [], "x"), "buckets", [b"%d" % i for i in range(n)]))
    assert msgspec.json.decode(body) == {"stream": '"buckets":[', "buckets": list(range(n)), "next": "x"}
