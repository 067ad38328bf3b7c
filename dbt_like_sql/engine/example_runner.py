"""Runs examples on a database without touching what is in it.

All happens in one transaction that is rolled back, in PostgreSQL's temporary schema: tables of the given rows, models
below and the functions that a model calls stand there under their own names, with a time zone of the test's own.
"""

import json
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

from dbt_like_sql.engine.database import Database
from dbt_like_sql.engine.deploy import columns_of
from dbt_like_sql.engine.examples import Example, ExampleFile, Row, check_columns, differences
from dbt_like_sql.engine.model import Model
from dbt_like_sql.engine.objects import compute_function, neighbour_functions, shape_of, zone_functions
from dbt_like_sql.engine.project import Project
from dbt_like_sql.engine.render import Renderer, near
from hl_platform.core.errors import ConfigError, HlError

# What rows or a time zone of the household decide, and so must be the test's own.
OWN = (
    r"\bhl\.(?=(?:local_start|bucket_start|bucket_end|moved|counter_events)\b|(?:compute|before|after)_)"
    r"|\bmaterialized\."
)
MOVED = """
-- moved: how a step of a counter that looks wrong is judged
select pg_get_functiondef('hl.moved'::regproc)
"""
FILL = """
-- fill: given rows; times without an offset are of the session's time zone
insert into pg_temp.{table} select * from jsonb_populate_recordset(null::pg_temp.{table}, %(rows)s::jsonb)
"""
EXPECTED = """
-- expected: rows as the model has them, with its types
select {columns} from jsonb_populate_recordset(null::pg_temp.{table}, %(rows)s::jsonb)
"""
COMPUTE_FROM_READINGS = """
-- compute_from_readings: all of the household's days that readings lie in
select computed.*
from (select device_id, min(timestamp) as first_at, max(timestamp) as last_at from pg_temp.{below} group by 1) as d
cross join lateral (
    select distinct pg_temp.local_start('day', at) as day
    from generate_series(first_at, last_at + interval '12 hours', interval '12 hours') as at
    where pg_temp.local_start('day', at) <= last_at
) as days
cross join lateral pg_temp.compute_{model}(device_id, day, pg_temp.bucket_end('day', day)) as computed
"""
COMPUTE_FROM_BUCKETS = """
-- compute_from_buckets: all buckets that those below lie in
select computed.*
from (select distinct device_id, pg_temp.bucket_start('{grain}', bucket) as start from pg_temp.{below}) as b
cross join lateral pg_temp.compute_{model}(device_id, start, pg_temp.bucket_end('{grain}', start)) as computed
"""


class ExampleResult(NamedTuple):
    """How a test went.

    Args:
        model, file, name: which.
        wrong: (row, column, expected, found) of what is not as it should be.
        error: why it could not be run.
    """

    model: str
    file: str
    name: str
    wrong: tuple[tuple[str, str, str, str], ...] = ()
    error: str = ""

    @property
    def passed(self) -> bool:
        """Whether all is as expected."""
        return not self.wrong and not self.error


class _UndoError(Exception):
    """Leaves a transaction so that nothing of it is kept."""


def run_examples(db: Database, project: Project, files: Sequence[ExampleFile]) -> Iterator[ExampleResult]:
    """Runs tests, one after the other.

    Args:
        db: migrated; the models need not be deployed.
        project: all models.
        files: whose tests.

    Guarantee: nothing is kept in the database, and nobody waits for a lock.
    """
    for file in files:
        for example in file.tests:
            wrong: list[tuple[str, str, str, str]] = []
            error = ""
            try:
                with _undone(db):
                    wrong = _run(db, project, file, example)
            except HlError as exc:
                error = str(exc)
            yield ExampleResult(file.model, file.file, example.name, tuple(wrong), error)


@contextmanager
def _undone(db: Database) -> Iterator[None]:
    try:
        with db.transaction():
            yield
            raise _UndoError  # noqa: TRY301 - the transaction is what it is for
    except _UndoError:
        pass


