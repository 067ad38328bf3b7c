"""Marks: which buckets are waiting, and how a person makes clean ones wait again."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

from dbt_like_sql.engine.database import Database
from dbt_like_sql.engine.model import Model
from dbt_like_sql.engine.project import Project

# A bucket that has just ended is changed once more by each device's next reading; until then the view computes it.
SETTLE_S = 360.0
# Counting further would only tell by how much it is too many.
COUNT_UP_TO = 5_000
# A run over a clean day costs an event, a further run two seconds.
JOIN_DAYS = 7
MAX_DAYS = 366

FLOOR_OF = "coalesce((select floor from hl.floors where table_name = %(floor_of)s), '-infinity'::timestamptz)"

# Jumps from one device to the next along the primary key, where DISTINCT would read the whole table.
DEVICES = """
recursive every_device as (
    (select device_id from public.{table} order by device_id limit 1)
    union all
    select (select t.device_id from public.{table} as t where t.device_id > d.device_id order by t.device_id limit 1)
    from every_device as d where d.device_id is not null
), devices as (
    select device_id from every_device where device_id is not null
)"""

BACKLOG = """
-- backlog: of each model, its marks of buckets that are closed and settled, up to a number
select m.model, m.settled::text, found.n, found.oldest_s, found.newest::text
from (
    select model, grain, hl.bucket_start(grain, now() - make_interval(secs => %(settle_s)s)) as settled,
        coalesce((select floor from hl.floors where table_name = floor_of), '-infinity') as floor
    from unnest(%(models)s::text[], %(grains)s::text[], %(floors)s::text[]) as names (model, grain, floor_of)
) as m
cross join lateral (
    select count(*) as n, max(bucket) as newest,
        max(extract(epoch from now() - greatest(since, closed_at)))::float8 as oldest_s
    from (
        select bucket, since, closed_at
        from hl.dirty
        cross join lateral (select hl.bucket_end(
            m.grain, hl.bucket_start(m.grain, bucket + interval '59 minutes 59 seconds')) as closed_at) as closing
        where model = m.model and bucket >= m.floor and bucket < m.settled and closed_at <= now()
        limit %(count_up_to)s
    ) as marks
) as found
"""
DAYS = """
-- days: the local days that settled marks of a model lie in, newest first
select distinct hl.bucket_start('day', bucket) as day from (
    select bucket from hl.dirty
    where model = %(model)s and bucket >= {floor} and bucket < %(settled)s order by bucket desc limit %(limit)s
) as newest
order by day desc
"""
MARK_HOURS = """
-- mark_hours: every hour of a range between a device's first and last reading, and every hour that is materialized
with {devices}
insert into hl.dirty (model, device_id, bucket)
select distinct %(model)s, device_id, hour
from (
    select d.device_id, generate_series(
        date_bin('1 hour', greatest(reading.first_at, %(start)s, {floor}), 'epoch'),
        least(reading.last_at, %(end)s - interval '1 microsecond'), interval '1 hour') as hour
    from devices as d cross join lateral (
        select
            (select timestamp from public.{table}
             where device_id = d.device_id order by timestamp limit 1) as first_at,
            (select timestamp from public.{table}
             where device_id = d.device_id order by timestamp desc limit 1) as last_at
    ) as reading
    union all
    select device_id, date_bin('1 hour', bucket, 'epoch') from materialized.{model}
    where bucket >= %(start)s and bucket < %(end)s
) as found
where hour >= {floor}
order by 2, 3
on conflict (model, device_id, bucket) do update set since = excluded.since where false
returning 1
"""
MARK_BUCKETS = """
-- mark_buckets: every bucket of a range that the level below has rows for, or that is materialized
insert into hl.dirty (model, device_id, bucket)
select distinct %(model)s, device_id, hl.bucket_start(%(grain)s, bucket)
from (
    select device_id, bucket from materialized.{below} where bucket >= %(start)s and bucket < %(end)s
    union all
    select device_id, bucket from hl.dirty_{below} where bucket >= %(start)s and bucket < %(end)s
    union all
    select device_id, bucket from materialized.{model} where bucket >= %(start)s and bucket < %(end)s
) as found
where hl.bucket_end(%(grain)s, hl.bucket_start(%(grain)s, bucket)) > {floor}
order by 2, 3
on conflict (model, device_id, bucket) do update set since = excluded.since where false
returning 1
"""


class Backlog(NamedTuple):
    """Marks of a model that can be taken now.

    Args:
        model: its name.
        settled: marks before this are taken, as PostgreSQL writes times.
        n: how many; no more than COUNT_UP_TO are counted.
        oldest_s: for how long the one that has waited longest could have been taken, in seconds.
        newest: bucket of the newest mark, as PostgreSQL writes times.
    """

    model: str
    settled: str
    n: int
    oldest_s: float | None
    newest: str | None


def floor_of(project: Project, model: Model) -> str:
    """The table whose floor bounds what a model can be computed from."""
    stream = project.stream_of(model)
    return stream.table if stream else model.refs[0]


def read_backlog(db: Database, project: Project, settle_s: float = SETTLE_S) -> dict[str, Backlog]:
    """What waits, by model, for all of them.

    Args:
        db: where.
        project: all models.
        settle_s: buckets that ended less than this ago do not count, in seconds.
    """
    models = project.aggregates()
    values = {
        "models": [model.name for model in models],
        "grains": [model.bucket for model in models],
        "floors": [floor_of(project, model) for model in models],
        "settle_s": settle_s,
        "count_up_to": COUNT_UP_TO,
    }
    return {str(row[0]): Backlog(*row) for row in db.rows(BACKLOG, values)}


def read_days(db: Database, project: Project, model: Model, settled: str) -> list[datetime]:
    """The local days with marks before a time, newest first, as far as the newest 100,000 marks reach."""
    values = {"model": model.name, "floor_of": floor_of(project, model), "settled": settled, "limit": 100_000}
    return [row[0] for row in db.rows(DAYS.format(floor=FLOOR_OF), values)]


def plan_range(days: Sequence[datetime]) -> tuple[datetime, datetime] | None:
    """The first and last day of the newest range of days that are near to each other.

    Args:
        days: newest first.
    """
    if not days:
        return None
    first = last = days[0]
    for day in days[1:]:
        if first - day > timedelta(days=JOIN_DAYS) or last - day > timedelta(days=MAX_DAYS):
            break
        first = day
    return first, last


def mark_range(db: Database, project: Project, model: Model, start: datetime, end: datetime) -> int:
    """Marks every bucket of a range, clean or not, so that the next refresh computes it anew.

    Args:
        db: as the owner of the tables.
        project: all models.
        model: a continuous aggregate.
        start: begin of a bucket, inclusive.
        end: end of a bucket, exclusive.

    Returns:
        How many marks are new.

    Guarantee: what lies before the floor is not marked, since nothing could compute it again. All or nothing for each
    month of the range; marking again changes nothing.
    """
    stream = project.stream_of(model)
    query = (MARK_HOURS if stream else MARK_BUCKETS).format(
        devices=DEVICES.format(table=stream.table) if stream else "",
        table=stream.table if stream else "",
        below=model.refs[0] if model.refs else "",
        model=model.name,
        floor=FLOOR_OF,
    )
    values = {"model": model.name, "grain": model.bucket, "floor_of": floor_of(project, model)}
    # Years of a fleet's hours are millions of rows: not in one transaction.
    step = timedelta(days=31) if stream else end - start
    n_marks, at = 0, start
    while at < end:
        until = min(at + step, end)
        n_marks += len(db.rows(query, {**values, "start": at, "end": until}))
        at = until
    return n_marks
