"""Readings as rows for COPY: what can be made of a batch before the database is asked.

A plain tuple for each, and whole microseconds instead of datetimes, because there are many: to compare, hash and send a
datetime costs more than all else that is done with a reading here.
"""

from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any, NamedTuple

from hl_platform.core.readings import Reading

# Where PostgreSQL counts microseconds from.
EPOCH = datetime(2000, 1, 1, tzinfo=UTC)
DAY_US = 86_400_000_000

# n, device_id, timestamp, the stream's fields in declared order, extra, received_at; both times in microseconds.
Row = tuple[Any, ...]
DEVICE, AT, RECEIVED = 1, 2, -1


class Rows(NamedTuple):
    """Readings and their rows.

    Args:
        readings, rows: in the same order; rows are numbered from 0.
        are_distinct: whether no two are of the same device and timestamp.
        days: the UTC days that they are of.
    """

    readings: Sequence[Reading]
    rows: list[Row]
    are_distinct: bool
    days: set[date]


def make_rows(readings: Sequence[Reading]) -> Rows:
    """The rows of some readings."""
    rows: list[Row] = []
    received_at, received_us = EPOCH, 0
    for n, reading in enumerate(readings):
        # A bridge takes many readings at one moment.
        if reading.received_at != received_at:
            received_at = reading.received_at
            received_us = microseconds(received_at)
        at_us = microseconds(reading.timestamp)
        rows.append((n, reading.device_id, at_us, *reading.values, reading.extra, received_us))
    keys = {row[DEVICE : AT + 1] for row in rows}
    days = {EPOCH.date() + timedelta(days=day) for day in {row[AT] // DAY_US for row in rows}}
    return Rows(readings, rows, len(keys) == len(rows), days)


def microseconds(moment: datetime) -> int:
    """Whole microseconds since EPOCH of an aware datetime, exact for all there are."""
    since = moment - EPOCH
    return (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds


# Where others count from.
UNIX_EPOCH_US = microseconds(datetime(1970, 1, 1, tzinfo=UTC))