def _run(
    db: Database, project: Project, file: ExampleFile, example: Example
) -> list[tuple[str, str, str, str]]:
    where = f"{file.file}: {example.name}"
    if file.model not in project.models:
        raise ConfigError(f"{file.file}: key `model`: there is none. {near(file.model, project.models)}")
    place = _Place(db, project, project.models[file.model])
    place.make_functions(example.timezone or file.timezone)
    tables = place.make_tables()
    for name, rows in example.given.items():
        if name not in tables:
            raise ConfigError(
                f"{where}: key `given.{name}`: {file.model} reads no such thing. {near(name, tables)}"
            )
        place.fill(tables[name], rows, f"{where}: given.{name}")
    return differences(place.expected(example, where), place.found(), place.model.grain, example)


class _Place:
    """The temporary schema of a session, in which a model finds all that it reads and calls under its own names."""

    def __init__(self, db: Database, project: Project, model: Model) -> None:
        self.model = model
        self._db = db
        self._project = project
        self._renderer = Renderer(project.streams)
        relations = (*(stream.table for stream in project.streams.values()), *project.models)
        self._own = re.compile(f"{OWN}|\\bpublic\\.(?=(?:{'|'.join(relations)})\\b)")

    def make_functions(self, timezone: str) -> None:
        """Makes what the time zone, or somebody's word about a counter, decides."""
        self._db.rows("select set_config('timezone', %(zone)s, true)", {"zone": timezone})
        self._db.rows("create temp table counter_events as select * from hl.counter_events with no data")
        moved = str(self._db.rows(MOVED)[0][0])
        for statement in (*zone_functions(timezone), moved):
            self._run(statement)

    def make_tables(self) -> dict[str, str]:
        """Makes an empty table for all that the model reads, and for what that reads; returns them by tests' names."""
        tables = {"counter_events": "counter_events"} | {name: name for name in self.model.refs}
        upstream = self._upstream()
        for stream in self._project.streams.values():
            if any(stream.name in model.sources for model in upstream):
                columns = ", ".join(f"{field.name} {field.sql_type}" for field in stream.fields)
                self._run(
                    f"create temp table {stream.table} (device_id text, timestamp timestamptz, {columns}, "
                    "extra jsonb, received_at timestamptz, ingested_at timestamptz, corrections integer)"
                )
                for statement in neighbour_functions(stream):
                    self._run(statement)
            if stream.name in self.model.sources:
                tables[stream.name] = stream.table
        for model in upstream:
            more = ", null::timestamptz as bucket_end, null::bigint as refresh_id" if model.bucket else ""
            select = shape_of(model, self._renderer) if model.bucket else self._renderer.render(model)
            self._run(
                f"create temp table {model.name} as select s.*{more} from (\n{select}\n) as s with no data"
            )
        return tables

    def fill(self, table: str, rows: list[Row], where: str) -> None:
        """Puts given rows into a table."""
        check_columns(where, rows, columns_of(self._db, f"pg_temp.{table}"))
        self._db.rows(FILL.format(table=table), {"rows": _json(rows)})

    def expected(self, example: Example, where: str) -> list[Row]:
        """The rows that a test expects, with the types of the model's columns."""
        name = self.model.name
        check_columns(f"{where}: expect", example.expect, columns_of(self._db, f"pg_temp.{name}"))
        rows = []
        for row in example.expect:
            select = EXPECTED.format(table=name, columns=", ".join(row))
            rows.append(dict(zip(row, self._db.rows(select, {"rows": _json([row])})[0], strict=True)))
        return rows

    def found(self) -> list[Row]:
        """The rows that the model has."""
        model = self.model
        columns = columns_of(self._db, f"pg_temp.{model.name}")
        if model.bucket is None:
            rows = self._run(self._renderer.render(model))
        else:
            self._run(compute_function(model, self._renderer))
            stream = self._project.stream_of(model)
            template = COMPUTE_FROM_READINGS if stream else COMPUTE_FROM_BUCKETS
            below = stream.table if stream else model.refs[0]
            rows = self._db.rows(template.format(model=model.name, below=below, grain=model.bucket))
        return [dict(zip(columns, row, strict=True)) for row in rows]

    def _upstream(self) -> list[Model]:
        names = [self.model.name]
        for name in names:
            names += [ref for ref in self._project.models[name].refs if ref not in names]
        # In the order of the project, which is that of dependencies.
        return [other for other in self._project.models.values() if other.name in names]

    def _run(self, statement: str) -> list[tuple[Any, ...]]:
        return self._db.rows(self._own.sub("pg_temp.", statement))


def _json(rows: list[Row]) -> str:
    # What YAML knows besides JSON are times.
    return json.dumps(rows, default=str)
