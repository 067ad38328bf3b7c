"""Materializes dirty buckets: takes marks, computes, swaps, all in one transaction.

0. It waits for a deployment, and goes on only if that was of the same models: see dbt_like_sql.engine.deployed.
1. Marks of closed buckets are deleted, as many as asked for, newest first. A mark that a writer holds is left for the
   next time; a writer that comes now waits until the end of this transaction and marks anew. A mark below the floor
   waits for whoever absorbs late readings into the archive.
2. The buckets are computed from what is committed by then, so everything that those marks stood for is in it.
3. The rows are swapped, and the buckets above are marked in their turn.
"""

import time
from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import NamedTuple

import structlog

from dbt_like_sql.engine.database import Database
from dbt_like_sql.engine.deploy import columns_of, ensure_partitions
from dbt_like_sql.engine.deployed import check_deployed
from dbt_like_sql.engine.floors import base_name, floor_below, share_floors
from dbt_like_sql.engine.model import Model
from dbt_like_sql.engine.project import Project

log = structlog.get_logger()

# Where hours do not begin with UTC's, two marks stand for one bucket. Without this two refreshers could each have one
# of them, and the older of their results could come last.
ALONE = """
-- alone: one refresh of a model at a time, where the household's hours are not UTC's
select pg_advisory_xact_lock(hashtextextended('hl.refresh.' || %(model)s, 0)) where not hl.hours_are_utc()
"""
# Closed ones only: the one that is still filling would be dirty again with the next reading. Who writes live readings
# may hold their hour instead of its marks (hl.mark_<table>); such an hour is left for the next time.
TAKE = """
-- take: marks of a model's closed buckets, which this transaction answers for from now on
delete from hl.dirty as d using (
    select device_id, bucket from hl.dirty
    where model = %(model)s and bucket >= %(floor)s and bucket >= %(start)s and bucket < %(end)s
      and hl.bucket_end(%(grain)s, hl.bucket_start(%(grain)s, bucket + interval '59 minutes 59 seconds')) <= now()
      and hl.hour_number(bucket) <> all (array(select hl.hours_held(%(base)s)))
    order by bucket desc, device_id limit %(limit)s for update skip locked
) as taken
where d.model = %(model)s and d.device_id = taken.device_id and d.bucket = taken.bucket
returning d.device_id, d.bucket
"""
BUCKETS = """
-- buckets: those that marks stand for, in order, each with the local day that it lies in
select device_id, bucket, hl.bucket_end(%(grain)s, bucket), hl.bucket_start('day', bucket)
from (
    select distinct device_id, hl.bucket_start(%(grain)s, mark + part) as bucket
    from unnest(%(devices)s::text[], %(marks)s::timestamptz[]) as m (device_id, mark)
    cross join (values (interval '0'), (interval '59 minutes 59 seconds')) as parts (part)
) as found
where bucket >= %(floor)s
order by 1, 2
"""
BEGIN = """
-- begin: a refresh, which its rows will name
insert into hl.refreshes (model, version, next_offsets)
select %(model)s, %(version)s, coalesce((
    select jsonb_object_agg(kafka_topic || '/' || kafka_partition, next_offset)
    from hl.offsets where consumer_group = %(consumer_group)s), '{}')
returning id
"""
END = """
-- end: of a refresh
update hl.refreshes set duration_ms = %(duration_ms)s, n_marks = %(n_marks)s, n_buckets = %(n_buckets)s
where id = %(id)s
"""
REMOVE = """
-- remove: the rows that are computed anew
delete from materialized.{model} as m
using unnest(%(devices)s::text[], %(buckets)s::timestamptz[]) as b (device_id, bucket)
where m.device_id = b.device_id and m.bucket = b.bucket
"""
COMPUTE = """
-- compute: the rows of runs of adjoining buckets
insert into materialized.{model} ({columns})
select {computed}, %(refresh_id)s
from unnest(%(devices)s::text[], %(starts)s::timestamptz[], %(ends)s::timestamptz[])
    as run (device_id, start_at, end_at)
cross join lateral {schema}.compute_{model}(run.device_id, run.start_at, run.end_at) as c
on conflict (device_id, bucket) do update set ({columns}) = row({excluded})
returning device_id, bucket, bucket_end, {any_events}
"""
CASCADE = """
-- cascade: marks for the model above
insert into hl.dirty (model, device_id, bucket)
select distinct %(model)s, device_id, hl.bucket_start(%(grain)s, bucket)
from unnest(%(devices)s::text[], %(buckets)s::timestamptz[]) as b (device_id, bucket)
order by 2, 3
on conflict (model, device_id, bucket) do update set since = excluded.since where false
"""
FORGET_EVENTS = """
-- forget_events: of counters in the buckets that were computed, unless a person has said something
delete from hl.counter_events as e
using unnest(%(devices)s::text[], %(starts)s::timestamptz[], %(ends)s::timestamptz[])
    as run (device_id, start_at, end_at)
where e.stream = %(stream)s and e.device_id = run.device_id and e.at >= run.start_at and e.at < run.end_at
  and e.override is null
"""
NOTE_EVENTS = """
-- note_events: what counters did in the buckets that have any
insert into hl.counter_events (stream, field, device_id, at, before_at, before, after, kind, moved)
select %(stream)s, c.field, run.device_id, c.at, c.before_at, c.before, c.after,
       case when c.after < c.before then 'reset' else 'jump' end, c.moved
from unnest(%(devices)s::text[], %(starts)s::timestamptz[], %(ends)s::timestamptz[])
    as run (device_id, start_at, end_at)
cross join lateral {schema}.events_{model}(run.device_id, run.start_at, run.end_at) as c
where c.at >= run.start_at and c.at < run.end_at
on conflict (stream, field, device_id, at) do update
set before_at = excluded.before_at, before = excluded.before, after = excluded.after, kind = excluded.kind
"""


