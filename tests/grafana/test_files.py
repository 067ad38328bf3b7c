"""What `hl grafana` writes, and that what is committed is that."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import sqlglot
import yaml
from click.testing import CliRunner
from sqlglot import exp

from dbt_like_sql.engine.project import Project, load_project
from hl_platform.cli import main
from hl_platform.stack.grafana.files import grafana_files
from hl_platform.stack.grafana.panels import MAX_UID, UNITS, uid_of
from hl_platform.stack.grafana.queries import UP_TO_MS
from hl_platform.streams import load_streams
from tests.grafana import household
from tests.grafana.expansion import Range, expand, queries_of
from tests.grafana.test_queries import DESIGN, RANGES

COMMITTED = Path(__file__).parents[2] / "deploy" / "grafana"
HOUR_S = 3_600
# Minutes are computed of short ranges only. hl.before_… finds one reading by its key, which is no scan.
MINUTES = re.compile(r"compute_\w+_minutely")


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    return household.load_household(tmp_path_factory.mktemp("streams"))


def dashboards(project: Project) -> list[dict[str, Any]]:
    return [json.loads(text) for name, text in grafana_files(project).items() if name.endswith(".json")]


def queries(project: Project) -> Iterator[tuple[str, str]]:
    """(where, SQL) of every panel and variable."""
    for dashboard in dashboards(project):
        for title, _, _, _, sql in queries_of(dashboard):
            yield f"{dashboard['uid']}: {title}", sql
        for variable in dashboard["templating"]["list"]:
            yield f"{dashboard['uid']}: ${variable['name']}", variable["query"]


def scans_of_readings(sql: str, tables: set[str]) -> list[str]:
    """What in a query reads more than an hour of readings."""
    values = {"device": ["a", "b"], "bucket": ["minute"], "view": ["hourly"], "cost_view": ["hourly"]}
    found = []
    for select in sqlglot.parse_one(
        expand(sql, Range.last(RANGES["minute"]), values), dialect="postgres"
    ).find_all(exp.Select):
        own = [
            node
            for node in select.find_all(exp.Table, exp.Anonymous)
            if node.find_ancestor(exp.Select) is select
        ]
        names = {node.name for node in own}
        read = {name for name in names if name in tables or re.sub(r"_p\d{8}$|_older$", "", name) in tables}
        found += sorted(read) if read and not _within_an_hour(select) else []
        where = select.args["where"].sql("postgres") if "where" in select.args else ""
        computed = {name for name in names if name.startswith("compute_")}
        short = "'minute' = 'minute'" in where
        found += sorted(name for name in computed if not (short and MINUTES.fullmatch(name)))
    return found


def _within_an_hour(select: exp.Select) -> bool:
    """Whether a condition that must hold keeps `timestamp` above an hour ago."""
    where = select.args.get("where")
    for condition in (
        where.this.flatten() if where and isinstance(where.this, exp.And) else [where and where.this]
    ):
        if isinstance(condition, exp.GT | exp.GTE) and condition.this.name == "timestamp":
            limit = condition.expression
            if isinstance(limit, exp.Sub) and limit.expression.sql("postgres").upper() == "INTERVAL '1 HOUR'":
                return True
    return False


def test_no_query_scans_more_than_an_hour_of_readings(project: Project):
    tables = {stream.table for stream in project.streams.values()}
    assert [
        (where, scans_of_readings(sql, tables))
        for where, sql in queries(project)
        if scans_of_readings(sql, tables)
    ] == []


@pytest.mark.parametrize(
    ("sql", "found"),
    [
        (DESIGN, []),
        (DESIGN.replace("1 hour", "1 day"), ["energy_readings"]),
        ("select power_kw from energy_readings where $__timeFilter(timestamp)", ["energy_readings"]),
        ("select power_kw from public.energy_readings_p20260101", ["energy_readings_p20260101"]),
        (
            "select 1 from energy_readings where timestamp > now() - interval '1 hour' or device_id = 'a'",
            ["energy_readings"],
        ),
        (
            "select * from hl.compute_energy_minutely('a', $__timeFrom(), $__timeTo()) where true",
            ["compute_energy_minutely"],
        ),
        (
            "select * from hl.compute_energy_hourly('a', $__timeFrom(), $__timeTo())",
            ["compute_energy_hourly"],
        ),
    ],
)
def test_a_scan_of_readings_is_found(sql: str, found: list[str]):
    assert scans_of_readings(sql, {"energy_readings"}) == found


def test_minutes_are_computed_for_a_few_hours_only():
    assert UP_TO_MS["minute"] <= 6 * HOUR_S * 1000


def test_what_is_committed_is_what_the_generator_writes():
    written = grafana_files(load_project(load_streams()))
    committed = {
        str(path.relative_to(COMMITTED)): path.read_text(encoding="utf-8")
        for path in COMMITTED.rglob("*")
        if path.is_file()
    }
    assert committed == written, "write them anew: make docs"


def test_the_command_writes_the_dashboards_of_the_households_own_streams(tmp_path: Path):
    (tmp_path / "streams").mkdir()
    household.load_household(tmp_path / "streams")
    environment = {
        "HL_STREAMS_DIR": str(tmp_path / "streams"),
        "HL_DATA_DIR": str(tmp_path / "data"),
        "HL_TIMEZONE": "Asia/Kathmandu",
    }
    result = CliRunner().invoke(main, ["grafana", "--dir", str(tmp_path / "out")], env=environment)
    assert (result.exit_code, result.output.count("\n")) == (0, 8)
    solar = json.loads((tmp_path / "out" / "dashboards" / "hl-stream-solar.json").read_text(encoding="utf-8"))
    assert (solar["title"], solar["timezone"]) == ("solar", "Asia/Kathmandu")


def test_a_directory_that_cannot_be_written_is_named(tmp_path: Path):
    (tmp_path / "file").write_text("")
    environment = {"HL_DATA_DIR": str(tmp_path / "data")}
    result = CliRunner().invoke(main, ["grafana", "--dir", str(tmp_path / "file")], env=environment)
    assert (result.exit_code, f"--dir {tmp_path / 'file'} cannot be written" in result.output) == (2, True)


def test_costs_are_shown_where_there_are_models_of_them(project: Project):
    shown = {made["uid"] for made in dashboards(project) for title, *_ in queries_of(made) if title == "Cost"}
    assert shown == {"hl-stream-energy"}


@pytest.mark.parametrize(
    ("uid", "title", "unit"),
    [
        # A column of the models beside those of the fields' kinds.
        ("hl-stream-heatpump", "Electrical energy drawn", "kwatth"),
        # No model and no counter of the stream tells energy.
        ("hl-stream-air", "power: energy", "watth"),
        ("hl-stream-energy", "Consumption", "kwatth"),
    ],
)
def test_energy_is_shown_once_from_what_tells_it_best(project: Project, uid: str, title: str, unit: str):
    (made,) = (made for made in dashboards(project) if made["uid"] == uid)
    shown = [
        (panel["title"], panel["fieldConfig"]["defaults"]["unit"])
        for panel in made["panels"]
        if panel["type"] == "timeseries"
        and panel["fieldConfig"]["defaults"]["unit"] in {"kwatth", "watth"}
        and "gaps apart" not in panel["title"]
    ]
    assert shown == [(title, unit)]


def test_every_panel_has_an_id_and_a_place_of_its_own(project: Project):
    for dashboard in dashboards(project):
        cells = [
            (x, y)
            for panel in dashboard["panels"]
            for x in range(panel["gridPos"]["x"], panel["gridPos"]["x"] + panel["gridPos"]["w"])
            for y in range(panel["gridPos"]["y"], panel["gridPos"]["y"] + panel["gridPos"]["h"])
        ]
        ids = [panel["id"] for panel in dashboard["panels"]]
        assert (len(set(cells)), len(set(ids)), max(x for x, _ in cells)) == (len(cells), len(ids), 23)


def test_every_dashboard_has_a_uid_of_its_own_that_grafana_takes(project: Project):
    uids = [dashboard["uid"] for dashboard in dashboards(project)]
    assert len(set(uids)) == len(uids)
    long = {uid_of("a" * 39 + end) for end in "bc"}
    assert (len(long), max(map(len, long))) == (2, MAX_UID)


def test_every_declared_unit_of_the_built_in_streams_is_one_of_grafanas():
    declared = {field.unit for stream in load_streams().values() for field in stream.fields if field.unit}
    assert declared - UNITS.keys() == set()


def test_nothing_secret_is_committed():
    source = yaml.safe_load(
        (COMMITTED / "provisioning" / "datasources" / "hl.yaml").read_text(encoding="utf-8")
    )
    (hl,) = source["datasources"]
    assert (hl["url"], hl["secureJsonData"], hl["user"]) == (
        "$GRAFANA_HL_ADDRESS",
        {"password": "$GRAFANA_HL_PASSWORD"},
        "hl_read",
    )


def test_all_panels_ask_the_provisioned_data_source(project: Project):
    source = yaml.safe_load(grafana_files(project)["provisioning/datasources/hl.yaml"])["datasources"][0]
    named = {
        msgspec.json.encode(part["datasource"])
        for dashboard in dashboards(project)
        for part in (
            *(panel for panel in dashboard["panels"] if panel["type"] != "row"),
            *(one for panel in dashboard["panels"] for one in panel.get("targets", [])),
            *dashboard["templating"]["list"],
        )
    }
    assert named == {msgspec.json.encode({"type": source["type"], "uid": source["uid"]})}
