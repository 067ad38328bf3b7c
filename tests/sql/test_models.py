"""The models do what their examples in dbt_like_sql/tests say, on a real PostgreSQL."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from dbt_like_sql.engine.example_runner import ExampleResult, run_examples
from dbt_like_sql.engine.examples import ExampleFile, load_examples, parse_examples
from dbt_like_sql.engine.project import Project, load_project
from hl_platform.adapters.postgres.database import SqlDatabase
from hl_platform.adapters.postgres.migrate import migrate
from hl_platform.stack.postgres import EmbeddedPostgres
from hl_platform.streams import load_streams
from tests.servers import temporary_database

FILES = load_examples()
PROJECT = load_project(load_streams())


@pytest.fixture(scope="module")
def db(postgres: EmbeddedPostgres) -> Iterator[SqlDatabase]:
    """A migrated database without models."""
    with temporary_database(postgres, "test_models") as database:
        migrate(database.url, None, PROJECT.streams.values())
        with closing(SqlDatabase(database.url, "test-models")) as made:
            yield made


def run(db: SqlDatabase, file: ExampleFile, project: Project = PROJECT) -> list[ExampleResult]:
    return list(run_examples(db, project, [file]))


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.model)
def test_a_built_in_model_does_what_its_examples_say(db: SqlDatabase, file: ExampleFile):
    assert [result for result in run(db, file) if not result.passed] == []


def test_every_built_in_model_of_buckets_has_an_example():
    # Views of costs read tariffs, which an example cannot give; tests/integration/test_cost.py has them.
    assert {file.model for file in FILES} == {name for name, model in PROJECT.models.items() if model.bucket}


WRONG = """
model: energy_hourly
tests:
  - name: wrong in two ways
    given:
      energy:
        - {device_id: m1, timestamp: "2026-06-01 10:55", total_energy_kwh: 1.0, power_kw: 2}
        - {device_id: m1, timestamp: "2026-06-01 11:05", total_energy_kwh: 2.0, power_kw: 4}
    expect:
      - {bucket: "2026-06-01 10:00", consumption_kwh: 0.7, n_readings: 1}
      - {bucket: "2026-06-01 12:00", consumption_kwh: 0.5}
"""


def test_a_failure_names_row_column_and_both_values(db: SqlDatabase):
    (result,) = run(db, parse_examples(WRONG, "wrong.yaml"))
    assert result.wrong == (
        ("2026-06-01 10:00:00+00:00", "consumption_kwh", "0.7", "0.5"),
        ("2026-06-01 12:00:00+00:00", "", "a row", "no row"),
        ("2026-06-01 11:00:00+00:00", "", "no row", "a row"),
    )


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "consumption_kwh: 0.7",
            "consumption: 0.7",
            "no column 'consumption'. Did you mean consumption_kwh?",
        ),
        ("power_kw: 2", "powr_kw: 2", "given.energy: there is no column 'powr_kw'. Did you mean power_kw"),
        ("      energy:", "      enery:", "energy_hourly reads no such thing. Did you mean energy?"),
        (
            "model: energy_hourly",
            "model: energy_horly",
            "key `model`: there is none. Did you mean energy_hourly",
        ),
    ],
)
def test_a_slip_in_an_example_is_named_with_what_is_meant(db: SqlDatabase, old: str, new: str, message: str):
    (result,) = run(db, parse_examples(WRONG.replace(old, new), "wrong.yaml"))
    assert result.error.startswith("wrong.yaml: ")
    assert message in result.error


def test_examples_leave_nothing_behind(db: SqlDatabase):
    things = "select oid::regclass::text from pg_class union all select oid::regprocedure::text from pg_proc"
    before = sorted(db.rows(things))
    run(db, parse_examples(WRONG, "wrong.yaml"))
    assert sorted(db.rows(things)) == before
    assert db.rows("select count(*) from hl.dirty") == [(0,)]


def test_examples_of_a_view_over_several_models(db: SqlDatabase, tmp_path: Path):
    (tmp_path / "heat_share.sql").write_text(
        "/*\nname: heat_share\ndescription: d\nmaterialization: view\ngrain: [day]\n"
        "columns:\n  day: Day\n  share: Share of the heat pump (1)\n*/\n"
        "select e.bucket as day, h.energy_kwh / e.consumption_kwh as share\n"
        "from {{ ref('energy_daily') }} as e\njoin {{ ref('heatpump_daily') }} as h on h.bucket = e.bucket\n"
    )
    text = (
        "model: heat_share\ntimezone: Europe/Berlin\ntests:\n  - name: a share\n    given:\n"
        "      energy_daily: [{device_id: m, bucket: 2026-01-01, consumption_kwh: 8}]\n"
        "      heatpump_daily: [{device_id: h, bucket: 2026-01-01, energy_kwh: 2}]\n"
        "    expect: [{day: 2026-01-01, share: 0.25}]\n"
    )
    project = load_project(PROJECT.streams, str(tmp_path))
    (result,) = run(db, parse_examples(text, "heat_share.yaml"), project)
    assert (result.error, result.wrong) == ("", ())
