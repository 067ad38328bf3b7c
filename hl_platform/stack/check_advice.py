"""Where to look when a probe does not come through. Pure."""

from collections.abc import Sequence

from hl_platform.adapters.postgres.status import PipelineStatus, ServiceHolder
from hl_platform.core.probe import Stage, Step

SERVICE_OF = {"kafka": "bridge", "row": "sink", "frame": "live"}
SERVER_OF = {"mqtt": "mosquitto", "kafka": "kafka", "row": "postgres", "frame": "live"}


def explain(
    stage: Stage,
    steps: Sequence[Step],
    problem: str | None,
    status: PipelineStatus | None,
    stale_after_s: float,
) -> list[str]:
    """What is known of the first stage that failed, and what to look at, line by line.

    Args:
        stage: the first that failed.
        steps: of all probes.
        problem: why the stage could not be watched, if so.
        status: of the services; None where the database does not tell.
        stale_after_s: age of a heartbeat at which its service counts as dead.
    """
    if problem is not None:
        return [
            f"{_titled(stage)}: {problem.rstrip('.')}.",
            f"Look at `hl status`, then `hl logs {SERVER_OF[stage.name]}`.",
        ]
    failed = [step.stream for step in steps if step.stage == stage and step.outcome == "failed"]
    lines = [f"{_titled(stage)}: no probe of {', '.join(failed)} in time."]
    service = SERVICE_OF.get(stage.name)
    if service is None:
        return [*lines, "The broker does not hand on what it takes. Look at `hl logs mosquitto`."]
    if status is None:
        return [*lines, f"Look at `hl status`, then `hl logs {service}`."]
    return [*lines, *_of_services(service, status, stale_after_s), *_of_alerts(status, failed)]


def _titled(stage: Stage) -> str:
    return stage.title[0].upper() + stage.title[1:]


def _of_services(stage: str, status: PipelineStatus, stale_after_s: float) -> list[str]:
    holders = [holder for holder in status.holders if holder.stage == stage]
    if not holders:
        return [
            f"No {stage} has ever run here. Look at Dagster's page, under Runs, and `hl logs dagster-code`."
        ]
    lines = [line for holder in holders if (line := _of_holder(holder, stale_after_s))]
    if lines:
        return lines
    names = ", ".join(holder.service for holder in holders)
    return [f"{names} shows its heartbeat. Look at `hl lag`, `hl tail dead-letters` and `hl logs {stage}`."]


def _of_holder(holder: ServiceHolder, stale_after_s: float) -> str:
    name = holder.service
    if holder.released:
        where = "`hl status`" if holder.stage == "live" else "Dagster's page, under Runs and Sensors"
        return f"{name} is stopped. Look at {where}, then `hl logs {name}`."
    if holder.beat_age_s > stale_after_s:
        return f"{name} shows no heartbeat for {holder.beat_age_s:.0f} s. Look at `hl status`, then `hl logs {name}`."
    return ""


def _of_alerts(status: PipelineStatus, streams: Sequence[str]) -> list[str]:
    return [
        f"{alert.service} says: {alert.text}"
        for alert in status.alerts
        if not alert.stream or alert.stream in streams
    ]
