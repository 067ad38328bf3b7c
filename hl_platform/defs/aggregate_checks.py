"""Checks of the aggregates: by a sensor when an answer changes, by hand, and a nightly audit of every bucket."""

import time
from collections.abc import Iterator

import dagster as dg
import msgspec

from dbt_like_sql.engine.audit import audit
from dbt_like_sql.engine.model import Model
from dbt_like_sql.engine.project import Project
from hl_platform.core.errors import ConfigError, TransientError
from hl_platform.core.settings import Settings
from hl_platform.core.streams import Stream
from hl_platform.defs.aggregates import engine, model_key, streams_below
from hl_platform.defs.health import decode_cursor
from hl_platform.defs.lineage import table_key
from hl_platform.defs.runs import DISPOSABLE_TAG, SERVICE_TAG
from hl_platform.pipeline.health import Check, StreamHealth, plan_events

LOOK_EVERY_S = 300
AUDIT = "audit_aggregates"
# After housekeeping and before anybody gets up.
AUDIT_AT = "10 4 * * *"

FRESH = (
    "Every device has sent something within three of its usual intervals; one fresh one hides no dead one."
)
COVERED = "Readings tell every device's values for at least 90 % of each of the last seven local days."
BACKLOG = "No closed bucket has been dirty for more than an hour."
SUMS = "What counters moved is the sum of the buckets below."
METER = "A week's hours sum up to what each counter moved, with its resets as counter_events says."
AUDITED = "Every clean bucket has the count, the sums and the last counter values of what it was made from."


def build_aggregate_checks(settings: Settings, project: Project) -> dg.Definitions:
    """Checks for each stream, the sensor that shows them, and the audit with its schedule."""
    streams = [stream for stream in project.streams.values() if aggregates_of(project, stream)]
    audits = [build_audit(settings, project, stream) for stream in streams]
    job = dg.define_asset_job(
        AUDIT,
        selection=dg.AssetSelection.checks(*audits),
        description="Compares every materialized bucket with what it was made from, and marks what is wrong.",
        tags={SERVICE_TAG: AUDIT, DISPOSABLE_TAG: "true"},
    )
    schedule = dg.ScheduleDefinition(
        name="audit_aggregates_daily",
        job=job,
        cron_schedule=AUDIT_AT,
        execution_timezone=settings.timezone,
        default_status=dg.DefaultScheduleStatus.RUNNING,
    )
    return dg.Definitions(
        sensors=[build_sensor(settings, project)],
        asset_checks=[*(build_checks(settings, project, stream) for stream in streams), *audits],
        jobs=[job],
        schedules=[schedule],
    )


def aggregates_of(project: Project, stream: Stream) -> list[Model]:
    """The continuous aggregates of a stream's readings, upstream first."""
    return [model for model in project.aggregates() if streams_below(project, model)[0].name == stream.name]


def build_sensor(settings: Settings, project: Project) -> dg.SensorDefinition:
    """The sensor that puts checks on the assets."""

    @dg.sensor(
        name="check_aggregates",
        minimum_interval_seconds=LOOK_EVERY_S,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Shows the checks of the aggregates: every hour, and at once when an answer changes.",
    )
    def check_aggregates(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
        try:
            judged = [
                StreamHealth(stream.name, {}, check_all(settings, project, stream))
                for stream in project.streams.values()
                if aggregates_of(project, stream)
            ]
        except (TransientError, ConfigError) as exc:
            return dg.SkipReason(f"Nothing can be checked: {exc}")
        _, checks, after = plan_events(judged, decode_cursor(context.cursor), time.time())
        events = [_evaluation(project, check) for _, check in checks]
        return dg.SensorResult(asset_events=events, cursor=msgspec.json.encode(after).decode())

    return check_aggregates


def build_checks(settings: Settings, project: Project, stream: Stream) -> dg.AssetChecksDefinition:
    """The checks of one stream, to be run by hand."""

    # A run that materializes one model asks for the checks of that one.
    @dg.multi_asset_check(
        name=f"check_{stream.name}_aggregates", specs=specs_of(project, stream), can_subset=True
    )
    def check_stream(context: dg.AssetCheckExecutionContext) -> Iterator[dg.AssetCheckResult]:
        for check in check_all(settings, project, stream):
            key = dg.AssetCheckKey(_key_of(project, check.place), check.name)
            if key in context.selected_asset_check_keys:
                yield dg.AssetCheckResult(
                    passed=check.passed,
                    check_name=check.name,
                    asset_key=key.asset_key,
                    severity=dg.AssetCheckSeverity.WARN,
                    description=check.explanation,
                )

    return check_stream


def build_audit(settings: Settings, project: Project, stream: Stream) -> dg.AssetChecksDefinition:
    """The audit of one stream's aggregates."""
    models = aggregates_of(project, stream)

    @dg.multi_asset_check(
        name=f"audit_{stream.name}",
        specs=[
            dg.AssetCheckSpec("audited", asset=model_key(model.name), description=AUDITED) for model in models
        ],
        can_subset=True,
    )
    def audit_stream(context: dg.AssetCheckExecutionContext) -> Iterator[dg.AssetCheckResult]:
        wanted = {key.asset_key for key in context.selected_asset_check_keys}
        with engine(settings, project, "hl-audit") as work:
            for model in (model for model in models if model_key(model.name) in wanted):
                found = audit(work.db, project, model)
                yield dg.AssetCheckResult(
                    passed=found.n_wrong == 0,
                    check_name="audited",
                    asset_key=model_key(model.name),
                    description=found.text,
                    metadata={"buckets": found.n_buckets, "wrong": found.n_wrong, "s": found.duration_s},
                )

    return audit_stream


def specs_of(project: Project, stream: Stream) -> list[dg.AssetCheckSpec]:
    """The checks that dbt_like_sql.engine.soundness answers for a stream."""
    specs = []
    for model in aggregates_of(project, stream):
        key = model_key(model.name)
        specs.append(dg.AssetCheckSpec("nothing_dirty_for_long", asset=key, description=BACKLOG))
        if model.refs:
            specs.append(dg.AssetCheckSpec("conserves", asset=key, description=SUMS))
        elif model.bucket == "hour" and {"covered_s", "n_readings"} <= model.columns.keys():
            specs += [
                dg.AssetCheckSpec("conserves", asset=key, description=METER),
                dg.AssetCheckSpec("every_day_covered", asset=key, description=COVERED),
                dg.AssetCheckSpec("every_device_fresh", asset=table_key(stream), description=FRESH),
            ]
    return specs


def check_all(settings: Settings, project: Project, stream: Stream) -> list[Check]:
    """The answers to a stream's checks; `place` is the table or model.

    Raises:
        TransientError: the database is away.
        ConfigError: a model is not deployed.
    """
    from dbt_like_sql.engine.soundness import check_stream  # noqa: PLC0415 - brings jinja2; services do without

    with engine(settings, project, "hl-checks") as work:
        found = check_stream(work.db, project, stream, aggregates_of(project, stream))
    return [Check(each.thing, each.name, each.passed, each.explanation) for each in found]


def _evaluation(project: Project, check: Check) -> dg.AssetCheckEvaluation:
    return dg.AssetCheckEvaluation(
        asset_key=_key_of(project, check.place),
        check_name=check.name,
        passed=check.passed,
        severity=dg.AssetCheckSeverity.WARN,
        description=check.explanation,
        metadata={},
    )


def _key_of(project: Project, place: str) -> dg.AssetKey:
    tables = {stream.table: table_key(stream) for stream in project.streams.values()}
    return tables.get(place, model_key(place))
