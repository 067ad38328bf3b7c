"""Times in the zone that a request names by `tz`, and which buckets can be asked for in it."""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, tzinfo
from functools import lru_cache
from itertools import zip_longest
from typing import Any
from zoneinfo import ZoneInfo

from msgspec.structs import replace

from hl_live.params import TZ, Param, read_params
from hl_live.problems import BadParameterError
from hl_platform.core.levels import Grain, buckets
from hl_platform.core.readings import Reading

Given = Mapping[str, Sequence[str]]


def zoned_reader(
    household: tzinfo, params_of: Callable[[tzinfo], Sequence[Param]]
) -> Callable[[Given], dict[str, Any]]:
    """Reads the parameters of requests that may have a `tz`.

    Args:
        household: whose local dates are meant without it.
        params_of: the parameters of the route, with local dates of a zone.

    Returns:
        What raises BadParameterError, or returns the parameters by name; `tz` is a ZoneInfo or None.
    """
    made = lru_cache(maxsize=64)(params_of)

    def read(given: Given) -> dict[str, Any]:
        zone = read_params({name: given[name] for name in given if name == TZ.name}, (TZ,))[TZ.name]
        return read_params(given, made(zone or household))

    return read


def in_zone(at: datetime, zone: tzinfo | None) -> datetime:
    """A time as it is shown."""
    return at if zone is None else at.astimezone(zone)


def row_in_zone(zone: tzinfo, make: Callable[..., Any]) -> Callable[..., Any]:
    """Makes of a row what `make` makes of it, with all of its times in a zone."""

    def converting(*row: object) -> Any:  # noqa: ANN401 - what `make` makes
        return make(*(cell.astimezone(zone) if isinstance(cell, datetime) else cell for cell in row))

    return converting


def readings_in_zone(readings: Sequence[Reading], zone: tzinfo | None) -> Sequence[Reading]:
    """Readings with their times in a zone."""
    if zone is None:
        return readings
    return [
        replace(one, timestamp=one.timestamp.astimezone(zone), received_at=one.received_at.astimezone(zone))
        for one in readings
    ]


def check_zone(
    grain: Grain, start: datetime, end: datetime, zone: ZoneInfo | None, household: ZoneInfo
) -> None:
    """Whether the household's buckets are those of a zone, too: days and longer ones are stored as the household's.

    Args:
        grain: of the buckets.
        start: begin of the range, inclusive.
        end: its end, exclusive.
        zone: that a request names.
        household: whose days, months and years are stored.

    Raises:
        BadParameterError: they begin at other times. Minutes and hours are told in any zone.
    """
    if zone is None or grain in ("minute", "hour") or zone.key == household.key:
        return
    ours, theirs = (buckets(grain, start, end, one) for one in (household, zone))
    if any(one != other for one, other in zip_longest(ours, theirs)):
        allowed = (
            f"{household.key}, or a zone where every {grain} of the range begins when it does there; "
            "minutes and hours can be asked for in any"
        )
        raise BadParameterError(TZ.name, zone.key, allowed)
