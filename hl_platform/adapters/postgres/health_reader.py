"""Heartbeats, accounts and table sizes in one look, for the health that Dagster shows."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import NamedTuple

from psycopg.rows import class_row

from hl_platform.adapters.postgres.alerts import Alert, read_alerts
from hl_platform.adapters.postgres.balance_store import Balance, read_balances
from hl_platform.adapters.postgres.connection import connect
from hl_platform.adapters.postgres.errors import translated
from hl_platform.core.streams import Stream

READ_LEASES = """
-- read_leases: seconds since each service showed that it lives
select service, stage, run_id, extract(epoch from clock_timestamp() - beat_at)::float8 as beat_age_s,
       released_at is not null as released
from hl.leases
"""

READ_ACCOUNTS = """
-- read_accounts_by_stage: what each stage counted for each stream, over all its services
select stage, stream, sum(received)::bigint as received, sum(forwarded)::bigint as forwarded,
       sum(dead_lettered)::bigint as dead_lettered, sum(duplicates)::bigint as duplicates,
       sum(corrected)::bigint as corrected, sum(dropped)::bigint as dropped,
       sum(in_flight)::bigint as in_flight, max(last_reading_at) as last_reading_at,
       extract(epoch from clock_timestamp() - max(last_reading_at))::float8 as last_reading_age_s
from hl.accounts
group by stage, stream
"""

# Statistics, not counts: a count would read the whole table.
READ_TABLE = """
-- read_table: about how many rows a partitioned table has, and how many bytes it takes
select coalesce(sum(s.n_live_tup), 0)::bigint as n_rows,
       coalesce(sum(pg_total_relation_size(p.relid)), 0)::bigint as size_bytes
from pg_partition_tree(to_regclass(%(table)s)) as p
left join pg_stat_user_tables as s on s.relid = p.relid
where p.isleaf
"""

READ_OFFSETS = """
-- read_next_offsets: where each consumer group that keeps its position here continues
select consumer_group, kafka_topic, kafka_partition, next_offset from hl.offsets
"""


class ServiceHealth(NamedTuple):
    """A row of hl.leases, its heartbeat as an age in seconds."""

    service: str
    stage: str
    run_id: str
    beat_age_s: float
    released: bool


class StageAccount(NamedTuple):
    """The accounts of one stream in one stage, summed over its services."""

    stage: str
    stream: str
    received: int = 0
    forwarded: int = 0
    dead_lettered: int = 0
    duplicates: int = 0
    corrected: int = 0
    dropped: int = 0
    in_flight: int = 0
    last_reading_at: datetime | None = None
    last_reading_age_s: float | None = None


class TableSize(NamedTuple):
    """About how large a table is."""

    n_rows: int
    size_bytes: int


class Health(NamedTuple):
    """What the database knows about the health of everything.

    Args:
        services: by name.
        accounts: by stage and stream.
        tables: by stream.
        next_offsets: by (consumer group, Kafka topic, Kafka partition).
        balances: what the last comparison of the accounts found, by stage and stream.
        alerts: everything that is raised.
    """

    services: Mapping[str, ServiceHealth]
    accounts: Mapping[tuple[str, str], StageAccount]
    tables: Mapping[str, TableSize]
    next_offsets: Mapping[tuple[str, str, int], int]
    balances: Mapping[tuple[str, str], Balance]
    alerts: Sequence[Alert]

    def account(self, stage: str, stream: str) -> StageAccount:
        """The account of a stream in a stage; all zero before its first reading."""
        return self.accounts.get((stage, stream), StageAccount(stage, stream))


def read_health(url: str, streams: Iterable[Stream]) -> Health:
    """Everything at one moment.

    Raises:
        TransientError: the database cannot be reached now.
    """
    with connect(url, application_name="hl-health") as conn, translated(), conn.transaction():
        with conn.cursor(row_factory=class_row(ServiceHealth)) as cursor:
            services = {row.service: row for row in cursor.execute(READ_LEASES)}
        with conn.cursor(row_factory=class_row(StageAccount)) as cursor:
            accounts = {(row.stage, row.stream): row for row in cursor.execute(READ_ACCOUNTS)}
        tables = {}
        with conn.cursor(row_factory=class_row(TableSize)) as cursor:
            for stream in streams:
                row = cursor.execute(READ_TABLE, {"table": f"public.{stream.table}"}).fetchone()
                tables[stream.name] = row or TableSize(0, 0)
        offsets = {(group, topic, partition): n for group, topic, partition, n in conn.execute(READ_OFFSETS)}
        balances = {(row.stage, row.stream): row for row in read_balances(conn)}
        alerts = read_alerts(conn)
    return Health(services, accounts, tables, offsets, balances, alerts)
