"""Judges health: what is shown for each stream, which checks pass, and which of it is worth an event. Pure."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import msgspec

from hl_platform.adapters.postgres.health_reader import Health
from hl_platform.core.streams import Stream
from hl_platform.pipeline.services import Service

# Longer than a restart or a handover takes, so that neither shows as an illness.
ALIVE_S = 30.0
# Rooms report every 5 minutes.
FRESH_S = 900.0
# An event of Dagster's takes 1.65 KB for as long as it is kept.
SHOW_EVERY_S = 300.0
CHECK_EVERY_S = 3600.0

# Move by themselves, by vacuum or between two heartbeats.
UNREMARKABLE = ("dagster/row_count", "size_bytes", "in_flight")

Figures = Mapping[str, int | float | str]


class Check(NamedTuple):
    """A question with its answer.

    Args:
        place: which asset of the stream it belongs to: `kafka` or `table`.
        name: constant within the place.
        passed: the answer.
        explanation: for a person.
    """

    place: str
    name: str
    passed: bool
    explanation: str


class StreamHealth(NamedTuple):
    """What there is to show for one stream.

    Args:
        stream: its name.
        figures: by place: `mqtt`, `kafka`, `dead_letters`, `table`.
        checks: all of them, passed or not.
    """

    stream: str
    figures: Mapping[str, Figures]
    checks: Sequence[Check]


class Shown(msgspec.Struct):
    """What was shown last, kept in the sensor's cursor.

    Args:
        figures: by `stream/place`: when, in Unix seconds, and a digest of what.
        checks: by `stream/place/name`: when, and whether it passed.
    """

    figures: dict[str, tuple[float, str]] = {}
    checks: dict[str, tuple[float, bool]] = {}


# Which comparisons tell of each stage's account: within it, and with the stage before or behind it.
STAGES_JUDGED = {"bridge": ("bridge", "bridge_to_kafka"), "sink": ("kafka_to_sink", "sink")}

CHECKS: Mapping[tuple[str, str], str] = {
    ("kafka", "bridge_alive"): "The bridge shows a heartbeat.",
    ("kafka", "bridge_accounts_balance"): (
        "Every reading the bridge received is accounted for, and Kafka has what it was given."
    ),
    ("table", "sink_alive"): "The sink shows a heartbeat.",
    ("table", "sink_accounts_balance"): (
        "The sink received every reading that the bridge forwarded, and each is accounted for."
    ),
    ("table", "no_alerts"): "No service has anything to tell that a person should know.",
    ("table", "newest_reading_fresh"): f"A reading has been stored within {FRESH_S / 60:g} minutes.",
}


def judge(
    health: Health, stream: Stream, services: Sequence[Service], stopped: Mapping[str, str]
) -> StreamHealth:
    """The health of one stream.

    Args:
        health: as read from the database.
        stream: which.
        services: all that should be running.
        stopped: the run that a person terminated, by service.
    """
    serving = [service for service in services if stream in service.streams]
    checks = []
    for stage, place in (("bridge", "kafka"), ("sink", "table")):
        names = [service.name for service in serving if service.stage == stage]
        checks.append(_judge_alive(health, stage, place, names, stopped))
        checks.append(_judge_balance(health, stage, place, stream))
    checks.append(_judge_alerts(health, stream, serving))
    checks.append(_judge_fresh(health, stream))
    return StreamHealth(stream.name, _figures_of(health, stream), checks)


def plan_events(
    judged: Sequence[StreamHealth], shown: Shown, now: float
) -> tuple[list[tuple[str, str]], list[tuple[str, Check]], Shown]:
    """What to show now: figures that changed every few minutes, checks when their answer changes.

    Args:
        judged: every stream.
        shown: the last time.
        now: Unix seconds.

    Returns:
        (stream, place) of figures, (stream, check) of checks, and what has been shown then.
    """
    figures: list[tuple[str, str]] = []
    checks: list[tuple[str, Check]] = []
    after = Shown(dict(shown.figures), dict(shown.checks))
    for health in judged:
        changed = set()
        for check in health.checks:
            key = f"{health.stream}/{check.place}/{check.name}"
            at, passed = shown.checks.get(key, (0.0, not check.passed))
            if passed != check.passed or now - at >= CHECK_EVERY_S:
                checks.append((health.stream, check))
                after.checks[key] = (now, check.passed)
                changed |= {check.place} if passed != check.passed else set()
        for place, values in health.figures.items():
            key, digest = f"{health.stream}/{place}", _digest(values)
            at, last = shown.figures.get(key, (0.0, ""))
            # Nothing was there yet, or nothing is new: no event, so that freshness tells of readings.
            if digest not in ("", last) and (now - at >= SHOW_EVERY_S or place in changed):
                figures.append((health.stream, place))
                after.figures[key] = (now, digest)
    return figures, checks, after


def _judge_alive(
    health: Health, stage: str, place: str, names: Sequence[str], stopped: Mapping[str, str]
) -> Check:
    troubles = []
    for name in names:
        service = health.services.get(name)
        if service is None:
            troubles.append(f"{name} has never run.")
        elif service.beat_age_s > ALIVE_S:
            how = "ended" if service.released else "fell silent"
            troubles.append(f"{name} {how} {service.beat_age_s:.0f} s ago.")
        if troubles and name in stopped:
            troubles.append(
                f"A person terminated its run {stopped[name]}: switch its sensor off and, ten seconds later, on, "
                "or launch its job."
            )
    return Check(place, f"{stage}_alive", not troubles, " ".join(troubles) or "Heartbeats are fresh.")


def _judge_balance(health: Health, stage: str, place: str, stream: Stream) -> Check:
    account = health.account(stage, stream.name)
    text = (
        f"{account.received} received = {account.forwarded} forwarded + {account.dead_lettered} dead-lettered + "
        f"{account.duplicates} duplicates + {account.corrected} corrections + {account.dropped} dropped + "
        f"{account.in_flight} in flight."
    )
    balances = [health.balances.get((name, stream.name)) for name in STAGES_JUDGED[stage]]
    wrong = [balance for balance in balances if balance is not None and balance.n_records]
    if wrong:
        text = " ".join(
            f"{balance.stage}: {balance.n_records} records differ, {balance.interval}. {balance.explanation}"
            for balance in wrong
        )
    return Check(place, f"{stage}_accounts_balance", not wrong, text)


def _judge_alerts(health: Health, stream: Stream, serving: Sequence[Service]) -> Check:
    names = {service.name for service in serving}
    alerts = [
        alert
        for alert in health.alerts
        if alert.stream == stream.name or (not alert.stream and alert.service in names)
    ]
    text = " ".join(f"{alert.service}, {alert.code}: {alert.text}" for alert in alerts)
    return Check("table", "no_alerts", not alerts, text or "Nothing is raised.")


def _judge_fresh(health: Health, stream: Stream) -> Check:
    age_s = health.account("sink", stream.name).last_reading_age_s
    if age_s is None:
        return Check("table", "newest_reading_fresh", passed=False, explanation="No reading yet.")
    text = f"The newest reading arrived {max(0.0, age_s):.0f} s ago."
    return Check("table", "newest_reading_fresh", age_s <= FRESH_S, text)


def _figures_of(health: Health, stream: Stream) -> dict[str, Figures]:
    bridge, sink = health.account("bridge", stream.name), health.account("sink", stream.name)
    table = health.tables[stream.name]
    last = {"last_reading_at": bridge.last_reading_at.isoformat()} if bridge.last_reading_at else {}
    stored = {"last_reading_at": sink.last_reading_at.isoformat()} if sink.last_reading_at else {}
    return {
        "mqtt": {"received": bridge.received, **last},
        "kafka": {
            "forwarded": bridge.forwarded,
            "dead_lettered": bridge.dead_lettered,
            "in_flight": bridge.in_flight,
            **last,
        },
        "dead_letters": {"from_bridge": bridge.dead_lettered, "from_sink": sink.dead_lettered},
        "table": {
            "dagster/row_count": table.n_rows,
            "size_bytes": table.size_bytes,
            "received": sink.received,
            "inserted": sink.forwarded,
            "corrected": sink.corrected,
            "duplicates": sink.duplicates,
            **stored,
        },
    }


def _digest(figures: Figures) -> str:
    """What makes figures worth showing anew: any count that moved. Empty before the first reading."""
    counts = [str(value) for name, value in sorted(figures.items()) if name not in UNREMARKABLE]
    return " ".join(counts) if any(value != "0" for value in counts) else ""
