"""Import: the rows of a person's files go the way of every reading.

The path of one row, in this order; a crash anywhere and a second import change nothing that is stored:

1. It becomes the payload that a device would have sent, and is held to the same rules (`RowReader`).
2. What is wrong goes to the file of rejected rows, with its line and why.
3. The others are records on the stream's topic, as the bridge writes them, no faster than Kafka and the sink take
   them (`ImportSender`).
4. The sink stores them, or finds them stored.
"""

import threading
from collections.abc import Sequence
from typing import NamedTuple

from hl_platform.adapters.files.rejected import RejectedRows
from hl_platform.adapters.files.table import TableFile, TableRow
from hl_platform.core.errors import PoisonRecordError
from hl_platform.core.import_rows import ImportRecord, ImportTally, RowReader
from hl_platform.core.readings import IMPORT_OF
from hl_platform.pipeline.import_sender import ImportEndedError, ImportSender, Progress

# Rows between two reports of progress.
REPORT_EVERY = 1_000
# A path may be long; Kafka keeps a header with every record.
MAX_NAME_CHARS = 100


class Source(NamedTuple):
    """A file to import.

    Args:
        table: its rows.
        reader: makes records of them.
        rejected: takes those that are none; None to only count them.
    """

    table: TableFile
    reader: RowReader
    rejected: RejectedRows | None


class Ended(NamedTuple):
    """An import that ended before its files did.

    Args:
        why: for a person.
        skip: how many rows need not be read again; 0 if it is not known.
        at_the_end: whether all rows were sent, and only the sink has not passed them.
    """

    why: str
    skip: int
    at_the_end: bool


class Importer:
    """Imports files of one stream, one after the other.

    Args:
        sender: takes the records; None for a dry run.
        skip: rows, over all files, that are read and neither sent nor counted.
        stop: ends the work at the next row.
        progress: is told.

    Guarantee: every row behind `skip` is on Kafka, or rejected with its line and reason, or said not to be by `Ended`.
    """

    def __init__(
        self, sender: ImportSender | None, skip: int, stop: threading.Event, progress: Progress
    ) -> None:
        self._sender = sender
        self._skip = skip
        self._stop = stop
        self._progress = progress
        self._n_read = 0
        self.tally = ImportTally()

    def run(self, sources: Sequence[Source]) -> Ended | None:
        """Reads all files; returns why it ended before, or None.

        Raises:
            ConfigError: a file cannot be read on.
            HlError: Kafka has refused a record, or rejected rows cannot be written.
        """
        sizes = [source.table.path.stat().st_size for source in sources]
        at_the_end = False
        try:
            for index, source in enumerate(sources):
                self._run_file(
                    source, sum(sizes[:index]) / max(1, sum(sizes)), sizes[index] / max(1, sum(sizes))
                )
            at_the_end = True
            if self._sender is not None:
                self._sender.finish()
        except ImportEndedError as exc:
            has_all = self._sender is None or self._sender.drain()
            # The last row may not have been sent; sent twice, it changes nothing.
            done = self._n_read if at_the_end else max(0, self._n_read - 1)
            return Ended(str(exc), done if has_all else 0, at_the_end and has_all)
        finally:
            for source in sources:
                if source.rejected is not None:
                    source.rejected.close()
        return None

    def _run_file(self, source: Source, before: float, weight: float) -> None:
        headers = {IMPORT_OF: source.table.path.name[:MAX_NAME_CHARS].encode("utf-8", "replace")}
        for row in source.table.rows():
            self._n_read += 1
            if self._n_read % REPORT_EVERY == 0:
                self._progress.read(self._n_read, before + weight * source.table.share)
                if self._stop.is_set():
                    raise ImportEndedError("Stopped.")
            try:
                record = _judge(source.reader, row)
                if self._n_read > self._skip:
                    self._send(record, headers)
            except PoisonRecordError as fault:
                if self._n_read > self._skip:
                    self._reject(source, row, fault)
        self._progress.read(self._n_read, before + weight)

    def _send(self, record: ImportRecord, headers: dict[str, bytes]) -> None:
        if self._sender is not None:
            self._sender.send(record.device_id, record.value, headers)
        self.tally.add(record)

    def _reject(self, source: Source, row: TableRow, fault: PoisonRecordError) -> None:
        self.tally.reject(source.table.path.name, row.line, fault)
        if source.rejected is not None:
            source.rejected.write(row.line, fault, row.cells)


def _judge(reader: RowReader, row: TableRow) -> ImportRecord:
    if row.fault is not None:
        raise row.fault
    return reader.read(row.cells)
