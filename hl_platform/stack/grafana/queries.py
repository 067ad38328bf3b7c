"""SQL of the panels of a stream, with Grafana's macros and the variables of the dashboard.

| variable | what it is |
|---|---|
| `${device}` | the chosen devices |
| `${bucket}` | minute, hour, day, month or year, by the length of the time range |
| `${view}` | the end of the name of the view that has such buckets; of minutes there is none |

Minutes are computed from readings when they are asked for, for short ranges only. Everything longer reads views, so no
panel ever scans a table of readings.
"""

from collections.abc import Sequence

from hl_platform.core.levels import ADVERBS, Grain
from hl_platform.core.streams import Field, Stream

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS
# The longest range that is shown in buckets of each length: some 400 of them fit a panel.
UP_TO_MS: dict[Grain, int] = {
    "minute": 6 * HOUR_MS,
    "hour": 16 * DAY_MS,
    "day": 400 * DAY_MS,
    "month": 35 * 366 * DAY_MS,
    "year": 10_000 * 366 * DAY_MS,
}
# An empty choice must stay valid SQL: `in ()` is none.
CHOSEN = "array[${device:sqlstring}]::text[]"


def bucket_query() -> str:
    """The value of `${bucket}`."""
    return _by_range({grain: grain for grain in UP_TO_MS})


def view_query() -> str:
    """The value of `${view}`. Where minutes are shown it is named but not read."""
    return _by_range({"hour": "hourly", **{grain: ADVERBS[grain] for grain in UP_TO_MS if grain != "minute"}})


def cost_view_query() -> str:
    """The value of `${cost_view}`: costs are known by hours, days and months."""
    return _by_range({"hour": ADVERBS["hour"], "day": ADVERBS["day"], "year": ADVERBS["month"]})


def _by_range(names: dict[Grain, str]) -> str:
    rows = ",\n    ".join(f"({UP_TO_MS[grain]}, '{name}')" for grain, name in names.items())
    return (
        f"select name\nfrom (values\n    {rows}\n) as levels (up_to_ms, name)\n"
        "where ${__to} - ${__from} <= up_to_ms\norder by up_to_ms limit 1"
    )


def device_query(stream: Stream, models: Sequence[str]) -> str:
    """All devices, each with its label where the stream has one.

    Args:
        stream: whose.
        models: its continuous aggregates; a device is in the coarsest, or has marks of one of them.
    """
    names = ", ".join(f"'{name}'" for name in models)
    label = label_of(stream)
    shown = "device_id"
    if label is not None:
        last = f"(hl.before_{stream.table}(device_id, now())).{label.name}::text"
        shown = f"coalesce({last} || ' (' || device_id || ')', device_id)"
    return (
        f"select {shown} as __text, device_id as __value\n"
        f"from (\n    select device_id from materialized.{stream.name}_yearly\n    union\n"
        f"    select device_id from hl.dirty where model in ({names})\n) as devices\norder by 1"
    )


def label_of(stream: Stream) -> Field | None:
    """The field that people know a device by, such as its room."""
    return next((field for field in stream.fields if field.kind == "label"), None)


def buckets(stream: Stream, columns: Sequence[str]) -> str:
    """What stands behind FROM: the buckets of the chosen devices in the time range, the first one whole."""
    names = ", ".join(("device_id", "bucket", "bucket_end", *columns))
    return f"""(
    select {names}
    from {stream.name}_${{view:raw}}
    where '${{bucket}}' <> 'minute' and device_id = any({CHOSEN})
        and bucket >= hl.bucket_start('${{bucket}}', $__timeFrom()) and bucket < $__timeTo()
    union all
    select {names}
    from unnest({CHOSEN}) as chosen (name)
    cross join lateral hl.compute_{stream.name}_minutely(
        chosen.name, hl.bucket_start('minute', $__timeFrom()), hl.bucket_start('minute', $__timeTo())) as minutes
    where '${{bucket}}' = 'minute'
) as buckets"""


def by_device(stream: Stream, column: str, value: str | None = None) -> str:
    """A series for each device: time, metric, value."""
    return (
        f'select bucket as "time", device_id as metric, {value or column} as "value"\n'
        f"from {buckets(stream, [column])}\norder by 1, 2"
    )


def by_label(stream: Stream, field: Field, label: Field) -> str:
    """A series of a gauge's mean for each label, over all devices that have it."""
    name = field.name
    columns = [label.name, f"{name}_mean", f"{name}_area", f"{name}_weight_s"]
    return (
        f'select bucket as "time", coalesce({label.name}::text, device_id) as metric,\n'
        f'    coalesce(sum({name}_area) / nullif(sum({name}_weight_s), 0), avg({name}_mean)) as "mean"\n'
        f"from {buckets(stream, columns)}\ngroup by 1, 2\norder by 1, 2"
    )


