"""`hl stream` and those of `hl sql` that need no server."""

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from dbt_like_sql.engine.project import load_project
from hl_platform.cli import main
from hl_platform.streams import load_streams


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "own"


def hl(folder: Path, *arguments: str, **env: str) -> Result:
    return CliRunner().invoke(main, arguments, env={"HL_DATA_DIR": str(folder.parent / "data"), **env})


def test_scaffold_writes_an_example_that_works_as_it_is(folder: Path):
    result = hl(folder, "stream", "scaffold", "solar", "--dir", str(folder))
    assert result.exit_code == 0, result.output
    assert [file.name for file in folder.iterdir()] == ["solar.toml"]
    kinds = {field.kind for field in load_streams(str(folder))["solar"].fields}
    assert kinds == {"counter", "gauge", "state", "label"}
    assert f"Set HL_STREAMS_DIR={folder}." in result.stdout


def test_scaffold_again_writes_the_models_of_what_was_edited(folder: Path):
    hl(folder, "stream", "scaffold", "solar", "--dir", str(folder))
    file = folder / "solar.toml"
    file.write_text(file.read_text().replace("power_kw", "watts"))
    result = hl(folder, "stream", "scaffold", "solar", HL_STREAMS_DIR=str(folder), HL_MODELS_DIR=str(folder))
    assert result.exit_code == 0, result.output
    project = load_project(load_streams(str(folder)), str(folder))
    assert "watts_mean" in project.models["solar_hourly"].columns
    assert len(list(folder.glob("solar_*.sql"))) == 5


def test_scaffold_takes_fields_from_the_command_line(folder: Path):
    fields = ("--field", "power_kw:gauge:kW", "--field", "on:state::boolean", "--field", "n:counter::integer")
    result = hl(folder, "stream", "scaffold", "car", "--dir", str(folder), *fields)
    assert result.exit_code == 0, result.output
    declared = [(f.name, f.kind, f.unit, f.type) for f in load_streams(str(folder))["car"].fields]
    assert declared == [
        ("power_kw", "gauge", "kW", "float"),
        ("on", "state", "", "boolean"),
        ("n", "counter", "", "integer"),
    ]
    assert (folder / "car_daily.sql").exists()


def test_scaffold_overwrites_nothing(folder: Path):
    arguments = ("stream", "scaffold", "car", "--dir", str(folder))
    hl(folder, *arguments, "--field", "power_kw:gauge:kW")
    own = "-- my own\n"
    (folder / "car_daily.sql").write_text(own)
    assert hl(folder, *arguments).exit_code == 0
    assert (folder / "car_daily.sql").read_text() == own
    refused = hl(folder, *arguments, "--field", "x:gauge")
    assert (refused.exit_code, "is there already" in refused.stderr) == (2, True)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("car",), "Say where to write: --dir DIRECTORY, or set HL_STREAMS_DIR."),
        (("car", "--dir", "{dir}", "--field", "x:gage"), "'gage' is no kind; allowed: gauge, counter"),
        (("car", "--dir", "{dir}", "--field", "X"), "cannot be read. Write it as NAME:KIND"),
        (("Car", "--dir", "{dir}"), "key `name`"),
    ],
)
def test_scaffold_says_what_is_wrong_and_writes_nothing(
    folder: Path, arguments: tuple[str, ...], message: str
):
    result = hl(folder, "stream", "scaffold", *(text.format(dir=folder) for text in arguments))
    assert result.exit_code == 2
    assert message in result.stderr
    assert not folder.exists()


def test_list_names_every_stream(folder: Path):
    result = hl(folder, "stream", "list", COLUMNS="200")
    assert [name for name in load_streams() if name not in result.stdout] == []


def test_compile_writes_every_model(folder: Path):
    result = hl(folder, "sql", "compile", "--output", str(folder))
    assert result.stdout == f"18 models written to {folder}.\n"
    assert "pieces" in (folder / "energy_hourly.sql").read_text()


def test_compile_shows_the_objects_of_a_model(folder: Path):
    result = hl(folder, "sql", "compile", "energy_hourly", "--objects")
    made = [
        name
        for name in ("hl.compute_", "hl.dirty_", "hl.events_", "public.")
        if f"{name}energy_hourly" in result.stdout
    ]
    assert len(made) == 4


def test_lineage_shows_a_column_down_to_the_readings(folder: Path):
    result = hl(folder, "sql", "lineage", "heatpump_daily.degree_days")
    assert "heatpump_status.actual_temp" in result.stdout


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("energy_dayly", "There is no model 'energy_dayly'. Did you mean energy_daily"),
        ("energy_daily.gap", "energy_daily has no column 'gap'."),
    ],
)
def test_lineage_of_what_is_not_there_names_what_is(folder: Path, name: str, message: str):
    result = hl(folder, "sql", "lineage", name)
    assert result.exit_code == 2
    assert message in result.stderr
