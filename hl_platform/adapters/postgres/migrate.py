"""Brings a database to what this version of hl and the declared streams need. Safe to run at any time, by many."""

import hashlib
from collections.abc import Iterable
from importlib import resources
from typing import NamedTuple

import psycopg
import structlog
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict

from hl_platform.adapters.postgres.connection import connect
from hl_platform.adapters.postgres.errors import translated
from hl_platform.adapters.postgres.widening import plan_widening, widen_columns
from hl_platform.core.errors import ConfigError
from hl_platform.core.streams import Stream

log = structlog.get_logger()

# Any constant will do; it must be the same in every process that migrates.
ADVISORY_LOCK = 0x686C_6D69
# A partition must be there before its first reading; a week outlasts any pause of the daily job.
DAYS_AHEAD = 7

PARTITIONS_AHEAD = """
-- partitions_ahead: make the table partitions from yesterday on, by the database's day; how many were missing
select count(*) filter (where hl.ensure_partition(%(table)s, (now() at time zone 'UTC')::date + ahead))
from generate_series(-1, %(days)s) as ahead
"""


class Migration(NamedTuple):
    """One file of migrations/, applied once and never changed afterwards."""

    version: int
    name: str
    statements: str

    @property
    def checksum(self) -> str:
        """SHA-256 of the statements, to notice a file that was changed after it was applied."""
        return hashlib.sha256(self.statements.encode()).hexdigest()


def load_migrations() -> list[Migration]:
    """All migrations of this version, in order."""
    folder = resources.files("hl_platform.adapters.postgres") / "migrations"
    files = sorted((file for file in folder.iterdir() if file.name.endswith(".sql")), key=lambda f: f.name)
    return [
        Migration(int(file.name.split("_")[0]), file.name.removesuffix(".sql"), file.read_text("utf-8"))
        for file in files
    ]


def migrate(url: str, read_url: str | None, streams: Iterable[Stream]) -> None:
    """Applies what is missing, in one transaction: all of it or nothing. Then widens columns, table by table.

    Args:
        url: of the owner of hl's tables.
        read_url: of the role that may only read; None where there is no such role. It may be the owner's own.
        streams: their tables are made, and get the columns of newly declared optional fields, and wider ones
            where a wider type is declared.

    Raises:
        ConfigError: a declaration contradicts its table, or an applied migration was changed.
        TransientError: the server cannot be reached now, or a table to be widened was in use all the time.

    Guarantee: bridge and sink may go on meanwhile; they wait where they must, and fail nowhere.
    """
    streams = tuple(streams)
    with connect(url, application_name="hl-migrate") as conn, translated():
        with conn.transaction():
            conn.execute("select pg_advisory_xact_lock(%s)", (ADVISORY_LOCK,))
            _apply_migrations(conn)
            for stream in streams:
                _ensure_stream_table(conn, stream)
            # To the owner: earlier versions took it away where both urls have the same role.
            conn.execute("grant all on hl.tokens to current_user")
            if read_url is not None:
                _grant_read(conn, str(conninfo_to_dict(read_url)["user"]))
        # Apart, so that no lock of the above is held for as long as a rewrite takes. Twice does no harm.
        for stream in streams:
            narrow = plan_widening(stream, _columns_of(conn, stream.table))
            if narrow:
                widen_columns(conn, stream, narrow)


def ensure_partitions_ahead(url: str, streams: Iterable[Stream]) -> int:
    """Makes the table partitions of yesterday to a week from now; returns how many were new."""
    with connect(url, application_name="hl-partitions") as conn, translated():
        return sum(_partitions_ahead(conn, stream) for stream in streams)


def _apply_migrations(conn: psycopg.Connection) -> None:
    conn.execute("create schema if not exists hl")
    conn.execute(
        "create table if not exists hl.migrations (version integer primary key, name text not null, "
        "checksum text not null, applied_at timestamptz not null default now())"
    )
    applied: dict[int, str] = dict(conn.execute("select version, checksum from hl.migrations").fetchall())
    for migration in load_migrations():
        if migration.version not in applied:
            conn.execute(migration.statements.encode())
            conn.execute(
                "insert into hl.migrations (version, name, checksum) values (%s, %s, %s)",
                (migration.version, migration.name, migration.checksum),
            )
            log.info("migration_applied", migration=migration.name)
        elif applied[migration.version] != migration.checksum:
            msg = (
                f"Migration {migration.name} was changed after it was applied. Restore it and add a new one."
            )
            raise ConfigError(msg)