def band(stream: Stream, field: Field) -> str:
    """Mean, least and greatest of a gauge of one device."""
    name = field.name
    return (
        f'select bucket as "time", {name}_mean as "mean", {name}_min as "min", {name}_max as "max"\n'
        f"from {buckets(stream, [f'{name}_mean', f'{name}_min', f'{name}_max'])}\norder by 1"
    )


def moved_and_gap(stream: Stream, moved: str, gap: str) -> str:
    """What a counter of one device moved while readings came, and apart from it what it moved in gaps."""
    return (
        f'select bucket as "time", {moved} - {gap} as "measured", {gap} as "in gaps"\n'
        f"from {buckets(stream, [moved, gap])}\norder by 1"
    )


def seconds_in_states(stream: Stream, field: Field) -> str:
    """A series for each value of a state: for how long the chosen devices had it (s)."""
    column = f"{field.name}_seconds"
    return (
        'select bucket as "time", state.key as metric, sum(state.value::float8) as "seconds"\n'
        f"from {buckets(stream, [column])}\ncross join lateral jsonb_each_text({column}) as state\n"
        "group by 1, 2\norder by 1, 2"
    )


def share_of_states(stream: Stream, field: Field) -> str:
    """For how long the chosen devices had each value of a state in the whole range (s)."""
    column = f"{field.name}_seconds"
    return (
        f'select state.key as "{field.name}", sum(state.value::float8) as "seconds"\n'
        f"from {buckets(stream, [column])}\ncross join lateral jsonb_each_text({column}) as state\n"
        "group by 1\norder by 2 desc"
    )


def coverage(stream: Stream) -> str:
    """For which part of each bucket that has passed the readings of each device tell the values (%)."""
    passed = "date_part('epoch', least(bucket_end, greatest(now(), bucket + interval '1 second')) - bucket)"
    return (
        f'select bucket as "time", device_id as metric, least(100, 100 * covered_s / {passed}) as "covered"\n'
        f"from {buckets(stream, ['covered_s'])}\norder by 1, 2"
    )


def latest(stream: Stream) -> str:
    """The newest reading of each chosen device, found by its key."""
    fields = "".join(f', newest.{field.name} as "{field.name}"' for field in stream.fields)
    return (
        f'select chosen.name as "device", newest.timestamp as "at"{fields}\n'
        f"from unnest({CHOSEN}) as chosen (name)\n"
        f"cross join lateral hl.before_{stream.table}(chosen.name, now()) as newest\n"
        "where newest.device_id is not null\norder by 1"
    )


def totals(stream: Stream, moved: Sequence[tuple[str, str]]) -> str:
    """The whole range for each device: readings, hours covered, and what its counters moved.

    Args:
        stream: whose.
        moved: for each counter, the column of what it moved and that of the part in gaps.
    """
    columns = ["n_readings", "covered_s", *(name for pair in moved for name in pair)]
    sums = "".join(f',\n    sum({name}) as "{name}"' for pair in moved for name in pair)
    return (
        'select device_id as "device", sum(n_readings)::bigint as "readings", sum(covered_s) as "covered"'
        f"{sums}\nfrom {buckets(stream, columns)}\ngroup by 1\norder by 1"
    )


def cost(stream: Stream) -> str:
    """What each device cost, in its currency."""
    return f"""\
select bucket as "time", device_id || ' (' || currency || ')' as metric, cost as "cost"
from {stream.name}_cost_${{cost_view:raw}}
where {_in_cost_range()} and cost is not null
order by 1, 2"""


def cost_totals(stream: Stream) -> str:
    """The whole range for each device and currency: energy, cost, and what a kWh cost on average."""
    return f"""\
select device_id as "device", currency as "currency", sum(consumption_kwh) as "consumption_kwh", sum(cost) as "cost",
    sum(cost) / nullif(sum(consumption_kwh) filter (where cost is not null), 0) as "per kWh"
from {stream.name}_cost_${{cost_view:raw}}
where {_in_cost_range()}
group by 1, 2
order by 1, 2"""


def _in_cost_range() -> str:
    grain = "case '${cost_view:raw}' when 'hourly' then 'hour' when 'daily' then 'day' else 'month' end"
    return (
        f"device_id = any({CHOSEN})\n    and bucket >= hl.bucket_start({grain}, $__timeFrom())"
        " and bucket < $__timeTo()"
    )
