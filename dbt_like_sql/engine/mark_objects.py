"""The triggers that mark what changes of readings make dirty, whoever makes them."""

from collections.abc import Mapping, Sequence

from dbt_like_sql.engine.render import MAX_SPREAD
from hl_platform.core.streams import Stream


def mark_function(stream: Stream, models: Sequence[str]) -> str:
    """Makes the trigger function that marks what a change of readings makes dirty.

    A reading lies in one hour, but the steps from the one before it and to the one behind it reach into others: as
    far as max_gap_s behind the one before, and 31 days before the one behind. Where finding these exactly would cost
    more than computing a bucket too many, more is marked: behind a live reading everything until now.

    Two transactions at the same time must not each mark with a neighbour in mind that the other one takes away or
    brings: whoever removes readings, or brings some of more than an hour ago, is alone with his devices, and so is who
    begins after a silence with all others who do. Everybody else only shares a lock. The devices share 64 locks of a
    table, which are few enough. Whoever waited for a lock must see what he waited for, so only read committed will do.
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
    if current_setting('transaction_isolation') <> 'read committed' then
        raise exception 'readings can be changed in transactions at the level read committed only'
            using errcode = 'object_not_in_prerequisite_state', hint = 'begin isolation level read committed';
    end if;
    is_gone := tg_op = 'DELETE' or tg_name = 'mark_update_old' and exists (
        select from changed as c where not exists (
            select from {table} as t where t.device_id = c.device_id and t.timestamp = c.timestamp));
    if is_gone or first_of_all < now() - interval '1 hour' then
        perform pg_advisory_xact_lock(hashtext('{table}'), slot)
        from (select distinct hashtext(device_id) & 63 as slot from changed order by 1) as slots;
    else
        perform pg_advisory_xact_lock_shared(hashtext('{table}'), slot)
        from (select distinct hashtext(device_id) & 63 as slot from changed order by 1) as slots;
    end if;
    if is_gone then
        update hl.dirty as d set known_at = null
        from (select distinct device_id, date_bin('1 hour', timestamp, 'epoch') as hour from changed) as c
        where d.model in (select model from (values {names}) as m (model))
            and d.device_id = c.device_id and d.bucket = c.hour;
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
                -- Not until now(), which is when the transaction began.
                when last_at > now() - interval '1 hour' then greatest(last_at, clock_timestamp())
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
        select device_id, first_at, last_at, greatest(prev_at, first_at - {MAX_SPREAD}) as from_at,
            least(next_at, last_at + {MAX_SPREAD}) as to_at
        from near
        union all
        select device_id, first_at, last_at, prev_at, least(prev_at + interval '{stream.max_gap_s} seconds', first_at)
        from near where prev_at < first_at - {MAX_SPREAD}
        union all
        select device_id, first_at, last_at, greatest(prev_at, next_at - {MAX_SPREAD}), next_at
        from near where next_at > last_at + {MAX_SPREAD}
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


def truncate_function(stream: Stream, models: Sequence[str]) -> str:
    """Makes the trigger function that marks everything above the floor when a table, or a partition, is truncated."""
    marks = "\n".join(
        f"""\
    insert into hl.dirty (model, device_id, bucket)
    select distinct '{name}', device_id, date_bin('1 hour', bucket, 'epoch') from materialized.{name}
    where bucket >= coalesce((select floor from hl.floors where table_name = '{stream.table}'), '-infinity')
    order by 2, 3
    on conflict (model, device_id, bucket) do update set since = excluded.since where false;
    update hl.dirty set known_at = null where model = '{name}';"""
        for name in models
    )
    return f"""\
create or replace function hl.mark_truncated_{stream.table}() returns trigger language plpgsql as $mark$
begin
{marks}
    return null;
end
$mark$"""


def override_function(models: Mapping[str, Sequence[str]]) -> str:
    """Makes the trigger function that marks what a person's word about a counter's event makes dirty.

    Args:
        models: those made directly from the readings of a stream, by its name.
    """
    names = ", ".join(f"('{stream}', '{name}')" for stream, over in models.items() for name in over)
    return f"""\
create or replace function hl.mark_overridden() returns trigger language plpgsql as $mark$
declare
    event hl.counter_events := coalesce(new, old);
begin
    if new.override is distinct from old.override then
        perform hl.mark(m.model, event.device_id, greatest(event.before_at, event.at - {MAX_SPREAD}), event.at)
        from (values {names}) as m (stream, model) where m.stream = event.stream;
        if tg_op <> 'DELETE' then
            new.override_at := clock_timestamp();
        end if;
    end if;
    return coalesce(new, old);
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


def truncate_trigger(stream: Stream, table_partition: str) -> str:
    """Makes the trigger for when all rows go at once, which has no table of those that went."""
    return (
        f"create or replace trigger mark_truncate after truncate on public.{table_partition} "
        f"for each statement execute function hl.mark_truncated_{stream.table}()"
    )
