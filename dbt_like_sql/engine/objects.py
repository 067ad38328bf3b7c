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


def mark_function(stream: Stream, models: Sequence[str]) -> str:
    """Makes the trigger function that marks what a change of readings makes dirty.

    A reading lies in one hour, but the steps from the one before it and to the one behind it reach into others: as
    far as max_gap_s behind the one before, and 31 days before the one behind. Where finding these exactly would cost
    more than computing a bucket too many, more is marked: behind a live reading everything until now.

    Two transactions at the same time must not each mark with a neighbour in mind that the other one takes away or
    brings: whoever removes readings is alone with his devices, and so is who begins after a silence with all others
    who do. Everybody else only shares a lock. The devices share 64 locks of a table, which are few enough.
    """
    table = f"public.{stream.table}"
    names = ", ".join(f"('{name}')" for name in models)
    near = ", ".join(
        f"""(
            select max(t.timestamp) from {table} as t
            where t.device_id = d.device_id and t.timestamp < d.first_at
                and t.timestamp >= d.first_at - interval '{within}' and t.timestamp >= %1$L and t.timestamp < %2$L)"""
        for within in ("5 seconds", "1 minute", "1 hour")
    )
    return f"""\
create or replace function hl.mark_{stream.table}() returns trigger language plpgsql as $mark$
declare
    first_of_all timestamptz;
    last_of_all timestamptz;
    this_hour timestamptz := date_bin('1 hour', hl.clock(), 'epoch');
    is_gone boolean;
    devices text[];
    nears timestamptz[];
begin
    -- Who moves readings between table and archive changes none.
    if current_setting('hl.unmarked', true) = 'on' then
        return null;
    end if;
    select min(timestamp), max(timestamp) into first_of_all, last_of_all from changed;
    if first_of_all is null then
        return null;
    end if;
    is_gone := tg_op = 'DELETE' or tg_name = 'mark_update_old' and exists (
        select from changed as c where not exists (
            select from {table} as t where t.device_id = c.device_id and t.timestamp = c.timestamp));
    if is_gone then
        perform pg_advisory_xact_lock(hashtext('{table}'), slot)
        from (select distinct hashtext(device_id) & 63 as slot from changed order by 1) as slots;
        update hl.dirty as d set known_at = null
        from (select distinct device_id, date_bin('1 hour', timestamp, 'epoch') as hour from changed) as c
        where d.model in (select model from (values {names}) as m (model))
            and d.device_id = c.device_id and d.bucket = c.hour;
    else
        perform pg_advisory_xact_lock_shared(hashtext('{table}'), slot)
        from (select distinct hashtext(device_id) & 63 as slot from changed order by 1) as slots;
    end if;
    -- Live readings of devices that were heard of within this hour make nothing dirty but this hour. Nearly always it
    -- is marked already, by a reading that came before; and where many devices send, locking all those marks would
    -- cost more than everything else. A lock of the hour does as well, if nobody is taking marks right now: whoever
    -- begins to sees it, and leaves the hour alone.
    if not is_gone and first_of_all >= this_hour and last_of_all < this_hour + interval '1 hour' then
        perform pg_advisory_xact_lock_shared(hashtext('hl.hours.{stream.table}'), hl.hour_number(this_hour));
        if pg_try_advisory_lock(hashtextextended('hl.floors.{stream.table}', 0)) then
            perform pg_advisory_unlock(hashtextextended('hl.floors.{stream.table}', 0));
            select array_agg(c.device_id) into devices
            from (select device_id, min(timestamp) as first_at from changed group by device_id) as c
            where exists (
                select from (values {names}) as m (model)
                left join lateral (
                    select known_at from hl.dirty
                    where model = m.model and device_id = c.device_id and bucket = this_hour limit 1
                ) as mark on true
                where mark.known_at is null or mark.known_at >= c.first_at);
            if devices is null then
                return null;
            end if;
        end if;
    end if;
    -- What each device sent last before, if that was within an hour, as it nearly always is. With the range written
    -- into its text, the look-up touches only the table partitions of that range. A look-up reads all there is of the
    -- device in a page of the index: the nearest seconds first, then, where there is nothing, more.
    execute format($query$
        select array_agg(d.device_id), array_agg(near.at)
        from (
            select device_id, min(timestamp) as first_at from changed
            where $1 is null or device_id = any($1) group by device_id
        ) as d
        cross join lateral (select coalesce({near}) as at) as near
    $query$, first_of_all - interval '1 hour', last_of_all) into devices, nears using devices;
    if array_position(nears, null) is not null then
        -- With a device's first readings, or after a silence: the other one's readings lie within the step that we see.
        perform pg_advisory_xact_lock(hashtext('{table}'), 64 + slot)
        from (
            select distinct hashtext(device_id) & 63 as slot
            from unnest(devices, nears) as known (device_id, at) where at is null order by 1
        ) as slots;
    end if;
    insert into hl.dirty (model, device_id, bucket, known_at)
    with near as materialized (
        select g.device_id, first_at, last_at,
            case
                when before_at > first_at - interval '1 hour' then before_at
                when before_at is null and known.at is not null then known.at
                -- Those changed in the same statement count as well: they may have been deleted.
                else coalesce((hl.before_{stream.table}(g.device_id, g.first_at)).timestamp, before_at, first_at)
            end as prev_at,
            case
                when behind_at < last_at + interval '1 hour' then behind_at
                when last_at > now() - interval '1 hour' then greatest(last_at, now())
                else coalesce(
                    (hl.after_{stream.table}(g.device_id, g.last_at + interval '1 microsecond')).timestamp,
                    behind_at, last_at)
            end as next_at
        from (
            select device_id, first_at, last_at,
                lag(last_at) over device as before_at, lead(first_at) over device as behind_at
            from (
                select device_id, min(timestamp) as first_at, max(timestamp) as last_at
                from changed group by device_id, date_bin('1 hour', timestamp, 'epoch')
            ) as hours
            window device as (partition by device_id order by first_at)
        ) as g
        join unnest(devices, nears) as known (device_id, at) on known.device_id = g.device_id
    ), reach as (
        select device_id, first_at, last_at, greatest(prev_at, first_at - interval '31 days') as from_at,
            least(next_at, last_at + interval '31 days') as to_at
        from near
        union all
        select device_id, first_at, last_at, prev_at, least(prev_at + interval '{stream.max_gap_s} seconds', first_at)
        from near where prev_at < first_at - interval '31 days'
        union all
        select device_id, first_at, last_at, greatest(prev_at, next_at - interval '31 days'), next_at
        from near where next_at > last_at + interval '31 days'
    )
    select m.model, hours.device_id, hours.hour,
        min(case when not is_gone and hours.hour = date_bin('1 hour', hours.first_at, 'epoch') then hours.first_at end)
    from (
        select device_id, first_at, last_at, generate_series(
            date_bin('1 hour', from_at, 'epoch'), date_bin('1 hour', to_at, 'epoch'), interval '1 hour') as hour
        from reach
    ) as hours
    cross join (values {names}) as m (model)
    cross join (
        select coalesce((select floor from hl.floors where table_name = '{stream.table}'), '-infinity') as floor
    ) as f
    -- Of a reading that came late for a dropped time, its own hour: whoever absorbs it knows its neighbours.
    where hours.last_at >= date_trunc('day', f.floor, 'UTC') or hours.hour > f.floor - interval '1 hour'
        or hours.hour between date_bin('1 hour', hours.first_at, 'epoch') and hours.last_at
    group by m.model, hours.device_id, hours.hour
    order by m.model, hours.device_id, hours.hour
    -- Locks an existing mark, even if it does not change it: see hl.mark.
    on conflict (model, device_id, bucket) do update set known_at = excluded.known_at
    where excluded.known_at < coalesce(dirty.known_at, 'infinity');
    return null;
end
$mark$"""


def mark_triggers(stream: Stream, table_partition: str) -> list[str]:
    """Makes the triggers of a table or of one of its partitions, which somebody may write to directly."""
    # An update has two transition tables and gets two triggers, so that one function serves all.
    changes = (
        ("insert", "insert", "new"),
        ("delete", "delete", "old"),
        ("update_old", "update", "old"),
        ("update_new", "update", "new"),
    )
    return [
        f"create or replace trigger mark_{name} after {event} on public.{table_partition} "
        f"referencing {rows} table as changed for each statement execute function hl.mark_{stream.table}()"
        for name, event, rows in changes
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
