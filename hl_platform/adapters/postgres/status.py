"""What flows through the platform, as the database knows it: for `hl status`, the API and the page."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import psycopg
from psycopg.rows import class_row

from hl_platform.adapters.postgres.alerts import Alert, read_alerts
from hl_platform.adapters.postgres.balance_store import Balance, read_balances
from hl_platform.adapters.postgres.errors import translated
from hl_platform.core.histogram import DelayHistogram
from hl_platform.core.probe import MEASURES, measure_budget_ms

# Long enough to be steady, short enough to be about now.
DELAY_MINUTES = 5

READ_HOLDERS = """
-- read_holders: who runs each service, newest first
select service, stage, pid, host, released_at is not null as released,
       extract(epoch from clock_timestamp() - acquired_at)::float8 as uptime_s,
       extract(epoch from clock_timestamp() - beat_at)::float8 as beat_age_s
from hl.leases order by stage, service
"""

READ_STAGES = """
-- read_stages: the accounts of each stage, over all its services and streams
select stage as name, sum(received)::bigint as received, sum(forwarded)::bigint as forwarded,
       sum(dead_lettered)::bigint as dead_lettered, sum(duplicates)::bigint as duplicates,
       sum(corrected)::bigint as corrected, sum(dropped)::bigint as dropped, sum(in_flight)::bigint as in_flight
from hl.accounts group by stage
order by array_position(array['bridge', 'sink', 'live'], stage), stage
"""

READ_DELAYS = """
-- read_delays: the histograms of the last minutes, over all services
select measure, counts, max_ms from hl.delays
where minute > now() - make_interval(mins => %(minutes)s) and measure = any(%(measures)s)
"""

READ_OFFSETS = """
-- read_offsets: where each consumer group that keeps its position here continues
select consumer_group, kafka_topic, kafka_partition, next_offset from hl.offsets
"""


class ServiceHolder(NamedTuple):
    """Who holds a service, or held it last.

    Args:
        service: its name.
        stage: `bridge`, `sink` or `live`.
        pid: of the process.
        host: where that runs.
        released: whether it ended by itself.
        uptime_s: seconds since it took the lease.
        beat_age_s: seconds since its last heartbeat.
    """

    service: str
    stage: str
    pid: int
    host: str
    released: bool
    uptime_s: float
    beat_age_s: float


class StageTotals(NamedTuple):
    """Readings counted by one stage; what was received is the sum of all the others."""

    name: str
    received: int
    forwarded: int
    dead_lettered: int
    duplicates: int
    corrected: int
    dropped: int
    in_flight: int


class Delay(NamedTuple):
    """A delay over the last minutes, in milliseconds; None when nothing was measured."""

    p50: float | None
    p99: float | None
    max: float | None


class PipelineStatus(NamedTuple):
    """Everything at one moment.

    Args:
        holders: by service.
        stages: in the order of the flow.
        delays: by measure.
        next_offsets: by (consumer group, Kafka topic, Kafka partition).
        balances: what the last comparison of the accounts found, by stream and in the order of the flow.
        alerts: everything that is raised.
    """

    holders: list[ServiceHolder]
    stages: list[StageTotals]
    delays: dict[str, Delay]
    next_offsets: dict[tuple[str, str, int], int]
    balances: Sequence[Balance] = ()
    alerts: Sequence[Alert] = ()

    def document(self, lag: Mapping[str, int]) -> dict[str, object]:
        """`stages`, `lag`, `delay_ms`, `balances` and `alerts`, as `hl status --json` and the API show them."""
        return {
            "stages": [stage._asdict() for stage in self.stages],
            "lag": dict(sorted(lag.items())),
            "delay_ms": {
                measure: {**delay._asdict(), "budget": measure_budget_ms(measure)}
                for measure, delay in self.delays.items()
            },
            "balances": [_balance_document(balance) for balance in self.balances],
            "alerts": [
                {**alert._asdict(), "since": alert.since.isoformat(), "text": alert.text}
                for alert in self.alerts
            ],
        }


def read_status(conn: psycopg.Connection) -> PipelineStatus:
    """The state of the pipeline, at one moment.

    Raises:
        TransientError: the database cannot be reached now.
        ConfigError: it has no tables of hl, or the role may not read them.
    """
    with translated(), conn.transaction():
        with conn.cursor(row_factory=class_row(ServiceHolder)) as holders:
            held = holders.execute(READ_HOLDERS).fetchall()
        with conn.cursor(row_factory=class_row(StageTotals)) as totals:
            stages = totals.execute(READ_STAGES).fetchall()
        return PipelineStatus(
            held,
            stages,
            _read_delays(conn),
            read_next_offsets(conn),
            read_balances(conn),
            read_alerts(conn),
        )


def read_next_offsets(conn: psycopg.Connection) -> dict[tuple[str, str, int], int]:
    """Where each consumer group continues that keeps its position in the database.

    Returns:
        Next offset by (consumer group, Kafka topic, Kafka partition).

    Raises as `read_status` does.
    """
    with translated():
        rows = conn.execute(READ_OFFSETS).fetchall()
    return {(group, topic, partition): next_offset for group, topic, partition, next_offset in rows}


def _balance_document(balance: Balance) -> dict[str, object]:
    times = {
        "compared_at": balance.compared_at,
        "balanced_at": balance.balanced_at,
        "found_at": balance.found_at,
    }
    return {
        "stream": balance.stream,
        "stage": balance.stage,
        "n_records": balance.n_records,
        "explanation": balance.explanation,
        "interval": balance.interval,
        **{name: time.isoformat() if time else None for name, time in times.items()},
    }


def _read_delays(conn: psycopg.Connection) -> dict[str, Delay]:
    histograms = {measure: DelayHistogram() for measure in MEASURES}
    values = {"minutes": DELAY_MINUTES, "measures": list(MEASURES)}
    for measure, counts, max_ms in conn.execute(READ_DELAYS, values):
        histograms[measure].merge(counts, max_ms)
    return {measure: _delay_of(histogram) for measure, histogram in histograms.items()}


def _delay_of(histogram: DelayHistogram) -> Delay:
    p50, p99 = histogram.percentile(0.5), histogram.percentile(0.99)
    if p50 is None or p99 is None:
        return Delay(None, None, None)
    return Delay(round(p50, 1), round(p99, 1), round(histogram.max_ms, 1))
