"""Rows as Parquet."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import duckdb

from hl_platform.adapters.files.parquet_bytes import Column, parquet_of

AT = datetime(2026, 1, 3, 16, 0, 0, 123456, tzinfo=UTC)
COLUMNS = [
    Column("device_id", "text"),
    Column('it\'s "at"', "timestamptz"),
    Column("value", "float8"),
    Column("n", "int8"),
    Column("small", "int2"),
    Column("on", "bool"),
    Column("seconds", "jsonb"),
]


def read_back(
    columns: Sequence[Column], rows: Sequence[Sequence[object]], folder: Path
) -> tuple[object, object]:
    path = folder / "x.parquet"
    path.write_bytes(parquet_of(columns, rows))
    found = duckdb.sql(f"select * replace (epoch_us(#2) as {quoted(columns[1].name)}) from '{path}'")  # noqa: S608
    described = duckdb.sql(f"describe select * from '{path}'").fetchall()  # noqa: S608
    return found.fetchall(), [str(row[1]) for row in described]


def quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def test_every_value_comes_back_with_its_type(tmp_path: Path) -> None:
    elsewhere = AT.astimezone(timezone(timedelta(hours=5, minutes=30)))
    rows = [
        ('mèter, "1"\n', AT, 0.1 + 0.2, 2**62, 7, True, {"heat": 60.0}),
        ("", elsewhere, -1e-300, -(2**63), -7, False, None),
        ("null", elsewhere.isoformat(), None, None, None, None, '{"fw": 1}'),
    ]
    micros = int(AT.timestamp()) * 1_000_000 + 123_456
    found, types = read_back(COLUMNS, rows, tmp_path)
    assert types == [
        *("VARCHAR", "TIMESTAMP WITH TIME ZONE", "DOUBLE", "BIGINT", "SMALLINT", "BOOLEAN", "VARCHAR"),
    ]
    assert found == [
        ('mèter, "1"\n', micros, 0.1 + 0.2, 2**62, 7, True, '{"heat":60.0}'),
        ("", micros, -1e-300, -(2**63), -7, False, None),
        ("null", micros, None, None, None, None, '{"fw": 1}'),
    ]


def test_no_rows_are_columns_with_their_types(tmp_path: Path) -> None:
    found, types = read_back(COLUMNS, [], tmp_path)
    assert (found, len(types) if isinstance(types, list) else 0) == ([], len(COLUMNS))
