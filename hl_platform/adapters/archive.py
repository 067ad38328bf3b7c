"""Archive files: Parquet with zstd, written and read by DuckDB, exact to the bit."""

import errno
import hashlib
import tempfile
import threading
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb

from hl_platform.adapters.durable import sync
from hl_platform.core.archive import ArchivedFile, Column, Kind, WrittenFile, path_of, rows_sha256
from hl_platform.core.errors import ConfigError, InvariantError, TookTooLongError, TransientError

# One day is written at a time, beside everything else that a small machine does.
MEMORY_LIMIT = "256MB"
ROWS_AT_A_TIME = 10_000
BLOCK_BYTES = 1024 * 1024
# Whoever has overrun his time is interrupted again and again: a query that was not begun yet knows nothing of it.
INTERRUPT_AGAIN_S = 0.1
KEYS = (Column("device_id", "text"), Column("timestamp", "time"))
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

# How the lines of `copy_text` are read. Text comes in hexadecimal behind an x: so no byte of it means anything to
# a reader of CSV, and an empty text is not a missing one.
FROM_LINES: Mapping[Kind, tuple[str, str]] = {
    "text": ("VARCHAR", "decode(unhex(substr({c}, 2)))"),
    "double": ("VARCHAR", "{c}::DOUBLE"),
    "bigint": ("BIGINT", "{c}"),
    "boolean": ("BIGINT", "{c}::BOOLEAN"),
    "time": ("BIGINT", "make_timestamp({c})::TIMESTAMPTZ"),
}
TYPES: Mapping[Kind, str] = {
    "text": "VARCHAR",
    "double": "DOUBLE",
    "bigint": "BIGINT",
    "boolean": "BOOLEAN",
    "time": "TIMESTAMPTZ",
}


