"""What the files of the models hold: comments, house style, SQL; and that mistakes are named with their line."""

import re
from collections.abc import Iterator
from importlib import resources
from pathlib import Path

import pytest

from dbt_like_sql.engine.checks import checks_of, load_checks
from dbt_like_sql.engine.docs import write_docs
from dbt_like_sql.engine.lineage import column_lineage, lineage_tree
from dbt_like_sql.engine.model import Model
from dbt_like_sql.engine.objects import SCOPE
from dbt_like_sql.engine.project import Project, load_project
from dbt_like_sql.engine.render import Renderer
from dbt_like_sql.engine.syntax import parsed
from hl_platform.core.errors import ConfigError
from hl_platform.core.streams import parse_stream
from hl_platform.streams import load_streams

SOLAR = """
name = "solar"
mqtt_filter = "solar/#"
kafka_topic = "solar"
table = "solar_readings"
[fields.yield_kwh]
type = "float"
kind = "counter"
unit = "kWh"
[fields.power]
type = "float"
kind = "gauge"
[fields.feeds]
type = "boolean"
kind = "state"
description = "Whether it feeds: yes or no"
[fields.status]
type = "text"
kind = "state"
[fields.model]
type = "text"
kind = "label"
"""
STREAMS = load_streams() | {"solar": parse_stream(SOLAR, "solar.toml")}
PROJECT = load_project(STREAMS)
MODELS = list(PROJECT.models.values())
# Columns that count, name or tell a time, which have no unit.
WITHOUT_UNIT = re.compile(
    r"device_id|bucket|bucket_end|refresh_id|n_readings|first_at|last_at|room|model|starts|tariff|currency|n_hours|n_hours_without_price|.*_(count|events|changes|starts)"
)


def files() -> Iterator[tuple[str, str]]:
    """(name, text) of every .sql file of the package that is a model or a check."""
    root = resources.files("dbt_like_sql")
    folders = [*(root / "models").iterdir(), root / "checks"]
    for folder in folders:
        if folder.is_dir():
            yield from (
                (file.name, file.read_text("utf-8"))
                for file in folder.iterdir()
                if file.name.endswith(".sql")
            )


def by_name(model: Model) -> str:
    return model.name


@pytest.mark.parametrize("model", MODELS, ids=by_name)
def test_every_column_of_a_model_is_commented_and_nothing_else(model: Model):
    columns = [*column_lineage(PROJECT, model), *(("bucket_end", "refresh_id") if model.bucket else ())]
    assert sorted(model.columns) == sorted(columns)


@pytest.mark.parametrize("stream", [name for name in STREAMS if name != "solar"])
def test_every_column_with_a_unit_says_it(stream: str):
    without = [
        f"{model.name}.{name}"
        for model in MODELS
        if model.name.startswith(stream)
        for name, text in model.columns.items()
        if not text.endswith(")") and not WITHOUT_UNIT.fullmatch(name)
    ]
    assert without == []


@pytest.mark.parametrize("model", MODELS, ids=by_name)
def test_every_model_is_sql(model: Model):
    tree = parsed(model, Renderer(STREAMS).render(model, SCOPE if model.bucket else None))
    assert tree.named_selects == list(column_lineage(PROJECT, model))


def test_every_check_is_sql_for_every_model_that_it_concerns():
    found = list(checks_of(PROJECT, load_checks()))
    for _, model, sql in found:
        parsed(model, sql)
    assert {check.name for check, _, _ in found} == {check.name for check in load_checks()}


@pytest.mark.parametrize(("name", "text"), list(files()), ids=lambda value: value if len(value) < 60 else "")
def test_a_file_keeps_the_house_style(name: str, text: str):
    """Lower case words, four spaces, no blanks at ends of lines, one line break at the end."""
    body = re.sub(r"\{[{%].*?[}%]\}|'[^']*'|\"[^\"]*\"", "x", text[text.index("*/") :], flags=re.DOTALL)
    assert re.findall(r"\b[A-Z]{2,}\b|\t| +$", body, flags=re.MULTILINE) == []
    assert text.endswith("\n")
    assert not text.endswith("\n\n")
    indents = [
        len(line) - len(line.lstrip()) for line in text[text.index("*/") :].splitlines() if line.strip()
    ]
    assert [indent for indent in indents if indent % 4] == [], name


