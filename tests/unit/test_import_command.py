"""`hl import` refuses files that it would replace before it has read them; nothing is connected to."""

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from hl_platform.cli import main

MENDED = "timestamp,device_id\n2026-01-01T00:00:00Z,mended\n"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two files, and the mended rows of the first."""
    monkeypatch.chdir(tmp_path)
    for name in ("a.csv", "b.csv", "a.csv.rejected.csv"):
        (tmp_path / name).write_text(MENDED)
    return tmp_path


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, ["import", *map(str, arguments)])


@pytest.mark.parametrize("names", [("a.csv", "a.csv.rejected.csv"), ("a.csv.rejected.csv", "b.csv", "a.csv")])
def test_mended_rows_are_not_imported_with_the_file_that_would_replace_them(
    folder: Path, names: tuple[str, ...]
):
    result = run(*names)
    assert result.exit_code == 2
    assert "rows of a.csv that are rejected would replace it. Import it by itself first" in result.output
    assert (folder / "a.csv.rejected.csv").read_text() == MENDED


def test_mended_rows_are_found_by_whatever_path(folder: Path):
    (folder / "link.csv").symlink_to("a.csv.rejected.csv")
    result = run(folder / "a.csv", "link.csv")
    assert (result.exit_code, "would replace it" in result.output) == (2, True)


def test_a_file_is_given_once(folder: Path):
    result = run("b.csv", folder / "b.csv")
    assert (result.exit_code, "is given twice. Give it once." in result.output) == (2, True)


def test_rejected_rows_of_two_files_never_go_to_one(folder: Path):
    (folder / "sub").mkdir()
    (folder / "sub" / "b.csv").write_text(MENDED)
    (folder / "sub" / "b.csv.rejected.csv").symlink_to("../b.csv.rejected.csv")
    result = run("b.csv", "sub/b.csv")
    assert result.exit_code == 2
    assert "Another file's rejected rows go to sub/b.csv.rejected.csv" in result.output


def test_rejected_rows_do_not_go_to_the_file_itself(folder: Path):
    result = run("b.csv", "--rejected", folder / "b.csv")
    assert (result.exit_code, "Name another place." in result.output) == (2, True)
