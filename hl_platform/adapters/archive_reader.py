"""Archived readings for queries, straight from the files."""

import time
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from hl_platform.adapters.archive import ArchiveDirectory
from hl_platform.adapters.postgres.connection import REQUEST, REQUEST_TIMEOUT_S, connect
from hl_platform.adapters.postgres.errors import translated
from hl_platform.core.archive import ArchivedFile, Column, kind_of
from hl_platform.core.readings import Reading
from hl_platform.core.streams import Stream

FILES = f"""
-- files: registered ones that hold readings of a range, and of a device
select {", ".join(ArchivedFile._fields)} from hl.archives
where table_name = %(table_name)s and last_at >= %(start)s and first_at < %(end)s
  and (%(devices)s::text[] is null or devices && %(devices)s::text[])
order by day, part
"""  # noqa: S608 - constants


class ArchiveReader:
    """Reads archived readings. Its methods block: call them in a thread.

    Args:
        url: of a role that may read `hl.archives`.
        directory: of the archive.

    Raises from every method:
        ConfigError: a file is missing or damaged; the message names it.
        TransientError: the database is away.
        TookTooLongError: the files could not be read within REQUEST_TIMEOUT_S.
    """

    def __init__(self, url: str, directory: Path) -> None:
        self._url = url
        self._files = ArchiveDirectory(directory)

    def raw(
        self,
        stream: Stream,
        start: datetime,
        end: datetime,
        limit: int,
        device_ids: Sequence[str] | None = None,
        *,
        after: str | None = None,
    ) -> list[Reading]:
        """The archived readings from `start` to before `end`, oldest first and by device, at most `limit`.

        Args:
            stream: whose they are.
            start: inclusive.
            end: exclusive.
            limit: of readings.
            device_ids: None for all.
            after: of the readings at `start`, only those of devices behind this one.

        A device's last archived reading, and what came late and is not absorbed yet, is in the table as well: where
        both are read, the table's row of a (device_id, timestamp) counts.
        """
        until_s = time.monotonic() + REQUEST_TIMEOUT_S
        with connect(self._url, application_name="hl-archive", parameters=REQUEST) as conn, translated():
            values = {
                "table_name": stream.table,
                "start": start,
                "end": end,
                "devices": None if device_ids is None else list(device_ids),
            }
            files = [ArchivedFile(*row) for row in conn.execute(FILES, values)]
        columns = [
            Column("device_id", "text"),
            Column("timestamp", "time"),
            Column("received_at", "time"),
            Column("extra", "text"),
            *(Column(field.name, kind_of(field.sql_type)) for field in stream.fields),
        ]
        readings: list[Reading] = []
        # Day by day: what is asked for first is mostly enough.
        for day in dict.fromkeys(file.day for file in files):
            parts = [file for file in files if file.day == day]
            left = limit - len(readings)
            rows = self._files.rows(
                parts,
                columns,
                device_ids,
                start,
                end,
                by_time=True,
                limit=left,
                after=after,
                until_s=until_s,
            )
            readings += [
                Reading(device_id, timestamp, tuple(values), extra, received_at)
                for device_id, timestamp, received_at, extra, *values in rows
            ]
            if len(readings) >= limit:
                break
        return readings
