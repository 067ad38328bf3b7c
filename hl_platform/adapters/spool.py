"""A spool on disk: entries are appended durably at the end and leave at the front, across crashes and power cuts.

One SQLite database in a directory of its own. SQLite is what makes an append durable and a torn write harmless;
its exclusive lock keeps a second process out.
"""

import contextlib
import os
import sqlite3
import zlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import structlog

from hl_platform.adapters.durable import sync
from hl_platform.adapters.spool_rescue import READ, copy_readable
from hl_platform.core.errors import TransientError

log = structlog.get_logger()

FILE = "spool.db"
PAGE_BYTES = 4096
# Rows that are read at a time: enough to keep a producer busy, little memory.
CHUNK_ENTRIES = 500
# What was released is deleted with the next append, or when so many have gathered: a commit costs a sync.
DELETE_EVERY = 2_000
# By code: what else SQLite may raise says nothing about the file.
DAMAGE = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)

# synchronous=full: a commit has returned only when the disk has it. The log is folded into the database every
# 1,000 pages, so that the bound of the one bounds both.
PREPARE = """
pragma page_size = {page_bytes};
pragma auto_vacuum = incremental;
pragma locking_mode = exclusive;
pragma journal_mode = wal;
pragma synchronous = full;
pragma max_page_count = {max_pages};
create table if not exists entries (
    number integer primary key autoincrement, crc integer not null, payload blob not null
);
create table if not exists damaged (number integer primary key, crc integer not null, payload blob not null);
"""


class SpoolError(TransientError):
    """The disk failed, or the spool is in use elsewhere."""


class SpoolFullError(SpoolError):
    """The spool's bound is reached, or its disk is full."""


class SpoolDamagedError(SpoolError):
    """The file is no database any more, or a part of it cannot be read."""


class Frame(NamedTuple):
    """Entries that follow each other.

    Args:
        number: of the last one, to release them with.
        entries: in order.
    """

    number: int
    entries: list[bytes]


