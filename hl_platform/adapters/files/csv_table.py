"""CSV, plain or gzipped. DuckDB finds out its dialect; Python's own reader reads it.

DuckDB's reader could do both, but leaves out a line that it cannot read, tells its number when all is over, and
counts no lines: the file of rejected rows could not say where a row was.
"""

import csv
import glob
import gzip
import io
import zlib
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import IO, NamedTuple

import duckdb

from hl_platform.adapters.files.duck import open_duckdb
from hl_platform.adapters.files.table import TableRow, unreadable
from hl_platform.core.errors import ConfigError, PoisonRecordError

SNIFF = """
-- sniff_csv: how a file separates and quotes
select Delimiter, Quote, Escape from sniff_csv($path, ignore_errors = true, strict_mode = $strict)
"""
# How DuckDB writes that there is no such character.
NONE = "(empty)"
BOM_UTF16 = (b"\xff\xfe", b"\xfe\xff")
# A quote that is never closed would take the rest of the file into one cell.
MAX_CELL_CHARS = 131_072
# Among which the header is, and most of which have as many cells as it.
FIRST_ROWS = 100
DELIMITERS = (",", ";", "\t", "|")
HEAD_LINES = 20
# Of something that is no text and has no lines.
MAX_LINE_CHARS = 1_000_000
WRONG_ENCODING = " Write it in UTF-8: iconv -f utf-16 -t utf-8 FILE."

csv.field_size_limit(MAX_CELL_CHARS)


class Dialect(NamedTuple):
    """How a file is written.

    Args:
        delimiter: between cells.
        quote: around cells.
        escape: before a quote within a cell; None where the quote is doubled.
    """

    delimiter: str
    quote: str
    escape: str | None


class CsvTable:
    """A CSV file whose first row names the columns; notes above it, of other numbers of cells, are none.

    Args:
        path: of the file; gzipped if it ends in `.gz`.
        delimiter: between its cells; None to find out.

    Raises:
        ConfigError: it cannot be read, or has no header.
    """

    def __init__(self, path: Path, delimiter: str | None) -> None:
        self.path = path
        self._size = max(1, path.stat().st_size)
        self._raw: IO[bytes] | None = None
        self._share = 0.0
        self._dialect = _find_dialect(path, delimiter)
        self.delimiter = self._dialect.delimiter
        first = [record.cells for record in islice(self._records(), FIRST_ROWS)]
        if not first:
            raise ConfigError(f"{path} is empty. Its first row names the columns.")
        [(n_columns, _)] = Counter(map(len, first)).most_common(1)
        self._n_notes = next(n for n, cells in enumerate(first) if len(cells) == n_columns)
        self.columns: Sequence[str] = [name.strip() for name in first[self._n_notes]]

    @property
    def share(self) -> float:
        """How much of it the last iterator has read, from 0 to 1."""
        if self._raw is not None and not self._raw.closed:
            self._share = min(1.0, self._raw.tell() / self._size)
        return self._share

    def rows(self) -> Iterator[TableRow]:
        """Its rows, in the order of the file; blank lines are none.

        Raises:
            ConfigError: it cannot be read on.
        """
        n_columns = len(self.columns)
        for record in islice(self._records(), self._n_notes + 1, None):
            n_cells = len(record.cells)
            if n_cells == n_columns or record.fault is not None:
                yield record
            else:
                detail = f"{n_cells} cells, and {n_columns} columns"
                yield record._replace(fault=PoisonRecordError("not_csv", detail))
        self._share = 1.0

    def _records(self) -> Iterator[TableRow]:
        try:
            with self.path.open("rb") as self._raw, _text_of(self._raw, self.path) as text:
                yield from self._read(_Lines(text))
        except (OSError, EOFError, zlib.error) as exc:
            raise unreadable(self.path, exc) from exc

    def _read(self, lines: "_Lines") -> Iterator[TableRow]:
        dialect = self._dialect
        reader = csv.reader(
            lines,
            delimiter=dialect.delimiter,
            quotechar=dialect.quote,
            escapechar=dialect.escape,
            doublequote=dialect.escape is None,
            strict=True,
        )
        line = 1
        while True:
            lines.taken.clear()
            try:
                cells = next(reader)
            except StopIteration:
                return
            except csv.Error as exc:
                yield TableRow(line, [lines.give_back()], PoisonRecordError("not_csv", str(exc)))
                line += 1
                continue
            if cells:
                yield TableRow(line, cells)
            line += len(lines.taken)


class _Lines:
    """Lines for a reader, of which those behind a faulty one can be read again.

    A quote that is not closed takes the lines behind it into its cell: one line is at fault, not all of them.
    """

    def __init__(self, text: io.TextIOBase) -> None:
        self._text = text
        self._again: deque[str] = deque()
        self.taken: list[str] = []

    def __iter__(self) -> "_Lines":
        return self

    def __next__(self) -> str:
        line = self._again.popleft() if self._again else self._text.readline(MAX_LINE_CHARS)
        if not line:
            raise StopIteration
        self.taken.append(line)
        return line

    def give_back(self) -> str:
        """The first line taken since `taken` was cleared; the others come again."""
        first, *others = self.taken
        self._again.extendleft(reversed(others))
        return first.rstrip("\r\n")


def _text_of(raw: IO[bytes], path: Path) -> io.TextIOWrapper:
    binary = gzip.GzipFile(fileobj=raw) if path.suffix == ".gz" else raw
    # What is no UTF-8 is one row's fault; written again, it is the same bytes.
    return io.TextIOWrapper(binary, encoding="utf-8-sig", errors="surrogateescape", newline="")


def _find_dialect(path: Path, delimiter: str | None) -> Dialect:
    with path.open("rb") as file:
        if file.read(2) in BOM_UTF16:
            raise ConfigError(f"{path} is in UTF-16.{WRONG_ENCODING}")
    if delimiter is not None:
        return Dialect(delimiter, '"', None)
    found = _sniff(path, strict=True) or _sniff(path, strict=False)
    with path.open("rb") as raw, _text_of(raw, path) as text:
        head = "".join(text.readline(MAX_LINE_CHARS) for _ in range(HEAD_LINES))
    if found is None or found.delimiter not in head:
        # A file with faults in its first rows: what separates most often separates.
        return Dialect(max(DELIMITERS, key=head.count), '"', None)
    return found


def _sniff(path: Path, *, strict: bool) -> Dialect | None:
    """What DuckDB finds; None if it finds nothing that fits."""
    try:
        with open_duckdb() as duck:
            # A name may look like a pattern.
            values = {"path": glob.escape(str(path)), "strict": strict}
            found = duck.execute(SNIFF, values).fetchone()
    except duckdb.Error:
        return None
    assert found is not None  # noqa: S101 - the function returns a row or raises
    separator, quote, escape = (None if value == NONE else value for value in found)
    if separator is None or quote == separator:
        return None
    # One that is only doubled is not set apart, and a file may have its first quote behind what was looked at.
    return Dialect(separator, quote or '"', escape if escape not in (None, quote) else None)
