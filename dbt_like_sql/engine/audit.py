"""Compares what is materialized with what it was made from: counts, sums and the last values of counters.

A count and a sum are computed here by other means than by the model: if they agree for every bucket, then no change of
the readings went unmarked and nobody changed a materialized row. Dirty buckets are left out: they say themselves that
they are not up to date. Each chunk is one statement and so sees one moment.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime, timedelta
from typing import Any, NamedTuple

import structlog

from dbt_like_sql.engine.database import Database
from dbt_like_sql.engine.drain import probe
from dbt_like_sql.engine.marks import DEVICES, FLOOR_OF, floor_of
from dbt_like_sql.engine.model import Model
from dbt_like_sql.engine.pace import EASY_MS, MAX_PAUSE_S
from dbt_like_sql.engine.project import Project

log = structlog.get_logger()

# More mismatches than this are one problem, not many.
MAX_NAMED = 20
# Sums of the same numbers in another order.
TOLERANCE = 1e-9

DAYS = """
-- days: every local day above the floor that has readings or materialized hours, oldest first
with {devices}, range as (
    select least(reading.first_at, hours.first_at) as first_at, greatest(reading.last_at, hours.last_at) as last_at
    from (
        select
            min((select timestamp from public.{table}
                 where device_id = d.device_id order by timestamp limit 1)) as first_at,
            max((select timestamp from public.{table}
                 where device_id = d.device_id order by timestamp desc limit 1)) as last_at
        from devices as d
    ) as reading
    cross join (select min(bucket) as first_at, max(bucket) as last_at from materialized.{model}) as hours
)
select distinct hl.bucket_start('day', noon), hl.bucket_end('day', hl.bucket_start('day', noon))
from range, generate_series(
    hl.bucket_start('day', greatest(range.first_at, {floor})) + interval '12 hours', range.last_at + interval '1 day',
    interval '1 day') as noon
order by 1
"""
# Hours are counted from local midnight, and a chunk is one local day.
AUDIT_HOURS = """
-- audit_hours: clean hours of a local day that are not what the readings say
with {devices}, raw as (
    select d.device_id, r.*
    from devices as d cross join lateral (
        select date_bin('1 hour', timestamp, %(start)s) as bucket, count(*) as n_readings, max(timestamp) as last_at
            {raw_columns}
        from public.{table}
        where device_id = d.device_id and timestamp >= %(start)s and timestamp < %(end)s
        group by 1
    ) as r
), stored as (
    select * from materialized.{model} where bucket >= %(start)s and bucket < %(end)s
), compared as (
    select device_id, bucket, raw.last_at, {differences} as is_wrong{last_columns}
    from raw full join stored using (device_id, bucket)
)
select device_id, bucket, count(*) over () as n
from compared as c
where (is_wrong {last_differences})
    and not exists (select from hl.dirty_{model} as x where x.device_id = c.device_id and x.bucket = c.bucket)
    and hl.bucket_end('hour', bucket) <= now()
order by bucket, device_id limit {max_named}
"""
AUDIT_BUCKETS = """
-- audit_buckets: clean buckets that are not the sum of those below
with raw as (
    select device_id, hl.bucket_start(%(grain)s, bucket) as bucket {raw_columns}
    from materialized.{below} group by 1, 2
    having hl.bucket_start(%(grain)s, min(bucket)) >= {floor}
), stored as (
    select * from materialized.{model} where bucket >= {floor}
), compared as (
    select device_id, bucket, {differences} as is_wrong from raw full join stored using (device_id, bucket)
)
select device_id, bucket, count(*) over () as n
from compared as c
where is_wrong
    and not exists (select from hl.dirty_{model} as x where x.device_id = c.device_id and x.bucket = c.bucket)
    and hl.bucket_end(%(grain)s, bucket) <= now()
