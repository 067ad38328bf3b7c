"""The dashboard of the pipeline's health, from what the services write to schema `hl`."""

from dbt_like_sql.engine.project import Project
from hl_platform.core.histogram import N_BUCKETS, SMALLEST_MS, STEPS_PER_DOUBLING
from hl_platform.core.probe import MEASURES
from hl_platform.stack.grafana.panels import Json, dashboard, stat, table, time_series, wide

BEAT = """\
select coalesce(max(date_part('epoch', now() - beat_at)), 0) as "oldest heartbeat"
from hl.leases where released_at is null"""

BEHIND = """\
select coalesce(sum(behind), 0)::bigint as "records behind" from (
    select greatest(0, max(c.next_offset) - o.next_offset) as behind
    from hl.offsets as o
    join hl.coverage as c on c.kafka_topic = o.kafka_topic and c.kafka_partition = o.kafka_partition
        and c.stage = 'bridge'
    group by o.consumer_group, o.kafka_topic, o.kafka_partition, o.next_offset
) as partitions"""

ALERTS_RAISED = 'select count(*) as "alerts" from hl.alerts'

UNBALANCED = """\
select coalesce(sum(abs(n_records)), 0)::bigint as "records amiss"
from (select distinct on (stream, stage) n_records from hl.balances order by stream, stage, from_at desc) as newest"""

ALERTS = """\
select since as "since", service as "service", stream as "stream", code as "code", message as "message"
from hl.alerts order by since"""

SERVICES = """\
select service as "service", stage as "stage", host as "host", pid as "pid", software_version as "version",
    case when released_at is null then 'runs' else 'ended' end as "state",
    date_part('epoch', now() - beat_at) as "heartbeat age", date_part('epoch', now() - acquired_at) as "since"
from hl.leases order by stage, service"""

ACCOUNTS = """\
select stage as "stage", stream as "stream", service as "service", received as "received", forwarded as "forwarded",
    dead_lettered as "dead-lettered", duplicates as "duplicates", corrected as "corrected", dropped as "dropped",
    in_flight as "in flight",
    received - forwarded - dead_lettered - duplicates - corrected - dropped - in_flight as "difference",
    date_part('epoch', now() - last_reading_at) as "last reading"
from hl.accounts order by array_position(array['bridge', 'sink', 'live'], stage), stage, stream, service"""

BALANCES = """\
select distinct on (stream, stage) stream as "stream", stage as "stage", n_records as "records amiss",
    explanation as "explanation", from_at as "from", to_at as "last compared"
from hl.balances order by stream, stage, from_at desc"""

OFFSETS = """\
select o.consumer_group as "consumer group", o.kafka_topic as "topic", o.kafka_partition as "partition",
    o.next_offset as "sink continues at", max(c.next_offset) as "bridge has written up to",
    greatest(0, max(c.next_offset) - o.next_offset) as "behind", date_part('epoch', now() - o.updated_at) as "committed"
from hl.offsets as o
left join hl.coverage as c on c.kafka_topic = o.kafka_topic and c.kafka_partition = o.kafka_partition
    and c.stage = 'bridge'
group by o.consumer_group, o.kafka_topic, o.kafka_partition, o.next_offset, o.updated_at
order by 1, 2, 3"""

DEAD_LETTERS = """\
select stream as "stream", stage as "stage", reason as "reason", state as "state", count(*) as "dead letters",
    max(dead_lettered_at) as "last"
from hl.dead_letters where $__timeFilter(dead_lettered_at)
group by 1, 2, 3, 4 order by 5 desc"""

REFRESH_DURATIONS = """\
select $__timeGroupAlias(refreshed_at, $__interval), model as metric, max(duration_ms) as "ms"
from hl.refreshes where $__timeFilter(refreshed_at)
group by 1, 2 order by 1, 2"""

REFRESHED_BUCKETS = """\
select $__timeGroupAlias(refreshed_at, $__interval), model as metric, sum(n_buckets)::bigint as "buckets"
from hl.refreshes where $__timeFilter(refreshed_at)
group by 1, 2 order by 1, 2"""

GREEN_TO_RED = (("green", None), ("orange", 5.0), ("red", 15.0))
LAG = (("green", None), ("orange", 1_000.0), ("red", 20_000.0))
NONE_ALLOWED = (("green", None), ("red", 1.0))
# In what a device shows within a tenth of a second, and what nobody would call live.
DELAYS = (("green", None), ("orange", 100.0), ("red", 1_000.0))


