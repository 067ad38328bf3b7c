"""Every query of every dashboard runs as the role that may only read, and answers as its panel needs it."""

import json
import uuid
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import psycopg
import pytest

from dbt_like_sql.engine.project import Project
from hl_platform.adapters.postgres.connection import connect
from hl_platform.stack.grafana.files import grafana_files
from hl_platform.stack.grafana.health_dashboard import delay_now, delays
from hl_platform.stack.postgres import EmbeddedPostgres
from tests.grafana import household
from tests.grafana.expansion import Range, expand, queries_of
from tests.servers import Database, temporary_database

NUMBERS = {"int2", "int4", "int8", "float4", "float8", "numeric"}
SCALARS = NUMBERS | {"text", "bool", "timestamptz"}
RANGES = {
    "minute": timedelta(hours=1),
    "hour": timedelta(days=1),
    "day": timedelta(days=30),
    "month": timedelta(days=730),
}
DESIGN = (
    "SELECT time_bucket('5 minutes', timestamp) AS time, device_id, AVG(power_kw) FROM energy_readings "
    "WHERE timestamp > now() - interval '1 hour' GROUP BY 1, 2 ORDER BY 1"
)


class Answer(NamedTuple):
    """Columns by name, each with its PostgreSQL type, and the rows."""

    columns: dict[str, str]
    rows: list[tuple[Any, ...]]


class Reader(NamedTuple):
    """A Grafana that reads the household's database."""

    conn: psycopg.Connection
    project: Project

    def ask(self, sql: str, span: Range, values: Mapping[str, list[str]]) -> Answer:
        cursor = self.conn.execute(expand(sql, span, values).encode())
        assert cursor.description is not None
        types = {
            column.name: str(getattr(self.conn.adapters.types.get(column.type_code), "name", "?"))
            for column in cursor.description
        }
        assert len(types) == len(cursor.description), "two columns have the same name"
        return Answer(types, cursor.fetchall())

    def dashboards(self) -> list[dict[str, Any]]:
        files = grafana_files(self.project)
        return [json.loads(text) for name, text in files.items() if name.endswith(".json")]

    def variables(self, dashboard: Mapping[str, Any], span: Range) -> dict[str, list[str]]:
        """All values of each variable, the first column or the one that is named so."""
        values: dict[str, list[str]] = {}
        for variable in dashboard["templating"]["list"]:
            answer = self.ask(variable["query"], span, values)
            at = list(answer.columns).index("__value") if "__value" in answer.columns else 0
            values[variable["name"]] = [row[at] for row in answer.rows]
        return values


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    return household.load_household(tmp_path_factory.mktemp("streams"))


@pytest.fixture(scope="module")
def database(postgres: EmbeddedPostgres, project: Project) -> Iterator[Database]:
    with temporary_database(postgres, f"test_{uuid.uuid4().hex[:12]}") as database:
        household.make_household(database, project)
        yield database


@pytest.fixture(scope="module")
def reader(database: Database, project: Project) -> Iterator[Reader]:
    with connect(database.read_url, application_name="hl-test") as conn:
        yield Reader(conn, project)


def problems(kind: str, how: str, answer: Answer) -> list[str]:
    """What a panel of that type could not show."""
    types = list(answer.columns.values())
    if how == "time_series":
        return [*_problems_of_series(answer)]
    found = [f"{name} is {type_}" for name, type_ in answer.columns.items() if type_ not in SCALARS]
    if kind == "piechart" and types != ["text", "float8"]:
        found.append(f"a slice is a name and a number, not {types}")
    if kind == "stat" and (len(answer.rows) != 1 or not set(types) <= NUMBERS):
        found.append(f"a figure is one row of numbers, not {len(answer.rows)} of {types}")
    return found


def _problems_of_series(answer: Answer) -> Iterator[str]:
    first, *others = answer.columns.items()
    if first not in {("time", "timestamptz"), ("time", "numeric")}:
        yield f"the first column is {first}"
    values = [name for name, type_ in others if type_ in NUMBERS]
    if not values or [name for name, _ in others if name not in (*values, "metric")]:
        yield f"beside the time there are {others}"
    times = [row[0] for row in answer.rows]
    if times != sorted(times):
        yield "not sorted by time"
    keys = [row[:-1] if "metric" in answer.columns else row[:1] for row in answer.rows]
    if len(set(keys)) != len(keys):
        yield "two values for one time of one series"


@pytest.mark.parametrize("grain", RANGES)
def test_every_query_answers_as_its_panel_needs_it(reader: Reader, grain: str):
    span, found, n_empty = Range.last(RANGES[grain]), [], []
    for dashboard in reader.dashboards():
        values = reader.variables(dashboard, span)
        assert values.get("bucket", [grain]) == [grain]
        for title, repeat, kind, how, sql in queries_of(dashboard):
            for scoped in (
                [values] if repeat is None else [{**values, repeat: [one]} for one in values[repeat]]
            ):
                answer = reader.ask(sql, span, scoped)
                found += [(dashboard["uid"], title, problem) for problem in problems(kind, how, answer)]
                n_empty += [] if answer.rows else [(dashboard["uid"], title)]
    assert found == []
    # Nothing has been rejected in this household; everything else has something to show.
    assert n_empty == [("hl-pipeline-health", "Dead letters")]


