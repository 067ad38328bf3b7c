"""Who runs a service: one row per service, with an epoch that fences off whoever came before.

All times are this database's clock, so that clocks of several machines need not agree.
"""

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import psycopg
import structlog

from hl_platform import __version__
from hl_platform.adapters.postgres.account_store import AccountStore
from hl_platform.adapters.postgres.connection import WRITER, connect
from hl_platform.adapters.postgres.errors import translated
from hl_platform.core.accounts import Books, StageStats
from hl_platform.core.errors import FencedError
from hl_platform.core.histogram import DelayHistogram

log = structlog.get_logger()

TAKE_LEASE = """
-- take_lease: become the holder if there is none alive, or at any rate when forced
insert into hl.leases as l (service, stage, epoch, instance_id, run_id, host, pid, software_version,
                            acquired_at, beat_at)
values (%(service)s, %(stage)s, 1, %(instance_id)s, %(run_id)s, %(host)s, %(pid)s, %(version)s, now(), now())
on conflict (service) do update
set stage = excluded.stage, epoch = l.epoch + 1, instance_id = excluded.instance_id,
    run_id = excluded.run_id, host = excluded.host, pid = excluded.pid,
    software_version = excluded.software_version, acquired_at = now(), beat_at = now(),
    released_at = null, stop_requested_at = null
where %(force)s or l.released_at is not null or l.beat_at < now() - make_interval(secs => %(stale_after_s)s)
returning epoch
"""

REQUEST_STOP = """
-- request_stop: ask the holder of a service to flush, release and end
update hl.leases set stop_requested_at = now()
where service = %(service)s and released_at is null and stop_requested_at is null
"""

BEAT = """
-- beat: show that the holder lives; no row means that it holds no longer
update hl.leases set beat_at = clock_timestamp()
where service = %(service)s and epoch = %(epoch)s
returning stop_requested_at is not null
"""

ADD_DELAYS = """
-- add_delays: add a histogram to that of the current minute
insert into hl.delays as d (service, measure, minute, counts, max_ms)
values (%(service)s, %(measure)s, date_trunc('minute', now()), %(counts)s, %(max_ms)s)
on conflict (service, measure, minute) do update
set counts = (select array_agg(mine + theirs order by position)
              from unnest(d.counts, excluded.counts) with ordinality as both_sides (mine, theirs, position)),
    max_ms = greatest(d.max_ms, excluded.max_ms)
"""

FORGET_DELAYS = """
-- forget_delays: only the last hour is of interest
delete from hl.delays where service = %(service)s and minute < now() - interval '1 hour'
"""

RELEASE = """
-- release: end by itself, so that a successor need not wait
update hl.leases set released_at = clock_timestamp()
where service = %(service)s and epoch = %(epoch)s
"""


# The stage of a service that is not wanted any more and has nothing left to do. Its row stays: were it deleted, a
# process that slept through all of it could find its old epoch valid again.
RETIRED = "retired"


class Holder(NamedTuple):
    """Who asks for a lease.

    Args:
        service: such as `bridge`, `sink-energy` or `live`.
        stage: `bridge`, `sink` or `live`.
        run_id: Dagster's run, empty outside of one.
    """

    service: str
    stage: str
    run_id: str = ""

    @property
    def instance_id(self) -> str:
        """Tells this process from any other that runs or ran the service."""
        return f"{self.service}@{socket.gethostname()}:{os.getpid()}"


class Lease:
    """One holder's claim on a service, on a connection of its own.

    Guarantee: at most one holder passes `beat` after any moment; the one before gets FencedError.
    Not for use by several threads at once.
    """

    def __init__(self, url: str, holder: Holder, *, stale_after_s: float) -> None:
        self._url = url
        self._holder = holder
        self._stale_after_s = stale_after_s
        self._conn: psycopg.Connection | None = None
        self._epoch = 0
        self._accounts = AccountStore(holder.service, holder.stage)
        self._delays: dict[str, DelayHistogram] = {}

    @property
    def epoch(self) -> int:
        """The epoch held; 0 before the first `try_acquire` that succeeded."""
        return self._epoch

    @property
    def counted_before(self) -> Books:
        """What predecessors had counted when the lease was taken."""
        return self._accounts.before

    def try_acquire(self, *, force: bool = False, ask: bool = True) -> bool:
        """Takes the lease if nobody alive holds it; otherwise asks the holder to stop and returns False.

        Args:
            force: take it from a living holder too, which is fenced off thereby.
            ask: False leaves a living holder alone.

        Raises:
            TransientError: the database cannot be reached now.
        """
        values = {
            "service": self._holder.service,
            "stage": self._holder.stage,
            "instance_id": self._holder.instance_id,
            "run_id": self._holder.run_id,
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "version": __version__,
            "stale_after_s": self._stale_after_s,
            "force": force,
        }
        with self._transaction() as conn:
            row = conn.execute(TAKE_LEASE, values).fetchone()
            if row is None:
                if ask:
                    conn.execute(REQUEST_STOP, values)
                return False
            self._accounts.take_over(conn)
        self._epoch = row[0]
        log.info("lease_acquired", service=self._holder.service, epoch=self._epoch, forced=force)
        return True

    def beat(self, stats: StageStats, *, with_accounts: bool) -> bool:
        """Renews the lease, writes what was counted and raised; returns whether the holder is asked to stop.

        Args:
            stats: the stage's counts since it started.
            with_accounts: False where the stage writes its accounts in its own transactions.

        Raises:
            FencedError: a newer holder has the lease.
            TransientError: the database cannot be reached now; nothing counted is lost, call again.
        """
        for measure, delays in stats.take_delays().items():
            self._delays.setdefault(measure, DelayHistogram()).merge(delays.counts, delays.max_ms)
        key = {"service": self._holder.service, "epoch": self._epoch}
        with self._transaction() as conn:
            row = conn.execute(BEAT, key).fetchone()
            if row is None:
                raise FencedError(f"{self._holder.service}: epoch {self._epoch} is no longer the newest")
            written = self._accounts.write(conn, stats, with_accounts=with_accounts)
            for measure, delays in self._delays.items():
                row_values = {"measure": measure, "counts": delays.counts, "max_ms": delays.max_ms}
                conn.execute(ADD_DELAYS, {**key, **row_values})
            if self._delays:
                conn.execute(FORGET_DELAYS, key)
        self._accounts.confirm(written)
        self._delays = {}
        return bool(row[0])

    def release(self) -> None:
        """Ends the lease, so that a successor need not wait; then closes the connection."""
        if self._epoch:
            with self._transaction() as conn:
                conn.execute(RELEASE, {"service": self._holder.service, "epoch": self._epoch})
        self.close()

    def close(self) -> None:
        """Closes the connection and leaves the lease as it is."""
        if self._conn is not None:
            self._conn.close()
            self._conn = None

    @contextmanager
    def _transaction(self) -> Iterator[psycopg.Connection]:
        if self._conn is None or self._conn.closed:
            self._conn = connect(
                self._url, application_name=f"hl-{self._holder.service}-lease", parameters=WRITER
            )
        with translated(), self._conn.transaction():
            yield self._conn


def retire_service(url: str, service: str, stale_after_s: float) -> None:
    """Takes a service out of its stage, if nobody alive holds it, until it runs again.

    Raises:
        TransientError: the database cannot be reached now.
    """
    lease = Lease(url, Holder(service, RETIRED), stale_after_s=stale_after_s)
    try:
        if lease.try_acquire(ask=False):
            lease.release()
    finally:
        lease.close()
