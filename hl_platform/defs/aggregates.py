"""The SQL models as assets: partitioned by time, each with its columns and where they come from."""

import re
import warnings
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from datetime import date, datetime
from typing import TYPE_CHECKING, Any, NamedTuple
from zoneinfo import ZoneInfo

import dagster as dg
import msgspec

from dbt_like_sql.engine.drain import Drained, drain, read_offsets
from dbt_like_sql.engine.marks import mark_range
from dbt_like_sql.engine.model import Model
from dbt_like_sql.engine.project import Project
from hl_platform import __version__
from hl_platform.adapters.postgres.database import BULK, SqlDatabase
from hl_platform.core.settings import Settings, require_address
from hl_platform.core.streams import Field, Stream
from hl_platform.defs.lineage import table_key

if TYPE_CHECKING:
    from dbt_like_sql.engine.refresh import Refresher

# On a run that a sensor asked for: only what is marked. A person's run computes clean buckets anew, too.
REFRESH_TAG = "hl/refresh"
# On a run, once it has marked all that it was asked for: whoever resumes it goes on with what is left.
MARKED_TAG = "hl/marked"
# Begin of each local month or year; hours are held in daily partitions.
CRON: Mapping[str, str] = {"month": "0 0 1 * *", "year": "0 0 1 1 *"}
# Its buckets are materialized before their day is over.
STILL_OPEN = ("minute", "hour")
COLUMN_TYPES = {
    "text": "device_id|tariff|currency",
    "timestamptz": "bucket|bucket_end|first_at|last_at",
    "bigint": r"refresh_id|n_\w+|starts|\w+_(count|events|changes|starts)",
    "jsonb": r"\w+_seconds",
}


class Engine(NamedTuple):
    """A connection, and what refreshes over it."""

    db: SqlDatabase
    refresher: "Refresher"


def build_aggregates(settings: Settings, project: Project) -> dg.Definitions:
    """An asset for every model."""
    return dg.Definitions(
        assets=[
            build_asset(settings, project, model) if model.is_aggregate else spec_of(project, model)
            for model in project.models.values()
        ]
    )


def model_key(name: str) -> dg.AssetKey:
    """The asset of a model."""
    return dg.AssetKey(["postgres", name])


def build_asset(settings: Settings, project: Project, model: Model) -> dg.AssetsDefinition:
    """The asset of a continuous aggregate."""

    def materialized(context: dg.AssetExecutionContext) -> dg.MaterializeResult[None]:
        start, end = context.partition_time_window
        with engine(settings, project, "hl-backfill") as work:
            if not only_marked(context.instance, context.run, model):
                n_marked = mark_range(work.db, project, model, start, end)
                note_marked(context.instance, context.run, model)
                context.log.info("%s buckets are to be computed anew.", n_marked)
            # Marks of readings are of UTC hours; the household's midnight may lie within one.
            first = start.replace(minute=0).isoformat()
            done = drain(work.db, work.refresher, model, start=first, end=end.isoformat())
            # On one of the events: on each of a year's partitions it would take megabytes.
            newest = context.partition_keys[-1]
            context.add_asset_metadata(lineage_metadata(project, model), partition_key=newest)
            return dg.MaterializeResult(metadata=figures_of(work.db, done))

    with warnings.catch_warnings():
        # Single runs are what makes a backfill of years affordable; the version of Dagster is pinned.
        warnings.simplefilter("ignore", dg.BetaWarning)
        asset: dg.AssetsDefinition = dg.asset(
            **describe(project, model),
            partitions_def=partitions_of(model, settings),
            backfill_policy=dg.BackfillPolicy.single_run(),
        )(materialized)
    return asset


def spec_of(project: Project, model: Model) -> dg.AssetSpec:
    """The asset of a model that is computed when it is read."""
    described = describe(project, model)
    return dg.AssetSpec(group_name=described.pop("group_name"), **described)


def describe(project: Project, model: Model) -> dict[str, Any]:
    """What an asset and a specification of one have in common."""
    streams = streams_below(project, model)
    return {
        "key": model_key(model.name),
        "deps": [
            *(table_key(project.streams[name]) for name in model.sources),
            *map(model_key, model.refs),
        ],
        "group_name": streams[0].name if streams else "models",
        "kinds": {"postgres", "sql"},
        "owners": [f"team:{model.owner}"],
        "description": model.description,
        "metadata": {
            "dagster/column_schema": columns_of(project, model),
            "materialization": model.materialization,
            "dagster/relation_identifier": f"public.{model.name}",
        },
    }


def columns_of(project: Project, model: Model) -> dg.TableSchema:
    """The columns that the model's header describes."""
    fields = {field.name: field for stream in streams_below(project, model) for field in stream.fields}
    return dg.TableSchema(
        [dg.TableColumn(name, type_of(name, fields), text) for name, text in model.columns.items()]
    )


