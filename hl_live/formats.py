"""Answers that are tables, in the format that a request prefers: JSON, CSV or Parquet (RFC 9110, section 12.5.1)."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

from litestar import Request

from hl_live.csv_text import csv_of
from hl_live.problems import NotAcceptableError
from hl_platform.adapters.files.parquet_bytes import Column, parquet_of

JSON = "application/json"
CSV = "text/csv"
PARQUET = "application/vnd.apache.parquet"
# The first counts where a request does not care.
FORMATS = (JSON, CSV, PARQUET)
SUFFIXES = {CSV: "csv", PARQUET: "parquet"}
IN_FORMATS = f"JSON, or what `Accept` prefers of `{CSV}` and `{PARQUET}`."


class Table(NamedTuple):
    """An answer as a table.

    Args:
        name: of the file that a browser saves, without a suffix.
        columns: in order.
        rows: makes them, cell by cell; called in a thread.
    """

    name: str
    columns: Sequence[Column]
    rows: Callable[[], Iterable[Sequence[object]]]

    def body(self, media_type: str) -> bytes:
        """The table in one of the formats that are not JSON. Takes a while: call it in a thread.

        Raises:
            TransientError: the disk is full.
        """
        if media_type == PARQUET:
            return parquet_of(self.columns, self.rows())
        return csv_of([column.name for column in self.columns], self.rows())

    def disposition(self, media_type: str) -> str:
        """Content-Disposition: a browser saves it under this name."""
        return f'attachment; filename="{self.name}.{SUFFIXES[media_type]}"'


def media_type_of(request: Request[Any, Any, Any]) -> str:
    """The format that a request prefers; JSON where it does not care.

    Raises:
        NotAcceptableError: it wants none of those that there are.
    """
    header = request.headers.get("accept")
    if header is None or not header.strip():
        return JSON
    best = preferred(header)
    if best is None:
        raise NotAcceptableError(header, ", ".join(FORMATS))
    return best


def preferred(accept: str) -> str | None:
    """The format that an Accept header prefers; None if it takes none of them.

    Of those that it takes alike, the one that it names more exactly, then that which it names first.
    """
    wanted = [_wanted(part) for part in accept.split(",")]
    best: tuple[float, int, int] | None = None
    found = None
    for media_type in FORMATS:
        matching = [
            (_exactness(pattern), -place, quality)
            for place, (pattern, quality) in enumerate(wanted)
            if _matches(pattern, media_type)
        ]
        if not matching:
            continue
        # The most exact of the patterns that match says how much it is wanted.
        exactness, place, quality = max(matching)
        rank = (quality, exactness, place)
        if quality > 0 and (best is None or rank > best):
            best, found = rank, media_type
    return found


def _wanted(part: str) -> tuple[str, float]:
    pattern, *parameters = (one.strip().lower() for one in part.split(";"))
    for parameter in parameters:
        name, _, text = parameter.partition("=")
        if name.strip() == "q":
            return pattern, _quality(text)
    return pattern, 1.0


def _quality(text: str) -> float:
    try:
        quality = float(text)
    except ValueError:
        return 1.0
    return quality if 0 <= quality <= 1 else 1.0


def _matches(pattern: str, media_type: str) -> bool:
    return pattern in (media_type, "*/*", f"{media_type.partition('/')[0]}/*")


def _exactness(pattern: str) -> int:
    return 2 - pattern.count("*")
