"""Readings as tables: what CSV and Parquet hold of them."""

import hashlib
from collections.abc import Iterator, Sequence
from datetime import datetime

import msgspec

from hl_live.formats import Table
from hl_live.schemas import StreamShapes, age_s
from hl_platform.adapters.files.parquet_bytes import Column
from hl_platform.core.readings import Reading


def readings_table(shapes: StreamShapes, readings: Sequence[Reading], names: Sequence[str]) -> Table:
    """Readings of the past with these fields, one a line."""

    def rows() -> Iterator[Sequence[object]]:
        return (shapes.cells(reading, names) for reading in readings)

    return Table(f"{shapes.stream.name}-raw", shapes.columns(names), rows)


def newest_table(
    shapes: StreamShapes, readings: Sequence[Reading], names: Sequence[str], now: datetime
) -> Table:
    """Newest readings with these fields and their age, one a line."""

    def rows() -> Iterator[Sequence[object]]:
        return ((*shapes.cells(reading, names), age_s(reading, now)) for reading in readings)

    # A stream may have a field of this name.
    age = "age_s" if "age_s" not in names else "reading_age_s"
    columns = [*shapes.columns(names), Column(age, "float8")]
    return Table(f"{shapes.stream.name}-latest", columns, rows)


def digest_of(readings: Sequence[Reading]) -> bytes:
    """Differs where readings do."""
    return hashlib.blake2b(msgspec.msgpack.encode(readings), digest_size=16).digest()
