"""Widens columns while readings come in, so that a value that was too large for its column has a place."""

import random
import time
from collections.abc import Mapping

import psycopg
import structlog
from psycopg import errors, sql

from hl_platform.core.errors import ConfigError, TransientError
from hl_platform.core.streams import Field, Stream

log = structlog.get_logger()

# What a column may become: every value stays what it is.
# Source: PostgreSQL manual, 8.1 Numeric Types; a double holds integers up to 2**53 and every real.
WIDER_TYPES: Mapping[str, tuple[str, ...]] = {
    "smallint": ("integer", "bigint", "double precision"),
    "integer": ("bigint", "double precision"),
    "real": ("double precision",),
}
# The lock on the table is asked for this long at a time: while we wait for it, everybody waits behind us.
LOCK_TIMEOUT_MS = 500
# Pause between two tries, in seconds, for those who waited behind us.
PAUSE_S = 1.0
# Some five minutes; whoever holds the table for longer must be looked at.
MAX_TRIES = 200

LOCK = """
-- lock: the table and its partitions, for nobody else to read or write
lock table public.{table} in access exclusive mode
"""

WIDEN = """
-- widen: rewrites the table with wider columns
alter table public.{table} {changes}
"""


def plan_widening(stream: Stream, existing: Mapping[str, str]) -> list[Field]:
    """The fields whose column is narrower than declared, and may be widened.

    Args:
        stream: what is declared.
        existing: PostgreSQL types of the table's columns, by name.
    """
    return [
        field
        for field in stream.fields
        if field.sql_type in WIDER_TYPES.get(existing.get(field.name, ""), ())
    ]


def widen_columns(conn: psycopg.Connection, stream: Stream, fields: list[Field]) -> None:
    """Gives fields' columns their declared types.

    Args:
        conn: in autocommit mode.
        stream: whose table.
        fields: from `plan_widening`.

    Raises:
        ConfigError: a view or the like depends on a column.
        TransientError: the table was in use all the time.

    Guarantee: readers and writers wait for the rewrite and go on; nothing of theirs fails.
    """
    for _ in range(MAX_TRIES):
        try:
            _apply_widening(conn, stream, fields)
        except (errors.LockNotAvailable, errors.DeadlockDetected) as exc:
            log.warning("table_in_use", table=stream.table, error=str(exc).splitlines()[0])
            time.sleep(random.uniform(0.5, 1.5) * PAUSE_S)  # noqa: S311 - jitter, not secrecy
        except errors.FeatureNotSupported as exc:
            msg = (
                f"Stream {stream.name}: {stream.table} cannot be widened: {str(exc).splitlines()[0]}. "
                "Drop what depends on the column, migrate, and create it again."
            )
            raise ConfigError(msg) from exc
        else:
            return
    msg = f"{stream.table} was in use all the time; pg_stat_activity shows by whom. Its columns are as they were."
    raise TransientError(msg)


def _apply_widening(conn: psycopg.Connection, stream: Stream, fields: list[Field]) -> None:
    started_s = time.monotonic()
    table = sql.Identifier(stream.table)
    changes = [
        sql.SQL("alter column {} type {}").format(sql.Identifier(field.name), sql.SQL(field.sql_type))
        for field in fields
    ]
    with conn.transaction():
        conn.execute(sql.SQL("set local lock_timeout = {}").format(sql.Literal(LOCK_TIMEOUT_MS)))
        conn.execute(sql.SQL(LOCK).format(table=table))
        conn.execute(sql.SQL(WIDEN).format(table=table, changes=sql.SQL(", ").join(changes)))
    log.info(
        "columns_widened",
        table=stream.table,
        columns={field.name: field.sql_type for field in fields},
        duration_ms=(time.monotonic() - started_s) * 1000,
    )
