"""Brings archived readings back to be queried, into tables of their own.

Not into the table that they came from: there they would be late readings, and would be absorbed again. In schema
`restored` they touch no aggregate, no floor and no retention, and stay until somebody forgets them.
"""

from collections.abc import Callable, Sequence
from datetime import datetime

from dbt_like_sql.engine.archive import FILES, ArchiveFiles, registered, table_columns
from dbt_like_sql.engine.database import BulkDatabase
from hl_platform.core.archive import ArchivedFile

MAKE_TABLE = """
-- make_table: of restored readings, as the stream's own
create table if not exists restored.{table} (like public.{table} including comments, primary key (device_id, timestamp))
"""
MAKE_STAGE = "create temp table restored_stage (like public.{table}) on commit drop"
REPLACE = """
-- replace: what was restored before of the same key
insert into restored.{table} ({names}) select {names} from restored_stage
on conflict (device_id, timestamp) do update set ({names}) = row({excluded})
"""
TABLES = """
-- tables: of restored readings
select relname from pg_class where relnamespace = 'restored'::regnamespace and relkind = 'r' order by 1
"""


def restore(  # noqa: PLR0917 - what is brought back from where
    db: BulkDatabase,
    files: ArchiveFiles,
    table: str,
    start: datetime,
    end: datetime,
    devices: Sequence[str] | None = None,
    report: Callable[[int, int], None] | None = None,
) -> int:
    """Brings a range back into `restored.<table>`; returns how many readings.

    Args:
        db: as the owner of the tables.
        files: the archive.
        table: of readings.
        start: inclusive.
        end: exclusive.
        devices: None for all.
        report: told how many of how many days are done.

    Raises:
        ConfigError: a file is missing or damaged; what was restored before it stays.

    Guarantee: twice is as good as once; nothing but `restored.<table>` is changed.
    """
    db.rows(MAKE_TABLE.format(table=table))
    columns = table_columns(db, f"restored.{table}")
    names = ", ".join(column.identifier for column in columns)
    excluded = ", ".join(f"excluded.{column.identifier}" for column in columns)
    days: dict[object, list[ArchivedFile]] = {}
    for file in registered(db, FILES, table_name=table, start=start, end=end):
        days.setdefault(file.day, []).append(file)
    n_rows = 0
    for n, parts in enumerate(days.values(), 1):
        with db.transaction():
            db.rows(MAKE_STAGE.format(table=table))
            n_rows += db.copy_in(
                f"copy restored_stage ({names}) from stdin", files.rows(parts, columns, devices, start, end)
            )
            db.rows(REPLACE.format(table=table, names=names, excluded=excluded))
        if report is not None:
            report(n, len(days))
    return n_rows


def forget_restored(db: BulkDatabase) -> list[str]:
    """Drops all tables of restored readings; returns their names."""
    names = [str(name) for (name,) in db.rows(TABLES)]
    for name in names:
        db.rows(f"drop table restored.{name}")
    return names
