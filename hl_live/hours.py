"""Hours of a range, on the household's clock."""

from datetime import UTC, datetime, timedelta, tzinfo

HOUR = timedelta(hours=1)


def plan_hours(start: datetime, end: datetime, zone: tzinfo) -> list[datetime]:
    """Where the hours of a half-open range begin, with its own two ends.

    Args:
        start: begin, inclusive, aware.
        end: after `start`, aware.
        zone: whose hours they are; some zones' begin at half past in UTC.

    Returns:
        At least two rising instants in UTC, the first `start` and the last `end`. Hours between are whole.
    """
    start, end = start.astimezone(UTC), end.astimezone(UTC)
    edges = [start]
    while (following := _next_hour(edges[-1], zone)) < end:
        edges.append(following)
    return [*edges, end]


def _next_hour(moment: datetime, zone: tzinfo) -> datetime:
    # Counted in UTC, so that an hour that the clock shows twice or never is still one hour.
    local = moment.astimezone(zone)
    into = timedelta(minutes=local.minute, seconds=local.second, microseconds=local.microsecond)
    return moment - into + HOUR
