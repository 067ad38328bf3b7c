"""The families of metrics: names, meanings and labels. Pure."""

import platform
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)

from dbt_like_sql.engine.marks import Backlog
from hl_live.delay_totals import Histogram
from hl_platform import __version__
from hl_platform.adapters.kafka.feed_reader import KAFKA_SILENT_S, FeedState
from hl_platform.adapters.postgres.alerts import Alert
from hl_platform.adapters.postgres.balance_store import Balance
from hl_platform.adapters.postgres.metrics_reader import AccountRow, LeaseState, MetricRows

# What became of a reading, and what that means.
OUTCOMES = {
    "forwarded": "Readings passed on: to Kafka by the bridge, as new rows by the sink, as frames by the live service.",
    "dead_lettered": "Readings rejected, with their bytes in the dead letters.",
    "duplicates": "Readings whose row was there already.",
    "corrected": "Readings that changed a stored row.",
    "dropped": "Readings dropped by a stated policy.",
}
ACCOUNT_LABELS = ("service", "stage", "stream")
SERVICE_LABELS = ("service", "stage")


class FeedFacts(NamedTuple):
    """What the live service knows of its own feed.

    Args:
        state: of its reading of Kafka.
        groups: by Kafka topic, the group under which it shows its position.
        n_clients: connected now.
        n_missed: frames that were dropped since the start because their client was too slow.
    """

    state: FeedState
    groups: Mapping[str, str]
    n_clients: int
    n_missed: int

    @property
    def kafka_answers(self) -> bool:
        """Whether Kafka has lately."""
        return self.state.contact_age_s is not None and self.state.contact_age_s <= KAFKA_SILENT_S


def up_family(dependencies: Mapping[str, bool]) -> Metric:
    """Whether what the live service depends on answers."""
    family = GaugeMetricFamily(
        "hl_dependency_up", "Whether the live service reaches it: 1 or 0.", labels=("dependency",)
    )
    for name, answers in dependencies.items():
        family.add_metric((name,), float(answers))
    return family


def families_of_feed(feed: FeedFacts) -> list[Metric]:
    """Of this process: build, clients, missed frames."""
    build = InfoMetricFamily("hl_build", "Version of hl and of Python.")
    build.add_metric((), {"version": __version__, "python": platform.python_version()})
    return [
        build,
        GaugeMetricFamily("hl_feed_clients", "WebSocket clients of the feed.", value=feed.n_clients),
        CounterMetricFamily(
            "hl_feed_missed_frames_total",
            "Frames dropped because their client was too slow; it was told of the gap.",
            value=feed.n_missed,
        ),
    ]


def families_of_rows(
    rows: MetricRows, delays: Mapping[tuple[str, str], Histogram], stale_after_s: float
) -> list[Metric]:
    """What the services have written down of themselves."""
    return [
        *_of_accounts(rows.accounts),
        _of_delays(delays),
        *_of_leases(rows.leases, stale_after_s),
        _of_alerts(rows.alerts),
        _of_balances(rows.balances),
    ]


def families_of_backlog(backlog: Iterable[Backlog]) -> list[Metric]:
    """Buckets of the aggregates that wait for a refresh."""
    marks = GaugeMetricFamily(
        "hl_refresh_backlog_buckets",
        "Closed buckets that wait for a refresh; no more than 5,000 are counted.",
        labels=("model",),
    )
    oldest = GaugeMetricFamily(
        "hl_refresh_backlog_oldest_seconds",
        "For how long the one that has waited longest could have been refreshed.",
        labels=("model",),
    )
    for waiting in backlog:
        marks.add_metric((waiting.model,), waiting.n)
        oldest.add_metric((waiting.model,), waiting.oldest_s or 0.0)
    return [marks, oldest]


