"""Brings the objects of all models to what this version and the declared streams say. Safe to run at any time."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import NamedTuple

import structlog

from dbt_like_sql.engine.database import Database
from dbt_like_sql.engine.deployed import hold_deployed, timezone_function
from dbt_like_sql.engine.mark_objects import (
    mark_function,
    mark_triggers,
    override_function,
    truncate_function,
    truncate_trigger,
)
from dbt_like_sql.engine.marks import DEVICES
from dbt_like_sql.engine.model import Model
from dbt_like_sql.engine.objects import (
    compute_function,
    digest_of,
    dirty_view,
    events_function,
    neighbour_functions,
    public_view,
    shape_of,
    zone_functions,
)
from dbt_like_sql.engine.project import Project
from dbt_like_sql.engine.render import Renderer
from dbt_like_sql.engine.retire import Retired, forget_marks, is_there, retire, silence, silent, withdraw
from hl_platform.core.errors import ConfigError
from hl_platform.core.streams import Stream

log = structlog.get_logger()

# A table is what it was when its text changed last; whoever has no use for it drops it.
DEPLOYED = """
-- deployed: what each model was when it was deployed last, and whether it has buckets that can be dirty
select model, digest, to_regclass('hl.dirty_' || model) is not null from hl.models
where not exists (
    select from pg_class
    where relnamespace = 'public'::regnamespace and relname = model and relkind = 'r'
        and model <> all(%(models)s::text[]))
"""
NOTE = """
-- note: a model as it is deployed now
insert into hl.models (model, digest, version) values (%(model)s, %(digest)s, %(version)s)
on conflict (model) do update set digest = excluded.digest, version = excluded.version, deployed_at = now()
"""
COLUMNS = """
-- columns: of a table, in order
select attname from pg_attribute
where attrelid = to_regclass(%(table)s) and attnum > 0 and not attisdropped order by attnum
"""
WITHOUT_TRIGGERS = """
-- without_triggers: a table and its partitions, as far as changes of them are not marked
select c.relname from pg_partition_tree(to_regclass(%(table)s)) as t join pg_class as c on c.oid = t.relid
where (select count(*) from pg_trigger as g where g.tgrelid = c.oid and g.tgname like 'mark\\_%%') < 5
"""
PARTITIONS = """
-- partitions: a table and all its partitions
select relname from pg_class
where oid = to_regclass(%(table)s) or oid in (select relid from pg_partition_tree(to_regclass(%(table)s)))
"""
# Hops from hour to hour along the primary key, where grouping would read every row.
MARK_READINGS = """
-- mark_readings: every hour above the floor that readings, or the steps between them, lie in
with {devices}, firsts as (
    select device_id, (hl.after_{table}(device_id, '-infinity')).timestamp as at from devices
    union all
    select device_id, (hl.after_{table}(device_id, date_bin('1 hour', at, 'epoch') + interval '1 hour')).timestamp
    from firsts where at is not null
)
insert into hl.dirty (model, device_id, bucket)
select distinct %(model)s, device_id, hour
from (
    select device_id, bucket, lead(bucket) over (partition by device_id order by bucket) as next_bucket
    from (select device_id, date_bin('1 hour', at, 'epoch') as bucket from firsts where at is not null) as hours
) as spans
cross join lateral (
    select bucket as hour
    union all
    select generate_series(greatest(bucket, next_bucket - interval '31 days'), next_bucket, interval '1 hour')
    where next_bucket > bucket
    union all
    select generate_series(bucket, least(bucket + interval '1 day', next_bucket), interval '1 hour')
    where next_bucket > bucket
) as found
-- A step may begin with a device's last reading below the floor.
where hour >= coalesce((select floor from hl.floors where table_name = %(table_name)s), '-infinity')
order by 2, 3
on conflict (model, device_id, bucket) do update set since = excluded.since where false
"""
MARK_BUCKETS = """
-- mark_buckets: every bucket above the floor that the level below has rows for
insert into hl.dirty (model, device_id, bucket)
select distinct %(model)s, device_id, hl.bucket_start(%(grain)s, bucket) from materialized.{below}
where bucket >= coalesce((select floor from hl.floors where table_name = %(below)s), '-infinity')
order by 2, 3
on conflict (model, device_id, bucket) do update set since = excluded.since where false
"""

ENSURE_PARTITIONS = """
-- ensure_partitions: of the table of materialized buckets
select hl.ensure_bucket_partition(%(model)s, %(unit)s, part)
from (
    select distinct date_trunc(%(unit)s, bucket, 'UTC') from unnest(%(buckets)s::timestamptz[]) as b (bucket)
) as parts (part)
"""
# How much time a partition of materialized buckets holds; longer buckets share one partition.
PARTITION_BY: Mapping[str, str] = {"hour": "month", "day": "year"}
MONTHS_MARKED = """
-- months_marked: in which a model has marks
select distinct date_trunc('month', bucket, 'UTC') from hl.dirty where model = %(model)s
"""


# With the refresh in it, the index of the key alone tells which rows are still the same.
KEY = "primary key (device_id, bucket) include (refresh_id)"
NARROW_KEY = """
-- narrow_key: the key of a table of materialized buckets, if it lacks the refresh
select k.conname from pg_constraint as k join pg_index as i on i.indexrelid = k.conindid
where k.conrelid = to_regclass(%(table)s) and k.contype = 'p' and i.indnatts = i.indnkeyatts
"""


class Deployed(NamedTuple):
    """What a deployment has changed.

    Args:
        remade: names of the models that were made, or made anew.
        retired: models that were deployed until now, and are in the project no more, or as another kind.
    """

    remade: list[str]
    retired: list[Retired]


def deploy(db: Database, project: Project, timezone: str, version: str) -> Deployed:
    """Makes what is missing, remakes what has changed, and takes away what is no longer in the project.

    Args:
        db: as the owner of the tables.
        project: all models.
        timezone: the household's.
        version: of hl.

    Guarantee: all of it or nothing; no refresh is under way meanwhile. A remade model is dirty all over and so right at
    once; its rows below the floor, which nothing can compute again, are carried over. What is deployed and not in the
    project can no longer be read; it is dirty all over when it comes back.
    """
    renderer = Renderer(project.streams)
    with db.transaction():
        hold_deployed(db)
        for statement in (*zone_functions(timezone), timezone_function(timezone)):
            db.rows(statement)
        for stream in project.streams.values():
            for statement in neighbour_functions(stream):
                db.rows(statement)
            models = project.over_readings(stream)
            db.rows(mark_function(stream, models))
            db.rows(truncate_function(stream, models))
            _ensure_triggers(db, stream)
        db.rows(
            override_function({name: project.over_readings(one) for name, one in project.streams.items()})
        )
        silence(db, project.streams.values())
        deployed, gone = _plan_gone(project, db.rows(DEPLOYED, {"models": list(project.models)}))
        digests = {model.name: digest_of(model, renderer, timezone) for model in project.models.values()}
        changed = _plan_changed(project, deployed, digests)
        left_before = [name for name in silent(db) if name not in project.models]
        # From the top down, since what is above reads what is below.
        withdraw(db, [*gone, *left_before, *(model.name for model in reversed(changed))])
        retired = [retire(db, name) for name in gone]
        for name in left_before:
            retire(db, name)
        for model in changed:
            with _named(model):
                _remake(db, project, model, renderer)
            db.rows(NOTE, {"model": model.name, "digest": digests[model.name], "version": version})
            log.info("model_deployed", model=model.name)
        for model in project.aggregates():
            _ensure_key(db, model)
        forget_marks(db, [model.name for model in project.aggregates()])
    return Deployed([model.name for model in changed], retired)


@contextmanager
def _named(model: Model) -> Iterator[None]:
    """What the database does not like is said with the model's file."""
    try:
        yield
    except ConfigError as exc:
        raise ConfigError(
            f"{model.name}.sql: {exc}. `hl sql compile {model.name}` shows what it becomes."
        ) from exc