class ArchiveDirectory:
    """The files of an archive.

    Args:
        directory: made when the first file is written.

    Raises from every method:
        ConfigError: a file is missing or damaged, or the directory cannot be used; the message names it.
        TransientError: the disk is full.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        # What was checked in this process and has not been touched since: path to (size, mtime).
        self._checked: dict[str, tuple[int, int]] = {}

    def write(
        self, table_name: str, day: date, part: int, columns: Sequence[Column], lines: Iterable[bytes]
    ) -> WrittenFile:
        """Writes a file.

        Args:
            table_name: of the readings.
            day: in UTC.
            part: or the next one of which there is no file.
            columns: of the lines.
            lines: as the engine's archive.py writes them, in any portions.

        Guarantee: when it returns, the file is on the disk and was read back; no file was overwritten. An interruption
        leaves at most a file that nobody knows.
        """
        folder = self._directory / Path(path_of(table_name, day, part)).parent
        with _disk_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
        unique = uuid.uuid4().hex
        csv, unfinished = folder / f"{unique}.csv.part", folder / f"{unique}.parquet.part"
        try:
            with _disk_errors(folder):
                _write_lines(csv, lines)
            _to_parquet(csv, unfinished, columns)
            digest, n_rows = self._digest_of(unfinished, columns)
            with _disk_errors(folder):
                sync(unfinished)
                part = self._publish(unfinished, table_name, day, part)
                sync(folder)
                sync(folder.parent)
                path = path_of(table_name, day, part)
                return WrittenFile(path, part, n_rows, _sha256(self._directory / path), digest)
        finally:
            for leftover in (csv, unfinished):
                with suppress(FileNotFoundError):
                    leftover.unlink()

    def _publish(self, unfinished: Path, table_name: str, day: date, part: int) -> int:
        while True:
            try:
                (self._directory / path_of(table_name, day, part)).hardlink_to(unfinished)
            except FileExistsError:
                part += 1
            else:
                return part

    def discard(self, written: WrittenFile) -> None:
        """Deletes a file that was not registered, and never will be."""
        with _disk_errors(self._directory):
            (self._directory / written.path).unlink(missing_ok=True)

    def unknown(self, table_name: str, known: Iterable[str]) -> list[str]:
        """Paths of files of a table that are not among the known ones: left by an interruption."""
        found = (self._directory / table_name).glob("*/*.parquet")
        return sorted({str(path.relative_to(self._directory)) for path in found} - set(known))

    def check(self, file: ArchivedFile) -> None:
        """Returns when a file's bytes are those that were registered.

        Raises:
            ConfigError: they are not, or it is missing.
        """
        path = self._directory / file.path
        try:
            stat = path.stat()
            seen = (stat.st_size, stat.st_mtime_ns)
            if self._checked.get(file.path) == seen:
                return
            found = _sha256(path)
        except OSError as exc:
            raise ConfigError(
                f"Archive file {path} cannot be read: {exc.strerror}. Bring it back from a backup, or set "
                "HL_ARCHIVE__DIR to where the archive is."
            ) from exc
        if found != file.sha256:
            raise ConfigError(
                f"Archive file {path} is damaged: its SHA-256 is {found}, and {file.sha256} was registered. "
                "Bring it back from a backup."
            )
        self._checked[file.path] = seen

    def verify(self, file: ArchivedFile, columns: Sequence[Column]) -> None:
        """Returns when a file holds the rows that were archived, each read and compared.

        Args:
            file: which.
            columns: of its table; those that are younger than the file are left out.

        Raises:
            ConfigError: it does not.
        """
        self._checked.pop(file.path, None)
        self.check(file)
        path = self._directory / file.path
        there = _columns_of(path)
        digest, n_rows = self._digest_of(path, [column for column in columns if column.name in there])
        if (digest, n_rows) != (file.rows_sha256, file.n_rows):
            raise ConfigError(f"Archive file {path} holds other rows than were archived.")

    def rows(
        self,
        files: Sequence[ArchivedFile],
        columns: Sequence[Column],
        device_ids: Sequence[str] | None = None,
        start: datetime | None = None,
        end: datetime | None = None,
        *,
        by_time: bool = False,
        newest_first: bool = False,
        limit: int | None = None,
        after: str | None = None,
        until_s: float | None = None,
    ) -> Iterator[tuple[Any, ...]]:
        """Rows of files, checked before they are read; of two with the same key, that of the later part.

        Args:
            files: of one table.
            columns: what is wanted; None where a file does not have it.
            device_ids: None for all.
            start: inclusive.
            end: exclusive.
            by_time: in the order of time over all devices, not device by device.
            newest_first: time falls within a device.
            limit: of rows.
            after: of those at `start`, only what is of devices behind this one.
            until_s: by `time.monotonic()`, when to give up; None to read to the end.

        Raises:
            TookTooLongError: it was not read by then.
        """
        if not files:
            return
        for file in files:
            if until_s is not None and time.monotonic() > until_s:
                raise TookTooLongError(f"Archive file {file.path} was not reached in time.")
            self.check(file)
        # Of two readings with the same key one counts, whatever is asked for.
        keys = [key for key in KEYS if key not in columns]
        parts = " union all ".join(
            f"select {self._selected(file, [*keys, *columns])}, {file.part} as part from read_parquet(?)"  # noqa: S608
            for file in files
        )
        values: list[object] = [str(self._directory / file.path) for file in files]
        wanted = ["true"]
        if device_ids is not None:
            wanted.append(f"device_id in ({', '.join('?' for _ in device_ids) or 'NULL'})")
            values += device_ids
        for sign, moment in ((">=", start), ("<", end)):
            if moment is not None:
                wanted.append(f"timestamp {sign} make_timestamp(?)::TIMESTAMPTZ")
                values.append(_microseconds(moment))
        if start is not None and after is not None:
            wanted.append("(timestamp > make_timestamp(?)::TIMESTAMPTZ or device_id > ?)")
            values += [_microseconds(start), after]
        direction = "desc" if newest_first else "asc"
        order = f"timestamp {direction}, device_id" if by_time else f"device_id, timestamp {direction}"
        query = (
            f"select {_readable(columns)} from (select * from ({parts}) where {' and '.join(wanted)} "  # noqa: S608
            f"qualify row_number() over (partition by device_id, timestamp order by part desc) = 1) "
            f"order by {order}" + (f" limit {limit}" if limit is not None else "")
        )
        yield from _fetched(query, values, columns, until_s)

    def _selected(self, file: ArchivedFile, columns: Sequence[Column]) -> str:
        there = _columns_of(self._directory / file.path)
        return ", ".join(
            f"{column.identifier if column.name in there else 'NULL'}::{TYPES[column.kind]} as {column.identifier}"
            for column in columns
        )

    def _digest_of(self, path: Path, columns: Sequence[Column]) -> tuple[str, int]:
        # As it lies in the file: it was written in order.
        n_rows = 0

        def rows() -> Iterator[tuple[Any, ...]]:
            nonlocal n_rows
            query = f"select {_readable(columns)} from read_parquet(?)"  # noqa: S608
            with _connected() as conn:
                cursor = conn.execute(query, [str(path)])
                while some := cursor.fetchmany(ROWS_AT_A_TIME):
                    n_rows += len(some)
                    yield from some

        with _duckdb_errors(path):
            return rows_sha256(columns, rows()), n_rows


def _microseconds(moment: datetime) -> int:
    return (moment - EPOCH) // timedelta(microseconds=1)


def _write_lines(path: Path, lines: Iterable[bytes]) -> None:
    with path.open("wb") as file:
        for portion in lines:
            file.write(portion)


def _to_parquet(csv: Path, target: Path, columns: Sequence[Column]) -> None:
    selected = ", ".join(
        FROM_LINES[column.kind][1].format(c=f"c{n}") + f" as {column.identifier}"
        for n, column in enumerate(columns)
    )
    types = ", ".join(f"'c{n}': '{FROM_LINES[column.kind][0]}'" for n, column in enumerate(columns))
    query = (
        f"copy (select {selected} from read_csv({_literal(csv)}, header=false, delim=',', quote='', escape='', "  # noqa: S608
        f"nullstr='', auto_detect=false, columns={{{types}}})) "
        f"to {_literal(target)} (format parquet, compression zstd)"
    )
    with _duckdb_errors(target), _connected() as conn:
        conn.execute(query)


def _columns_of(path: Path) -> set[str]:
    with _duckdb_errors(path), _connected() as conn:
        return {
            str(name)
            for (name,) in conn.execute("select name from parquet_schema(?)", [str(path)]).fetchall()
        }


def _readable(columns: Sequence[Column]) -> str:
    # The driver would need another package to make times of its own kind.
    return ", ".join(
        f"epoch_us({column.identifier})" if column.kind == "time" else column.identifier for column in columns
    )


def _fetched(
    query: str, values: Sequence[object], columns: Sequence[Column], until_s: float | None
) -> Iterator[tuple[Any, ...]]:
    times = [n for n, column in enumerate(columns) if column.kind == "time"]
    with _duckdb_errors(Path(str(values[0]))), _connected() as conn, _interrupted(conn, until_s):
        cursor = conn.execute(query, list(values))
        while some := cursor.fetchmany(ROWS_AT_A_TIME):
            for found in some:
                row = list(found)
                for n in times:
                    row[n] = None if row[n] is None else EPOCH + timedelta(microseconds=row[n])
                yield tuple(row)


@contextmanager
def _connected() -> Iterator[duckdb.DuckDBPyConnection]:
    config = {
        "memory_limit": MEMORY_LIMIT,
        "threads": "1",
        "temp_directory": tempfile.gettempdir(),
        # Nothing is fetched from anywhere.
        "autoinstall_known_extensions": "false",
    }
    with duckdb.connect(":memory:", config=dict(config)) as conn:
        conn.execute("set timezone = 'UTC'")
        yield conn


@contextmanager
def _interrupted(conn: duckdb.DuckDBPyConnection, until_s: float | None) -> Iterator[None]:
    """Interrupts what a connection does from a time on, until the block ends."""
    if until_s is None:
        yield
        return
    ended = threading.Event()

    def watch() -> None:
        wait_s = max(0.0, until_s - time.monotonic())
        while not ended.wait(wait_s):
            conn.interrupt()
            wait_s = INTERRUPT_AGAIN_S

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        ended.set()
        watcher.join()


@contextmanager
def _duckdb_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except duckdb.InterruptException as exc:
        raise TookTooLongError(f"Archive file {path} was not read in time.") from exc
    except duckdb.OutOfMemoryException as exc:
        raise TransientError(f"Archive file {path}: {exc}") from exc
    except duckdb.IOException as exc:
        raise ConfigError(f"Archive file {path} cannot be read or written: {exc}") from exc
    except duckdb.Error as exc:
        raise InvariantError(f"Archive file {path}: {exc}") from exc


@contextmanager
def _disk_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as exc:
        if exc.errno in (errno.ENOSPC, errno.EDQUOT):
            raise TransientError(f"Archive file {path} cannot be written: {exc.strerror}.") from exc
        raise ConfigError(
            f"Archive file {path} cannot be written: {exc.strerror}. Set HL_ARCHIVE__DIR to a directory that "
            "you may write to."
        ) from exc


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(BLOCK_BYTES):
            digest.update(block)
    return digest.hexdigest()


def _literal(path: Path) -> str:
    return "'" + str(path).replace("'", "''") + "'"