def lag_family(next_offsets: Mapping[tuple[str, str, int], int], feed: FeedFacts) -> Metric:
    """Records left to read, as far as Kafka tells where partitions end: nothing while it does not answer.

    Args:
        next_offsets: of the sinks, by (consumer group, Kafka topic, Kafka partition).
        feed: its positions, and the ends.
    """
    family = GaugeMetricFamily(
        "hl_kafka_lag_records",
        "Records that a consumer group has still to read.",
        labels=("consumer_group", "kafka_topic", "kafka_partition"),
    )
    if not feed.kafka_answers:
        return family
    own = {(feed.groups[topic], topic, number): at for (topic, number), at in feed.state.positions.items()}
    for (group, topic, number), next_offset in sorted({**next_offsets, **own}.items()):
        end = feed.state.ends.get((topic, number))
        if end is not None:
            family.add_metric((group, topic, str(number)), max(0, end - next_offset))
    return family


def _of_accounts(accounts: Iterable[AccountRow]) -> list[Metric]:
    received = CounterMetricFamily(
        "hl_readings_received_total",
        "Readings received and accounted for; what is under way is in hl_readings_in_flight.",
        labels=ACCOUNT_LABELS,
    )
    in_flight = GaugeMetricFamily(
        "hl_readings_in_flight", "Readings received and not yet accounted for.", labels=ACCOUNT_LABELS
    )
    last = GaugeMetricFamily(
        "hl_last_reading_timestamp_seconds",
        "When the newest reading came, in Unix time.",
        labels=ACCOUNT_LABELS,
    )
    outcomes = {
        name: CounterMetricFamily(f"hl_readings_{name}_total", text, labels=ACCOUNT_LABELS)
        for name, text in OUTCOMES.items()
    }
    for row in accounts:
        labels = (row.service, row.stage, row.stream)
        # A successor takes back what its predecessor had in flight: with it, this would not be a counter.
        received.add_metric(labels, row.received - row.in_flight)
        in_flight.add_metric(labels, row.in_flight)
        if row.last_reading_s is not None:
            last.add_metric(labels, row.last_reading_s)
        for name, family in outcomes.items():
            family.add_metric(labels, getattr(row, name))
    return [received, *outcomes.values(), in_flight, last]


def _of_delays(delays: Mapping[tuple[str, str], Histogram]) -> Metric:
    family = HistogramMetricFamily(
        "hl_delay_seconds",
        "From a live reading's own time to a stage; the sum takes each as the middle of a fine bucket.",
        labels=("service", "measure"),
    )
    for labels, histogram in sorted(delays.items()):
        family.add_metric(labels, histogram.buckets, histogram.sum_s)
    return family


def _of_leases(leases: Iterable[LeaseState], stale_after_s: float) -> list[Metric]:
    up = GaugeMetricFamily(
        "hl_service_up",
        "Whether somebody holds the service and shows a heartbeat: 1 or 0.",
        labels=SERVICE_LABELS,
    )
    age = GaugeMetricFamily(
        "hl_service_heartbeat_age_seconds", "Since the last heartbeat.", labels=SERVICE_LABELS
    )
    taken = CounterMetricFamily(
        "hl_lease_acquisitions_total",
        "How often the service was taken by a new process.",
        labels=SERVICE_LABELS,
    )
    holder = InfoMetricFamily(
        "hl_lease_holder", "Who holds the service, or held it last.", labels=SERVICE_LABELS
    )
    for lease in leases:
        labels = (lease.service, lease.stage)
        up.add_metric(labels, float(not lease.released and lease.beat_age_s <= stale_after_s))
        age.add_metric(labels, lease.beat_age_s)
        taken.add_metric(labels, lease.epoch)
        holder.add_metric(labels, {"host": lease.host, "pid": str(lease.pid), "version": lease.version})
    return [up, age, taken, holder]


def _of_alerts(alerts: Iterable[Alert]) -> Metric:
    family = GaugeMetricFamily(
        "hl_alert",
        "A condition that a person should know; `hl status` has its text.",
        labels=("service", "stream", "code"),
    )
    for alert in alerts:
        family.add_metric((alert.service, alert.stream, alert.code), 1.0)
    return family


def _of_balances(balances: Iterable[Balance]) -> Metric:
    family = GaugeMetricFamily(
        "hl_account_difference_records",
        "By how many records accounts differ; 0 when they balance.",
        labels=("stage", "stream"),
    )
    for balance in balances:
        family.add_metric((balance.stage, balance.stream), balance.n_records)
    return family
