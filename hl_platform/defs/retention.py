"""Retention and archive in Dagster: a nightly job, a sensor for what comes late, and a check of the archive."""

from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from typing import NamedTuple

import dagster as dg

from dbt_like_sql.engine.archive import ALL_FILES, ArchiveFiles, registered, table_columns
from dbt_like_sql.engine.database import BulkDatabase
from dbt_like_sql.engine.project import Project, load_project
from dbt_like_sql.engine.retain import Retained, retain, waiting
from hl_platform import __version__
from hl_platform.adapters.archive import ArchiveDirectory
from hl_platform.adapters.directories import archive_directory
from hl_platform.adapters.postgres.database import BULK, SqlDatabase
from hl_platform.core.errors import ConfigError, TransientError
from hl_platform.core.settings import Settings, require_address
from hl_platform.core.streams import Stream
from hl_platform.defs.lineage import table_key

KEY = dg.AssetKey(["hl", "archive"])
JOB = "retention"
# After midnight of the household, before housekeeping.
AT = "40 2 * * *"
# Late readings mostly come together; who waits this long takes them in one go.
ABSORB_AFTER_S = 60.0


class Work(NamedTuple):
    """What retention works with."""

    db: BulkDatabase
    project: Project
    files: ArchiveFiles


@contextmanager
def opened(settings: Settings, streams: Mapping[str, Stream]) -> Iterator[Work]:
    """A connection, the models and the archive."""
    url = require_address(settings.database.url, "database", "url")
    with closing(SqlDatabase(url, "hl-retention", BULK)) as db:
        files = ArchiveDirectory(archive_directory(settings))
        yield Work(db, load_project(streams, settings.models_dir), files)


def build_retention(settings: Settings, streams: Mapping[str, Stream]) -> dg.Definitions:
    """The asset, its check, its job, its schedule and its sensor; nothing where the archive is switched off."""
    if not settings.archive.enabled:
        return dg.Definitions()
    job = dg.define_asset_job(
        JOB,
        selection=dg.AssetSelection.assets(KEY),
        description="Archives and drops old readings, and merges what came late for them.",
    )
    schedule = dg.ScheduleDefinition(
        name="retention_daily",
        job=job,
        cron_schedule=AT,
        execution_timezone=settings.timezone,
        default_status=dg.DefaultScheduleStatus.RUNNING,
    )
    return dg.Definitions(
        assets=[build_asset(settings, streams)],
        asset_checks=[build_check(settings, streams)],
        jobs=[job],
        schedules=[schedule],
        sensors=[build_sensor(settings, streams)],
    )


def build_asset(settings: Settings, streams: Mapping[str, Stream]) -> dg.AssetsDefinition:
    """The asset that stands for the archive's files."""
    days = settings.sink.raw_retention_days

    @dg.asset(
        key=KEY,
        deps=[table_key(stream) for stream in streams.values()],
        group_name="retention",
        kinds={"parquet"},
        owners=["team:home"],
        description=(
            f"Readings older than {days} days: materialized, compared with their aggregates, written to Parquet, read "
            "back, and only then dropped from their tables. What comes late for them is merged here, too."
        ),
    )
    def archive() -> dg.MaterializeResult[None]:
        with opened(settings, streams) as work:
            return dg.MaterializeResult(metadata=describe(retain(*work, __version__, raw_days=days)))

    return archive


def build_check(settings: Settings, streams: Mapping[str, Stream]) -> dg.AssetChecksDefinition:
    """Whether every registered file is there, with the bytes that were registered."""

    @dg.asset_check(
        name="archive_complete",
        asset=KEY,
        description="Every registered file is there and undamaged, and every table's late readings are absorbed.",
    )
    def archive_complete() -> dg.AssetCheckResult:
        with opened(settings, streams) as work:
            n_files, faults = find_faults(work, settings, streams)
        return dg.AssetCheckResult(passed=not faults, metadata={"files": n_files, "faults": faults})

    return archive_complete


def build_sensor(settings: Settings, streams: Mapping[str, Stream]) -> dg.SensorDefinition:
    """The sensor that has late readings merged soon after they came."""

    @dg.sensor(
        name="absorb_late_readings",
        job_name=JOB,
        minimum_interval_seconds=60,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Launches retention when readings came for a time that is archived.",
    )
    def absorb_late_readings() -> dg.RunRequest | dg.SkipReason:
        try:
            with opened(settings, streams) as work:
                found = [waiting(work.db, work.project, stream) for stream in streams.values()]
        except (TransientError, ConfigError) as exc:
            return dg.SkipReason(f"Nothing can be said: {exc}")
        due = [late.since for late in found if late.n_marks and late.age_s >= ABSORB_AFTER_S]
        if not due:
            return dg.SkipReason("Nothing came for a time that is archived.")
        # What a run could not absorb, a damaged file in its way, is not tried again every minute but every night.
        return dg.RunRequest(run_key=f"absorb-{max(due, key=str)}")

    return absorb_late_readings


def find_faults(work: Work, settings: Settings, streams: Mapping[str, Stream]) -> tuple[int, list[str]]:
    """Number of files, and one sentence for each that is not as it was registered."""
    directory = ArchiveDirectory(archive_directory(settings))
    n_files, faults = 0, []
    for stream in streams.values():
        if not table_columns(work.db, f"public.{stream.table}"):
            continue
        for file in registered(work.db, ALL_FILES, table_name=stream.table):
            n_files += 1
            try:
                directory.check(file)
            except ConfigError as exc:
                faults.append(str(exc))
    return n_files, faults


def describe(retained: list[Retained]) -> dict[str, dg.MetadataValue]:
    """What a materialization shows."""
    return {
        f"{done.stream}: dropped days, their readings, late readings, rows of models": dg.MetadataValue.text(
            f"{done.n_days:,}, {done.n_rows:,}, {done.n_late:,}, {done.n_model_rows:,}"
        )
        for done in retained
    }
