"""The sensor that materializes what is dirty: a little by itself, a lot by a run."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

import dagster as dg

from dbt_like_sql.engine.drain import Drained, describe_size, drain_a_little, needs_run
from dbt_like_sql.engine.marks import Backlog, plan_range, read_backlog, read_days
from dbt_like_sql.engine.model import Model
from dbt_like_sql.engine.project import Project
from hl_platform.core.errors import ConfigError, DeployedOtherwiseError, TransientError
from hl_platform.core.settings import Settings
from hl_platform.defs.aggregates import (
    REFRESH_TAG,
    Engine,
    engine,
    figures_of,
    lineage_metadata,
    model_key,
    partition_key_of,
)
from hl_platform.pipeline.run_memory import ACTIVE

LOOK_EVERY_S = 30
# A run that fails would fail again at once.
RETRY_AFTER = timedelta(minutes=10)
RANGE_TAGS = ("dagster/asset_partition_range_start", "dagster/asset_partition_range_end")


class Tick(NamedTuple):
    """What a tick found and did.

    Args:
        drained: by the tick itself.
        events: of that.
        request: for what is too much for ticks.
        note: for a person, where nothing was done.
    """

    drained: Sequence[Drained]
    events: Sequence[dg.AssetMaterialization]
    request: dg.RunRequest | None
    note: str


def build_refresh(settings: Settings, project: Project) -> dg.Definitions:
    """The sensor."""
    return dg.Definitions(sensors=[build_sensor(settings, project)])


def build_sensor(settings: Settings, project: Project) -> dg.SensorDefinition:
    """The sensor that closes hours and days, and takes up late readings of any age."""

    @dg.sensor(
        name="refresh_dirty",
        asset_selection=dg.AssetSelection.assets(*(model_key(model.name) for model in project.aggregates())),
        minimum_interval_seconds=LOOK_EVERY_S,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description=(
            "Materializes closed buckets that are dirty, recent ones first: by itself for half a second at most, "
            "and by one run at a time where thousands are waiting. Switched off, every query stays right, "
            "but computes what is dirty each time."
        ),
    )
    def refresh_dirty(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
        try:
            with engine(settings, project, "hl-refresh") as work:
                tick = refresh_a_little(work, project, settings, context.instance)
        except DeployedOtherwiseError as exc:
            return dg.SkipReason(str(exc))
        except TransientError as exc:
            return dg.SkipReason(f"The database cannot be reached: {exc}")
        except ConfigError as exc:
            return dg.SkipReason(f"The models are not deployed yet; `hl migrate` does: {exc}")
        if not tick.events and tick.request is None:
            return dg.SkipReason(tick.note)
        return dg.SensorResult(
            asset_events=list(tick.events), run_requests=[tick.request] if tick.request else []
        )

    return refresh_dirty


def refresh_a_little(
    work: Engine, project: Project, settings: Settings, instance: dg.DagsterInstance
) -> Tick:
    """One tick.

    Args:
        work: connection and refresher.
        project: all models.
        settings: with the time zone.
        instance: whose runs may be at work already.
    """
    backlog = read_backlog(work.db, project)
    if not any(waiting.n for waiting in backlog.values()):
        return Tick([], [], None, "Every closed bucket is materialized.")
    drained = drain_a_little(work.db, work.refresher, project, backlog)
    events = [event for done in drained for event in events_of(work, project, done, settings.timezone)]
    model = needs_run(backlog, project)
    if model is None:
        return Tick(drained, events, None, "What is dirty is being refreshed by somebody else.")
    reason = why_no_run(instance)
    if reason:
        return Tick(drained, events, None, f"{describe_size(backlog[model.name].n)} marks wait. {reason}")
    return Tick(drained, events, request_for(work, project, model, backlog, settings.timezone), "")


def events_of(
    work: Engine, project: Project, done: Drained, timezone: str
) -> Iterator[dg.AssetMaterialization]:
    """One event for each partition that was touched; column lineage on the newest."""
    model = project.models[done.model]
    per_key: dict[str, int] = {}
    for day, n in done.days.items():
        key = partition_key_of(model, day, timezone)
        per_key[key] = per_key.get(key, 0) + n
    figures = figures_of(work.db, done)
    for key, n in sorted(per_key.items()):
        lineage = lineage_metadata(project, model) if key == max(per_key) else {}
        metadata = {**figures, **lineage, "buckets": dg.MetadataValue.int(n)}
        yield dg.AssetMaterialization(model_key(model.name), partition=key, metadata=metadata)


def request_for(
    work: Engine, project: Project, model: Model, backlog: Mapping[str, Backlog], timezone: str
) -> dg.RunRequest | None:
    """A run for the newest range of days with marks; None if somebody else has taken them meanwhile."""
    days = read_days(work.db, project, model, backlog[model.name].settled)
    found = plan_range(days)
    if found is None:
        return None
    keys = [partition_key_of(model, day, timezone) for day in found]
    # No run_key: the same range may be due again.
    return dg.RunRequest(
        asset_selection=[model_key(model.name)],
        tags={REFRESH_TAG: "marks", **dict(zip(RANGE_TAGS, keys, strict=True))},
    )


def why_no_run(instance: dg.DagsterInstance) -> str:
    """Why no run is to be started now; empty if one may be."""
    tags = {REFRESH_TAG: "marks"}
    active = [dg.DagsterRunStatus[status] for status in ACTIVE]
    if instance.get_run_records(dg.RunsFilter(tags=tags, statuses=active), limit=1):
        return "A run is at work on older ones."
    newest = instance.get_run_records(dg.RunsFilter(tags=tags), limit=1)
    if not newest or newest[0].dagster_run.status == dg.DagsterRunStatus.SUCCESS:
        return ""
    wait_until = newest[0].update_timestamp.replace(tzinfo=UTC) + RETRY_AFTER
    if datetime.now(UTC) < wait_until:
        return f"The last run did not succeed; the next begins at {wait_until:%H:%M} UTC."
    return ""
