"""Between tables and archive files: what goes out, what comes back, and which files there are."""

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import date, datetime
from typing import Any, NamedTuple, Protocol

from dbt_like_sql.engine.database import BulkDatabase, Database
from hl_platform.core.archive import ArchivedFile, Column, Kind, WrittenFile, kind_of, schema_digest
from hl_platform.core.errors import InvariantError

COLUMNS = """
-- columns: of a table, with their types, in order
select attname, format_type(atttypid, null) from pg_attribute
where attrelid = to_regclass(%(table)s) and attnum > 0 and not attisdropped order by attnum
"""
FILES = """
-- files: registered ones, in order of time
select {fields} from hl.archives
where table_name = %(table_name)s and last_at >= %(start)s and first_at < %(end)s
order by day, part
"""
ALL_FILES = """
-- all_files: of a table, in order of time
select {fields} from hl.archives where table_name = %(table_name)s order by day, part
"""
FILES_OF = """
-- files_of: those that hold readings of a device, of days around a range
select {fields} from hl.archives
where table_name = %(table_name)s and devices @> array[%(device)s::text] and last_at >= %(start)s and first_at < %(end)s
order by day, part
"""
DAY_BEFORE = """
-- day_before: the last day before a moment that has readings of a device
select day from hl.archives
where table_name = %(table_name)s and devices @> array[%(device)s::text] and first_at < %(at)s and day < %(day)s
order by day desc limit 1
"""
DAY_AFTER = """
-- day_after: the first day from a moment on that has readings of a device
select day from hl.archives
where table_name = %(table_name)s and devices @> array[%(device)s::text] and last_at >= %(at)s and day > %(day)s
order by day limit 1
"""
FILES_OF_DAY = """
-- files_of_day: all parts of a day that hold readings of a device
select {fields} from hl.archives
where table_name = %(table_name)s and devices @> array[%(device)s::text] and day = %(day)s
order by part
"""
NEXT_PART = """
-- next_part: number of the next file of a day
select coalesce(max(part) + 1, 0) from hl.archives where table_name = %(table_name)s and day = %(day)s
"""
REGISTER = """
-- register: a file, together with what becomes of the rows that it holds
insert into hl.archives (table_name, day, part, path, n_rows, devices, first_at, last_at, sha256, rows_sha256,
                         schema_digest, version)
values (%(table_name)s, %(day)s, %(part)s, %(path)s, %(n_rows)s, %(devices)s, %(first_at)s, %(last_at)s, %(sha256)s,
        %(rows_sha256)s, %(schema_digest)s, %(version)s)
"""
SUMMARY = """
-- summary: of the rows that go into a file
select coalesce(array_agg(device_id order by device_id), '{{}}'), min(first_at), max(last_at),
    coalesce(sum(n), 0)::bigint
from (
    select device_id, min(timestamp) as first_at, max(timestamp) as last_at, count(*) as n from {rows}
    group by device_id
) as devices
"""
# Text in hexadecimal, so that no character of it means anything to a reader of CSV; x tells an empty one from null.
AS_LINES: Mapping[Kind, str] = {
    "text": "'x' || encode(convert_to({c}::text, 'UTF8'), 'hex')",
    "double": "{c}::float8",
    "bigint": "{c}::bigint",
    "boolean": "{c}::int",
    "time": "(extract(epoch from {c}) * 1000000)::bigint",
}
AS_BINARY: Mapping[Kind, str] = {
    "text": "{c}::text",
    "double": "{c}::float8",
    "bigint": "{c}::bigint",
    "boolean": "{c}",
    "time": "{c}",
}


class ArchiveFiles(Protocol):
    """The files; hl_platform.adapters.archive has the real ones.

    Raises from every method:
        ConfigError: a file is missing or damaged; the message names it.
        TransientError: the disk is full.
    """

    def write(
        self, table_name: str, day: date, part: int, columns: Sequence[Column], lines: Iterable[bytes]
    ) -> WrittenFile:
        """Writes a file and reads it back; it is on the disk when this returns."""
        ...

    def discard(self, written: WrittenFile) -> None:
        """Deletes a file that was not registered, and never will be."""
        ...

    def verify(self, file: ArchivedFile, columns: Sequence[Column]) -> None:
        """Returns when a file holds the rows that were archived."""
        ...

    def rows(
        self,
        files: Sequence[ArchivedFile],
        columns: Sequence[Column],
        device_ids: Sequence[str] | None = None,
        start: datetime | None = None,
        end: datetime | None = None,
        *,
        newest_first: bool = False,
        limit: int | None = None,
    ) -> Iterator[tuple[Any, ...]]:
        """Rows of files, by device and time; of two with the same key, that of the later part."""
        ...


class Written(NamedTuple):
    """A file that is written and not registered yet."""

    file: ArchivedFile
    written: WrittenFile
    version: str

    def register(self, db: Database) -> None:
        """Notes it, in the caller's transaction."""
        db.rows(REGISTER, {**self.file._asdict(), "version": self.version})


def table_columns(db: Database, table: str) -> list[Column]:
    """The columns of a table, as they are archived.

    Args:
        db: any connection.
        table: with its schema.
    """
    return [Column(str(name), kind_of(str(type_))) for name, type_ in db.rows(COLUMNS, {"table": table})]


def write_file(  # noqa: PLR0917 - what a file is made of
    db: BulkDatabase, files: ArchiveFiles, table_name: str, day: date, rows: str, version: str
) -> Written:
    """Writes a day's rows to a file.

    Args:
        db: in a transaction that sees the same rows throughout.
        files: where it is written.
        table_name: of the readings.
        day: in UTC.
        rows: what is written, as it stands behind `from`.
        version: of hl.

    Raises:
        InvariantError: what was read back is not what was written.
    """
    columns = table_columns(db, f"public.{table_name}")
    devices, first_at, last_at, n_rows = db.rows(SUMMARY.format(rows=rows))[0]
    part = int(db.rows(NEXT_PART, {"table_name": table_name, "day": day})[0][0])
    written = files.write(table_name, day, part, columns, db.copy_out(_copy(columns, AS_LINES, rows, "csv")))
    expected = hashlib.sha256()
    for portion in db.copy_out(_copy(columns, AS_BINARY, rows, "binary")):
        expected.update(portion)
    if (written.n_rows, written.rows_sha256) != (n_rows, expected.hexdigest()):
        raise InvariantError(
            f"Archive file {written.path} was read back with {written.n_rows:,} rows that are not the {n_rows:,} "
            "that were written. Nothing was dropped."
        )
    file = ArchivedFile(
        table_name,
        day,
        written.part,
        written.path,
        n_rows,
        list(devices),
        first_at,
        last_at,
        written.sha256,
        written.rows_sha256,
        schema_digest(columns),
    )
    return Written(file, written, version)


def registered(db: Database, query: str, **values: object) -> list[ArchivedFile]:
    """Files of one of the queries above."""
    fields = ", ".join(ArchivedFile._fields)
    return [ArchivedFile(*row) for row in db.rows(query.format(fields=fields), values)]


def _copy(columns: Sequence[Column], expressions: Mapping[Kind, str], rows: str, style: str) -> str:
    selected = ", ".join(expressions[column.kind].format(c=column.identifier) for column in columns)
    return f"copy (select {selected} from {rows} order by device_id, timestamp) to stdout (format {style})"
