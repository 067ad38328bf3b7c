"""What can still be read of a damaged spool, row by row around the pages that cannot."""

import itertools
import sqlite3
import zlib
from collections.abc import Iterator

# One bit may make a text of a blob, or nothing: their bytes are what the checksum judges.
READ = """
select number, cast(crc as integer), ifnull(cast(payload as blob), x'')
from entries where number > ? order by number
"""
# Rows that are copied at a time.
CHUNK_ENTRIES = 20_000
# Numbers are tried one by one behind what cannot be read, which finds each entry behind a bad leaf; then by ever
# larger steps, so that a bad inner page, with thousands to millions of entries below, ends in a second.
STEP_BY_ONE = 100
MAX_UNREADABLE_TRIES = 50_000


def copy_readable(damaged: sqlite3.Connection, fresh: sqlite3.Connection) -> int:
    """Copies all whole entries that can be read, under their numbers; returns how many.

    Args:
        damaged: where reading raises here and there.
        fresh: has the same tables, empty, and no bound.

    Raises:
        sqlite3.Error: the fresh one takes no more.
    """
    n_copied, rows = 0, _readable_rows(damaged)
    while chunk := list(itertools.islice(rows, CHUNK_ENTRIES)):
        fresh.execute("begin")
        fresh.executemany("insert into entries (number, crc, payload) values (?, ?, ?)", chunk)
        fresh.execute("commit")
        n_copied += len(chunk)
    return n_copied


def _readable_rows(damaged: sqlite3.Connection) -> Iterator[tuple[int, int, bytes]]:
    after = n_tries = 0
    while n_tries < MAX_UNREADABLE_TRIES:
        try:
            for number, crc, payload in damaged.execute(READ, (after,)):
                # What a bad page holds may look like an entry.
                if number > after and zlib.crc32(payload) == crc:
                    yield number, crc, payload
                    after, n_tries = number, 0
        except sqlite3.DatabaseError:
            n_tries += 1
            after += 1 + n_tries // STEP_BY_ONE
        else:
            return
