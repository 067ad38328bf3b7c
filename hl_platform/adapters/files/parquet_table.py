"""Parquet, read by DuckDB."""

import glob
from collections.abc import Iterator, Sequence
from pathlib import Path

import duckdb

from hl_platform.adapters.files.duck import open_duckdb
from hl_platform.adapters.files.table import TableRow, unreadable

DESCRIBE = """
-- describe_parquet: its columns and their types
describe select * from read_parquet($path)
"""
COUNT = """
-- count_parquet: its rows, as its footer has them
select coalesce(sum(num_rows), 0)::bigint from parquet_file_metadata($path)
"""
CHUNK_ROWS = 2_000
# What Python has no fast or no own value for, as something that it has. Times with a zone become Unix times in
# microseconds, those without one stay a clock on a wall.
AS_NUMBER = ("DECIMAL", "FLOAT")
AS_TIME = ("DATE", "TIMESTAMP_S", "TIMESTAMP_MS", "TIMESTAMP_NS")
AS_IT_IS = (
    *("BOOLEAN", "TINYINT", "SMALLINT", "INTEGER", "BIGINT", "UTINYINT", "USMALLINT", "UINTEGER", "UBIGINT"),
    *("DOUBLE", "VARCHAR", "TIMESTAMP"),
)


class ParquetTable:
    """A Parquet file.

    Args:
        path: of the file.

    Raises:
        ConfigError: it cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        # A name may look like a pattern.
        self._pattern = glob.escape(str(path))
        # Of the file of rejected rows.
        self.delimiter = ","
        self._n_read = 0
        try:
            with open_duckdb() as duck:
                described = duck.execute(DESCRIBE, {"path": self._pattern}).fetchall()
                counted = duck.execute(COUNT, {"path": self._pattern}).fetchone()
        except duckdb.Error as exc:
            raise unreadable(path, exc) from exc
        self.columns: Sequence[str] = [name for name, *_ in described]
        self._expressions = ", ".join(_expression(name, type_) for name, type_, *_ in described)
        self._n_rows = counted[0] if counted else 0

    @property
    def share(self) -> float:
        """How much of it the last iterator has read, from 0 to 1."""
        return self._n_read / max(1, self._n_rows)

    def rows(self) -> Iterator[TableRow]:
        """Its rows, in the order of the file.

        Raises:
            ConfigError: it cannot be read on.
        """
        # The column names are quoted, and there is no other way to name them.
        query = f"select {self._expressions} from read_parquet($path)"  # noqa: S608
        self._n_read = 0
        with open_duckdb() as duck:
            try:
                found = duck.execute(query, {"path": self._pattern})
                while chunk := found.fetchmany(CHUNK_ROWS):
                    for n, cells in enumerate(chunk, self._n_read + 1):
                        yield TableRow(n, cells)
                    self._n_read += len(chunk)
            except duckdb.Error as exc:
                raise unreadable(self.path, exc) from exc


def _expression(name: str, type_: str) -> str:
    quoted = '"' + name.replace('"', '""') + '"'
    kind = type_.partition("(")[0]
    if kind == "TIMESTAMP WITH TIME ZONE":
        return f"epoch_us({quoted})"
    if kind in AS_NUMBER and not type_.endswith("[]"):
        return f"{quoted}::double"
    if kind in AS_TIME:
        return f"{quoted}::timestamp"
    if kind in AS_IT_IS:
        return quoted
    # Lists and structs as JSON, which `extra` can hold; all else as text.
    nested = type_.endswith("]") or kind in ("STRUCT", "MAP", "JSON")
    return f"to_json({quoted})::varchar" if nested else f"{quoted}::varchar"