class Spool:
    """Entries on disk. One thread at a time.

    Guarantee: what `append` returned from is there after a crash or a power cut, in order, until it was released;
    of what it raised for, nothing is. What was released may come again after a crash. Damage is reported and
    kept, never passed over.

    Args:
        directory: made if need be, closed to others.
        max_bytes: bound of what it takes on disk.
        on_found: given the entries that are there already, in order, to read to the end. Where reading them raises,
            they are given anew: once the file is mended, or to who is told at the next try.
        on_damage: told, for a person, of what cannot be read.

    Raises:
        SpoolError: another process has it, or the directory cannot be used.
    """

    def __init__(
        self,
        directory: Path,
        *,
        max_bytes: int,
        on_found: Callable[[Iterable[bytes]], None],
        on_damage: Callable[[str], None],
    ) -> None:
        self.max_bytes = max_bytes
        self.n_waiting = 0
        self._max_pages = max(max_bytes // PAGE_BYTES, 16)
        self._path = directory / FILE
        self._on_damage = on_damage
        with self._translated():
            _make_private(directory)
            self._db = self._open()
        # (number, entries) of the frames that were taken and not released.
        self._out: deque[tuple[int, int]] = deque()
        self._taken = self._released = self._deleted = 0
        try:
            try:
                self._find(on_found)
            except SpoolDamagedError as exc:
                with self._translated():
                    self._replace_damaged(str(exc))
                self._find(on_found)
        except BaseException:
            self._db.close()
            raise

    @property
    def size_bytes(self) -> int:
        """What the entries take on disk.

        Raises:
            SpoolError: the disk failed.
        """
        with self._translated():
            (n_pages,) = self._db.execute("pragma page_count").fetchone()
            (n_free,) = self._db.execute("pragma freelist_count").fetchone()
        return int(n_pages - n_free) * PAGE_BYTES

    @property
    def is_empty(self) -> bool:
        """Whether everything was released."""
        return self.n_waiting == 0

    def append(self, entries: Sequence[bytes]) -> None:
        """Makes entries durable, all or none of them.

        Raises:
            SpoolFullError: the spool or its disk is full.
            SpoolError: the disk failed.
        """
        with self._translated(), self._transaction():
            self._delete_released()
            self._db.executemany(
                "insert into entries (crc, payload) values (?, ?)",
                ((zlib.crc32(entry), entry) for entry in entries),
            )
        self._deleted = self._released
        self.n_waiting += len(entries)

    def take(self) -> Frame | None:
        """The next entries that were not taken yet; None at the end.

        Raises:
            SpoolError: the disk failed.
        """
        while True:
            with self._translated():
                rows = self._db.execute(f"{READ} limit {CHUNK_ENTRIES}", (self._taken,)).fetchall()
            if not rows:
                return None
            entries = [payload for _, crc, payload in rows if zlib.crc32(payload) == crc]
            if len(entries) < len(rows):
                self._set_aside([number for number, crc, payload in rows if zlib.crc32(payload) != crc])
                self.n_waiting -= len(rows) - len(entries)
            # Not before: of what could not be set aside, the good entries are still to be taken.
            self._taken = rows[-1][0]
            if entries:
                self._out.append((self._taken, len(entries)))
                return Frame(self._taken, entries)

    def release(self, number: int) -> None:
        """Lets go of all entries up to this one, the number of a frame that was taken."""
        while self._out and self._out[0][0] <= number:
            self._released, n_entries = self._out.popleft()
            self.n_waiting -= n_entries
        if self.is_empty or self._released - self._deleted >= DELETE_EVERY:
            self.save()

    def save(self) -> None:
        """Deletes what was released, so that a restart does not repeat it. Never raises: it only repeats then."""
        try:
            with self._transaction():
                self._delete_released()
            self._deleted = self._released
            if self.is_empty:
                # As a script: `execute` would free one page and stop.
                self._db.executescript("pragma incremental_vacuum; pragma wal_checkpoint(truncate);")
        except sqlite3.Error as exc:
            log.warning("spool_not_trimmed", error=str(exc))

    def close(self) -> None:
        """Deletes what was released, and lets another process in."""
        self.save()
        self._db.close()

    def _find(self, on_found: Callable[[Iterable[bytes]], None]) -> None:
        n_found = 0

        def entries() -> Iterator[bytes]:
            nonlocal n_found
            while (frame := self.take()) is not None:
                n_found += len(frame.entries)
                yield from frame.entries

        self._taken = 0
        found = entries()
        on_found(found)
        # Whoever does not want to know them has not read them: they wait all the same.
        deque(found, maxlen=0)
        self._out.clear()
        self._taken = 0
        self.n_waiting = n_found

    def _open(self) -> sqlite3.Connection:
        if self._rescued.exists() and not self._path.exists():
            # A crash came between the two renames of `_replace_damaged`; a log that lies there is the other file's.
            _remove(self._path)
            self._rescued.rename(self._path)
        try:
            db = self._connect(self._path)
        except sqlite3.DatabaseError as exc:
            if not _is_damage(exc):
                raise
            # Half a rescue that a crash left would else be taken for a whole one, if we crash here, too.
            _remove(self._rescued)
            # Not a database any more: kept for whoever can read it, and a fresh one takes its place.
            kept = self._move_aside()
            self._on_damage(f"The spool could not be read and was set aside as {kept}: {exc}.")
            return self._connect(self._path)
        # What a crash left of a rescue. Not before: whoever holds the lock may be at it.
        _remove(self._rescued)
        return db

    def _replace_damaged(self, damage: str) -> None:
        """Saves what can be read into a fresh file that takes the place of the damaged one, which is kept.

        Guarantee: whenever it ends, all that it could read is in the file that the next one opens.
        """
        try:
            n_saved = self._rescue()
        except BaseException:
            # It would take up room; the damaged file has everything.
            _remove(self._rescued)
            raise
        self._db.close()
        kept = self._move_aside()
        self._rescued.rename(self._path)
        sync(self._path.parent)
        self._on_damage(
            f"{damage}. Of its entries {n_saved} could be read and go on to Kafka; the others are lost but for "
            f"what somebody finds in the damaged file, which is kept as {kept}."
        )
        self._db = self._connect(self._path)

    @property
    def _rescued(self) -> Path:
        return self._path.with_name(f"{self._path.name}.rescued")

    def _rescue(self) -> int:
        with contextlib.closing(self._connect(self._rescued)) as fresh:
            # Nobody relies on it before it is complete, and then it is synced. Without a log, since whether that was
            # folded in nobody would say. As large as the other, which may have been filled under a larger bound.
            fresh.executescript(
                f"pragma journal_mode = off; pragma synchronous = off; pragma max_page_count = {2**32 - 2};"
            )
            n_saved = copy_readable(self._db, fresh)
        sync(self._rescued)
        return n_saved

    def _move_aside(self) -> Path:
        kept = self._path.with_name(f"{self._path.name}.damaged-{os.getpid()}-{self._path.stat().st_ino}")
        self._path.rename(kept)
        for suffix in ("-wal", "-shm"):
            with contextlib.suppress(FileNotFoundError):
                Path(f"{self._path}{suffix}").rename(f"{kept}{suffix}")
        return kept

    def _connect(self, path: Path) -> sqlite3.Connection:
        # Not bound to the thread that opened it: one uses it at a time.
        db = sqlite3.connect(path, timeout=0, isolation_level=None, check_same_thread=False)
        try:
            db.executescript(PREPARE.format(page_bytes=PAGE_BYTES, max_pages=self._max_pages))
            # The exclusive lock is taken by the first write and kept until the end.
            db.execute("begin exclusive")
            db.execute("commit")
        except BaseException:
            db.close()
            raise
        return db

    def _delete_released(self) -> None:
        if self._released > self._deleted:
            self._db.execute("delete from entries where number <= ?", (self._released,))

    def _set_aside(self, numbers: Sequence[int]) -> None:
        with self._translated(), self._unbounded(), self._transaction():
            for number in numbers:
                for statement in (
                    "insert or ignore into damaged select * from entries where number = ?",
                    "delete from entries where number = ?",
                ):
                    self._db.execute(statement, (number,))
        self._on_damage(
            f"{len(numbers)} entries of the spool {self._path} are damaged; its table damaged keeps them."
        )

    @contextlib.contextmanager
    def _unbounded(self) -> Iterator[None]:
        """Else a full spool with a damaged entry could never be drained."""
        self._db.execute(f"pragma max_page_count = {2 * self._max_pages}")
        try:
            yield
        finally:
            self._db.execute(f"pragma max_page_count = {self._max_pages}")

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        self._db.execute("begin immediate")
        try:
            yield
            self._db.execute("commit")
        except BaseException:
            # A failed commit may have ended the transaction already.
            if self._db.in_transaction:
                self._db.execute("rollback")
            raise

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as exc:
            text = f"The spool {self._path}: {exc}"
            if _is_damage(exc):
                raise SpoolDamagedError(text) from exc
            code = _code_of(exc)
            if code == sqlite3.SQLITE_FULL:
                raise SpoolFullError(text) from exc
            if code == sqlite3.SQLITE_BUSY:
                raise SpoolError(f"The spool {self._path} is in use by another process.") from exc
            raise SpoolError(text) from exc
        except OSError as exc:
            raise SpoolError(f"The spool {self._path}: {exc.strerror or exc}") from exc


def _make_private(directory: Path) -> None:
    directory.mkdir(parents=True, mode=0o700, exist_ok=True)
    directory.chmod(0o700)


def _is_damage(error: sqlite3.Error) -> bool:
    return _code_of(error) in DAMAGE


def _code_of(error: sqlite3.Error) -> int | None:
    # What Python's own part raises has none. The lowest byte is the kind, the others say more.
    code = getattr(error, "sqlite_errorcode", None)
    return None if code is None else code & 0xFF


def _remove(path: Path) -> None:
    """Removes a database that nobody uses."""
    for suffix in ("", "-wal", "-shm"):
        Path(f"{path}{suffix}").unlink(missing_ok=True)