class Bucket(NamedTuple):
    """One bucket of one device, half-open."""

    device_id: str
    start: datetime
    end: datetime
    day: datetime


class Run(NamedTuple):
    """Adjoining buckets of one device within one local day, computed in one go."""

    device_id: str
    start: datetime
    end: datetime


class Refreshed(NamedTuple):
    """What a refresh did; `days` are the begins of the local days of its buckets, each with their number."""

    model: str
    n_marks: int
    n_buckets: int
    duration_ms: float
    refresh_id: int | None = None
    days: tuple[tuple[datetime, int], ...] = ()


def plan_runs(buckets: Iterable[Bucket]) -> list[Run]:
    """Joins adjoining buckets of a device, as long as they lie in one local day.

    Args:
        buckets: by device and start.
    """
    runs: list[Run] = []
    last: Bucket | None = None
    for bucket in buckets:
        joins = last is not None and (last.device_id, last.end, last.day) == (
            bucket.device_id,
            bucket.start,
            bucket.day,
        )
        if joins:
            runs[-1] = runs[-1]._replace(end=bucket.end)
        else:
            runs.append(Run(bucket.device_id, bucket.start, bucket.end))
        last = bucket
    return runs


class Refresher:
    """Refreshes the continuous aggregates of a project.

    Args:
        db: as the owner of the tables; nobody else uses it meanwhile.
        project: all models.
        version: of hl, noted with each refresh.
    """

    def __init__(self, db: Database, project: Project, version: str) -> None:
        self._db = db
        self._project = project
        self._version = version

    def refresh(
        self, model: Model, *, limit: int, start: str = "-infinity", end: str = "infinity"
    ) -> Refreshed:
        """Takes up to `limit` marks of a model's closed buckets, newest first, and materializes those buckets.

        Args:
            model: a continuous aggregate.
            limit: of marks.
            start: only marks from here on, as PostgreSQL writes times.
            end: only marks before this.

        Returns:
            What was done; `n_marks` is 0 when nothing was dirty.

        Raises:
            TransientError: the database is away; nothing was changed, and the marks are still there.
            DeployedOtherwiseError: the deployed models are not the project's. As above.

        Guarantee: a mark is gone when its bucket is materialized, and not before; a change that comes meanwhile
        is marked anew.
        """
        began = time.perf_counter()
        with self._db.transaction():
            check_deployed(self._db, self._project)
            # Nobody raises the floor and drops what is below it while we compute from it.
            share_floors(self._db, self._project, model)
            self._db.rows(ALONE, {"model": model.name})
            floor = floor_below(self._db, self._project, model)
            values = {"model": model.name, "grain": model.bucket, "floor": floor, "start": start, "end": end}
            values["base"] = base_name(self._project, model)
            marks = self._db.rows(TAKE, {**values, "limit": limit})
            if not marks:
                return Refreshed(model.name, 0, 0, 0.0)
            devices, times = [mark[0] for mark in marks], [mark[1] for mark in marks]
            found = self._db.rows(BUCKETS, {**values, "devices": devices, "marks": times})
            refresh_id = self.swap(model, [Bucket(*row) for row in found])
            duration_ms = (time.perf_counter() - began) * 1000
            days = tuple(Counter(row[3] for row in found).items())
            done = Refreshed(model.name, len(marks), len(found), duration_ms, refresh_id, days)
            self._db.rows(
                END,
                {
                    "id": refresh_id,
                    "duration_ms": duration_ms,
                    "n_marks": done.n_marks,
                    "n_buckets": done.n_buckets,
                },
            )
        log.info("buckets_refreshed", **{**done._asdict(), "days": len(done.days)})
        return done

    def swap(self, model: Model, buckets: list[Bucket], schema: str = "hl") -> int:
        """Computes buckets, puts them in place of those that were materialized, and marks what is above them.

        Args:
            model: a continuous aggregate.
            buckets: by device and start.
            schema: of the functions that compute them.

        Returns:
            Id of the refresh that the rows name. The caller's transaction is around it, and began with
            `check_deployed`: only the models that the project knows are marked.
        """
        db = self._db
        stream = self._project.stream_of(model)
        group = stream.consumer_group if stream else None
        begun = {"model": model.name, "version": self._version, "consumer_group": group}
        refresh_id = int(db.rows(BEGIN, begun)[0][0])
        keys = {
            "devices": [bucket.device_id for bucket in buckets],
            "buckets": [bucket.start for bucket in buckets],
        }
        # A day or a longer bucket is computed by itself; hours of one day in one go.
        runs = plan_runs(buckets)
        spans = {
            "devices": [run.device_id for run in runs],
            "starts": [run.start for run in runs],
            "ends": [run.end for run in runs],
        }
        ensure_partitions(db, model, [bucket.start for bucket in buckets])
        db.rows(REMOVE.format(model=model.name), keys)
        computed = db.rows(self._compute(model, schema), {**spans, "refresh_id": refresh_id})
        if stream is not None and stream.counters:
            self._note_events(model, stream.name, spans, computed, schema)
        for above in self._project.above(model.name):
            db.rows(CASCADE, {**keys, "model": above.name, "grain": above.bucket})
        return refresh_id

    def _note_events(
        self,
        model: Model,
        stream: str,
        spans: Mapping[str, object],
        computed: list[tuple[object, ...]],
        schema: str,
    ) -> None:
        self._db.rows(FORGET_EVENTS, {**spans, "stream": stream})
        found = [row for row in computed if row[3]]
        if found:
            values = {
                "stream": stream,
                "devices": [row[0] for row in found],
                "starts": [row[1] for row in found],
                "ends": [row[2] for row in found],
            }
            self._db.rows(NOTE_EVENTS.format(model=model.name, schema=schema), values)

    def _compute(self, model: Model, schema: str) -> str:
        # Not kept from one transaction to the next: a deployment may lie between them.
        there = columns_of(self._db, f"materialized.{model.name}")
        columns = [name for name in there if name != "refresh_id"]
        events = [name for name in columns if name.endswith("_events")] if model.sources else []
        return COMPUTE.format(
            model=model.name,
            schema=schema,
            columns=", ".join((*columns, "refresh_id")),
            computed=", ".join(f"c.{name}" for name in columns),
            excluded=", ".join(f"excluded.{name}" for name in (*columns, "refresh_id")),
            any_events=" + ".join(events) + " > 0" if events else "false",
        )
