"""What the database says about who runs a service, for those who watch it."""

from types import TracebackType
from typing import NamedTuple, Self

import psycopg
from psycopg.rows import class_row

from hl_platform.adapters.postgres.connection import connect
from hl_platform.adapters.postgres.errors import translated

READ_LEASE = """
-- read_lease: the lease of a service, every time in Unix seconds of this database's clock
select run_id, host, pid, extract(epoch from acquired_at)::float8 as acquired_at,
       extract(epoch from beat_at)::float8 as beat_at, extract(epoch from released_at)::float8 as released_at,
       stop_requested_at is not null as stop_requested
from hl.leases where service = %(service)s
"""

READ_LEASES_OF_STAGE = """
-- read_leases_of_stage: the leases of all services of a stage, as read_lease shows one
select service, run_id, host, pid, extract(epoch from acquired_at)::float8,
       extract(epoch from beat_at)::float8, extract(epoch from released_at)::float8,
       stop_requested_at is not null
from hl.leases where stage = %(stage)s
"""

# After a crash of one of its processes PostgreSQL recovers without a new postmaster, but its statistics begin
# anew (since version 15); after a clean restart the statistics are kept, but the postmaster is new.
READ_CLOCK = """
-- read_clock: now, and since when the server has been up, in Unix seconds
select extract(epoch from clock_timestamp())::float8 as now,
       extract(epoch from greatest(pg_postmaster_start_time(),
                                   (select stats_reset from pg_stat_bgwriter)))::float8 as up_since
"""

LOOK = f"""
-- look: the clock, and the lease of a service if there is one
select * from ({READ_CLOCK}) as clock left join ({READ_LEASE}) as lease on true
"""  # noqa: S608 - constants

REQUEST_STOP = """
-- request_stop: ask one run, and no other holder, to flush, release and end
update hl.leases set stop_requested_at = now()
where service = %(service)s and run_id = %(run_id)s and released_at is null and stop_requested_at is null
"""


class LeaseRow(NamedTuple):
    """Who holds a service, or held it last. Times are Unix seconds of the database's clock.

    Args:
        run_id: Dagster's run; empty outside of one.
        host: where the holder's process runs.
        pid: of that process.
        acquired_at: when it took the lease.
        beat_at: its last heartbeat.
        released_at: when it ended by itself; None while it runs, or if it ended without a word.
        stop_requested: whether it is asked to end.
    """

    run_id: str
    host: str
    pid: int
    acquired_at: float
    beat_at: float
    released_at: float | None
    stop_requested: bool


class DatabaseClock(NamedTuple):
    """The database's time and age, in Unix seconds.

    Args:
        now: what its clock says.
        up_since: since when it has answered; no heartbeat can be younger than an outage was long.
    """

    now: float
    up_since: float


class LeaseReader:
    """Reads leases on one connection; a context manager.

    Raises:
        TransientError: from every method, when the database cannot be reached now.
    """

    def __init__(self, url: str) -> None:
        self._conn: psycopg.Connection = connect(url, application_name="hl-keep-alive")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._conn.close()

    def lease(self, service: str) -> LeaseRow | None:
        """The lease of a service; None if nobody ever ran it."""
        with translated(), self._conn.cursor(row_factory=class_row(LeaseRow)) as cursor:
            return cursor.execute(READ_LEASE, {"service": service}).fetchone()

    def look(self, service: str) -> tuple[DatabaseClock, LeaseRow | None]:
        """What time it is, and the lease of a service, at the same moment."""
        with translated():
            row = self._conn.execute(LOOK.encode(), {"service": service}).fetchone()
        assert row is not None  # noqa: S101 - the clock always has a row
        now, up_since, *lease = row
        return DatabaseClock(now, up_since), None if lease[0] is None else LeaseRow(*lease)

    def leases(self, stage: str) -> dict[str, LeaseRow]:
        """The leases of a stage, by service."""
        with translated():
            rows = self._conn.execute(READ_LEASES_OF_STAGE, {"stage": stage}).fetchall()
        return {service: LeaseRow(*values) for service, *values in rows}

    def clock(self) -> DatabaseClock:
        """What time it is."""
        with translated(), self._conn.cursor(row_factory=class_row(DatabaseClock)) as cursor:
            row = cursor.execute(READ_CLOCK).fetchone()
        assert row is not None  # noqa: S101 - a select without a table returns its row
        return row

    def request_stop(self, service: str, run_id: str) -> None:
        """Asks the holder to end, if it is still that run."""
        with translated():
            self._conn.execute(REQUEST_STOP, {"service": service, "run_id": run_id})
