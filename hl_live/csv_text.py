"""Tables as CSV (RFC 4180), for spreadsheets and data frames.

A first line with names, lines end with CR LF. Nothing is an empty cell, times are ISO 8601, and what has parts of its
own is JSON within its cell.
"""

import csv
import io
from collections.abc import Iterable, Sequence

import msgspec


def csv_of(names: Sequence[str], rows: Iterable[Sequence[object]]) -> bytes:
    """Lines of cells, below their names."""
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(names)
    writer.writerows([_cell(value) for value in row] for row in rows)
    return text.getvalue().encode()


def objects_of(names: Sequence[str], parts: Iterable[bytes]) -> Iterable[Sequence[object]]:
    """The values of encoded JSON objects, with commas between, in the order of names."""
    for part in parts:
        for one in msgspec.json.decode(b"[%b]" % part):
            yield [one.get(name) for name in names]


def _cell(value: object) -> object:
    match value:
        case None:
            return ""
        case str() | int() | float() if not isinstance(value, bool):
            return value
        case bool():
            return "true" if value else "false"
        case dict() | list():
            return msgspec.json.encode(value).decode()
        case _:
            return msgspec.to_builtins(value)
