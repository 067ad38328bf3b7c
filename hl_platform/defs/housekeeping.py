"""The daily job that lets the platform run for years: table partitions ahead, old records away."""

from collections.abc import Mapping
from contextlib import closing
from datetime import UTC, datetime, timedelta

import dagster as dg

from dbt_like_sql.engine.project import Project
from dbt_like_sql.engine.refreshes import forget_refreshes
from hl_platform.adapters.postgres.dagster_events import forget_runless_events
from hl_platform.adapters.postgres.database import BULK, SqlDatabase
from hl_platform.adapters.postgres.dead_letters import forget_dead_letters
from hl_platform.adapters.postgres.migrate import ensure_partitions_ahead
from hl_platform.core.settings import Settings, require_address
from hl_platform.core.streams import Stream
from hl_platform.defs.runs import DISPOSABLE_TAG, SERVICE_TAG, forget_runs

NAME = "housekeeping"
# When a household sleeps; a machine that is off then catches up when it starts.
AT = "10 3 * * *"
# Whoever asks when a row was computed, and of what, asks about one that is there; of others, a month is plenty.
REFRESH_DAYS = 30


def build_housekeeping(
    settings: Settings, streams: Mapping[str, Stream], project: Project | None = None
) -> dg.Definitions:
    """The job and its schedule."""
    job = build_job(settings, streams, project)
    schedule = dg.ScheduleDefinition(
        name="housekeeping_daily",
        job=job,
        cron_schedule=AT,
        execution_timezone=settings.timezone,
        default_status=dg.DefaultScheduleStatus.RUNNING,
    )
    return dg.Definitions(jobs=[job], schedules=[schedule])


def build_job(
    settings: Settings, streams: Mapping[str, Stream], project: Project | None = None
) -> dg.JobDefinition:
    """Independent steps in one process; without models there are no refreshes to forget."""
    days = settings.dagster.run_retention_days
    letter_days = settings.kafka.dead_letter_retention_days

    @dg.op(description="Makes the table partitions of the coming week.", out=dg.Out(dg.Nothing))
    def table_partitions_ahead(context: dg.OpExecutionContext) -> None:
        n_new = ensure_partitions_ahead(
            require_address(settings.database.url, "database", "url"), streams.values()
        )
        context.add_output_metadata({"new table partitions": n_new})

    @dg.op(
        description=f"Deletes finished runs of services, and their logs, after {days} days.",
        out=dg.Out(dg.Nothing),
    )
    def forget_old_runs(context: dg.OpExecutionContext) -> None:
        n_deleted = forget_runs(context.instance, datetime.now(UTC) - timedelta(days=days))
        context.add_output_metadata({"deleted runs": n_deleted})

    @dg.op(
        description=f"Deletes figures and checks that sensors showed more than {days} days ago.",
        out=dg.Out(dg.Nothing),
    )
    def forget_old_events(context: dg.OpExecutionContext) -> None:
        url = settings.dagster.database_url
        n_deleted = forget_runless_events(url, days=days) if url else 0
        context.add_output_metadata({"deleted events": n_deleted})

    @dg.op(
        description=f"Deletes dead letters from the index after {letter_days} days, as Kafka does theirs.",
        out=dg.Out(dg.Nothing),
    )
    def forget_old_dead_letters(context: dg.OpExecutionContext) -> None:
        url = require_address(settings.database.url, "database", "url")
        n_deleted = forget_dead_letters(url, days=letter_days)
        context.add_output_metadata({"deleted dead letters": n_deleted})

    @dg.op(
        description=f"Deletes refreshes older than {REFRESH_DAYS} days that no materialized row names.",
        out=dg.Out(dg.Nothing),
    )
    def forget_old_refreshes(context: dg.OpExecutionContext) -> None:
        url = require_address(settings.database.url, "database", "url")
        with closing(SqlDatabase(url, "hl-housekeeping", BULK)) as db:
            n_deleted = forget_refreshes(db, project, days=REFRESH_DAYS) if project else 0
        context.add_output_metadata({"deleted refreshes": n_deleted})

    @dg.job(
        name=NAME,
        description="Table partitions for the coming week; old runs, events, refreshes and dead letters away.",
        executor_def=dg.in_process_executor,
        tags={SERVICE_TAG: NAME, DISPOSABLE_TAG: "true"},
    )
    def housekeeping() -> None:
        table_partitions_ahead()
        forget_old_runs()
        forget_old_events()
        forget_old_dead_letters()
        forget_old_refreshes()

    return housekeeping
