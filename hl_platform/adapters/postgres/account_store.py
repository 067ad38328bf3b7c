"""What a service has counted and what it raises, as its lease writes it down with each heartbeat."""

from collections.abc import Mapping
from typing import NamedTuple

import psycopg
import structlog

from hl_platform.core.accounts import Account, Books, StageStats
from hl_platform.core.coverage import SAME_OFFSET, Covered, Place, find_late

log = structlog.get_logger()

SETTLE_ACCOUNTS = """
-- settle_accounts: what the last holder had in flight was never acknowledged and will be received again
update hl.accounts set received = received - in_flight, in_flight = 0
where service = %(service)s and in_flight <> 0
"""

READ_ACCOUNTS = """
-- read_accounts: the counts to go on from
select stream, received, forwarded, dead_lettered, duplicates, corrected, dropped
from hl.accounts where service = %(service)s
"""

READ_COVERAGE = """
-- read_coverage: where records of one bridge lie on Kafka, as a stage has counted them, and what it counts twice
select stream, kind, kafka_topic, kafka_partition, n_records, next_offset
from hl.coverage where stage = %(stage)s and (bridge = %(service)s or kind = 'repeated')
"""

WRITE_ACCOUNT = """
-- write_account: the counts of one stream, whole
insert into hl.accounts as a (service, stage, stream, received, forwarded, dead_lettered, duplicates, corrected,
                              dropped, in_flight, last_reading_at, updated_at)
values (%(service)s, %(stage)s, %(stream)s, %(received)s, %(forwarded)s, %(dead_lettered)s, %(duplicates)s,
        %(corrected)s, %(dropped)s, %(in_flight)s, %(last_reading_at)s, now())
on conflict (service, stream) do update
set received = excluded.received, forwarded = excluded.forwarded, dead_lettered = excluded.dead_lettered,
    duplicates = excluded.duplicates, corrected = excluded.corrected, dropped = excluded.dropped,
    in_flight = excluded.in_flight, last_reading_at = coalesce(excluded.last_reading_at, a.last_reading_at),
    updated_at = now()
"""

WRITE_COVERAGE = """
-- write_coverage: the records of a bridge in one Kafka partition, whole
insert into hl.coverage (stage, bridge, stream, kind, kafka_topic, kafka_partition, n_records, next_offset)
values ('bridge', %(service)s, %(stream)s, %(kind)s, %(kafka_topic)s, %(kafka_partition)s, %(n_records)s,
        %(next_offset)s)
on conflict (stage, bridge, stream, kind, kafka_topic, kafka_partition) do update
set n_records = excluded.n_records, next_offset = excluded.next_offset, updated_at = now()
"""

DROP_ALERTS = """
-- drop_alerts: what is raised no longer
delete from hl.alerts
where service = %(service)s
  and (stream, code) not in (select * from unnest(%(streams)s::text[], %(codes)s::text[]))
"""

WRITE_ALERTS = """
-- write_alerts: what is raised now, since when it first was
insert into hl.alerts (service, stream, code, message)
select %(service)s, * from unnest(%(streams)s::text[], %(codes)s::text[], %(messages)s::text[])
on conflict (service, stream, code) do update set message = excluded.message
"""

COUNTS = ("received", "forwarded", "dead_lettered", "duplicates", "corrected", "dropped")
Alerts = Mapping[tuple[str, str], str]


class Written(NamedTuple):
    """What a transaction has written; to be confirmed when it is committed."""

    books: Books
    alerts: Alerts


class AccountStore:
    """Accounts, coverage and alerts of one service. Every method runs in the caller's transaction.

    Args:
        service: whose.
        stage: its stage.
    """

    def __init__(self, service: str, stage: str) -> None:
        self._key = {"service": service, "stage": stage}
        self._base = Books({}, {})
        self._written = Written(Books({}, {}), {})
        self._alerts_known = False

    @property
    def before(self) -> Books:
        """What predecessors had counted when the lease was taken."""
        return self._base

    def take_over(self, conn: psycopg.Connection) -> None:
        """Settles and reads what the last holder left."""
        conn.execute(SETTLE_ACCOUNTS, self._key)
        accounts = {stream: Account(*counts) for stream, *counts in conn.execute(READ_ACCOUNTS, self._key)}
        self._base = Books(accounts, self._read_coverage(conn, self._key["stage"]))

    def write(self, conn: psycopg.Connection, stats: StageStats, *, with_accounts: bool) -> Written:
        """Writes what has changed since the last write that was confirmed.

        Args:
            conn: in a transaction that holds the lease.
            stats: of this process.
            with_accounts: False where the stage writes its accounts in its own transactions.
        """
        alerts = stats.current_alerts()
        if not self._alerts_known or alerts != self._written.alerts:
            self._write_alerts(conn, alerts)
        if not with_accounts:
            return Written(Books({}, {}), alerts)
        if self._key["stage"] == "bridge":
            self._count_late(conn, stats)
        own = stats.books()
        for stream, account in own.accounts.items():
            if self._written.books.accounts.get(stream) != account:
                conn.execute(WRITE_ACCOUNT, self._account_row(stream, account))
        for place, covered in own.covered.items():
            if self._written.books.covered.get(place) != covered:
                total = self._base.covered.get(place, Covered()).then(covered)
                conn.execute(WRITE_COVERAGE, {**self._key, **place._asdict(), **total._asdict()})
        return Written(own, alerts)

    def confirm(self, written: Written) -> None:
        """Notes that what `write` returned is committed."""
        self._written = written
        self._alerts_known = True

    def _count_late(self, conn: psycopg.Connection, stats: StageStats) -> None:
        # In this order: what the sink has read by now is then counted here, or in flight.
        read = self._read_coverage(conn, "sink")
        own = stats.books()
        # Only places that this process knows: until it has recounted one, what its predecessor could not write
        # down would be taken for late there, and be counted twice.
        counted = {
            place: self._base.covered.get(place, Covered()).then(covered)
            for place, covered in own.covered.items()
        }
        in_flight = {stream: account.in_flight for stream, account in own.accounts.items()}
        for place, n_records in find_late(counted, read, in_flight).items():
            log.warning("late_deliveries_counted", **self._key, place=place, n_records=n_records)
            stats.cover(place, Covered(n_records, SAME_OFFSET), received=n_records)

    def _account_row(self, stream: str, own: Account) -> dict[str, object]:
        base = self._base.accounts.get(stream, Account())
        return {
            **self._key,
            "stream": stream,
            **{name: getattr(base, name) + getattr(own, name) for name in COUNTS},
            "in_flight": own.in_flight,
            "last_reading_at": own.last_reading_at,
        }

    def _read_coverage(self, conn: psycopg.Connection, stage: str) -> dict[Place, Covered]:
        rows = conn.execute(READ_COVERAGE, {**self._key, "stage": stage})
        return {Place(*row[:4]): Covered(*row[4:]) for row in rows}

    def _write_alerts(self, conn: psycopg.Connection, alerts: Alerts) -> None:
        values = {
            **self._key,
            "streams": [stream for stream, _ in alerts],
            "codes": [code for _, code in alerts],
            "messages": list(alerts.values()),
        }
        conn.execute(DROP_ALERTS, values)
        conn.execute(WRITE_ALERTS, values)
