"""Archive files that are large enough for reading them to take its time."""

from datetime import UTC, date, datetime, timedelta
from hashlib import sha256
from pathlib import Path

import duckdb
import psycopg

from dbt_like_sql.engine.archive import REGISTER
from hl_platform.core.archive import ArchivedFile, path_of

N_ROWS = 1_000_000


def write_large_file(directory: Path, table_name: str, day: date) -> ArchivedFile:
    """A file of a day with a million readings of one device, which have nothing but their time."""
    first = datetime(day.year, day.month, day.day, tzinfo=UTC)
    path = directory / path_of(table_name, day, 0)
    path.parent.mkdir(parents=True)
    with duckdb.connect() as conn:
        conn.execute("set timezone = 'UTC'")
        rows = (
            "select 'm1' as device_id, $first + to_microseconds(range * 80_000) as timestamp from range($n)"
        )
        conn.sql(rows, params={"first": first, "n": N_ROWS}).write_parquet(str(path))
    return ArchivedFile(
        table_name,
        day,
        0,
        path_of(table_name, day, 0),
        N_ROWS,
        ["m1"],
        first,
        first + timedelta(hours=23),
        sha256(path.read_bytes()).hexdigest(),
        "",
        "",
    )


def register(url: str, file: ArchivedFile) -> None:
    """Has a file read, and its table hold nothing of its day."""
    with psycopg.connect(url) as conn:
        conn.execute(REGISTER, {**file._asdict(), "version": "test"})
        conn.execute(
            "insert into hl.floors (table_name, floor) values (%s, %s::date + interval '1 day')",
            [file.table_name, file.day],
        )
