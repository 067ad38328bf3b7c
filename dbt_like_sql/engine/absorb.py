"""Merges what came late for a time that was dropped: into the aggregates, and into the archive.

Marks below the floor say where. For the local days that they touch, all readings are brought together in temporary
tables: those of the archive, those that came late, and the nearest ones around. From them the hours are computed by the
model's own SELECT, and those above them that are no longer computed from their tables. What is new is written to a
further archive file, and leaves the table. All of it is one transaction, and the file is on the disk before it ends.
"""

import time
from collections.abc import Iterable
from datetime import date, datetime
from typing import NamedTuple

import structlog

from dbt_like_sql.engine import absorb_sql as sql
from dbt_like_sql.engine import archive
from dbt_like_sql.engine.archive import ArchiveFiles, table_columns, write_file
from dbt_like_sql.engine.database import BulkDatabase
from dbt_like_sql.engine.deployed import check_deployed
from dbt_like_sql.engine.floors import floor_below, floor_of, hold_floors
from dbt_like_sql.engine.model import Model
from dbt_like_sql.engine.objects import compute_function, events_function
from dbt_like_sql.engine.pace import plan_chunk
from dbt_like_sql.engine.project import Project
from dbt_like_sql.engine.refresh import Bucket, Refresher
from dbt_like_sql.engine.render import Renderer
from hl_platform.core.archive import Column
from hl_platform.core.errors import DeployedOtherwiseError, TransientError
from hl_platform.core.streams import Stream

log = structlog.get_logger()

# Local days of devices in one transaction, at most.
MAX_DAYS = 64
MAX_TRIES = 20
PAUSE_S = 0.2
ROWS = "pg_temp.absorbed_rows"


class Span(NamedTuple):
    """Local days of one device, half-open."""

    device_id: str
    start: datetime
    end: datetime


class Absorbed(NamedTuple):
    """What came late and was merged.

    Args:
        n_marks: taken.
        n_rows: archived.
        n_buckets: computed.
        duration_ms: of the transactions, in all.
    """

    n_marks: int = 0
    n_rows: int = 0
    n_buckets: int = 0
    duration_ms: float = 0.0

    def plus(self, other: "Absorbed") -> "Absorbed":
        """Both together."""
        return Absorbed(
            self.n_marks + other.n_marks,
            self.n_rows + other.n_rows,
            self.n_buckets + other.n_buckets,
            self.duration_ms + other.duration_ms,
        )


