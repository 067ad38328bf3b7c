"""The SQL that makes a model's objects in PostgreSQL.

Of a continuous aggregate `m`:

| object | what it is |
|---|---|
| `materialized.m` | its materialized buckets, partitioned by time, each with the refresh that made it |
| `hl.compute_m(device, from, to)` | its buckets computed now, for one device and adjoining buckets of one local day |
| `hl.dirty_m` | its buckets that changed since they were materialized |
| `public.m` | what everybody reads: materialized where clean, computed now where dirty |
"""

import hashlib
from collections.abc import Sequence
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from dbt_like_sql.engine.model import Model
from dbt_like_sql.engine.render import Renderer, Scope
from hl_platform.core.streams import Stream

# What the parameters of hl.compute_… are called inside; names could be mistaken for columns.
SCOPE = Scope("$1", "$2", "$3")
# A function with settings of its own is not copied into the query that calls it: a session plans it once, where copied
# it would be planned anew in every query, for each table partition. Its groups are few: hashing beats sorting.
PLANNED_ONCE = "set plan_cache_mode = force_generic_plan set enable_sort = off"
# Shape of the result without reading anything.
NOWHERE = Scope("null::text", "'epoch'::timestamptz", "'epoch'::timestamptz")


def shape_of(model: Model, renderer: Renderer) -> str:
    """A SELECT whose columns are the model's, and which reads nothing."""
    return renderer.render(model, NOWHERE)


def digest_of(model: Model, renderer: Renderer, timezone: str) -> str:
    """Changes with the meaning of a model's rows: buckets of another time zone are other buckets."""
    meaning = "\n".join((renderer.render(model, SCOPE), model.bucket or "", timezone))
    return hashlib.sha256(meaning.encode()).hexdigest()[:16]


def compute_function(
    model: Model, renderer: Renderer, schema: str = "hl", relation: str | None = None
) -> str:
    """Makes `hl.compute_m`, whose rows are those of the table.

    Args:
        model: which.
        renderer: of the project.
        schema: where it is made.
        relation: what it reads instead of the stream's table.
    """
    body = renderer.render(model, SCOPE._replace(relation=relation))
    return (
        f"create or replace function {schema}.compute_{model.name}(\n"
        "    device text, from_time timestamptz, to_time timestamptz)\n"
        f"returns setof materialized.{model.name} language sql stable {PLANNED_ONCE} as $model$\n"
        f"select computed.*, hl.bucket_end('{model.bucket}', computed.bucket), null::bigint\n"
        f"from (\n{body}\n) as computed\n$model$"
    )


def events_function(
    model: Model, stream: Stream, renderer: Renderer, schema: str = "hl", relation: str | None = None
) -> str:
    """Makes `hl.events_m`: what the counters of a stream did that a person should see."""
    body = renderer.render_events(model, stream, SCOPE._replace(relation=relation))
    return (
        f"create or replace function {schema}.events_{model.name}(\n"
        "    device text, from_time timestamptz, to_time timestamptz)\n"
        "returns table (field text, at timestamptz, before_at timestamptz, before float8, after float8, moved float8)\n"
        f"language sql stable as $model$\n{body}\n$model$"
    )


def dirty_view(model: Model, below: Sequence[str], floor_of: str) -> str:
    """Makes `hl.dirty_m`. A mark is of a bucket, or of a UTC hour, which may lie in two of the household's hours."""
    names = ", ".join(f"'{name}'" for name in below)
    return (
        f"create or replace view hl.dirty_{model.name} as\n"
        "select distinct mark.device_id, found.bucket, hl.bucket_end("
        f"'{model.bucket}', found.bucket) as bucket_end\n"
        "from hl.dirty as mark\n"
        "cross join lateral (values\n"
        f"    (hl.bucket_start('{model.bucket}', mark.bucket)),\n"
        f"    (hl.bucket_start('{model.bucket}', mark.bucket + interval '59 minutes 59 seconds'))\n"
        ") as found (bucket)\n"
        f"where mark.model in ({names})\n"
        # Of a bucket that begins before the floor a part may be gone already.
        f"    and found.bucket >= coalesce((\n"
        f"        select floor from hl.floors where table_name = '{floor_of}'), '-infinity')"
    )


def public_view(model: Model, columns: Sequence[str]) -> str:
    """Makes `public.m`.

    Args:
        model: which.
        columns: of its table, in order; the first two are device_id and bucket.
    """
    others = ", ".join(f"computed.{name}" for name in columns[2:])
    return (
        f"create or replace view public.{model.name} as\n"
        f"select clean.* from materialized.{model.name} as clean\n"
        "where not exists (\n"
        f"    select from hl.dirty_{model.name} as dirty\n"
        "    where dirty.device_id = clean.device_id and dirty.bucket = clean.bucket)\n"
        "union all\n"
        # The first two come from the marks, so that a condition on them reaches these.
        f"select dirty.device_id, dirty.bucket, {others}\n"
        f"from hl.dirty_{model.name} as dirty\n"
        f"cross join lateral hl.compute_{model.name}(dirty.device_id, dirty.bucket, dirty.bucket_end) as computed"
    )


