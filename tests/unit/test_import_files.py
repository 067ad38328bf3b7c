"""Files are read row by row, with their lines, whatever is in them."""

import gzip
from pathlib import Path

import duckdb
import pytest

from hl_platform.adapters.files.opening import open_table
from hl_platform.adapters.files.rejected import RejectedRows
from hl_platform.core.errors import ConfigError, HlError, PoisonRecordError


def written(path: Path, text: str | bytes) -> Path:
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def found(path: Path) -> list[tuple[int, list[str], bool]]:
    return [(row.line, list(row.cells), row.fault is None) for row in open_table(path).rows()]


def test_rows_have_the_line_that_an_editor_shows(tmp_path: Path):
    path = written(tmp_path / "a.csv", 'a,b\n1,"x\ny"\n\n2,z\r\n3,w')
    assert found(path) == [(2, ["1", "x\ny"], True), (5, ["2", "z"], True), (6, ["3", "w"], True)]


@pytest.mark.parametrize("separator", [";", "\t", "|", ","])
def test_the_separator_is_found(tmp_path: Path, separator: str):
    text = "\n".join(separator.join(cells) for cells in (["a", "b"], ["1", "2"], ["3", "4"]))
    assert found(written(tmp_path / "a.csv", text))[0] == (2, ["1", "2"], True)


def test_faults_at_the_beginning_do_not_hide_the_separator(tmp_path: Path):
    path = written(tmp_path / "a.csv", 'a,b\n1,"x\ny"\n1,2,3\n4,"5\n6,7\n')
    assert [ok for _, _, ok in found(path)] == [True, False, False, True]


@pytest.mark.parametrize("name", ["a[1].csv", "a*.csv", "a?.parquet"])
def test_a_name_is_no_pattern(tmp_path: Path, name: str):
    plain = written(tmp_path / "a1.csv", "a,b\n1,2\n")
    if name.endswith(".parquet"):
        duckdb.sql("select 7 as a").write_parquet(str(tmp_path / "ab.parquet"))
        duckdb.sql("select '1' as a, '2' as b").write_parquet(str(tmp_path / "plain.parquet"))
        plain = tmp_path / "plain.parquet"
    rows = open_table(plain.rename(tmp_path / name)).rows()
    assert [tuple(row.cells) for row in rows] == [("1", "2")]


def test_notes_above_the_header_are_none_of_it(tmp_path: Path):
    path = written(tmp_path / "a.csv", "Exported by a meter\n\na,b\n1,2\n3,4\n")
    assert found(path) == [(4, ["1", "2"], True), (5, ["3", "4"], True)]


def test_a_byte_order_mark_is_no_part_of_a_name(tmp_path: Path):
    assert open_table(written(tmp_path / "a.csv", b"\xef\xbb\xbfa,b\n1,2\n")).columns == ["a", "b"]


def test_gzipped_rows_are_the_same(tmp_path: Path):
    path = written(tmp_path / "a.csv.gz", gzip.compress(b"a,b\n1,2\n"))
    assert found(path) == [(2, ["1", "2"], True)]


def test_a_quote_that_is_not_closed_costs_one_line(tmp_path: Path):
    path = written(tmp_path / "a.csv", 'a,b\n1,2\n3,"4\n5,6\n7,8\n')
    assert found(path) == [
        (2, ["1", "2"], True),
        (3, ['3,"4'], False),
        (4, ["5", "6"], True),
        (5, ["7", "8"], True),
    ]


def test_too_few_and_too_many_cells_are_faults(tmp_path: Path):
    path = written(tmp_path / "a.csv", "a,b\n1,2\n3\n4,5,6\n7,8\n")
    assert [ok for _, _, ok in found(path)] == [True, False, False, True]


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.csv", b"", "is empty"),
        ("a.csv", "a,b\n".encode("utf-16"), "UTF-16"),
        ("a.csv.gz", b"no gzip at all", "cannot be read"),
        ("a.parquet", b"no parquet", "cannot be read"),
        ("a.xlsx", b"PK", ".csv, .csv.gz and .parquet"),
    ],
)
def test_what_is_no_table_is_one_sentence(tmp_path: Path, name: str, content: bytes, said: str):
    with pytest.raises(ConfigError) as caught:
        list(open_table(written(tmp_path / name, content)).rows())
    assert said in str(caught.value)


def test_parquet_keeps_order_and_types(tmp_path: Path):
    path = tmp_path / "a.parquet"
    made = duckdb.sql(
        "select i, 'm' || i as name, timestamptz '2024-01-03 12:00:00Z' as at, 1.5::decimal(6,2) as d, "
        "i % 2 = 0 as b, null::double as gone, {'x': 1} as deep from range(5000) t(i)"
    )
    made.write_parquet(str(path))
    table = open_table(path)
    rows = list(table.rows())
    assert [row.line for row in rows] == list(range(1, 5001))
    assert rows[4999].cells == (4999, "m4999", 1704283200000000, 1.5, False, None, '{"x":1}')
    assert table.share == 1.0


def test_rejected_rows_can_be_read_again(tmp_path: Path):
    source = open_table(written(tmp_path / "a.csv", "a;b\n1;x,y\n2\n"))
    for _ in range(2):
        rejected = RejectedRows(tmp_path / "r.csv", source.columns, source.delimiter, append=False)
        for row in source.rows():
            rejected.write(row.line, row.fault or PoisonRecordError("invalid", "no number"), row.cells)
        rejected.close()
        # Again, with the columns that this file has.
        source = open_table(tmp_path / "r.csv", ";")
        assert source.columns == ["hl_line", "hl_reason", "hl_detail", "a", "b"]
        assert next(source.rows()).cells == ["2", "invalid", "no number", "1", "x,y"]


def test_bytes_that_are_no_text_are_rejected_as_they_were(tmp_path: Path):
    source = open_table(written(tmp_path / "a.csv", b"a,b\n1,\xff\n"))
    rejected = RejectedRows(tmp_path / "r.csv", source.columns, ",", append=False)
    for row in source.rows():
        rejected.write(row.line, PoisonRecordError("invalid", "no text"), row.cells)
    rejected.close()
    assert rejected.path.read_bytes().endswith(b"2,invalid,no text,1,\xff\n")


def test_without_rejected_rows_there_is_no_file(tmp_path: Path):
    rejected = RejectedRows(tmp_path / "r.csv", ["a"], ",", append=False)
    rejected.close()
    assert (rejected.used, rejected.path.exists()) == (False, False)


def test_rejected_rows_that_cannot_be_written_end_the_import(tmp_path: Path):
    rejected = RejectedRows(tmp_path / "gone" / "r.csv", ["a"], ",", append=False)
    with pytest.raises(HlError, match="--rejected"):
        rejected.write(1, PoisonRecordError("invalid", ""), ["1"])
