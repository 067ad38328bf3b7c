"""Rows as a Parquet file in memory, written by DuckDB."""

import tempfile
import threading
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import duckdb
import msgspec

from hl_platform.adapters.files.duck import open_duckdb
from hl_platform.core.errors import TransientError

# By PostgreSQL's own names of types. Times are instants; what has parts is its JSON, as text.
TYPES: Mapping[str, str] = {
    "float8": "DOUBLE",
    "int8": "BIGINT",
    "int2": "SMALLINT",
    "text": "VARCHAR",
    "bool": "BOOLEAN",
    "timestamptz": "TIMESTAMPTZ",
    "jsonb": "VARCHAR",
}
WRITE = """
-- write_parquet: lines of JSON as columns of declared types
copy (select {columns} from read_json({source}, format = 'newline_delimited', columns = {{{types}}}))
to {target} (format parquet, compression zstd)
"""
ROWS_AT_A_TIME = 1_000
# Each takes up to 256 MB, and the machine is small.
_ONE_AT_A_TIME = threading.Lock()


class Column(NamedTuple):
    """One column of a table.

    Args:
        sql_type: PostgreSQL's own name of it.
    """

    name: str
    sql_type: str


def parquet_of(columns: Sequence[Column], rows: Iterable[Sequence[object]]) -> bytes:
    """A Parquet file. Takes a while: call it in a thread.

    Args:
        columns: in order; their names are all different.
        rows: cells in the order of the columns; None for nothing, times aware or as ISO 8601 with offset.

    Raises:
        TransientError: the disk is full.
    """
    names = [column.name for column in columns]
    try:
        with _ONE_AT_A_TIME, tempfile.TemporaryDirectory(prefix="hl-parquet-") as folder:
            source, target = Path(folder) / "rows.json", Path(folder) / "rows.parquet"
            _write_lines(source, names, iter(rows))
            with open_duckdb() as db:
                db.execute(_statement(columns, source, target))
            return target.read_bytes()
    except (OSError, duckdb.IOException) as exc:
        raise TransientError(f"A table could not be written to {tempfile.gettempdir()}: {exc}") from exc


def _write_lines(path: Path, names: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    encoder = msgspec.json.Encoder()
    remaining = iter(rows)
    with path.open("wb") as file:
        while some := list(islice(remaining, ROWS_AT_A_TIME)):
            file.write(encoder.encode_lines([dict(zip(names, map(_cell, row), strict=True)) for row in some]))


def _cell(value: object) -> object:
    return msgspec.json.encode(value).decode() if isinstance(value, dict | list) else value


def _statement(columns: Sequence[Column], source: Path, target: Path) -> str:
    return WRITE.format(
        columns=", ".join(_quoted(column.name, '"') for column in columns),
        types=", ".join(f"{_quoted(one.name, chr(39))}: '{TYPES[one.sql_type]}'" for one in columns),
        source=_quoted(str(source), "'"),
        target=_quoted(str(target), "'"),
    )


def _quoted(text: str, mark: str) -> str:
    return f"{mark}{text.replace(mark, mark * 2)}{mark}"
