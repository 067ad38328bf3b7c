"""The statements of retention. In braces: names that were checked; everything else is a parameter."""

from collections.abc import Sequence

CUTOFF = """
-- cutoff: begin of the local day so many days ago
select hl.local_start('day', hl.local_start('day', now()) - make_interval(days => %(days)s) + interval '12 hours')
"""
HOUR_FROM = """
-- hour_from: the first border of hours at or behind a moment
select hl.bucket_end('hour', hl.bucket_start('hour', %(at)s::timestamptz - interval '1 microsecond'))::text
"""
PARTITIONS = """
-- partitions: those of one day that end between the floor and the cutoff
select relname, day from (
    select c.relname, to_date(right(c.relname, 8), 'YYYYMMDD') as day
    from pg_inherits as i join pg_class as c on c.oid = i.inhrelid
    where i.inhparent = to_regclass(%(table)s) and c.relname ~ '_p[0-9]{8}$'
) as found
where (day + 1)::timestamp at time zone 'UTC' <= %(cutoff)s and (day + 1)::timestamp at time zone 'UTC' > %(floor)s
"""
PARTITIONS_BELOW = """
-- partitions_below: those of one day that end by the floor
select relname from (
    select c.relname, to_date(right(c.relname, 8), 'YYYYMMDD') as day
    from pg_inherits as i join pg_class as c on c.oid = i.inhrelid
    where i.inhparent = to_regclass(%(table)s) and c.relname ~ '_p[0-9]{8}$'
) as found
where (day + 1)::timestamp at time zone 'UTC' <= %(floor)s
"""
DAYS_OLDER = """
-- days_older: days of the catch-all above the floor that end by the cutoff
select distinct (timestamp at time zone 'UTC')::date from public.{older}
where timestamp >= %(floor)s and timestamp < date_trunc('day', %(cutoff)s::timestamptz, 'UTC')
"""
ROWS_OF_DAY = "public.{relation} where timestamp >= '{start}' and timestamp < '{end}'"
# Where a row lies and which transaction wrote it: changes with every insert, update and delete.
FINGERPRINT = """
-- fingerprint: of the rows of a day
select count(*), coalesce(sum(hashtidextended(ctid, xmin::text::bigint)::numeric), 0)::text
from public.{relation} where timestamp >= %(start)s and timestamp < %(end)s
"""
EXISTS = "select to_regclass(%(table)s) is not null"
MARKED = """
-- marked: whether anything above the old floor and below the new one is dirty
select exists (
    select from hl.dirty
    where model = any(%(models)s) and bucket > %(floor)s::timestamptz - interval '1 hour' and bucket < %(end)s)
"""
LEFT_BEHIND = """
-- left_behind: whether readings came to days before this one since the days were listed
select exists (select from public.{table} where timestamp >= %(floor)s and timestamp < %(start)s)
"""
KEEP_LAST = """
-- keep_last: each device's last reading of the day
create temp table last_readings on commit drop as
select r.* from unnest(%(devices)s::text[]) as d (device_id) cross join lateral (
    select {names} from public.{relation} as t where t.device_id = d.device_id order by t.timestamp desc limit 1
) as r
"""
PUT_LAST = """
-- put_last: into the catch-all
insert into public.{older} ({names}) select {names} from last_readings
"""
DELETE_DAY = """
-- delete_day: from the catch-all, but for each device's last reading
delete from public.{older} as t
where t.timestamp >= %(start)s and t.timestamp < %(end)s and exists (
    select from public.{older} as newer
    where newer.device_id = t.device_id and newer.timestamp > t.timestamp and newer.timestamp < %(end)s)
"""
FORGET_EARLIER = """
-- forget_earlier: the last readings that were kept before. What came late is marked, and waits to be absorbed
delete from public.{table} as t
where t.device_id = any(%(devices)s) and t.timestamp < %(start)s and not exists (
    select from hl.dirty as m
    where m.model = any(%(models)s) and m.device_id = t.device_id
      and m.bucket = date_bin('1 hour', t.timestamp, 'epoch'))
"""
WRONG_SUM = """\
when not (h.{f}_sum::float8 is not distinct from r.{f}_sum or abs(h.{f}_sum - r.{f}_sum) <= 1e-9 * r.{f}_abs)
            then 'sum of {f} ' || coalesce(h.{f}_sum::text, 'null')
                || ' instead of ' || coalesce(r.{f}_sum::text, 'null')"""


def check_buckets(model: str, table: str, sums: Sequence[str], lasts: Sequence[str]) -> str:
    """Compares each hour of a day with its readings, and each device's readings with its hours.

    Args:
        model: over readings, with n_readings.
        table: of the readings.
        sums: fields that the model sums up.
        lasts: counters whose last value it has.
    """
    # A sum depends on the order of its parts, in the last digits.
    wrong = [WRONG_SUM.format(f=f) for f in sums]
    wrong += [f"when h.{f}_last is distinct from r.{f}_last then 'last {f}'" for f in lasts]
    columns = [f"sum({f}::float8) as {f}_sum, sum(abs({f}::float8)) as {f}_abs" for f in sums] + [
        f"(array_agg({f} order by timestamp desc))[1] as {f}_last" for f in lasts
    ]
    more = "".join(f",\n            {column}" for column in columns)
    cases = "\n            ".join(wrong)
    return f"""
-- check_buckets: hours that do not hold what the readings say
with hours as (
    select * from materialized.{model}
    where bucket >= greatest(%(floor)s, hl.bucket_start('hour', %(start)s)) and bucket < %(end)s
), compared as (
    select h.device_id, h.bucket, case
            when h.n_readings <> r.n then h.n_readings || ' readings instead of ' || r.n
            {cases} end as what
    from hours as h cross join lateral (
        select count(*) as n{more}
        from public.{table} as t
        where t.device_id = h.device_id and t.timestamp >= h.bucket and t.timestamp < h.bucket_end
    ) as r
), missing as (
    select t.device_id, min(t.timestamp) as bucket, count(*) as n from public.{table} as t
    where t.timestamp >= greatest(%(floor)s, hl.bucket_start('hour', %(start)s)) and t.timestamp < %(end)s
    group by t.device_id
)
select device_id, bucket, what from compared where what is not null
union all
select m.device_id, m.bucket, m.n || ' readings, and ' || coalesce(s.n, 0) || ' in the hours'
from missing as m
left join (select device_id, sum(n_readings) as n from hours group by device_id) as s using (device_id)
where m.n is distinct from coalesce(s.n, 0)
order by 2, 1
"""
