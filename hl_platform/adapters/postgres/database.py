"""One connection for the engine of the SQL models."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, cast

import psycopg

from hl_platform.adapters.postgres.connection import NONE, connect
from hl_platform.adapters.postgres.errors import translated

# A refresh or a backfill sorts a device's day in memory; without this it goes to disk.
BULK: Mapping[str, str] = {"work_mem": "64MB", "jit": "off"}


class SqlDatabase:
    """A connection in autocommit mode, made when it is first used.

    Args:
        url: of the owner of hl's tables.
        application_name: shown in pg_stat_activity.
        parameters: of the server, for this session.

    Raises from every method:
        TransientError: the database is away; nothing of an open transaction was kept.
        ConfigError: an object is missing, or a right.
    """

    def __init__(self, url: str, application_name: str, parameters: Mapping[str, str] = NONE) -> None:
        self._url = url
        self._name = application_name
        self._parameters = parameters
        self._conn: psycopg.Connection | None = None

    def rows(self, query: str, values: Mapping[str, object] | None = None) -> list[tuple[Any, ...]]:
        """Runs a statement and returns its rows; `%(name)s` stands for a value only where values are given."""
        with translated():
            # Our own text, with names that were checked and with parameters for every value.
            cursor = self._connected().execute(cast("Any", query), values)
            return cursor.fetchall() if cursor.description is not None else []

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """A block whose statements are committed together, or not at all."""
        with translated(), self._connected().transaction():
            yield

    def copy_out(self, query: str) -> Iterator[bytes]:
        """What a `COPY … TO STDOUT` sends, in portions."""
        with translated(), self._connected().cursor() as cursor, cursor.copy(cast("Any", query)) as copy:
            for portion in copy:
                yield bytes(portion)

    def copy_in(self, query: str, rows: Iterable[Sequence[object]]) -> int:
        """Rows into a `COPY … FROM STDIN`; returns how many."""
        n_rows = 0
        with translated(), self._connected().cursor() as cursor, cursor.copy(cast("Any", query)) as copy:
            for row in rows:
                copy.write_row(row)
                n_rows += 1
        return n_rows

    def close(self) -> None:
        """Closes the connection; the next statement makes another."""
        if self._conn is not None:
            self._conn.close()
            self._conn = None

    def _connected(self) -> psycopg.Connection:
        if self._conn is None or self._conn.closed:
            self._conn = connect(self._url, application_name=self._name, parameters=self._parameters)
        return self._conn