@pytest.mark.parametrize(
    ("model", "column", "origins"),
    [
        ("energy_hourly", "device_id", "energy_readings.device_id"),
        ("energy_hourly", "bucket", "energy_readings.timestamp"),
        ("energy_hourly", "n_readings", "energy_readings.timestamp"),
        ("energy_hourly", "consumption_kwh", "energy_readings.timestamp energy_readings.total_energy_kwh"),
        ("energy_hourly", "power_kw_mean", "energy_readings.power_kw energy_readings.timestamp"),
        ("energy_minutely", "voltage_max", "energy_readings.timestamp energy_readings.voltage"),
        ("energy_daily", "consumption_kwh", "energy_hourly.consumption_kwh"),
        ("energy_daily", "voltage_sample_mean", "energy_hourly.voltage_count energy_hourly.voltage_sum"),
        ("energy_yearly", "gap_kwh", "energy_monthly.gap_kwh"),
        ("heatpump_hourly", "mode_seconds", "heatpump_status.mode heatpump_status.timestamp"),
        (
            "heatpump_hourly",
            "degree_days",
            "heatpump_status.actual_temp heatpump_status.target_temp heatpump_status.timestamp",
        ),
        ("heatpump_daily", "runtime_s", "heatpump_hourly.compressor_running_true_s"),
        ("heatpump_monthly", "runtime_s", "heatpump_daily.runtime_s"),
        ("temperature_hourly", "room", "temperature_readings.room temperature_readings.timestamp"),
        ("temperature_daily", "room", "temperature_hourly.room"),
        ("solar_hourly", "yield_kwh_moved", "solar_readings.timestamp solar_readings.yield_kwh"),
    ],
)
def test_a_column_comes_from_exactly_these(model: str, column: str, origins: str):
    found = column_lineage(PROJECT, PROJECT.models[model])[column]
    assert found == [tuple(origin.split(".")) for origin in origins.split()]


# A view may count rows, which come from no column.
@pytest.mark.parametrize("model", [model for model in MODELS if model.bucket], ids=by_name)
def test_every_column_comes_from_a_reading_of_its_stream_and_from_no_other_field(model: Model):
    fields = {field.name for stream in STREAMS.values() for field in stream.fields}
    columns = column_lineage(PROJECT, model)
    for column, origins in columns.items():
        named = {name for name in fields if column.startswith(f"{name}_") or column == name}
        of_fields = {
            next((name for name in fields if origin.startswith(f"{name}_") or origin == name), "")
            for _, origin in origins
        } - {""}
        assert origins, f"{column} comes from nothing"
        assert not named or of_fields <= named, column


def test_the_tree_leads_down_to_the_readings():
    tree = lineage_tree(PROJECT, PROJECT.models["energy_monthly"], "consumption_kwh")
    path = []
    while tree.origins:
        path.append(tree.relation)
        tree = tree.origins[0]
    assert [*path, tree.relation] == ["energy_monthly", "energy_daily", "energy_hourly", "energy_readings"]


@pytest.mark.parametrize(
    ("sql", "origins"),
    [
        (
            "select u.x from (select consumption_kwh as x from {{ ref('energy_daily') }}) as u",
            "consumption_kwh",
        ),
        ("with c as (select * from {{ ref('energy_daily') }}) select gap_kwh as x from c", "gap_kwh"),
        (
            "select case when gap_kwh > 0 then covered_s end as x from {{ ref('energy_daily') }}",
            "covered_s gap_kwh",
        ),
        ("select lag(covered_s) over (order by bucket) as x from {{ ref('energy_daily') }}", "covered_s"),
        ("select (select max(gap_kwh) from {{ ref('energy_daily') }}) as x", "gap_kwh"),
        (
            (
                "select gap_kwh as x from {{ ref('energy_daily') }} "
                "union all select covered_s from {{ ref('energy_daily') }}"
            ),
            "covered_s gap_kwh",
        ),
        (
            "select v.a as x from {{ ref('energy_daily') }} cross join lateral (values (gap_kwh)) as v (a)",
            "gap_kwh",
        ),
    ],
)
def test_lineage_follows_the_forms_of_sql(tmp_path: Path, sql: str, origins: str):
    project = own(tmp_path, sql)
    assert column_lineage(project, project.models["mine"])["x"] == [
        ("energy_daily", name) for name in origins.split()
    ]


def own(folder: Path, sql: str, description: str = "d") -> Project:
    """The project with one view more."""
    header = f"/*\nname: mine\ndescription: {description}\nmaterialization: view\ngrain: [x]\ncolumns:\n  x: X\n*/\n"
    (folder / "mine.sql").write_text(header + sql)
    return load_project(STREAMS, str(folder))


