"""Whether the service, and what brings it its readings, are well."""

import asyncio
from collections.abc import Sequence

import msgspec

from hl_live.schemas import Check, Health
from hl_live.service import LiveService
from hl_platform.adapters.kafka.feed_reader import KAFKA_SILENT_S, FeedState, lag_of
from hl_platform.adapters.postgres.readings import LeaseRow
from hl_platform.core.errors import HlError, TransientError
from hl_platform.core.lag import CRITICAL_RECORDS

DATABASE_S = 1.0
# A service that was lost longer ago than this has been replaced by one of another name.
FORGET_S = 3600.0
STAGES = ("bridge", "sink")


async def check_health(live: LiveService) -> Health:
    """The checks, each with what it found."""
    told = f"{live.n_clients} clients; {live.n_missed} readings left out for those that were too slow"
    checks = {"kafka": plan_kafka_check(live.reader.state()), "feed": Check(status="ok", detail=told)}
    try:
        leases = await asyncio.wait_for(live.queries.leases(), DATABASE_S)
    except (HlError, TimeoutError) as exc:
        away = "away" if isinstance(exc, TransientError | TimeoutError) else str(exc)
        checks["database"] = Check(status="degraded", detail=away)
        checks |= {
            stage: Check(status="degraded", detail="unknown: the database is away") for stage in STAGES
        }
    else:
        checks["database"] = Check(status="ok", detail="answers")
        stale_after_s = live.settings.service.stale_after_s
        checks |= {stage: plan_stage_check(stage, leases, stale_after_s) for stage in STAGES}
    return _health_of(checks)


def check_alive(live: LiveService) -> Health:
    """Whether this process works at all; if not, only a new one helps."""
    return _health_of({"reader": plan_reader_check(is_reading=live.reader.is_reading)})


async def check_ready(live: LiveService) -> Health:
    """Whether this instance can serve what is asked of it now: history, and a feed that is not behind."""
    checks = {
        "reader": plan_reader_check(is_reading=live.reader.is_reading),
        "kafka": plan_caught_up_check(plan_kafka_check(live.reader.state())),
    }
    try:
        await asyncio.wait_for(live.queries.ping(), DATABASE_S)
    except (HlError, TimeoutError) as exc:
        away = "does not answer" if isinstance(exc, TransientError | TimeoutError) else str(exc)
        checks["database"] = Check(status="degraded", detail=away)
    else:
        checks["database"] = Check(status="ok", detail="answers")
    return _health_of(checks)


def plan_reader_check(*, is_reading: bool) -> Check:
    """Whether the feed's reader runs."""
    if is_reading:
        return Check(status="ok", detail="runs")
    return Check(status="degraded", detail="the feed's reader has ended; restart the service")


def plan_caught_up_check(kafka: Check) -> Check:
    """The same check, degraded where the feed is far behind."""
    if kafka.status == "ok" and kafka.lag is not None and kafka.lag > CRITICAL_RECORDS:
        return msgspec.structs.replace(kafka, status="degraded", detail=f"is {kafka.lag:,} records behind")
    return kafka


def _health_of(checks: dict[str, Check]) -> Health:
    well = all(check.status == "ok" for check in checks.values())
    return Health("ok" if well else "degraded", checks)


def plan_kafka_check(state: FeedState) -> Check:
    """What the feed's reader says of Kafka."""
    if state.contact_age_s is None:
        return Check(status="degraded", detail="not reached yet")
    age_s, lag = round(state.contact_age_s, 3), lag_of(state.positions, state.ends)
    if age_s > KAFKA_SILENT_S:
        return Check(status="degraded", detail="does not answer", age_s=age_s, lag=lag)
    if not state.positions:
        return Check(status="degraded", detail="the Kafka topics are not there yet", age_s=age_s)
    return Check(status="ok", detail=f"reads {len(state.positions)} partitions", age_s=age_s, lag=lag)


def plan_stage_check(stage: str, leases: Sequence[LeaseRow], stale_after_s: float) -> Check:
    """Whether the services of a stage are alive, by their heartbeats."""
    held = [lease for lease in leases if lease.stage == stage and lease.held and lease.beat_age_s < FORGET_S]
    if not held:
        return Check(status="degraded", detail="not running")
    oldest = max(held, key=lambda lease: lease.beat_age_s)
    age_s = round(oldest.beat_age_s, 3)
    if age_s > stale_after_s:
        return Check(status="degraded", detail=f"{oldest.service}: no heartbeat", age_s=age_s)
    return Check(status="ok", detail=", ".join(lease.service for lease in held), age_s=age_s)
