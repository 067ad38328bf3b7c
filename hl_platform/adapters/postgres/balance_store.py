"""Reads all accounts at one moment, to be compared, and keeps what the comparisons found."""

from collections.abc import Iterable
from datetime import datetime
from typing import NamedTuple

import psycopg
from psycopg import IsolationLevel
from psycopg.rows import class_row

from hl_platform.adapters.postgres.connection import connect
from hl_platform.adapters.postgres.errors import translated
from hl_platform.core.balance import AccountRow, CoverageRow, Difference, Ledger, PositionRow

# How long what did not balance is remembered.
KEEP_DAYS = 30

READ_ACCOUNTS = """
-- read_all_accounts: what each service counted for each stream
select service, stage, stream, received, forwarded, dead_lettered, duplicates, corrected, dropped, in_flight
from hl.accounts
"""

READ_COVERAGE = """
-- read_all_coverage: where the counted records are, as bridge and sink say
select stage, bridge, stream, kind, kafka_topic, kafka_partition, n_records, next_offset
from hl.coverage
"""

READ_POSITIONS = """
-- read_positions: where each sink began, and where it is
select consumer_group, kafka_topic, kafka_partition, first_offset, next_offset
from hl.offsets where first_offset is not null
"""

EXTEND = """
-- extend: the newest comparison found the same again; no row means that it did not
update hl.balances as b set to_at = clock_timestamp(), explanation = %(explanation)s
where stream = %(stream)s and stage = %(stage)s and n_records = %(n_records)s
  and from_at = (select max(from_at) from hl.balances where stream = b.stream and stage = b.stage)
"""

BEGIN = """
-- begin: the comparison found something else than before
insert into hl.balances (stream, stage, from_at, to_at, n_records, explanation)
values (%(stream)s, %(stage)s, clock_timestamp(), clock_timestamp(), %(n_records)s, %(explanation)s)
"""

FORGET = """
-- forget: old findings, but never the newest of a stage, nor the last time that it balanced
delete from hl.balances as old
where to_at < now() - make_interval(days => %(days)s)
  and exists (select from hl.balances as newer
              where newer.stream = old.stream and newer.stage = old.stage and newer.from_at > old.from_at
                and (newer.n_records = 0 or old.n_records <> 0))
"""

READ_BALANCES = """
-- read_balances: the newest finding of each stage, and since when it has been out of balance
select n.stream, n.stage, n.n_records, n.explanation, n.to_at as compared_at,
       extract(epoch from clock_timestamp() - n.to_at)::float8 as age_s,
       case when n.n_records <> 0 then last.to_at end as balanced_at,
       case when n.n_records <> 0 then
           (select min(o.from_at) from hl.balances as o
            where o.stream = n.stream and o.stage = n.stage and o.n_records <> 0
              and (last.to_at is null or o.from_at > last.to_at))
       end as found_at
from hl.balances as n
left join lateral (select max(o.to_at) as to_at from hl.balances as o
                   where o.stream = n.stream and o.stage = n.stage and o.n_records = 0) as last on true
where n.from_at = (select max(from_at) from hl.balances where stream = n.stream and stage = n.stage)
order by n.stream, array_position(array['bridge', 'bridge_to_kafka', 'kafka_to_sink', 'sink'], n.stage)
"""


class Balance(NamedTuple):
    """What the last comparison of one stream found at one stage.

    Args:
        stream, stage: whose.
        n_records: by how many the accounts differ; 0 when they balance.
        explanation: in words.
        compared_at: when.
        age_s: how long ago that is.
        balanced_at: when they last balanced; None if they do, or never did.
        found_at: when the difference was first found; None if there is none.
    """

    stream: str
    stage: str
    n_records: int
    explanation: str
    compared_at: datetime
    age_s: float
    balanced_at: datetime | None
    found_at: datetime | None

    @property
    def interval(self) -> str:
        """Between which two comparisons it went wrong, for a person; empty when all is well."""
        if self.found_at is None:
            return ""
        found = f"{self.found_at:%Y-%m-%d %H:%M:%S} UTC"
        if self.balanced_at is None:
            return f"before {found}"
        return f"between {self.balanced_at:%Y-%m-%d %H:%M:%S} and {found}"


def read_ledger(url: str) -> Ledger:
    """All accounts and what they cover, at one moment.

    Raises:
        TransientError: the database cannot be reached now.
    """
    with connect(url, application_name="hl-balance") as conn, translated():
        # One snapshot for all queries: between two of them everything moves on.
        conn.isolation_level = IsolationLevel.REPEATABLE_READ
        with conn.transaction():
            with conn.cursor(row_factory=class_row(AccountRow)) as cursor:
                accounts = cursor.execute(READ_ACCOUNTS).fetchall()
            with conn.cursor(row_factory=class_row(CoverageRow)) as cursor:
                coverage = cursor.execute(READ_COVERAGE).fetchall()
            with conn.cursor(row_factory=class_row(PositionRow)) as cursor:
                positions = cursor.execute(READ_POSITIONS).fetchall()
    return Ledger(accounts, coverage, positions)


def write_balances(url: str, differences: Iterable[Difference]) -> None:
    """Keeps the findings of one comparison: those that repeat the last ones prolong them.

    Raises:
        TransientError: the database cannot be reached now.
    """
    with connect(url, application_name="hl-balance") as conn, translated(), conn.transaction():
        for difference in differences:
            if not conn.execute(EXTEND, difference._asdict()).rowcount:
                conn.execute(BEGIN, difference._asdict())
        conn.execute(FORGET, {"days": KEEP_DAYS})


def read_balances(conn: psycopg.Connection) -> list[Balance]:
    """The newest finding of each stage, by stream and in the order of the flow. The caller translates errors."""
    with conn.cursor(row_factory=class_row(Balance)) as cursor:
        return cursor.execute(READ_BALANCES).fetchall()