def health_dashboard(project: Project, timezone: str) -> Json:
    """How it is now, how quick it was, and what is behind."""
    panels = [
        wide(stat("Oldest heartbeat", BEAT, "s", GREEN_TO_RED), 6, 4),
        wide(stat("Sinks behind bridges", BEHIND, "none", LAG), 6, 4),
        wide(stat("Alerts", ALERTS_RAISED, "none", NONE_ALLOWED), 6, 4),
        wide(stat("Accounts do not balance", UNBALANCED, "none", NONE_ALLOWED), 6, 4),
        wide(stat("Delay now", delay_now(), "ms", DELAYS), 12),
        wide(time_series("Delay from the device, of each minute", delays(), "ms"), 12),
        wide(table("Services", SERVICES, {"heartbeat age": "s", "since": "s"})),
        wide(table("Alerts raised", ALERTS), height=5),
        wide(table("Accounts", ACCOUNTS, {"last reading": "s"})),
        wide(table("Balance of the accounts", BALANCES), 12),
        wide(table("Positions in Kafka", OFFSETS, {"committed": "s"}), 12),
        wide(table("Dead letters", DEAD_LETTERS), height=6),
        wide(table("Buckets that wait for a refresh", backlog(project), {"oldest waits": "s"}), height=10),
        time_series("Duration of refreshes", REFRESH_DURATIONS, "ms"),
        time_series("Buckets refreshed", REFRESHED_BUCKETS, "none", stacked=True),
    ]
    return dashboard(
        "pipeline-health", "Pipeline health", panels, [], span="1h", refresh="10s", timezone=timezone
    )


def delays() -> str:
    """p50, p99 and maximum of each measure, by minute. The histograms are kept for an hour."""
    return _percentiles("minute", "$__timeFilter(minute)") + (
        'select minute as "time", measure || \' \' || name as metric, ms as "ms" from named order by 1, 2'
    )


def delay_now() -> str:
    """p50 and p99 of each measure over the last minutes, as `hl status` shows them."""
    columns = ",\n    ".join(
        f"max(ms) filter (where measure = '{measure}' and name = '{name}') as \"{_title(measure)}, {name}\""
        for measure in MEASURES
        for name in ("p50", "p99")
    )
    return _percentiles("null::timestamptz", "minute > now() - interval '5 minutes'") + (
        f"select {columns}\nfrom named"
    )


def _title(measure: str) -> str:
    return measure.removeprefix("device_").replace("_", " ")


def _percentiles(minute: str, where: str) -> str:
    """WITH … `named (minute, measure, name, ms)`: what core/histogram.py does, in SQL."""
    upper = f"{SMALLEST_MS} * 2 ^ ((bound - 1) / {STEPS_PER_DOUBLING}.0)"
    return f"""\
with merged as (
    select {minute} as minute, measure, bound, sum(n) as n, max(max_ms) as max_ms
    from hl.delays cross join lateral unnest(counts) with ordinality as counted (n, bound)
    where {where} group by 1, 2, 3
), running as (
    select *, sum(n) over (partition by minute, measure order by bound) as seen,
        sum(n) over (partition by minute, measure) as total
    from merged
), found as (
    select minute, measure, name, min(bound) as bound, max(max_ms) as max_ms
    from running cross join (values ('p50', 0.5), ('p99', 0.99), ('max', 1.0)) as shares (name, share)
    where total > 0 and seen >= greatest(1, ceil(share * total))
    group by 1, 2, 3
), named as (
    select minute, measure, name,
        case when name = 'max' or bound = {N_BUCKETS} then max_ms else least({upper}, max_ms) end::float8 as ms
    from found
)
"""


def backlog(project: Project) -> str:
    """Marks by model: how many, how many of closed buckets, and since when the oldest of these waits."""
    grains = ",\n    ".join(f"('{model.name}', '{model.bucket}')" for model in project.aggregates())
    return f"""\
select models.model as "model", coalesce(sum(marks.n), 0)::bigint as "marks",
    coalesce(sum(marks.n) filter (where closed), 0)::bigint as "of closed buckets",
    date_part('epoch', now() - min(marks.since) filter (where closed)) as "oldest waits"
from (values
    {grains}
) as models (model, grain)
left join (
    select model, bucket, count(*) as n, min(since) as since from hl.dirty group by 1, 2
) as marks on marks.model = models.model
cross join lateral (
    select hl.bucket_end(grain, hl.bucket_start(grain, marks.bucket + interval '59 minutes 59 seconds')) <= now()
) as bucket (closed)
group by 1 order by 1"""