def type_of(column: str, fields: Mapping[str, Field]) -> str:
    """The PostgreSQL type of a model's column, by the names that the macros give.

    Args:
        column: its name.
        fields: of the streams below, by name.
    """
    if column in fields:
        return fields[column].sql_type
    for types, pattern in COLUMN_TYPES.items():
        if re.fullmatch(pattern, column):
            return types
    field, _, what = column.rpartition("_")
    same = what in ("min", "max", "first", "last") and field in fields
    return fields[field].sql_type if same else "double precision"


def streams_below(project: Project, model: Model) -> list[Stream]:
    """The streams whose readings a model is made from."""
    names = list(model.sources)
    for ref in model.refs:
        names += [stream.name for stream in streams_below(project, project.models[ref])]
    return [project.streams[name] for name in dict.fromkeys(names)]


def partitions_of(model: Model, settings: Settings) -> dg.TimeWindowPartitionsDefinition:
    """Local days for hours and days, local months and years for those.

    They begin with the local day before which no reading is believed (HL_READING__FLOOR): no bucket can lie before it,
    and where data really begins is not known when code is loaded.
    """
    start = settings.reading.floor.astimezone(ZoneInfo(settings.timezone)).date()
    if model.bucket in CRON:
        first = start.replace(day=1) if model.bucket == "month" else start.replace(month=1, day=1)
        return dg.TimeWindowPartitionsDefinition(
            start=first.isoformat(),
            fmt="%Y-%m-%d",
            cron_schedule=CRON[model.bucket or ""],
            timezone=settings.timezone,
        )
    return dg.DailyPartitionsDefinition(
        start_date=start.isoformat(),
        timezone=settings.timezone,
        end_offset=1 if model.bucket in STILL_OPEN else 0,
    )


def partition_key_of(model: Model, day: datetime, timezone: str) -> str:
    """The partition that holds a model's buckets of a local day.

    Args:
        model: a continuous aggregate.
        day: begin of the day.
        timezone: the household's.
    """
    local: date = day.astimezone(ZoneInfo(timezone)).date()
    if model.bucket == "month":
        local = local.replace(day=1)
    if model.bucket == "year":
        local = local.replace(month=1, day=1)
    return local.isoformat()


@contextmanager
def engine(settings: Settings, project: Project, name: str) -> Iterator[Engine]:
    """A connection for the block.

    Args:
        settings: with the address of the database.
        project: all models.
        name: shown in pg_stat_activity.

    Raises:
        ConfigError: there is no address.
    """
    from dbt_like_sql.engine.refresh import Refresher  # noqa: PLC0415 - brings jinja2; services do without

    with closing(SqlDatabase(require_address(settings.database.url, "database", "url"), name, BULK)) as db:
        yield Engine(db, Refresher(db, project, __version__))


def only_marked(instance: dg.DagsterInstance, run: dg.DagsterRun, model: Model) -> bool:
    """Whether a run is to take the marks that are there: a sensor asked for it, or it resumes one that has marked."""
    if REFRESH_TAG in run.tags:
        return True
    parent_id = run.tags.get("dagster/parent_run_id")
    before = instance.get_run_by_id(parent_id) if parent_id else None
    return before is not None and f"{MARKED_TAG}_{model.name}" in before.tags


def note_marked(instance: dg.DagsterInstance, run: dg.DagsterRun, model: Model) -> None:
    """Writes down that a run has marked all that it was asked for."""
    instance.add_run_tags(run.run_id, {f"{MARKED_TAG}_{model.name}": "true"})


def figures_of(db: SqlDatabase, done: Drained) -> dict[str, dg.MetadataValue]:
    """What a materialization shows."""
    figures: dict[str, dg.MetadataValue] = {
        "buckets": dg.MetadataValue.int(done.n_buckets),
        "marks": dg.MetadataValue.int(done.n_marks),
        "duration_ms": dg.MetadataValue.float(round(done.duration_ms, 1)),
        "version": dg.MetadataValue.text(__version__),
    }
    if done.first_id is None or done.last_id is None:
        return figures
    before, after = (msgspec.json.decode(text) for text in read_offsets(db, done))
    if after:
        offsets = {place: [before.get(place), offset] for place, offset in after.items()}
        figures["offsets from, to"] = dg.MetadataValue.json(offsets)
    ids = f"{done.first_id}" if done.first_id == done.last_id else f"{done.first_id} to {done.last_id}"
    return figures | {"hl.refreshes.id": dg.MetadataValue.text(ids)}


def lineage_metadata(project: Project, model: Model) -> dict[str, Any]:
    """Which columns upstream each column is made from, as Dagster shows it."""
    from dbt_like_sql.engine.lineage import column_lineage  # noqa: PLC0415 - brings sqlglot; services do without

    keys = {stream.table: table_key(stream) for stream in project.streams.values()}
    deps = {
        column: [dg.TableColumnDep(keys.get(name, model_key(name)), of) for name, of in upstream]
        for column, upstream in column_lineage(project, model).items()
    }
    return {"dagster/column_lineage": dg.TableColumnLineage(deps)}
