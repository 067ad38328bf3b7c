"""Archive files that are large enough for reading them to take its time."""

from datetime import UTC, date, datetime, timedelta
from hashlib import sha256
from pathlib import Path

import duckdb
import psycopg

from hl_platform.core.archive import ArchivedFile, path_of

N_ROWS = 1_000_000


def write_large_file(directory: Path, table_name: str, day: date) -> ArchivedFile:
    """A file of a day with a million readings of one device, which have nothing but their time."""
    first = datetime(day.year, day.month, day.day, tzinfo=UTC)
    path = directory / path_of(table_name, day, 0)
    path.parent.mkdir(parents=True)
    with duckdb.connect() as conn:
        conn.execute("set timezone = 'UTC'")
        conn.execute(
            f"copy (select 'm1' as device_id, '{first.isoformat()}'::timestamptz + to_microseconds(range * 80_000) "  # noqa: S608
            f"as timestamp from range({N_ROWS})) to '{path}' (format parquet)"
        )
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
    names, places = ", ".join(file._fields), ", ".join(["%s"] * len(file))
    with psycopg.connect(url) as conn:
        conn.execute(f"insert into hl.archives ({names}, version) values ({places}, 'test')".encode(), file)  # noqa: S608
        conn.execute(
            "insert into hl.floors (table_name, floor) values (%s, %s::date + interval '1 day')",
            [file.table_name, file.day],
        )