@pytest.mark.parametrize(
    ("sql", "message"),
    [
        (
            "select *\nfrom {{ ref('energy_dayly') }}",
            "mine.sql:10: ref('energy_dayly'): there is no such model. Did you",
        ),
        (
            "select *\nfrom {{ source('enery') }}",
            "mine.sql:10: source('enery'): no such stream. Did you mean energy?",
        ),
        ("select 1 as x\n{{ nope", "mine.sql:10: unexpected end of template"),
        ("select\n\n{{ nope() }}", "mine.sql:11: 'nope' is undefined"),
        ("select\n{{ gauge(nme='x') }}", "mine.sql:10: macro 'gauge' takes no keyword argument 'nme'"),
        (
            "select\n{{ gauge('powr_kw') }}\nfrom {{ source('energy') }}",
            "mine.sql:10: 'powr_kw' is no field of its stream. Did you mean power_kw",
        ),
        ("select 1 as x,\n  2 3", "mine.sql:10: this is no SQL"),
        ("select 1 as x; drop table energy_readings", "mine.sql:9: write one SELECT behind the header."),
    ],
)
def test_a_mistake_is_named_with_file_and_line(tmp_path: Path, sql: str, message: str):
    def read() -> None:
        model = own(tmp_path, sql).models["mine"]
        parsed(model, Renderer(STREAMS).render(model))

    with pytest.raises(ConfigError) as caught:
        read()
    assert str(caught.value).startswith(message)


def test_a_header_that_is_no_yaml_is_named_with_its_line(tmp_path: Path):
    with pytest.raises(ConfigError, match=r"^mine\.sql:3: the header is not YAML: .* in quotes\.$"):
        own(tmp_path, "select 1 as x", description="a colon: spoils it")


def test_a_stream_declared_anew_with_other_fields_gets_models_that_fit(tmp_path: Path):
    (tmp_path / "energy.toml").write_text(SOLAR.replace('"solar"', '"energy"', 1))
    streams = load_streams(str(tmp_path))
    project = load_project(streams)
    assert "yield_kwh_moved" in column_lineage(project, project.models["energy_daily"])


OWN_HOURS = """/*
name: solar_hours
description: Hours of the roof.
materialization: continuous_aggregate
grain: [device_id, bucket]
time_column: bucket
bucket: hour
columns:
  gained: What the roof gave (kWh)
  n_rows: All of them
*/
select
    device_id,
    bucket,
    {{ counter('yield_kwh', moved='gained', gap='unseen') }},
    {{ running('feeds', seconds='fed_s', starts='feeds') }},
    count(*) as n_rows
from {{ pieces(source('solar')) }}
group by device_id, bucket
"""


def test_what_macros_make_is_commented_unless_the_header_says_it(tmp_path: Path):
    (tmp_path / "solar_hours.sql").write_text(OWN_HOURS)
    model = load_project(STREAMS, str(tmp_path)).models["solar_hours"]
    assert model.columns == {
        "device_id": "Which device",
        "bucket": "Begin of the hour, inclusive",
        "gained": "What the roof gave (kWh)",
        "unseen": "The part of gained that moved while no reading came (kWh)",
        "yield_kwh_first": "yield_kwh at the first reading (kWh)",
        "yield_kwh_last": "yield_kwh at the last reading (kWh)",
        "yield_kwh_events": "Resets and jumps of yield_kwh, listed in hl.counter_events",
        "fed_s": "Whether it feeds: yes or no: for how long it was so (s)",
        "feeds": "Whether it feeds: yes or no: how often it became so",
        "n_rows": "All of them",
        "bucket_end": "End of the hour, exclusive",
        "refresh_id": "Which of hl.refreshes made the row; null: computed just now",
    }


@pytest.mark.parametrize("html", [False, True], ids=["markdown", "html"])
def test_docs_have_a_page_for_each_model_with_every_column(html: bool):  # noqa: FBT001 - a parameter of the test
    pages = write_docs(PROJECT, html=html)
    ending = "html" if html else "md"
    missing = [
        f"{model.name}.{name}"
        for model in MODELS
        for name in model.columns
        if name not in pages[f"{model.name}.{ending}"]
    ]
    assert missing == []
    assert "energy_hourly --" in pages[f"index.{ending}"]
