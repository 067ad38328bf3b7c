"""Readings of any age: from their table, and from the archive what is no longer there."""

from collections.abc import Sequence
from datetime import datetime

from hl_live.threads import BoundedThreads
from hl_platform.adapters.archive_reader import ArchiveReader
from hl_platform.adapters.postgres.readings import ReadingQueries
from hl_platform.core.readings import Reading
from hl_platform.core.streams import Stream


class History:
    """Joins the table of readings and the archive.

    Args:
        queries: to the database.
        archive: the files.
        threads: to read them in.
    """

    def __init__(self, queries: ReadingQueries, archive: ArchiveReader, threads: BoundedThreads) -> None:
        self._queries = queries
        self._archive = archive
        self._threads = threads

    async def raw(
        self,
        stream: Stream,
        start: datetime,
        end: datetime,
        *,
        limit: int,
        device_ids: Sequence[str] | None = None,
        after: tuple[str, datetime] | None = None,
    ) -> list[Reading]:
        """The readings from `start` to before `end`, oldest first and by device, at most `limit`.

        Args:
            stream: whose they are.
            start: inclusive.
            end: exclusive.
            limit: of readings.
            device_ids: None for all.
            after: only what follows the reading of this device and time.

        Raises:
            TransientError: the database is away, or the query took too long, or too many read the archive.
            TookTooLongError: the archive holds too much of it to be read in time.
            ConfigError: a file of the archive is missing or damaged; the message names it.
        """
        device = None
        if after is not None and after[1] >= start:
            device, start = after
        # The table first: what retention takes out of it in between is in the archive when that is read.
        stored = await self._queries.raw(stream, start, end, limit=limit, device_ids=device_ids, after=device)
        floor = await self._queries.floor(stream)
        if floor is None or start >= floor:
            return stored
        archived = await self._threads.run(
            lambda: self._archive.raw(stream, start, min(end, floor), limit, device_ids, after=device)
        )
        known = {(reading.timestamp, reading.device_id): reading for reading in (*archived, *stored)}
        return [known[key] for key in sorted(known)[:limit]]
