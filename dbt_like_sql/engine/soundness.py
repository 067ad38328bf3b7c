"""Checks of a stream's aggregates: every device fresh and covered, energy conserved, nothing dirty for long."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from dbt_like_sql.engine.database import Database
from dbt_like_sql.engine.deploy import columns_of
from dbt_like_sql.engine.marks import DEVICES, read_backlog
from dbt_like_sql.engine.model import Model
from dbt_like_sql.engine.project import Project
from dbt_like_sql.engine.scaffold import moved_name
from hl_platform.core.streams import Field, Stream

# Three readings of the usual interval, but no alarm about a device for a pause that an update takes.
MISSED_READINGS = 3
MIN_SILENCE_S = 600.0
# Who has been silent for longer was taken down, or somebody knows.
GONE_DAYS = 30
LOOK_BACK_DAYS = 7
COVERED_SHARE = 0.9
# A tick drains for half a second every half minute; a run of a large backlog takes minutes.
MAX_DIRTY_S = 3_600.0
# What the sums of floating point numbers differ by.
TOLERANCE = 1e-6
MAX_NAMED = 10
# How far back sums are compared, by the bucket of the upper level.
WINDOWS = {"day": "7 days", "month": "62 days", "year": "731 days"}

FRESH = """
-- fresh: for how long each device has been silent, and how far apart its readings usually are
with {devices}
select d.device_id, extract(epoch from now() - newest.at)::float8 as silent_s, usual.interval_s
from devices as d
cross join lateral (
    select timestamp as at from public.{table} where device_id = d.device_id order by timestamp desc limit 1
) as newest
left join lateral (
    select extract(epoch from max(last_at) - min(first_at))::float8 / nullif(sum(n_readings) - 1, 0) as interval_s
    from materialized.{hourly}
    where device_id = d.device_id and bucket >= newest.at - make_interval(days => %(days)s)
) as usual on true
where newest.at > now() - make_interval(days => %(gone_days)s)
order by 1
"""
COVERED = """
-- covered: share of each closed local day for which readings tell the values, where that is too little
with {devices}, days as (
    select day, hl.bucket_end('day', day) as day_end
    from (
        select distinct hl.bucket_start('day', now() - make_interval(days => n)) as day
        from generate_series(1, %(days)s) as n
    ) as found
), hours as (
    select device_id, hl.bucket_start('day', bucket) as day, sum(covered_s) as covered_s
    from public.{hourly} where bucket >= (select min(day) from days) and bucket < (select max(day_end) from days)
    group by 1, 2
)
select d.device_id, days.day::text,
    coalesce(hours.covered_s, 0)::float8 / extract(epoch from days.day_end - days.day)::float8 as share
from devices as d
cross join lateral (
    select (select timestamp from public.{table} where device_id = d.device_id order by timestamp limit 1) as first_at,
        (select timestamp from public.{table} where device_id = d.device_id order by timestamp desc limit 1) as last_at
) as known
cross join days
left join hours on hours.device_id = d.device_id and hours.day = days.day
where known.first_at < days.day and known.last_at > now() - make_interval(days => %(gone_days)s)
    and coalesce(hours.covered_s, 0) < %(share)s * extract(epoch from days.day_end - days.day)
order by 2 desc, 1
"""
ADDS_UP = """
-- adds_up: buckets whose sum is not that of the buckets below
with window_of as (
    select hl.bucket_start(%(grain)s, now() - %(window)s::interval) as from_at,
        hl.bucket_start(%(grain)s, now()) as to_at
), below as (
    select device_id, hl.bucket_start(%(grain)s, bucket) as bucket, sum({moved}) as moved from public.{below}
    where bucket >= (select from_at from window_of) and bucket < (select to_at from window_of) group by 1, 2
), above as (
    select device_id, bucket, {moved} as moved from public.{model}
    where bucket >= (select from_at from window_of) and bucket < (select to_at from window_of)
)
select device_id, bucket::text, below.moved::float8, above.moved::float8
from below full join above using (device_id, bucket)
where abs(coalesce(below.moved, 0) - coalesce(above.moved, 0))
    > %(tolerance)s * (1 + abs(coalesce(below.moved, 0)))
