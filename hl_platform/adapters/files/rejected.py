"""The rows of a person's file that were not imported, in a file beside it."""

import csv
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import IO, Any

from hl_platform.core.errors import HlError, PoisonRecordError
from hl_platform.core.import_columns import REJECTED_COLUMNS


class RejectedRows:
    """Writes rejected rows as CSV, made when the first one comes: line, reason, detail, and the cells as they were.

    Not to the dead-letter topic: that holds what devices sent, for hl to keep for a year and to replay when hl or a
    declaration has changed. These rows are a person's, who has the file, and mends and imports them from here.

    Args:
        path: where to. The file can be imported again; the first three columns are ignored then.
        columns: of the file that the rows are from.
        delimiter: between its cells, so that a decimal comma reads the same here.
        append: whether to go on with a file that is there; else it is replaced.

    Raises from every method:
        HlError: it cannot be written.
    """

    def __init__(self, path: Path, columns: Sequence[str], delimiter: str, *, append: bool) -> None:
        self.path = path
        self._kept = [index for index, name in enumerate(columns) if name not in REJECTED_COLUMNS]
        self._columns = columns
        self._delimiter = delimiter
        self._append = append
        self._file: IO[str] | None = None

    @property
    def used(self) -> bool:
        """Whether there was a row to write."""
        return self._file is not None

    def write(self, line: int, fault: PoisonRecordError, cells: Sequence[Any]) -> None:
        """Adds a row."""
        # A row that was rejected before gets the newer reason. What is no row keeps what there is of it.
        if len(cells) == len(self._columns):
            cells = [cells[index] for index in self._kept]
        try:
            if self._file is None:
                self._open()
            self._row([line, fault.reason, fault.detail, *cells])
        except OSError as exc:
            raise self._failed(exc) from exc

    def close(self) -> None:
        """Brings everything to the file."""
        if self._file is not None:
            try:
                self._file.close()
            except OSError as exc:
                raise self._failed(exc) from exc

    def _open(self) -> None:
        goes_on = self._append and self.path.exists()
        self._file = self.path.open(
            "a" if goes_on else "w", encoding="utf-8", errors="surrogateescape", newline=""
        )
        if not goes_on:
            self._row([*REJECTED_COLUMNS, *(self._columns[index] for index in self._kept)])

    def _row(self, cells: Iterable[Any]) -> None:
        csv.writer(self._file, delimiter=self._delimiter, lineterminator="\n").writerow(cells)  # type: ignore[arg-type]

    def _failed(self, exc: OSError) -> HlError:
        return HlError(
            f"Rejected rows cannot be written to {self.path}: {exc.strerror}. Name another place: --rejected PATH."
        )