order by bucket, device_id limit {max_named}
"""
COUNT = """
-- count: materialized buckets of a model
select count(*) from materialized.{model}
"""
MARK = """
-- mark: buckets that are to be computed anew
insert into hl.dirty (model, device_id, bucket)
select distinct %(model)s, device_id, case when %(by_hour)s then date_bin('1 hour', bucket, 'epoch') else bucket end
from unnest(%(devices)s::text[], %(buckets)s::timestamptz[]) as b (device_id, bucket)
order by 2, 3
on conflict (model, device_id, bucket) do update set since = excluded.since where false
"""


class Audited(NamedTuple):
    """What an audit of a model found.

    Args:
        model: its name.
        n_buckets: how many are materialized.
        n_wrong: how many of them, or of those that should be, are not what they should be.
        named: the first of them: device and begin.
        duration_s: of the audit.
    """

    model: str
    n_buckets: int
    n_wrong: int
    named: tuple[tuple[str, datetime], ...]
    duration_s: float

    @property
    def text(self) -> str:
        """The outcome for a person."""
        if self.n_wrong == 0:
            return f"{self.n_buckets} materialized buckets are what they were made from."
        named = ", ".join(f"{device} {start.isoformat()}" for device, start in self.named)
        more = f" and {self.n_wrong - len(self.named)} more" if self.n_wrong > len(self.named) else ""
        return (
            f"{self.n_wrong} buckets were not what they should be: {named}{more}. They are marked and will be computed "
            "anew. Somebody changed them, or changed readings while triggers were off."
        )


def audit(
    db: Database, project: Project, model: Model, wait: Callable[[float], object] = time.sleep
) -> Audited:
    """Compares every retained bucket of a model and marks those that are wrong.

    Args:
        db: as the owner of the tables.
        project: all models.
        model: a continuous aggregate.
        wait: lets seconds pass between chunks, when the database is slow.

    Raises:
        TransientError: the database is away; what was found until then is marked.
    """
    began = time.perf_counter()
    n_wrong = 0
    named: list[tuple[str, datetime]] = []
    for query, values in _chunks(db, project, model):
        found = db.rows(query, values)
        while found:
            n_wrong += len(found)
            named += [(str(row[0]), row[1]) for row in found[: MAX_NAMED - len(named)]]
            _mark(db, model, found)
            # What is marked is left out of the next look.
            found = db.rows(query, values) if len(found) == MAX_NAMED else []
        probe_ms = probe(db)
        if probe_ms > EASY_MS:
            wait(min(MAX_PAUSE_S, probe_ms / 100))
    n_buckets = int(db.rows(COUNT.format(model=model.name))[0][0])
    audited = Audited(model.name, n_buckets, n_wrong, tuple(named), time.perf_counter() - began)
    log.info("model_audited", model=model.name, n_buckets=n_buckets, n_wrong=n_wrong)
    return audited


def _mark(db: Database, model: Model, found: list[tuple[Any, ...]]) -> None:
    values = {
        "model": model.name,
        "by_hour": bool(model.sources),
        "devices": [row[0] for row in found],
        "buckets": [row[1] for row in found],
    }
    db.rows(MARK, values)


def _chunks(db: Database, project: Project, model: Model) -> Iterator[tuple[str, Mapping[str, object]]]:
    from dbt_like_sql.engine.deploy import columns_of  # noqa: PLC0415 - brings jinja2

    there = columns_of(db, f"materialized.{model.name}")
    values: dict[str, object] = {"grain": model.bucket, "floor_of": floor_of(project, model)}
    stream = project.stream_of(model)
    if stream is None:
        below = model.refs[0]
        added = [name for name in columns_of(db, f"materialized.{below}") if name in there and _adds_up(name)]
        if added:
            query = AUDIT_BUCKETS.format(
                below=below,
                model=model.name,
                raw_columns="".join(f", sum({name}) as {name}" for name in added),
                differences=_differences(added),
                floor=FLOOR_OF,
                max_named=MAX_NAMED,
            )
            yield query, values
        return
    if model.bucket != "hour" or "n_readings" not in there:
        return
    gauges = [field.name for field in stream.fields if f"{field.name}_sum" in there]
    counters = [field.name for field in stream.counters if f"{field.name}_last" in there]
    devices = DEVICES.format(table=stream.table)
    last = "(select r.{name} from public.{table} as r where r.device_id = c.device_id and r.timestamp = c.last_at)"
    query = AUDIT_HOURS.format(
        devices=devices,
        table=stream.table,
        model=model.name,
        raw_columns="".join(f", count({n}) as {n}_count, sum({n})::float8 as {n}_sum" for n in gauges),
        differences=_differences(["n_readings", *(f"{n}_{of}" for n in gauges for of in ("count", "sum"))]),
        last_columns="".join(f", stored.{name}_last" for name in counters),
        last_differences="".join(
            f" or {last.format(name=name, table=stream.table)} is distinct from c.{name}_last"
            for name in counters
        ),
        max_named=MAX_NAMED,
    )
    days = DAYS.format(devices=devices, table=stream.table, model=model.name, floor=FLOOR_OF)
    for start, end in db.rows(days, {"floor_of": floor_of(project, model)}):
        # The day of the floor may have lost some of its readings.
        yield query, {**values, "start": start, "end": max(end, start + timedelta(hours=1))}


def _adds_up(name: str) -> bool:
    return name in ("n_readings", "consumption_kwh", "gap_kwh") or name.endswith(
        ("_count", "_sum", "_moved", "_gap")
    )


def _differences(names: list[str]) -> str:
    return "(" + " or ".join(_difference(name) for name in names) + ")"


def _difference(name: str) -> str:
    raw, stored = f"coalesce(raw.{name}, 0)::float8", f"coalesce(stored.{name}, 0)::float8"
    return f"abs({raw} - {stored}) > {TOLERANCE} * (1 + abs({raw}) + abs({stored}))"
