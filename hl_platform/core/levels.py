"""The levels of the aggregates: where their buckets begin and end, and which of them a query reads.

The same borders are told by the database's hl.bucket_start and hl.bucket_end; a test holds both together.
"""

from collections.abc import Iterator, Mapping
from datetime import UTC, date, datetime, timedelta, tzinfo
from typing import Literal
from zoneinfo import ZoneInfo

Grain = Literal["minute", "hour", "day", "month", "year"]

# From fine to coarse.
GRAINS: tuple[Grain, ...] = ("minute", "hour", "day", "month", "year")
ADVERBS: Mapping[Grain, str] = {
    "minute": "minutely",
    "hour": "hourly",
    "day": "daily",
    "month": "monthly",
    "year": "yearly",
}
# Minutes are computed from readings when they are asked for: this much takes the database well under a second.
MAX_MINUTELY = timedelta(days=2)

MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)


def coarsest(start: datetime, end: datetime, max_points: int, timezone: str) -> Grain:
    """The level that a chart of a range reads: the next finer one would have more buckets than it can show.

    Args:
        start: begin, inclusive, aware.
        end: after `start`, aware.
        max_points: how many buckets of one device are wanted at most.
        timezone: the household's.

    Returns:
        The finest level with at most so many buckets; years where even those are more. Minutes for no more than
        MAX_MINUTELY.
    """
    zone = ZoneInfo(timezone)
    for grain in GRAINS:
        allowed = grain != "minute" or end - start <= MAX_MINUTELY
        if allowed and _count(grain, start, end, zone) <= max_points:
            return grain
    return GRAINS[-1]


def bucket_start(grain: Grain, at: datetime, zone: tzinfo) -> datetime:
    """Begin of the bucket that a time lies in, in UTC.

    Args:
        grain: length of the bucket.
        at: aware.
        zone: the household's, whose days, months and years they are. Hours are counted from local midnight.
    """
    moment = at.astimezone(UTC)
    if grain == "minute":
        return moment.replace(second=0, microsecond=0)
    day = at.astimezone(zone).date()
    if grain == "hour":
        midnight = local_midnight(day, zone)
        return midnight + (moment - midnight) // HOUR * HOUR
    return local_midnight(_first_day(grain, day), zone)


def bucket_end(grain: Grain, bucket: datetime, zone: tzinfo) -> datetime:
    """End of the bucket that begins at a time, in UTC: where the next one begins."""
    if grain == "minute":
        return bucket + MINUTE
    day = bucket.astimezone(zone).date()
    if grain == "hour":
        # Where a day's length is no whole number of hours, its last one is shorter.
        return min(bucket + HOUR, local_midnight(day + timedelta(days=1), zone))
    return local_midnight(_next_day(grain, day), zone)


def buckets(
    grain: Grain, start: datetime, end: datetime, zone: tzinfo
) -> Iterator[tuple[datetime, datetime]]:
    """Begin and end of each bucket that begins within a half-open range, in UTC, in order."""
    bucket = bucket_start(grain, start, zone)
    while bucket < end:
        following = bucket_end(grain, bucket, zone)
        if bucket >= start:
            yield bucket, following
        bucket = following


def local_midnight(day: date, zone: tzinfo) -> datetime:
    """When a local day begins, in UTC: the first midnight where there are two, the day's first instant without one."""
    return datetime(day.year, day.month, day.day, tzinfo=zone).astimezone(UTC)


def _first_day(grain: Grain, day: date) -> date:
    match grain:
        case "month":
            return day.replace(day=1)
        case "year":
            return day.replace(month=1, day=1)
        case _:
            return day


def _next_day(grain: Grain, first: date) -> date:
    match grain:
        case "month":
            return (first.replace(day=1) + timedelta(days=32)).replace(day=1)
        case "year":
            return first.replace(year=first.year + 1, month=1, day=1)
        case _:
            return first + timedelta(days=1)


def _count(grain: Grain, start: datetime, end: datetime, zone: tzinfo) -> int:
    """How many buckets of a level a range touches; of minutes and hours, as if it began with one."""
    if grain in ("minute", "hour"):
        return -((start - end) // (MINUTE if grain == "minute" else HOUR))
    first = start.astimezone(zone).date()
    last = (end - timedelta(microseconds=1)).astimezone(zone).date()
    match grain:
        case "day":
            return (last - first).days + 1
        case "month":
            return (last.year - first.year) * 12 + last.month - first.month + 1
        case _:
            return last.year - first.year + 1
