"""What an archive file holds, and how a row of it is told from any other."""

import hashlib
import struct
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import date, datetime
from typing import Any, Literal, NamedTuple

Kind = Literal["text", "double", "bigint", "boolean", "time"]

# Every other type is archived as PostgreSQL writes it.
KINDS: Mapping[str, Kind] = {
    "double precision": "double",
    "real": "double",
    "smallint": "bigint",
    "integer": "bigint",
    "bigint": "bigint",
    "boolean": "boolean",
    "timestamp with time zone": "time",
}
# Microseconds from 1970, which files and this module count from, to 2000, which PostgreSQL counts from.
TO_2000_US = 946_684_800_000_000
# Source: PostgreSQL manual, COPY, "Binary Format".
HEADER = b"PGCOPY\n\xff\r\n\0" + bytes(8)
TRAILER = b"\xff\xff"
NULL = b"\xff\xff\xff\xff"


class Column(NamedTuple):
    """A column of a table of readings, as it is archived."""

    name: str
    kind: Kind

    @property
    def identifier(self) -> str:
        """The name as SQL reads it."""
        return '"' + self.name.replace('"', '""') + '"'


class ArchivedFile(NamedTuple):
    """A registered file: readings of one table and one UTC day, by device and time.

    Args:
        table_name: of the readings.
        day: in UTC.
        part: 0 is what was dropped; later parts hold what came late, and win over earlier ones.
        path: relative to the archive's directory.
        n_rows: readings in it.
        devices: whose readings it holds, in order.
        first_at, last_at: times of the earliest and the latest reading.
        sha256: of the file's bytes.
        rows_sha256: of its rows in PostgreSQL's binary format.
        schema_digest: of the columns' names and kinds.
    """

    table_name: str
    day: date
    part: int
    path: str
    n_rows: int
    devices: list[str]
    first_at: datetime
    last_at: datetime
    sha256: str
    rows_sha256: str
    schema_digest: str


class WrittenFile(NamedTuple):
    """A file that was written, read back and found to hold what it should."""

    path: str
    part: int
    n_rows: int
    sha256: str
    rows_sha256: str


def kind_of(sql_type: str) -> Kind:
    """How a column of a PostgreSQL type is archived."""
    return KINDS.get(sql_type, "text")


def path_of(table_name: str, day: date, part: int) -> str:
    """Where a file lies, relative to the archive's directory."""
    suffix = f".{part}" if part else ""
    return f"{table_name}/{day:%Y}/{table_name}_{day:%Y%m%d}{suffix}.parquet"


def schema_digest(columns: Sequence[Column]) -> str:
    """Changes with the columns."""
    return hashlib.sha256(repr([tuple(column) for column in columns]).encode()).hexdigest()[:16]


def rows_sha256(columns: Sequence[Column], rows: Iterable[Sequence[Any]]) -> str:
    """SHA-256 of rows as PostgreSQL's binary COPY writes them.

    Args:
        columns: of the rows.
        rows: times as microseconds since 1970.
    """
    digest = hashlib.sha256(HEADER)
    encoders = [ENCODERS[column.kind] for column in columns]
    head = struct.pack(">h", len(columns))
    for row in rows:
        fields = [
            NULL if value is None else encode(value) for encode, value in zip(encoders, row, strict=True)
        ]
        digest.update(head + b"".join(fields))
    digest.update(TRAILER)
    return digest.hexdigest()


def _text(value: str) -> bytes:
    data = value.encode()
    return struct.pack(">i", len(data)) + data


ENCODERS: Mapping[Kind, Callable[[Any], bytes]] = {
    "text": _text,
    "double": lambda value: struct.pack(">id", 8, value),
    "bigint": lambda value: struct.pack(">iq", 8, value),
    "boolean": lambda value: struct.pack(">i?", 1, value),
    "time": lambda value: struct.pack(">iq", 8, value - TO_2000_US),
}