def _plan_gone(
    project: Project, deployed: Iterable[tuple[str, str, bool]]
) -> tuple[dict[str, str], list[str]]:
    """The digests of what is deployed and stays, and the names of what the project has no more, or as another kind."""
    stays, gone = {}, []
    for name, digest, is_aggregate in deployed:
        model = project.models.get(name)
        if model is not None and model.is_aggregate == is_aggregate:
            stays[name] = digest
        else:
            gone.append(name)
    return stays, gone


def _plan_changed(project: Project, deployed: Mapping[str, str], digests: Mapping[str, str]) -> list[Model]:
    # A view or table depends on the views that it reads, so that they cannot be dropped without it; an aggregate
    # only names them.
    changed: dict[str, Model] = {}
    for model in project.models.values():
        reads_changed = model.materialization in ("view", "table") and not changed.keys().isdisjoint(
            model.refs
        )
        if reads_changed or deployed.get(model.name) != digests[model.name]:
            changed[model.name] = model
    return list(changed.values())


def _ensure_triggers(db: Database, stream: Stream) -> None:
    for (name,) in db.rows(WITHOUT_TRIGGERS, {"table": f"public.{stream.table}"}):
        for statement in (*mark_triggers(stream, str(name)), truncate_trigger(stream, str(name))):
            db.rows(statement)