def test_the_device_variable_has_all_devices_with_the_label_that_people_know(reader: Reader):
    shown = {}
    for dashboard in reader.dashboards():
        for variable in dashboard["templating"]["list"]:
            if variable["name"] == "device":
                shown[dashboard["uid"]] = reader.ask(
                    variable["query"], Range.last(timedelta(hours=1)), {}
                ).rows
    assert shown == {
        "hl-stream-energy": [("cellar", "cellar"), ("it's", "it's")],
        "hl-stream-heatpump": [("cellar", "cellar"), ("it's", "it's")],
        "hl-stream-temperature": [("kitchen (cellar)", "cellar"), ("kitchen (it's)", "it's")],
        "hl-stream-solar": [("south (cellar)", "cellar"), ("south (it's)", "it's")],
        "hl-stream-air": [("cellar", "cellar"), ("it's", "it's")],
    }


def test_a_database_without_devices_shows_empty_panels(reader: Reader):
    span = Range.last(timedelta(days=1))
    n_rows = [
        len(
            reader.ask(
                sql, span, {"device": [], "bucket": [bucket], "view": [view], "cost_view": [view]}
            ).rows
        )
        for dashboard in reader.dashboards()
        if dashboard["templating"]["list"]
        for _, _, _, _, sql in queries_of(dashboard)
        for bucket, view in (("minute", "hourly"), ("hour", "hourly"))
    ]
    assert set(n_rows) == {0}


@pytest.mark.parametrize(
    ("length", "span"), [("1 minute", timedelta(hours=2)), ("1 hour", timedelta(days=3))]
)
def test_bars_add_up_to_what_the_counter_moved(reader: Reader, length: str, span: timedelta):
    """The counter rises by 1 kWh an hour, so the bars add up to how long they are."""
    energy = reader.dashboards()[0]
    end = datetime.now(UTC) - timedelta(minutes=20)
    chosen = Range(end - span, end)
    values = {**reader.variables(energy, chosen), "device": ["it's"]}
    sql = next(sql for title, _, _, _, sql in queries_of(energy) if title == "Consumption")
    rows = reader.ask(sql, chosen, values).rows
    hours = reader.conn.execute(
        "select (extract(epoch from least(max(timestamp), %s + %s::interval) - %s) / 3600)::float8 "
        "from energy_readings where device_id = 'it''s'",
        (rows[-1][0], length, rows[0][0]),
    ).fetchone()
    assert rows[0][0] <= chosen.begin
    assert hours == (pytest.approx(sum(row[2] for row in rows)),)


@pytest.mark.parametrize(
    ("span", "read", "left"),
    [
        (timedelta(hours=6), "compute_energy_minutely", "materialized.energy_hourly"),
        (timedelta(hours=7), "energy_hourly", "compute_energy_minutely"),
    ],
    ids=["minutes", "hours"],
)
def test_only_the_level_that_fits_the_range_is_read(reader: Reader, span: timedelta, read: str, left: str):
    energy, chosen = reader.dashboards()[0], Range.last(span)
    values = reader.variables(energy, chosen)
    sql = next(sql for title, _, _, _, sql in queries_of(energy) if title == "Consumption")
    plan = "\n".join(row[0] for row in reader.ask(f"explain verbose {sql}", chosen, values).rows)
    assert (read in plan, left in plan) == (True, False)


def test_gaps_are_shown_apart_and_add_up_to_the_consumption(reader: Reader):
    energy, span = reader.dashboards()[0], Range.last(timedelta(days=3))
    values = {**reader.variables(energy, span), "device": ["cellar"]}
    by_title = {title: sql for title, _, _, _, sql in queries_of(energy)}
    parts = reader.ask(by_title["Consumption, gaps apart"], span, values)
    whole = reader.ask(by_title["Consumption"], span, values)
    assert list(parts.columns) == ["time", "measured", "in gaps"]
    assert any(row[2] > 0 for row in parts.rows)
    assert [row[1] + row[2] for row in parts.rows] == pytest.approx([row[2] for row in whole.rows])


def test_delays_are_those_of_the_histogram(reader: Reader, database: Database):
    # What was measured when the tests here began may be older than what counts as now.
    with connect(database.url, application_name="hl-test") as conn:
        conn.execute("update hl.delays set minute = date_trunc('minute', now())")
    span = Range.last(timedelta(hours=1))
    short, long = household.delays()
    short.merge(long.counts, long.max_ms)
    expected = [short.percentile(0.5), short.percentile(0.99)]
    now = reader.ask(delay_now(), span, {}).rows[0]
    by_minute = {metric: ms for _, metric, ms in reader.ask(delays(), span, {}).rows}
    # To MQTT and Kafka nothing was measured, nor to a frame.
    assert now == (*[None] * 4, pytest.approx(expected[0]), pytest.approx(expected[1]), None, None)
    assert by_minute == {
        "device_to_row p50": pytest.approx(expected[0]),
        "device_to_row p99": pytest.approx(expected[1]),
        "device_to_row max": short.max_ms,
    }


def test_health_tells_what_is_behind_and_what_does_not_balance(reader: Reader):
    health = reader.dashboards()[-1]
    by_title = {title: sql for title, _, _, _, sql in queries_of(health)}
    figures = {
        title: reader.ask(by_title[title], Range.last(timedelta(hours=1)), {}).rows[0][0]
        for title in ("Sinks behind bridges", "Alerts", "Accounts do not balance")
    }
    assert figures == {"Sinks behind bridges": 9, "Alerts": 1, "Accounts do not balance": 2}


def test_a_query_written_for_timescaledb_runs_unchanged(reader: Reader):
    rows = reader.conn.execute(DESIGN).fetchall()
    assert {(device, mean) for _, device, mean in rows} == {("cellar", 1.0), ("it's", 1.0)}
    assert {at.minute % 5 for at, _, _ in rows} == {0}