def _ensure_stream_table(conn: psycopg.Connection, stream: Stream) -> None:
    existing = _columns_of(conn, stream.table)
    if not existing:
        _create_stream_table(conn, stream)
        existing = _columns_of(conn, stream.table)
        log.info("table_created", table=stream.table)
    for field in stream.fields:
        if field.name not in existing:
            conn.execute(
                sql.SQL("alter table public.{} add column {} {}").format(
                    sql.Identifier(stream.table), sql.Identifier(field.name), sql.SQL(field.sql_type)
                )
            )
            log.info("column_added", table=stream.table, column=field.name)
    _check_types(stream, existing)
    _comment(conn, stream)
    _partitions_ahead(conn, stream)


def _create_stream_table(conn: psycopg.Connection, stream: Stream) -> None:
    table = sql.Identifier(stream.table)
    columns = [
        sql.SQL("{} {}").format(sql.Identifier(field.name), sql.SQL(field.sql_type))
        for field in stream.fields
    ]
    # Columns of fields are nullable whatever the declaration says: a field may be declared later than a row.
    conn.execute(
        sql.SQL(
            "create table public.{} (device_id text not null, timestamp timestamptz not null, {}, extra jsonb, "
            "received_at timestamptz not null, ingested_at timestamptz not null default clock_timestamp(), "
            "corrections integer not null default 0, primary key (device_id, timestamp)) partition by range (timestamp)"
        ).format(table, sql.SQL(", ").join(columns))
    )
    conn.execute(
        sql.SQL("create index {} on public.{} using brin (timestamp)").format(
            sql.Identifier(f"{stream.table}_timestamp_brin"), table
        )
    )
    conn.execute(
        sql.SQL("create table public.{} partition of public.{} default").format(
            sql.Identifier(f"{stream.table}_older"), table
        )
    )


def _check_types(stream: Stream, existing: dict[str, str]) -> None:
    widened_below = plan_widening(stream, existing)
    for field in stream.fields:
        found = existing.get(field.name, field.sql_type)
        # A column may be wider than declared: widening is how a full column is mended while running.
        fits = found == field.sql_type or (field.sql_type, found) in MAY_BE_WIDER
        if not fits and field not in widened_below:
            msg = (
                f"Stream {stream.name}: key `fields.{field.name}.type` = {field.type!r} is {field.sql_type}, but "
                f"column {stream.table}.{field.name} is {found}. Declare what the column is, or alter the column."
            )
            raise ConfigError(msg)


# Declared type and column. A wider column of another kind would read as other values than declared.
MAY_BE_WIDER = {("smallint", "integer"), ("smallint", "bigint")}
COLUMN_COMMENTS = {
    "device_id": "Which device",
    "timestamp": "The device's own time",
    "extra": "What the device sent beyond the declared fields",
    "received_at": "When the bridge received it",
    "ingested_at": "When the sink wrote it",
    "corrections": "How often other values for the same timestamp replaced it",
}


def _comment(conn: psycopg.Connection, stream: Stream) -> None:
    table = sql.Identifier(stream.table)
    conn.execute(sql.SQL("comment on table public.{} is {}").format(table, sql.Literal(stream.description)))
    for column, text in COLUMN_COMMENTS.items():
        conn.execute(
            sql.SQL("comment on column public.{}.{} is {}").format(
                table, sql.Identifier(column), sql.Literal(text)
            )
        )
    for field in stream.fields:
        text = f"{field.description} ({field.unit})" if field.unit else field.description
        conn.execute(
            sql.SQL("comment on column public.{}.{} is {}").format(
                table, sql.Identifier(field.name), sql.Literal(text)
            )
        )


def _columns_of(conn: psycopg.Connection, table: str) -> dict[str, str]:
    rows = conn.execute(
        "select attname, format_type(atttypid, atttypmod) from pg_attribute "
        "where attrelid = to_regclass(%s) and attnum > 0 and not attisdropped",
        (f"public.{table}",),
    )
    return {str(name): str(sql_type) for name, sql_type in rows}


def _partitions_ahead(conn: psycopg.Connection, stream: Stream) -> int:
    rows = conn.execute(PARTITIONS_AHEAD, {"table": stream.table, "days": DAYS_AHEAD}).fetchone()
    return int(rows[0]) if rows else 0


def _grant_read(conn: psycopg.Connection, role: str) -> None:
    if conn.execute("select current_user").fetchone() == (role,):
        # The owner by way of a replica or a pooler; what is revoked below would be gone for the writers, too.
        return
    for statement in (
        "grant usage on schema public, hl, materialized, restored to {}",
        "grant select on all tables in schema public, hl, materialized, restored to {}",
        "alter default privileges in schema public, hl, materialized, restored grant select on tables to {}",
        # Hashes lead to no token, but who may only read has no business with them.
        "revoke all on hl.tokens from {}",
    ):
        conn.execute(sql.SQL(statement).format(sql.Identifier(role)))