def _remake(db: Database, project: Project, model: Model, renderer: Renderer) -> None:
    if model.materialization in ("view", "table"):
        kind = "view" if model.materialization == "view" else "table"
        db.rows(f"drop {kind} if exists public.{model.name}")
        db.rows(f"create {kind} public.{model.name} as\n{renderer.render(model)}")
        _comment(db, model, f"{kind} public.{model.name}")
        return
    old = f"{model.name}_before"
    # Deployed as something else, or before its file was away for a time.
    had_rows = is_there(db, f"materialized.{model.name}")
    if had_rows:
        for name in (f"view if exists hl.dirty_{model.name}", f"function if exists hl.compute_{model.name}"):
            db.rows(f"drop {name}")
        for (name,) in db.rows(PARTITIONS, {"table": f"materialized.{model.name}"}):
            db.rows(f"alter table materialized.{name} rename to {name}_before")
    _make_table(db, model, renderer)
    db.rows(compute_function(model, renderer))
    if not model.is_aggregate:
        if had_rows:
            db.rows(f"drop table materialized.{old}")
        return
    stream = project.stream_of(model)
    floor_of = stream.table if stream else model.refs[0]
    db.rows(dirty_view(model, project.below(model), floor_of))
    db.rows(public_view(model, columns_of(db, f"materialized.{model.name}")))
    if stream is not None and stream.counters:
        db.rows(events_function(model, stream, renderer))
    _comment(db, model, f"view public.{model.name}")
    if had_rows:
        _carry_over(db, model, floor_of, old)
    mark_all(db, model, stream)


def _make_table(db: Database, model: Model, renderer: Renderer) -> None:
    shape = f"shape_{model.name}"
    db.rows(f"drop table if exists pg_temp.{shape}")
    db.rows(f"create temp table {shape} on commit drop as {shape_of(model, renderer)} with no data")
    if model.is_aggregate:
        keyed = f", {KEY}) partition by range (bucket)"
        db.rows(
            f"create table materialized.{model.name} "
            f"(like pg_temp.{shape}, bucket_end timestamptz, refresh_id bigint{keyed}"
        )
        db.rows(f"create table materialized.{model.name}_rest partition of materialized.{model.name} default")
    else:
        db.rows(
            f"create table materialized.{model.name} (like pg_temp.{shape}, bucket_end timestamptz, refresh_id bigint)"
        )


def _ensure_key(db: Database, model: Model) -> None:
    table = f"materialized.{model.name}"
    for (name,) in db.rows(NARROW_KEY, {"table": table}):
        db.rows(f"alter table {table} drop constraint {name}, add {KEY}")


def _carry_over(db: Database, model: Model, floor_of: str, old: str) -> None:
    kept = set(columns_of(db, f"materialized.{old}"))
    names = ", ".join(name for name in columns_of(db, f"materialized.{model.name}") if name in kept)
    db.rows(
        f"insert into materialized.{model.name} ({names}) select {names} from materialized.{old} "
        "where bucket < (select floor from hl.floors where table_name = %(floor_of)s)",
        {"floor_of": floor_of},
    )
    db.rows(f"drop table materialized.{old}")


def mark_all(db: Database, model: Model, stream: Stream | None) -> None:
    """Marks every bucket of a continuous aggregate that has something to be computed from.

    Args:
        db: as the owner of the tables, within a transaction.
        model: which.
        stream: the one whose readings it reads directly, if any.
    """
    if stream is not None:
        values = {"model": model.name, "table_name": stream.table}
        # Who writes now does not know of the model yet: his rows are waited for, and whoever comes later marks them.
        db.rows(f"lock table public.{stream.table} in share mode")
        db.rows(MARK_READINGS.format(devices=DEVICES.format(table=stream.table), table=stream.table), values)
    else:
        below = model.refs[0]
        db.rows(
            MARK_BUCKETS.format(below=below), {"model": model.name, "grain": model.bucket, "below": below}
        )
    # Two refreshers that make the same partition would wait for each other's whole work.
    ensure_partitions(db, model, [row[0] for row in db.rows(MONTHS_MARKED, {"model": model.name})])


def ensure_partitions(db: Database, model: Model, buckets: Sequence[datetime]) -> None:
    """Makes what is missing of the partitions that materialized buckets go to."""
    unit = PARTITION_BY.get(model.bucket or "")
    if unit is not None:
        db.rows(ENSURE_PARTITIONS, {"model": model.name, "unit": unit, "buckets": buckets})


def columns_of(db: Database, table: str) -> list[str]:
    """The columns of a table or view, in order."""
    return [str(name) for (name,) in db.rows(COLUMNS, {"table": table})]


def _comment(db: Database, model: Model, thing: str) -> None:
    db.rows(f"comment on {thing} is {_literal(model.description)}")
    there = set(columns_of(db, f"public.{model.name}"))
    for name, text in model.columns.items():
        if name in there:
            db.rows(f"comment on column public.{model.name}.{name} is {_literal(text)}")


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
