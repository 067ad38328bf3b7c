"""Checks find what is wrong in deployed models, and only that."""

from collections.abc import Iterator
from contextlib import closing, suppress
from importlib import resources
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from dbt_like_sql.engine.checks import load_checks, run_checks
from dbt_like_sql.engine.deploy import columns_of, deploy
from dbt_like_sql.engine.model import Model
from dbt_like_sql.engine.project import load_project
from dbt_like_sql.engine.refresh import Refresher
from hl_platform.adapters.postgres.database import SqlDatabase
from hl_platform.adapters.postgres.migrate import migrate
from hl_platform.cli import main
from hl_platform.stack.lock import DataDirLock
from hl_platform.stack.postgres import EmbeddedPostgres
from hl_platform.stack.sql import RESTART
from hl_platform.streams import load_streams
from tests.servers import temporary_database

PROJECT = load_project(load_streams())
READINGS = """
insert into energy_readings (device_id, timestamp, total_energy_kwh, power_kw, received_at)
select 'm1', at, 100 + 0.1 * extract(epoch from at - now()) / 3600, 1, at
from generate_series(now() - interval '50 hours', now(), interval '5 minutes') as at
"""


@pytest.fixture(scope="module")
def url(postgres: EmbeddedPostgres) -> Iterator[str]:
    with temporary_database(postgres, "test_checks") as database:
        migrate(database.url, None, PROJECT.streams.values())
        with closing(SqlDatabase(database.url, "test-checks")) as db:
            deploy(db, PROJECT, "Europe/Berlin", "test")
            db.rows(READINGS)
        yield database.url


@pytest.fixture
def db(url: str) -> Iterator[SqlDatabase]:
    with closing(SqlDatabase(url, "test-checks")) as made:
        yield made


def hl(url: str, *arguments: str) -> Result:
    return CliRunner().invoke(
        main, arguments, env={"HL_DATABASE__URL": url, "HL_TIMEZONE": "Europe/Berlin", "COLUMNS": "200"}
    )


@pytest.mark.parametrize("model", PROJECT.models.values(), ids=lambda model: model.name)
def test_every_deployed_column_is_commented_and_every_comment_is_of_a_column(db: SqlDatabase, model: Model):
    schema = "materialized" if model.materialization == "function" else "public"
    assert sorted(model.columns) == sorted(columns_of(db, f"{schema}.{model.name}"))


def test_what_is_right_passes_all_checks_dirty_or_clean(db: SqlDatabase):
    assert [result for result in run_checks(db, PROJECT) if not result.passed] == []
    refresher = Refresher(db, PROJECT, "test")
    for model in PROJECT.aggregates():
        while refresher.refresh(model, limit=1000).n_marks:
            pass
    assert [result for result in run_checks(db, PROJECT) if not result.passed] == []


@pytest.mark.parametrize(
    ("check", "change"),
    [
        ("coverage_within_bucket", "covered_s = 3601"),
        ("no_negative_count", "n_readings = -1"),
        ("readings_within_bucket", "last_at = bucket_end"),
        ("mean_within_extremes", "power_kw_min = power_kw_sample_mean + 1"),
        ("gap_within_consumption", "gap_kwh = 200"),
        ("no_future_bucket", "bucket = bucket + interval '9 days'"),
    ],
)
def test_a_check_finds_what_is_wrong(db: SqlDatabase, check: str, change: str):
    where = "bucket < now() - interval '2 hours' and bucket > now() - interval '20 hours'"
    statement = f"update materialized.energy_hourly set {change} where {where}"  # noqa: S608 - our own words
    # What is above is computed from what is wrong, and may be wrong with it.
    assert found_after(db, statement, check)[0] == "energy_hourly"


def test_a_day_that_is_not_the_sum_of_its_hours_is_found(db: SqlDatabase):
    change = "update materialized.energy_daily set consumption_kwh = consumption_kwh + 1"
    assert found_after(db, change, "sums_of_the_level_below")[0] == "energy_daily"


def found_after(db: SqlDatabase, change: str, check: str) -> list[str]:
    """The models that a check finds fault with after a change, which is undone."""
    refresher = Refresher(db, PROJECT, "test")
    for model in PROJECT.aggregates():
        while refresher.refresh(model, limit=1000).n_marks:
            pass
    found: list[str] = []
    with suppress(ZeroDivisionError), db.transaction():
        db.rows(change)
        checks = [one for one in load_checks() if one.name == check]
        found = [result.model for result in run_checks(db, PROJECT, checks) if not result.passed]
        raise ZeroDivisionError
    return found


