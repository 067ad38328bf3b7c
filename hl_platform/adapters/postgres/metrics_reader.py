"""What the services have written down of themselves, row by row, for a metrics system. No table of readings is read."""

from collections.abc import Sequence
from typing import NamedTuple

import psycopg
from psycopg.rows import class_row

from hl_platform.adapters.postgres.alerts import Alert, read_alerts
from hl_platform.adapters.postgres.balance_store import Balance, read_balances
from hl_platform.adapters.postgres.errors import translated
from hl_platform.adapters.postgres.status import read_next_offsets

READ_LEASES = """
-- read_lease_rows: who runs each service; not those that nobody wants any more
select service, stage, host, pid, software_version as version, epoch, released_at is not null as released,
       extract(epoch from clock_timestamp() - beat_at)::float8 as beat_age_s
from hl.leases where stage in ('bridge', 'sink', 'live') order by service
"""

READ_ACCOUNTS = """
-- read_account_rows: what each service has counted of each stream
select service, stage, stream, received, forwarded, dead_lettered, duplicates, corrected, dropped, in_flight,
       extract(epoch from last_reading_at)::float8 as last_reading_s
from hl.accounts order by service, stream
"""

# A minute's row grows while the minute lasts; those before the last one that was seen are known already.
READ_DELAYS = """
-- read_delay_rows: the histograms since a minute
select service, measure, extract(epoch from minute)::bigint as minute_s, counts
from hl.delays where minute >= greatest(to_timestamp(%(since_s)s), now() - interval '5 minutes')
order by service, measure, minute
"""


class LeaseState(NamedTuple):
    """A service and who holds it."""

    service: str
    stage: str
    host: str
    pid: int
    version: str
    epoch: int
    released: bool
    beat_age_s: float


class AccountRow(NamedTuple):
    """The counts of one stream in one service."""

    service: str
    stage: str
    stream: str
    received: int
    forwarded: int
    dead_lettered: int
    duplicates: int
    corrected: int
    dropped: int
    in_flight: int
    last_reading_s: float | None


class DelayRow(NamedTuple):
    """A histogram of one minute, which begins at `minute_s` in Unix seconds."""

    service: str
    measure: str
    minute_s: int
    counts: Sequence[int]


class MetricRows(NamedTuple):
    """All of it at one moment; `next_offsets` by (consumer group, Kafka topic, Kafka partition)."""

    leases: Sequence[LeaseState]
    accounts: Sequence[AccountRow]
    delays: Sequence[DelayRow]
    next_offsets: dict[tuple[str, str, int], int]
    balances: Sequence[Balance]
    alerts: Sequence[Alert]


def read_metric_rows(conn: psycopg.Connection, since_s: int) -> MetricRows:
    """Everything at one moment.

    Args:
        conn: to the database.
        since_s: begin of the first minute whose delays are wanted, in Unix seconds; five minutes ago at the earliest.

    Raises:
        TransientError: the database cannot be reached now.
        ConfigError: it has no tables of hl, or the role may not read them.
    """
    with translated(), conn.transaction():
        with conn.cursor(row_factory=class_row(LeaseState)) as cursor:
            leases = cursor.execute(READ_LEASES).fetchall()
        with conn.cursor(row_factory=class_row(AccountRow)) as cursor:
            accounts = cursor.execute(READ_ACCOUNTS).fetchall()
        # Binary: two hundred numbers a row.
        with conn.cursor(row_factory=class_row(DelayRow), binary=True) as cursor:
            delays = cursor.execute(READ_DELAYS, {"since_s": since_s}).fetchall()
        return MetricRows(
            leases, accounts, delays, read_next_offsets(conn), read_balances(conn), read_alerts(conn)
        )
