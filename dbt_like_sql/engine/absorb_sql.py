"""The statements of absorption. In braces: names that were checked; everything else is a parameter.

Temporary tables: absorbed_archived holds what files say, absorbed_late the late readings that change something, and
absorbed_rows everything that the aggregates are computed from.
"""

TAKE = """
-- take: marks below the floor of some local days of devices
with chosen as (
    select distinct device_id, hl.bucket_start('day', bucket) as day from hl.dirty
    where model = any(%(models)s) and bucket < %(floor)s
        and hl.hour_number(bucket) <> all (array(select hl.hours_held(%(table)s)))
    order by 2 desc, 1 limit %(limit)s
), taken as (
    select d.model, d.device_id, d.bucket from hl.dirty as d join chosen as c
        on d.device_id = c.device_id and hl.bucket_start('day', d.bucket) = c.day
    where d.model = any(%(models)s) and d.bucket < %(floor)s
        and hl.hour_number(d.bucket) <> all (array(select hl.hours_held(%(table)s)))
    order by d.bucket, d.device_id for update of d skip locked
)
delete from hl.dirty as d using taken
where d.model = taken.model and d.device_id = taken.device_id and d.bucket = taken.bucket
returning d.model, d.device_id, d.bucket
"""
MARK_ABOVE = """
-- mark_above: a UTC hour may begin below the floor and end above it; the hour behind it stands for the rest
insert into hl.dirty (model, device_id, bucket)
select distinct model, device_id, mark + interval '1 hour'
from unnest(%(names)s::text[], %(devices)s::text[], %(marks)s::timestamptz[]) as m (model, device_id, mark)
where mark + interval '1 hour' > %(floor)s
order by 1, 2, 3
on conflict (model, device_id, bucket) do update set since = excluded.since where false
"""
DAYS = """
-- days: local days that marks touch, as far as they lie below the floor
select distinct device_id, start, least(hl.bucket_end('day', start), %(floor)s)
from unnest(%(devices)s::text[], %(marks)s::timestamptz[]) as m (device_id, mark)
cross join (values (interval '0'), (interval '59 minutes 59 seconds')) as parts (part)
cross join lateral hl.bucket_start('day', mark + part) as start
where start < %(floor)s
"""
WIDEN = """
-- widen: spans to the buckets of a model whose rows below are gone
select distinct device_id,
    case when is_gone then least(start, hl.bucket_start(%(grain)s, start)) else start end,
    case when is_gone then greatest(until, least(
        hl.bucket_end(%(grain)s, hl.bucket_start(%(grain)s, until - interval '1 microsecond')), %(floor)s))
    else until end
from unnest(%(devices)s::text[], %(starts)s::timestamptz[], %(ends)s::timestamptz[]) as s (device_id, start, until)
cross join lateral (select hl.bucket_start(%(grain)s, start) < %(below)s as is_gone) as known
"""
TABLES = """
-- tables: where everything is brought together
create temp table absorbed_stage (like public.{table}) on commit drop;
create temp table absorbed_archived (like public.{table}, primary key (device_id, timestamp)) on commit drop;
create temp table absorbed_late (like public.{table}, primary key (device_id, timestamp)) on commit drop;
create temp table absorbed_rows (like public.{table}, primary key (device_id, timestamp)) on commit drop
"""
CLEAR_LATE = "delete from absorbed_late"
CLEAR_ROWS = "delete from absorbed_rows"
# As the sink has it: other values win unless they are older than what is stored.
FIND_LATE = """
-- find_late: readings below the floor's day that the archive does not have, or has otherwise
insert into absorbed_late ({names})
select {selected}
from public.{table} as t
join unnest(%(devices)s::text[], %(starts)s::timestamptz[], %(ends)s::timestamptz[]) as s (device_id, start, until)
    on t.device_id = s.device_id and t.timestamp >= s.start and t.timestamp < s.until
left join absorbed_archived as a on a.device_id = t.device_id and a.timestamp = t.timestamp
where t.timestamp < date_trunc('day', %(floor)s::timestamptz, 'UTC')
  and (a.device_id is null or (t.received_at >= a.received_at and ({stored}) is distinct from ({archived})))
"""
ADD_LATE = "insert into absorbed_rows select * from absorbed_late"
ADD_ARCHIVED = "insert into absorbed_rows select * from absorbed_archived on conflict do nothing"
ADD_FROM_TABLE = """
-- add_from_table: what is still in the table of the spans, and the nearest readings around them
insert into absorbed_rows ({names})
select {plain} from unnest(%(devices)s::text[], %(starts)s::timestamptz[], %(ends)s::timestamptz[])
    as s (device_id, start, until)
cross join lateral (
    (select {names} from public.{table} as t
     where t.device_id = s.device_id and t.timestamp >= s.start and t.timestamp < s.until)
    union all
    (select {names} from public.{table} as t
     where t.device_id = s.device_id and t.timestamp < s.start order by t.timestamp desc limit 1)
    union all
    (select {names} from public.{table} as t
     where t.device_id = s.device_id and t.timestamp >= s.until order by t.timestamp limit 1)
) as r
on conflict do nothing
"""
REACH = """
-- reach: local days below the floor that the steps to and from late readings lie in
select distinct device_id, day, least(hl.bucket_end('day', day), %(floor)s)
from (
    select l.device_id, l.timestamp as at,
        coalesce((select max(timestamp) from absorbed_rows as r
                  where r.device_id = l.device_id and r.timestamp < l.timestamp), l.timestamp) as prev_at,
        coalesce((select min(timestamp) from absorbed_rows as r
                  where r.device_id = l.device_id and r.timestamp > l.timestamp), l.timestamp) as next_at
    from absorbed_late as l
) as step
cross join lateral (
    select greatest(prev_at, at - interval '744 hours') as from_at, least(next_at, at + interval '744 hours') as to_at
    union all
    select prev_at, least(prev_at + make_interval(secs => %(max_gap_s)s), at)
    where prev_at < at - interval '744 hours'
    union all
    select greatest(prev_at, next_at - interval '744 hours'), next_at where next_at > at + interval '744 hours'
) as part
cross join lateral (
    select distinct hl.bucket_start('day', moment) as day
    from (
        select generate_series(from_at, to_at, interval '12 hours') as moment union all select to_at
    ) as moments
) as days
where day < %(floor)s
"""
LATE_DAYS = """
-- late_days: UTC days that late readings lie in
select distinct (day at time zone 'UTC')::date, day, day + interval '1 day'
from (select date_trunc('day', timestamp, 'UTC') as day from absorbed_late) as found order by 1
"""
BUCKETS = """
-- buckets: those of spans that begin below a floor
select distinct on (device_id, bucket)
    device_id, bucket, hl.bucket_end(%(grain)s, bucket), hl.bucket_start('day', bucket)
from unnest(%(devices)s::text[], %(starts)s::timestamptz[], %(ends)s::timestamptz[]) as s (device_id, start, until)
cross join lateral generate_series(start, until - interval '1 microsecond', %(step)s::interval) as moment
cross join lateral hl.bucket_start(%(grain)s, moment) as bucket
where bucket < %(floor)s
order by 1, 2
"""
ANSWER = """
-- answer: marks of buckets that are computed here
delete from hl.dirty as d
using unnest(%(names)s::text[], %(devices)s::text[], %(marks)s::timestamptz[]) as m (model, device_id, bucket)
where d.model = m.model and d.device_id = m.device_id and d.bucket = m.bucket
"""
LEAVE = """
-- leave: readings below the floor's day go, but for the last of each device, and for what is still marked
delete from public.{table} as t
where t.device_id = any(%(devices)s) and t.timestamp < date_trunc('day', %(floor)s::timestamptz, 'UTC')
  and exists (
    select from public.{table} as newer
    where newer.device_id = t.device_id and newer.timestamp > t.timestamp
      and newer.timestamp < date_trunc('day', %(floor)s::timestamptz, 'UTC'))
  and not exists (
    select from hl.dirty as m
    where m.model = any(%(models)s) and m.device_id = t.device_id
      and m.bucket = date_bin('1 hour', t.timestamp, 'epoch'))
"""


def merge(table: str, names: str, content: str) -> list[str]:
    """Finds what came late, and puts everything together.

    Args:
        table: of the readings.
        names: all columns, in order.
        content: those by which two readings of the same key differ.
    """

    def of(alias: str, listed: str) -> str:
        return ", ".join(f"{alias}.{name}" for name in listed.split(", "))

    selected = of("t", names).replace('t."corrections"', 'greatest(t."corrections", a."corrections" + 1)')
    return [
        CLEAR_LATE,
        CLEAR_ROWS,
        FIND_LATE.format(
            table=table, names=names, selected=selected, stored=of("t", content), archived=of("a", content)
        ),
        ADD_LATE,
        ADD_ARCHIVED,
        ADD_FROM_TABLE.format(table=table, names=names, plain=of("r", names)),
        "analyze absorbed_rows",
    ]