def test_hl_sql_run_materializes_what_is_dirty(db: SqlDatabase, url: str):
    result = hl(url, "sql", "run", "--model", "energy_daily", "--full")
    assert result.exit_code == 0, result.output
    assert "buckets materialized" in result.stdout
    again = hl(url, "sql", "run", "--model", "energy_daily")
    assert again.stdout == "No closed bucket was dirty.\n"
    assert db.rows("select count(*) > 0 from materialized.energy_daily") == [(True,)]


def test_hl_sql_run_full_computes_a_model_over_readings_anew(db: SqlDatabase, url: str):
    hl(url, "sql", "run")
    db.rows("update materialized.energy_hourly set n_readings = 99 where bucket < now() - interval '3 hours'")
    result = hl(url, "sql", "run", "--model", "energy_hourly", "--full")
    assert result.exit_code == 0, result.output
    assert "buckets materialized" in result.stdout
    assert db.rows("select count(*) from materialized.energy_hourly where n_readings = 99") == [(0,)]


def bring_mine(folder: Path) -> Path:
    """The file of a model of the household's own."""
    file = folder / "energy_mine.sql"
    file.write_text(source_of("energy_daily").replace("name: energy_daily", "name: energy_mine"), "utf-8")
    return file


def test_hl_sql_run_says_in_a_sentence_what_it_has_removed(
    db: SqlDatabase, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    file = bring_mine(tmp_path)
    monkeypatch.setenv("HL_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("HL_MODELS_DIR", str(tmp_path))
    hl(url, "sql", "run")
    db.rows("create view public.of_mine as select bucket from public.energy_mine")
    file.unlink()
    lock = DataDirLock(tmp_path)
    lock.acquire()
    try:
        first = hl(url, "sql", "run")
    finally:
        lock.release()
        db.rows("drop view public.of_mine")
    sentence = "Removed energy_mine. What reads it answers with an error from now on: of_mine."
    # A running hl still has it.
    assert first.output.splitlines()[:2] == [sentence, RESTART]
    assert hl(url, "sql", "run").output == "No closed bucket was dirty.\n"


def test_hl_sql_run_says_that_a_running_hl_is_to_be_restarted(
    db: SqlDatabase, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    bring_mine(tmp_path)
    monkeypatch.setenv("HL_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("HL_MODELS_DIR", str(tmp_path))
    lock = DataDirLock(tmp_path)
    lock.acquire()
    try:
        assert "run `hl down`, then `hl up`" in hl(url, "sql", "run").stdout
        # Nothing new, nothing to load.
        assert "hl down" not in hl(url, "sql", "run").stdout
    finally:
        lock.release()
    # Taken away again, and another time brought, while nothing runs.
    deploy(db, PROJECT, "Europe/Berlin", "test")
    result = hl(url, "sql", "run")
    assert "Deployed energy_mine" in result.stdout
    assert "hl down" not in result.stdout
    deploy(db, PROJECT, "Europe/Berlin", "test")


def source_of(name: str) -> str:
    return (resources.files("dbt_like_sql") / "models" / "energy" / f"{name}.sql").read_text("utf-8")


def test_hl_sql_test_runs_examples_and_checks(url: str):
    result = hl(url, "sql", "test", "--model", "energy_daily")
    assert (result.exit_code, result.stdout) == (0, "10 passed.\n"), result.output


def test_hl_sql_test_fails_with_the_rows_that_are_wrong(db: SqlDatabase, url: str):
    hl(url, "sql", "run")
    db.rows("update materialized.energy_daily set covered_s = -5")
    try:
        result = hl(url, "sql", "test", "--model", "energy_daily", "--only", "checks")
    finally:
        hl(url, "sql", "run", "--full", "--model", "energy_daily")
    assert result.exit_code == 1
    assert "failed coverage_within_bucket of energy_daily" in result.stdout
    assert "-5" in result.stdout


def test_without_a_database_the_remedy_is_said(tmp_path: Path):
    env = {"HL_DATA_DIR": str(tmp_path), "HL_DATABASE__URL": None}
    result = CliRunner().invoke(main, ["sql", "run"], env=env)
    assert (result.exit_code, result.stderr) == (
        2,
        "hl is not running. Start it with `hl up`, or set HL_DATABASE__URL.\n",
    )
