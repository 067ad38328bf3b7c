"""Files hold what was written, to the bit, and damage is found."""

import struct
import time
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dbt_like_sql.engine.archive import write_file
from hl_platform.adapters.archive import ArchiveDirectory
from hl_platform.adapters.postgres.database import SqlDatabase
from hl_platform.core.archive import ArchivedFile, Column
from hl_platform.core.errors import ConfigError, TookTooLongError
from tests.archived import write_large_file
from tests.servers import Database

MAKE = (
    "create table sample (device_id text, timestamp timestamptz, value float8, n bigint, small smallint, flag boolean, "
    "note text, extra jsonb, primary key (device_id, timestamp))"
)
REGISTRY = "create schema hl; create table hl.archives (table_name text, day date, part integer)"
TEXT = st.text(st.characters(blacklist_characters="\0", blacklist_categories=["Cs"]), max_size=30)
DOUBLE = st.one_of(
    st.floats(allow_nan=False), st.sampled_from([-0.0, 5e-324, 1.7976931348623157e308, 0.1 + 0.2])
)
ROW = st.tuples(
    st.one_of(st.none(), DOUBLE),
    st.one_of(st.none(), st.integers(-(2**63), 2**63 - 1)),
    st.one_of(st.none(), st.integers(-(2**15), 2**15 - 1)),
    st.one_of(st.none(), st.booleans()),
    st.one_of(st.none(), TEXT),
)
KEY = st.tuples(
    TEXT.filter(bool),
    st.integers(-(2**51), 2**51).map(
        lambda us: datetime(2000, 1, 1, tzinfo=UTC) + timedelta(microseconds=us)
    ),
)


@pytest.fixture
def sample(database: Database) -> Iterator[SqlDatabase]:
    db = SqlDatabase(database.url, "test")
    db.rows(MAKE)
    db.rows(REGISTRY)
    yield db
    db.close()


def bits(row: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(struct.pack(">d", value) if isinstance(value, float) else value for value in row)


def written(db: SqlDatabase, files: ArchiveDirectory, rows: list[tuple[Any, ...]]) -> ArchivedFile:
    db.rows("truncate sample")
    db.copy_in("copy sample from stdin", rows)
    with db.transaction():
        return write_file(db, files, "sample", date(2024, 1, 1), "sample", "test").file


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.dictionaries(KEY, ROW, min_size=1, max_size=20))
def test_what_is_read_back_is_what_was_written_to_the_bit(
    sample: SqlDatabase, tmp_path: Path, content: dict[tuple[str, datetime], tuple[Any, ...]]
) -> None:
    files = ArchiveDirectory(tmp_path)
    file = written(sample, files, [(*key, *values, '{"a": 1}') for key, values in content.items()])
    columns = [
        Column("device_id", "text"), Column("timestamp", "time"), Column("value", "double"), Column("n", "bigint"),
        Column("small", "bigint"), Column("flag", "boolean"), Column("note", "text"),
    ]  # fmt: skip
    found = {row[:2]: bits(row[2:]) for row in files.rows([file], columns)}
    assert found == {key: bits(values) for key, values in content.items()}


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_numbers_that_are_none_are_kept(sample: SqlDatabase, tmp_path: Path, value: float) -> None:
    files = ArchiveDirectory(tmp_path)
    row = ("m1", datetime(2024, 1, 1, tzinfo=UTC), value, None, None, None, "", None)
    file = written(sample, files, [row])
    assert repr(list(files.rows([file], [Column("value", "double"), Column("note", "text")]))) == repr(
        [(value, "")]
    )


def test_a_damaged_file_is_named_and_not_read(sample: SqlDatabase, tmp_path: Path) -> None:
    files = ArchiveDirectory(tmp_path)
    file = written(sample, files, [("m1", datetime(2024, 1, 1, tzinfo=UTC), 1.5, 1, 1, True, "x", None)])
    path = tmp_path / file.path
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(ConfigError, match=f"{file.path} is damaged"):
        list(files.rows([file], [Column("value", "double")]))


def test_no_file_is_ever_overwritten(sample: SqlDatabase, tmp_path: Path) -> None:
    files = ArchiveDirectory(tmp_path)
    row = ("m1", datetime(2024, 1, 1, tzinfo=UTC), 1.5, 1, 1, True, "x", None)
    paths = [written(sample, files, [row]).path for _ in range(2)]
    assert paths == ["sample/2024/sample_20240101.parquet", "sample/2024/sample_20240101.1.parquet"]


def test_a_later_part_wins_over_an_earlier_one(sample: SqlDatabase, tmp_path: Path) -> None:
    files = ArchiveDirectory(tmp_path)
    at = datetime(2024, 1, 1, tzinfo=UTC)
    parts = [
        written(sample, files, [("m1", at + timedelta(hours=i), value, 1, 1, True, "x", None) for i in hours])
        for value, hours in ((1.0, (0, 1)), (2.0, (1, 2)))
    ]
    columns = [Column("timestamp", "time"), Column("value", "double")]
    assert [value for _, value in files.rows(parts, columns)] == [1.0, 2.0, 2.0]


def test_a_file_reads_null_for_a_column_that_is_younger(sample: SqlDatabase, tmp_path: Path) -> None:
    files = ArchiveDirectory(tmp_path)
    file = written(sample, files, [("m1", datetime(2024, 1, 1, tzinfo=UTC), 1.5, 1, 1, True, "x", None)])
    assert list(files.rows([file], [Column("n", "bigint"), Column("newer", "double")])) == [(1, None)]


def test_a_read_that_takes_too_long_is_given_up(tmp_path: Path) -> None:
    files = ArchiveDirectory(tmp_path)
    file = write_large_file(tmp_path, "sample", date(2024, 1, 1))
    columns = [Column("device_id", "text"), Column("timestamp", "time")]
    # What is checked already does not take of the time.
    files.check(file)
    with pytest.raises(TookTooLongError):
        list(files.rows([file], columns, by_time=True, limit=1, until_s=time.monotonic() + 0.05))
    assert len(list(files.rows([file], columns, by_time=True, limit=1))) == 1
