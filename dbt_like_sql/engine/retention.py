"""Takes old readings out of their tables, a UTC day at a time, the oldest first.

1. What is dirty in the day is materialized, and compared with the readings: counts, sums, last values of counters.
2. The day is written to an archive file, which is read back.
3. In one short transaction: nothing of it has changed meanwhile, the file is registered, the last reading of each
   device stays (the step from it into the time above is needed again), the floor rises, the day is dropped.

An interruption between any two of these leaves everything as it was, and perhaps a file that nobody knows.
"""

import time
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from typing import NamedTuple

import structlog

from dbt_like_sql.engine import retention_sql as sql
from dbt_like_sql.engine.absorb import Absorber
from dbt_like_sql.engine.archive import ArchiveFiles, Written, write_file
from dbt_like_sql.engine.database import BulkDatabase
from dbt_like_sql.engine.deploy import columns_of
from dbt_like_sql.engine.deployed import check_deployed
from dbt_like_sql.engine.floors import floor_of, hold_floors, raise_floor
from dbt_like_sql.engine.project import Project
from dbt_like_sql.engine.refresh import Refresher
from hl_platform.core.errors import ConfigError, InvariantError, TransientError
from hl_platform.core.streams import Stream

log = structlog.get_logger()

MARKS_AT_A_TIME = 5_000
# A table is locked for moments only; whoever holds it for longer than all of these must be looked at.
MAX_TRIES = 20
PAUSE_S = 0.2


class Day(NamedTuple):
    """A UTC day of a table.

    Args:
        day: which.
        relation: the table partition that holds it.
        own: whether that holds nothing else.
    """

    day: date
    relation: str
    own: bool

    @property
    def start(self) -> datetime:
        """Begin, inclusive."""
        return datetime(self.day.year, self.day.month, self.day.day, tzinfo=UTC)

    @property
    def end(self) -> datetime:
        """End, exclusive."""
        return self.start + timedelta(days=1)


class Checked(NamedTuple):
    """A day that was found complete, and written, as long as its rows are still those of the fingerprint."""

    day: Day
    floor: str
    fingerprint: tuple[int, str]
    written: Written | None


class Dropped(NamedTuple):
    """What retention took out of a table."""

    table_name: str
    n_days: int
    n_rows: int


