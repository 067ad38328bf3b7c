"""The aggregates as assets: lineage, partitions and checks follow from the models."""

from datetime import UTC, datetime

import dagster as dg
import pytest

from dbt_like_sql.engine.project import load_project
from hl_platform.core.settings import load_settings
from hl_platform.defs.aggregate_checks import build_aggregate_checks
from hl_platform.defs.aggregates import build_aggregates, model_key, partition_key_of, partitions_of
from hl_platform.defs.lineage import build_lineage
from hl_platform.defs.refresh_sensor import build_refresh
from hl_platform.streams import load_streams

STREAMS = load_streams()
PROJECT = load_project(STREAMS)
SETTINGS = load_settings({"HL_TIMEZONE": "Europe/Berlin"})


def definitions() -> dg.Definitions:
    return dg.Definitions.merge(
        build_lineage(STREAMS),
        build_aggregates(SETTINGS, PROJECT),
        build_refresh(SETTINGS, PROJECT),
        build_aggregate_checks(SETTINGS, PROJECT),
    )


def test_lineage_runs_from_the_table_through_hours_to_years() -> None:
    graph = definitions().resolve_asset_graph()
    parents = {name: graph.get(model_key(name)).parent_keys for name in PROJECT.models}
    assert parents["energy_hourly"] == {dg.AssetKey(["postgres", "energy_readings"])}
    assert parents["energy_daily"] == {model_key("energy_hourly")}
    assert parents["energy_yearly"] == {model_key("energy_monthly")}


@pytest.mark.parametrize("name", PROJECT.models)
def test_every_model_is_an_asset_of_its_stream_that_says_what_it_is(name: str) -> None:
    node = definitions().resolve_asset_graph().get(model_key(name))
    assert node.group_name == name.partition("_")[0]
    assert node.kinds == {"postgres", "sql"}
    assert node.description
    assert node.owners == ["team:home"]
    columns = {column.name: column.description for column in node.metadata["dagster/column_schema"].columns}
    assert columns == dict(PROJECT.models[name].columns)


@pytest.mark.parametrize("model", PROJECT.aggregates(), ids=lambda model: model.name)
def test_a_backfill_is_a_single_run(model: object) -> None:
    node = definitions().resolve_asset_graph().get(model_key(model.name))  # type: ignore[attr-defined]
    assert node.backfill_policy == dg.BackfillPolicy.single_run()


@pytest.mark.parametrize(
    ("name", "at", "key"),
    [
        ("energy_hourly", datetime(2026, 3, 28, 23, tzinfo=UTC), "2026-03-29"),
        ("energy_daily", datetime(2026, 7, 9, 22, tzinfo=UTC), "2026-07-10"),
        ("energy_monthly", datetime(2026, 6, 30, 22, tzinfo=UTC), "2026-07-01"),
        ("energy_yearly", datetime(2025, 12, 31, 23, tzinfo=UTC), "2026-01-01"),
    ],
)
def test_a_local_day_lies_in_the_partition_that_dagster_gives_it(name: str, at: datetime, key: str) -> None:
    model = PROJECT.models[name]
    window = partitions_of(model, SETTINGS).time_window_for_partition_key(key)
    assert partition_key_of(model, at, SETTINGS.timezone) == key
    assert window.start <= at < window.end


def test_hours_of_today_have_a_partition() -> None:
    with dg.partition_loading_context(datetime(2026, 7, 10, 12, tzinfo=UTC)):
        last = {
            name: partitions_of(PROJECT.models[name], SETTINGS).get_last_partition_key()
            for name in ("energy_hourly", "energy_daily", "energy_monthly", "energy_yearly")
        }
    assert list(last.values()) == ["2026-07-10", "2026-07-09", "2026-06-01", "2025-01-01"]


def test_every_aggregate_is_checked_and_audited() -> None:
    graph = definitions().resolve_asset_graph()
    checks = {(key.asset_key, key.name) for key in graph.asset_check_keys}
    wanted = {
        (model_key(model.name), name)
        for model in PROJECT.aggregates()
        for name in ("nothing_dirty_for_long", "conserves", "audited")
    }
    assert wanted <= checks


def test_the_audit_runs_every_night() -> None:
    [schedule] = definitions().schedules or []
    assert schedule.default_status == dg.DefaultScheduleStatus.RUNNING  # type: ignore[union-attr]