def statements_of(
    model: Model, below: Sequence[str], stream: Stream | None, renderer: Renderer, columns: Sequence[str]
) -> list[str]:
    """All that makes the objects of a model beside its table, for a person to read.

    Args:
        model: which.
        below: its name and those of all aggregates below it.
        stream: the one whose readings it reads directly, if any.
        renderer: of all models.
        columns: of its table, in order.
    """
    if model.bucket is None:
        return [f"create {model.materialization} public.{model.name} as\n{renderer.render(model)}"]
    found = [compute_function(model, renderer)]
    if model.is_aggregate:
        found += [
            dirty_view(model, below, stream.table if stream else model.refs[0]),
            public_view(model, columns),
        ]
        if stream is not None and stream.counters:
            found.append(events_function(model, stream, renderer))
    return found


def neighbour_functions(stream: Stream) -> list[str]:
    """Makes `hl.before_<table>` and `hl.after_<table>`: the reading of a device before a time, and from it on.

    As functions of their own they touch only the table partitions that they need, and look beyond a day only for a
    device that was silent for one.
    """
    table = f"public.{stream.table}"
    return [
        f"""\
create or replace function hl.{name}_{stream.table}(device text, at timestamptz) returns {table}
language plpgsql stable set plan_cache_mode = force_generic_plan as $found$
declare
    found_row {table};
begin
    select * into found_row from {table} as t
    where t.device_id = device and t.timestamp {beyond} at and t.timestamp {within} at {sign} interval '1 day'
    order by t.timestamp {order} limit 1;
    if not found then
        select * into found_row from {table} as t
        where t.device_id = device and t.timestamp {far} at {sign} interval '1 day'
        order by t.timestamp {order} limit 1;
    end if;
    return found_row;
end
$found$"""
        for name, beyond, within, far, sign, order in (
            ("before", "<", ">=", "<", "-", "desc"),
            ("after", ">=", "<", ">=", "+", "asc"),
        )
    ]


def hours_are_utc(timezone: str) -> bool:
    """Whether a zone's hours have begun with UTC's hours since 2015, and will for as long as is known."""
    zone = ZoneInfo(timezone)
    months = (
        datetime(year, month, 1, 12, tzinfo=zone) for year in range(2015, 2040) for month in range(1, 13)
    )
    return not any((month.utcoffset() or timedelta()) % timedelta(hours=1) for month in months)


def zone_functions(timezone: str) -> list[str]:
    """Makes the functions that know the household's days. The zone's name was checked with the settings."""
    return [
        f"create or replace function hl.hours_are_utc() returns boolean immutable return {hours_are_utc(timezone)}",
        f"""\
create or replace function hl.local_start(unit text, at timestamptz) returns timestamptz
language sql stable parallel safe as $zone$
    -- Where midnight comes twice, the day begins with the first.
    select case
        when date_trunc(unit, (found - interval '1 hour') at time zone '{timezone}') = local
        then found - interval '1 hour' else found end
    from (select date_trunc(unit, at at time zone '{timezone}') as local) as day
    cross join lateral (select local at time zone '{timezone}' as found) as start
$zone$""",
        f"""\
create or replace function hl.local_time(at timestamptz) returns timestamp
language sql stable parallel safe as $zone$ select at at time zone '{timezone}' $zone$""",
        """\
create or replace function hl.bucket_start(grain text, at timestamptz) returns timestamptz
language sql stable parallel safe as $zone$
    -- Hours are counted from local midnight, so that they add up to days in every zone.
    select case grain
        when 'minute' then date_bin('1 minute', at, 'epoch')
        when 'hour' then date_bin('1 hour', at, hl.local_start('day', at))
        else hl.local_start(grain, at) end
$zone$""",
        """\
create or replace function hl.bucket_end(grain text, bucket timestamptz) returns timestamptz
language sql stable parallel safe as $zone$
    select case grain
        when 'minute' then bucket + interval '1 minute'
        when 'hour' then least(
            bucket + interval '1 hour', hl.local_start('day', hl.local_start('day', bucket) + interval '36 hours'))
        when 'day' then hl.local_start('day', bucket + interval '36 hours')
        when 'month' then hl.local_start('month', bucket + interval '45 days')
        else hl.local_start('year', bucket + interval '548 days') end
$zone$""",
    ]