order by 2 desc, 1
"""
# At a border the counter is where a straight line between its two readings says. A device with an event in such a
# step, with a step over which the rise is not spread, or with dirty hours is not judged.
METER = """
-- meter: devices whose hours do not sum up to what the counter moved
with {devices}, window_of as (
    select hl.bucket_start('day', now() - make_interval(days => %(days)s)) as from_at,
        hl.bucket_start('day', now()) as to_at
), borders as (
    select d.device_id, w.from_at, w.to_at, p0.at as p0_at, n0.at as n0_at, p1.at as p1_at, n1.at as n1_at,
        case when p0.at is null then n0.value else p0.value + (n0.value - p0.value)
            * extract(epoch from w.from_at - p0.at)::float8 / extract(epoch from n0.at - p0.at)::float8
        end as from_value,
        case when n1.at is null then p1.value else p1.value + (n1.value - p1.value)
            * extract(epoch from w.to_at - p1.at)::float8 / extract(epoch from n1.at - p1.at)::float8
        end as to_value
    from devices as d cross join window_of as w
    left join lateral (select timestamp as at, {field}::float8 as value from public.{table}
        where device_id = d.device_id and timestamp < w.from_at order by timestamp desc limit 1) as p0 on true
    join lateral (select timestamp as at, {field}::float8 as value from public.{table}
        where device_id = d.device_id and timestamp >= w.from_at order by timestamp limit 1) as n0 on n0.at < w.to_at
    join lateral (select timestamp as at, {field}::float8 as value from public.{table}
        where device_id = d.device_id and timestamp < w.to_at order by timestamp desc limit 1) as p1 on true
    left join lateral (select timestamp as at, {field}::float8 as value from public.{table}
        where device_id = d.device_id and timestamp >= w.to_at order by timestamp limit 1) as n1 on true
), judged as (
    select b.device_id, b.to_value - b.from_value + coalesce((
            select sum(coalesce(e.override, e.moved) - (e.after - e.before)) from hl.counter_events as e
            where e.stream = %(stream)s and e.field = %(field)s and e.device_id = b.device_id
                and e.at > b.n0_at and e.at <= b.p1_at), 0) as by_meter,
        (select sum({moved}) from public.{hourly} as h
         where h.device_id = b.device_id and h.bucket >= b.from_at and h.bucket < b.to_at)::float8 as by_hours,
        greatest(abs(b.from_value), abs(b.to_value)) as size
    from borders as b
    where not exists (select from hl.counter_events as e
            where e.stream = %(stream)s and e.field = %(field)s and e.device_id = b.device_id
                and e.at in (b.n0_at, b.n1_at) and e.before_at < e.at
                and (e.at = b.n1_at or b.p0_at is not null))
        and coalesce(b.n0_at - b.p0_at, interval '0') < interval '31 days'
        and coalesce(b.n1_at - b.p1_at, interval '0') < interval '31 days'
        and not exists (select from hl.dirty_{hourly} as x
            where x.device_id = b.device_id and x.bucket >= b.from_at and x.bucket < b.to_at)
)
select device_id, by_meter, by_hours from judged
where abs(by_meter - by_hours) > %(tolerance)s * (1 + size)
order by 1
"""


class Finding(NamedTuple):
    """The answer to a check.

    Args:
        thing: the table or model that was asked about.
        name: of the check.
        passed: the answer.
        explanation: for a person.
    """

    thing: str
    name: str
    passed: bool
    explanation: str


def check_stream(db: Database, project: Project, stream: Stream, models: Sequence[Model]) -> list[Finding]:
    """All checks of a stream's table and aggregates.

    Args:
        db: where.
        project: all models.
        stream: whose.
        models: its continuous aggregates.

    Raises:
        TransientError: the database is away.
        ConfigError: a model is not deployed.
    """
    findings = [judge_backlog(model.name, read_backlog(db, project)[model.name].oldest_s) for model in models]
    for model in models:
        if model.refs:
            findings.append(_check_sums(db, stream, model))
        elif model.bucket == "hour" and _has(
            db, model.name, "covered_s", "n_readings", "first_at", "last_at"
        ):
            findings += _check_devices(db, stream, model)
            findings.append(_check_meter(db, stream, model))
    return findings


def judge_backlog(model: str, oldest_s: float | None) -> Finding:
    """Whether nothing has waited for long."""
    if oldest_s is None:
        return Finding(model, "nothing_dirty_for_long", passed=True, explanation="No closed bucket is dirty.")
    text = f"A closed bucket has been dirty for {oldest_s:.0f} s. It is computed whenever it is read."
    return Finding(model, "nothing_dirty_for_long", oldest_s <= MAX_DIRTY_S, text)


def judge_fresh(thing: str, devices: Sequence[tuple[str, float, float | None]], max_gap_s: float) -> Finding:
    """Whether every device has sent something lately.

    Args:
        thing: the table.
        devices: (device, seconds of silence, usual seconds between two readings).
        max_gap_s: of the stream, for a device whose interval is not known.
    """
    silent = [
        f"{device} for {silent_s / 60:.0f} min"
        for device, silent_s, interval_s in devices
        if silent_s > silence_allowed(interval_s, max_gap_s)
    ]
    text = (
        f"Silent for longer than usual: {_listed(silent)}."
        if silent
        else f"{len(devices)} devices are heard."
    )
    return Finding(thing, "every_device_fresh", not silent, text)


def silence_allowed(interval_s: float | None, max_gap_s: float) -> float:
    """Seconds that a device may be silent."""
    if interval_s is None:
        return max(MIN_SILENCE_S, max_gap_s)
    return max(MIN_SILENCE_S, MISSED_READINGS * interval_s)


def _check_devices(db: Database, stream: Stream, model: Model) -> list[Finding]:
    names = {"devices": DEVICES.format(table=stream.table), "table": stream.table, "hourly": model.name}
    values = {"days": LOOK_BACK_DAYS, "gone_days": GONE_DAYS, "share": COVERED_SHARE}
    devices = [(str(row[0]), row[1], _number(row[2])) for row in db.rows(FRESH.format(**names), values)]
    poor = [
        f"{device} on {day[:10]}: {share:.0%}"
        for device, day, share in db.rows(COVERED.format(**names), values)
    ]
    text = f"Not covered by readings: {_listed(poor)}." if poor else "Every device told its values all week."
    return [
        judge_fresh(stream.table, devices, stream.max_gap_s),
        Finding(model.name, "every_day_covered", not poor, text),
    ]


def _check_sums(db: Database, stream: Stream, model: Model) -> Finding:
    below = model.refs[0]
    values = {
        "grain": model.bucket,
        "window": WINDOWS.get(model.bucket or "", "7 days"),
        "tolerance": TOLERANCE,
    }

    def differing(field: Field) -> list[str]:
        query = ADDS_UP.format(moved=moved_name(field), below=below, model=model.name)
        return [f"{row[0]} {row[1]}: {row[3]} is not {row[2]}" for row in db.rows(query, values)]

    return _conserved(db, stream, model, differing, f"Sums are those of {below}.")


def _check_meter(db: Database, stream: Stream, model: Model) -> Finding:
    def differing(field: Field) -> list[str]:
        query = METER.format(
            devices=DEVICES.format(table=stream.table),
            table=stream.table,
            hourly=model.name,
            field=field.name,
            moved=moved_name(field),
        )
        values = {
            "days": LOOK_BACK_DAYS,
            "stream": stream.name,
            "field": field.name,
            "tolerance": TOLERANCE,
        }
        return [
            f"{row[0]}: hours {row[2]} but {field.name} {row[1]} {field.unit}"
            for row in db.rows(query, values)
        ]

    return _conserved(db, stream, model, differing, "A week's hours sum up to what the counters moved.")


def _conserved(
    db: Database, stream: Stream, model: Model, differing: Callable[[Field], list[str]], fine: str
) -> Finding:
    fields = [field for field in stream.counters if _has(db, model.name, moved_name(field))]
    wrong = [text for field in fields for text in differing(field)]
    text = _listed(wrong) if wrong else fine if fields else "There is no counter."
    return Finding(model.name, "conserves", not wrong, text)


def _has(db: Database, model: str, *names: str) -> bool:
    return set(names) <= set(columns_of(db, f"materialized.{model}"))


def _listed(texts: Sequence[str]) -> str:
    more = f" and {len(texts) - MAX_NAMED} more" if len(texts) > MAX_NAMED else ""
    return ", ".join(texts[:MAX_NAMED]) + more


def _number(value: Any) -> float | None:  # noqa: ANN401 - a driver's numeric
    return None if value is None else float(value)