class Retention:
    """Retention of readings.

    Args:
        db: as the owner of the tables; nobody else uses it meanwhile.
        project: all models.
        files: the archive.
        version: of hl.
    """

    def __init__(self, db: BulkDatabase, project: Project, files: ArchiveFiles, version: str) -> None:
        self._db = db
        self._project = project
        self._files = files
        self._version = version
        self._refresher = Refresher(db, project, version)
        self._absorber = Absorber(db, project, files, version)

    def cutoff(self, days: int) -> datetime:
        """Begin of the local day that is so many days ago, by the database's clock."""
        moment: datetime = self._db.rows(sql.CUTOFF, {"days": days})[0][0]
        return moment

    def run(self, stream: Stream, cutoff: datetime) -> Dropped:
        """Drops what is complete, materialized and archived.

        Args:
            stream: whose readings.
            cutoff: only UTC days that end by then.

        Raises:
            InvariantError: a day's aggregates are not what its readings say; they are marked, and nothing was dropped.
            TransientError: the database is away, or a table was in use all the time.
            ConfigError: the archive cannot be written.

        Guarantee: what is no longer in the table is in the archive; what was done before an error stays done.
        """
        n_days = n_rows = 0
        for day in self.plan(stream, cutoff):
            checked = self.run_day(stream, day)
            n_days += 1
            n_rows += checked.fingerprint[0]
            log.info(
                "day_dropped", table=stream.table, day=day.day.isoformat(), n_rows=checked.fingerprint[0]
            )
        self._drop_empty(stream)
        return Dropped(stream.table, n_days, n_rows)

    def plan(self, stream: Stream, cutoff: datetime) -> list[Day]:
        """The days that may go, the oldest first."""
        floor = floor_of(self._db, stream.table)
        values = {"table": f"public.{stream.table}", "floor": floor, "cutoff": cutoff}
        parts = [Day(day, str(name), own=True) for name, day in self._db.rows(sql.PARTITIONS, values)]
        older = f"{stream.table}_older"
        rest = [
            Day(day, older, own=False) for (day,) in self._db.rows(sql.DAYS_OLDER.format(older=older), values)
        ]
        return sorted(parts + rest)

    def refresh(self, stream: Stream, day: Day) -> None:
        """Materializes what readings of a day, and of those before it, have made dirty."""
        end = self._floor_after(day)
        for name in self._project.over_readings(stream):
            model = self._project.models[name]
            while self._refresher.refresh(model, limit=MARKS_AT_A_TIME, end=end).n_marks:
                pass

    def archive(self, stream: Stream, day: Day) -> Checked | None:
        """Checks a day against its aggregates, and writes it to a file; changes nothing in the database.

        Returns:
            None when readings came since the day was refreshed: there is nothing yet to check it against.

        Raises:
            InvariantError: a bucket does not hold what the readings say. It is marked.
        """
        floor = self._floor_after(day)
        with self._db.transaction():
            self._db.rows("set transaction isolation level repeatable read")
            self._db.rows("set local extra_float_digits = 1")
            if self._is_marked(stream, floor):
                return None
            fingerprint = self._fingerprint(day)
            wrong = list(self._wrong_buckets(stream, day, floor)) if fingerprint[0] else []
            written = None
            if fingerprint[0] and not wrong:
                rows = sql.ROWS_OF_DAY.format(relation=day.relation, start=day.start, end=day.end)
                written = write_file(self._db, self._files, stream.table, day.day, rows, self._version)
        if wrong:
            self._mark(day, wrong)
            model, device, bucket, what = wrong[0]
            raise InvariantError(
                f"{len(wrong)} buckets do not hold what the readings of {day.day} say, first {model} of {device} at "
                f"{bucket}: {what}. They are computed again; nothing was dropped."
            )
        return Checked(day, floor, fingerprint, written)

    def drop(self, stream: Stream, checked: Checked) -> bool:
        """Registers a day's file and drops the day; False if something has changed since it was written.

        Raises:
            TransientError: the table is in use; nothing was done.
            DeployedOtherwiseError: the deployed models are not the project's; nothing was done.
        """
        day, db = checked.day, self._db
        with db.transaction():
            # A model that we do not know may still have to compute from this day.
            check_deployed(db, self._project)
            hold_floors(db, stream.table)
            db.rows("set local hl.unmarked = 'on'")
            if not self._still_so(stream, checked):
                return False
            if checked.written is not None:
                checked.written.register(db)
            self._take_out(stream, day, checked)
            raise_floor(db, stream.table, checked.floor)
        return True

    def run_day(self, stream: Stream, day: Day, tries: int = MAX_TRIES) -> Checked:
        """All steps of one day, from the first again whenever something came in between.

        Raises:
            TransientError: as often as it was tried, something came in between.
        """
        for attempt in range(tries):
            if attempt:
                # Perhaps for an hour that lies on both sides of the floor: its mark waits for absorption.
                self._absorber.run(stream)
            self.refresh(stream, day)
            checked = self.archive(stream, day)
            try:
                if checked is not None and self.drop(stream, checked):
                    return checked
                if checked is not None and checked.written is not None:
                    self._files.discard(checked.written.written)
            except TransientError as exc:
                if attempt + 1 == tries:
                    raise
                log.warning("table_in_use", table=stream.table, error=str(exc))
            time.sleep(PAUSE_S)
        raise TransientError(
            f"{stream.table}: readings of {day.day} and before kept coming in while it was archived. Next time, then."
        )

    def _still_so(self, stream: Stream, checked: Checked) -> bool:
        day, db = checked.day, self._db
        if not db.rows(sql.EXISTS, {"table": f"public.{day.relation}"})[0][0]:
            return False
        # Readers go on; who writes to the day waits, and finds it gone.
        db.rows(f"lock table public.{day.relation} in share row exclusive mode")
        floor = floor_of(db, stream.table)
        left_behind = sql.LEFT_BEHIND.format(table=stream.table)
        return (
            self._fingerprint(day) == checked.fingerprint
            and not self._is_marked(stream, checked.floor)
            and not db.rows(left_behind, {"floor": floor, "start": day.start})[0][0]
        )

    def _is_marked(self, stream: Stream, end: str) -> bool:
        values = {
            "models": self._project.over_readings(stream),
            "floor": floor_of(self._db, stream.table),
            "end": end,
        }
        return bool(self._db.rows(sql.MARKED, values)[0][0])

    def _take_out(self, stream: Stream, day: Day, checked: Checked) -> None:
        db = self._db
        older = f"{stream.table}_older"
        devices = checked.written.file.devices if checked.written else []
        values = {
            "devices": devices,
            "models": self._project.over_readings(stream),
            "start": day.start,
            "end": day.end,
        }
        if day.own:
            names = ", ".join(f'"{name}"' for name in columns_of(db, f"public.{stream.table}"))
            db.rows(sql.KEEP_LAST.format(relation=day.relation, names=names), values)
            db.rows(f"drop table public.{day.relation}")
            db.rows(sql.PUT_LAST.format(older=older, names=names))
        else:
            db.rows(sql.DELETE_DAY.format(older=older), values)
        db.rows(sql.FORGET_EARLIER.format(table=stream.table), values)

    def _drop_empty(self, stream: Stream) -> None:
        # A late reading may have got a partition of its own for a day that was dropped before.
        values = {"table": f"public.{stream.table}", "floor": floor_of(self._db, stream.table)}
        for (name,) in self._db.rows(sql.PARTITIONS_BELOW, values):
            try:
                with self._db.transaction():
                    hold_floors(self._db, stream.table)
                    self._db.rows(f"lock table public.{name} in share row exclusive mode")
                    if not self._db.rows(f"select exists (select from public.{name})")[0][0]:
                        self._db.rows(f"drop table public.{name}")
            except TransientError as exc:
                log.warning("table_in_use", table=name, error=str(exc))

    def _fingerprint(self, day: Day) -> tuple[int, str]:
        values = {"start": day.start, "end": day.end}
        n_rows, digest = self._db.rows(sql.FINGERPRINT.format(relation=day.relation), values)[0]
        return int(n_rows), str(digest)

    def _wrong_buckets(self, stream: Stream, day: Day, end: str) -> Iterator[tuple[str, str, datetime, str]]:
        name = f"{stream.name}_hourly"
        there = columns_of(self._db, f"materialized.{name}")
        if "n_readings" not in there or name not in self._project.over_readings(stream):
            raise ConfigError(
                f"{name}.sql: nothing of {stream.table} can be dropped without a continuous aggregate {name} over its "
                "readings with a column n_readings, against which they are checked."
            )
        sums = [field.name for field in stream.fields if f"{field.name}_sum" in there]
        lasts = [field.name for field in stream.counters if f"{field.name}_last" in there]
        query = sql.check_buckets(name, stream.table, sums, lasts)
        values = {"floor": floor_of(self._db, stream.table), "start": day.start, "end": end}
        for device, bucket, what in self._db.rows(query, values):
            yield name, str(device), bucket, str(what)

    def _mark(self, day: Day, wrong: list[tuple[str, str, datetime, str]]) -> None:
        for model, device in sorted({(model, device) for model, device, _, _ in wrong}):
            self._db.rows(
                "select hl.mark(%(model)s, %(device)s, %(start)s, %(end)s)",
                {"model": model, "device": device, "start": day.start, "end": day.end},
            )

    def _floor_after(self, day: Day) -> str:
        # The first border of the household's hours: an hour that straddles the end of the day stays whole.
        return str(self._db.rows(sql.HOUR_FROM, {"at": day.end})[0][0])