class Absorber:
    """Absorbs late readings below the floor.

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
        self._renderer = Renderer(project.streams)

    def run(self, stream: Stream) -> Absorbed:
        """Absorbs everything that waits.

        Raises:
            ConfigError: a file of the archive is missing or damaged. Marks, rows and aggregates stay as they were.
            TransientError: the database is away, or the table was in use all the time.
        """
        total, limit = Absorbed(), 1
        while True:
            done = self._insistently(stream, limit)
            if not done.n_marks:
                return total
            total = total.plus(done)
            # A writer that brings more of what is absorbed waits until the end of the transaction.
            limit = min(MAX_DAYS, plan_chunk(limit, done.duration_ms).limit)

    def absorb(self, stream: Stream, limit: int = MAX_DAYS) -> Absorbed:
        """Absorbs up to `limit` local days of devices, the newest first.

        Raises:
            ConfigError, TransientError: as `run`; nothing was done.

        Guarantee: all of it or nothing; doing it twice changes nothing.
        """
        db, began = self._db, time.perf_counter()
        with db.transaction():
            check_deployed(db, self._project)
            hold_floors(db, stream.table)
            floor = floor_of(db, stream.table)
            models = [self._project.models[name] for name in self._project.over_readings(stream)]
            names = [model.name for model in models]
            values = {"models": names, "floor": floor, "limit": limit, "table": stream.table}
            marks = db.rows(sql.TAKE, values)
            if not marks:
                return Absorbed()
            # Theirs is the moving of rows, which changes no reading.
            db.rows("set local hl.unmarked = 'on'")
            db.rows("set local extra_float_digits = 1")
            db.rows(sql.MARK_ABOVE, {**_columns(marks, "names", "devices", "marks"), "floor": floor})
            spans = self._widened(stream, self._days(marks, floor), floor)
            spans = self._gather(stream, spans, floor)
            n_rows = self._archive(stream)
            n_buckets = self._compute(stream, models, spans, floor)
            db.rows(sql.LEAVE.format(table=stream.table), {**values, "devices": _devices(spans)})
        done = Absorbed(len(marks), n_rows, n_buckets, (time.perf_counter() - began) * 1000)
        log.info("late_rows_absorbed", table=stream.table, **done._asdict())
        return done

    def _insistently(self, stream: Stream, limit: int) -> Absorbed:
        for attempt in range(MAX_TRIES):
            try:
                return self.absorb(stream, limit)
            except DeployedOtherwiseError:
                raise
            except TransientError as exc:
                if attempt + 1 == MAX_TRIES:
                    raise
                log.warning("table_in_use", table=stream.table, error=str(exc))
                time.sleep(PAUSE_S)
        raise AssertionError

    def _days(self, marks: Iterable[tuple[object, ...]], floor: str) -> set[Span]:
        values = {**_columns(marks, "names", "devices", "marks"), "floor": floor}
        return {Span(*row) for row in self._db.rows(sql.DAYS, values)}

    def _gather(self, stream: Stream, spans: set[Span], floor: str) -> set[Span]:
        """Brings all readings of spans together; returns the spans with those that turned out to be touched, too."""
        db = self._db
        db.rows(sql.TABLES.format(table=stream.table))
        columns = table_columns(db, f"public.{stream.table}")
        names = ", ".join(column.identifier for column in columns)
        content = ", ".join(
            column.identifier
            for column in columns
            if column.name not in ("received_at", "ingested_at", "corrections")
        )
        new, known = spans, set[Span]()
        while new:
            for span in _joined(new):
                self._load(stream, span, columns)
            known |= new
            keys = {**_columns(_joined(known), "devices", "starts", "ends"), "floor": floor}
            for statement in sql.merge(stream.table, names, content):
                db.rows(statement, keys)
            # The steps that a late reading begins and ends may reach into other days.
            reach = {
                Span(*row) for row in db.rows(sql.REACH, {"floor": floor, "max_gap_s": stream.max_gap_s})
            }
            new = self._widened(stream, reach, floor) - known
        return known

    def _load(self, stream: Stream, span: Span, columns: list[Column]) -> None:
        table, device = stream.table, span.device_id
        values = {"table_name": table, "device": device}
        inside = archive.registered(self._db, archive.FILES_OF, **values, start=span.start, end=span.end)
        rows = list(self._files.rows(inside, columns, [device], span.start, span.end))
        rows += self._nearest(columns, archive.DAY_BEFORE, span.start, date.max, **values)
        rows += self._nearest(columns, archive.DAY_AFTER, span.end, date.min, **values)
        names = ", ".join(column.identifier for column in columns)
        self._db.rows("truncate absorbed_stage")
        self._db.copy_in(f"copy absorbed_stage ({names}) from stdin", rows)
        self._db.rows("insert into absorbed_archived select * from absorbed_stage on conflict do nothing")

    def _nearest(
        self, columns: list[Column], query: str, at: datetime, day: date, *, table_name: str, device: str
    ) -> list[tuple[object, ...]]:
        before = query is archive.DAY_BEFORE
        values = {"table_name": table_name, "device": device}
        while found := self._db.rows(query, {**values, "at": at, "day": day}):
            day = found[0][0]
            files = archive.registered(self._db, archive.FILES_OF_DAY, **values, day=day)
            limits = (None, at) if before else (at, None)
            rows = list(self._files.rows(files, columns, [device], *limits, newest_first=before, limit=1))
            if rows:
                return rows
        return []

    def _archive(self, stream: Stream) -> int:
        n_rows = 0
        for day, start, end in self._db.rows(sql.LATE_DAYS):
            rows = f"absorbed_late where timestamp >= '{start}' and timestamp < '{end}'"
            written = write_file(self._db, self._files, stream.table, day, rows, self._version)
            written.register(self._db)
            n_rows += written.file.n_rows
        return n_rows

    def _compute(self, stream: Stream, models: list[Model], spans: set[Span], floor: str) -> int:
        n_buckets = 0
        for model in models:
            self._db.rows(compute_function(model, self._renderer, "pg_temp", ROWS))
            if stream.counters:
                self._db.rows(events_function(model, stream, self._renderer, "pg_temp", ROWS))
            buckets = self._buckets(model, spans, floor)
            self._refresher.swap(model, buckets, "pg_temp")
            n_buckets += len(buckets)
        # What is above follows by its marks, unless what it is computed from has been dropped in its turn.
        for model in self._project.all_above(model.name for model in models):
            buckets = self._buckets(model, spans, floor_below(self._db, self._project, model))
            if buckets:
                keys = _columns(
                    [(model.name, *bucket[:2]) for bucket in buckets], "names", "devices", "marks"
                )
                self._db.rows(sql.ANSWER, keys)
                self._refresher.swap(model, buckets)
                n_buckets += len(buckets)
        return n_buckets

    def _buckets(self, model: Model, spans: set[Span], floor: str) -> list[Bucket]:
        values = _columns(spans, "devices", "starts", "ends")
        step = "1 minute" if model.bucket == "minute" else "30 minutes"
        rows = self._db.rows(sql.BUCKETS, {**values, "grain": model.bucket, "floor": floor, "step": step})
        return [Bucket(*row) for row in rows]

    def _widened(self, stream: Stream, spans: set[Span], floor: str) -> set[Span]:
        """Spans as long as the longest bucket that has to be computed here."""
        for model in self._project.all_above(self._project.over_readings(stream)):
            values = {
                **_columns(spans, "devices", "starts", "ends"),
                "grain": model.bucket,
                "below": floor_below(self._db, self._project, model),
                "floor": floor,
            }
            spans = {Span(*row) for row in self._db.rows(sql.WIDEN, values)}
        return spans


def _joined(spans: Iterable[Span]) -> list[Span]:
    joined: list[Span] = []
    for span in sorted(spans):
        if joined and joined[-1].device_id == span.device_id and joined[-1].end >= span.start:
            joined[-1] = joined[-1]._replace(end=max(joined[-1].end, span.end))
        else:
            joined.append(span)
    return joined


def _columns(rows: Iterable[tuple[object, ...]], *names: str) -> dict[str, list[object]]:
    listed = list(rows)
    return {name: [row[n] for row in listed] for n, name in enumerate(names)}


def _devices(spans: Iterable[Span]) -> list[str]:
    return sorted({span.device_id for span in spans})
