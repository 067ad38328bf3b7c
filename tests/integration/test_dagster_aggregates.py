"""Aggregates in Dagster: a real instance and a real PostgreSQL; no run of a service is needed."""

from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from importlib import resources
from pathlib import Path
from typing import Any

import dagster as dg
import psycopg
import pytest

from dbt_like_sql.engine.audit import audit
from dbt_like_sql.engine.deploy import deploy
from dbt_like_sql.engine.drain import drain
from dbt_like_sql.engine.project import Project, load_project
from dbt_like_sql.engine.refresh import Refresher
from dbt_like_sql.engine.refreshes import forget_refreshes
from dbt_like_sql.engine.soundness import check_stream
from hl_platform.adapters.postgres.database import SqlDatabase
from hl_platform.adapters.postgres.migrate import migrate
from hl_platform.core.settings import Settings, load_settings
from hl_platform.defs.aggregate_checks import aggregates_of, build_aggregate_checks, build_audit
from hl_platform.defs.aggregate_checks import build_sensor as build_check_sensor
from hl_platform.defs.aggregates import MARKED_TAG, build_aggregates, build_asset, model_key
from hl_platform.defs.refresh_sensor import RANGE_TAGS, build_sensor, why_no_run
from hl_platform.streams import load_streams

ZONE = "Europe/Berlin"
LONG_AGO = datetime(2024, 1, 1, tzinfo=UTC)

FILL = """
insert into energy_readings (device_id, timestamp, total_energy_kwh, power_kw, received_at, ingested_at)
select %(device)s, at, extract(epoch from at - %(start)s::timestamptz) / 3600, 1, at, at
from generate_series(%(start)s::timestamptz, %(end)s::timestamptz, %(step)s::interval) as at
"""


class House:
    """A database with deployed models, and what a person would do with it."""

    def __init__(self, url: str, project: Project, instance: dg.DagsterInstance) -> None:
        self.url, self.project, self.instance = url, project, instance
        self.settings: Settings = load_settings({"HL_DATABASE__URL": url, "HL_TIMEZONE": ZONE})
        self.db = SqlDatabase(url, "test")

    def execute(self, statement: str, **values: object) -> None:
        with psycopg.connect(self.url) as conn:
            conn.execute(statement, values or None)

    def value(self, statement: str, **values: object) -> Any:  # noqa: ANN401
        return self.db.rows(statement, values or None)[0][0]

    def fill(self, start: datetime, end: datetime, step: str = "1 hour", device: str = "meter1") -> None:
        self.execute(FILL, device=device, start=start, end=end, step=step)

    def n_marks(self, model: str = "energy_hourly") -> int:
        return int(self.value("select count(*) from hl.dirty where model = %(model)s", model=model))

    def n_rows(self, model: str = "energy_hourly") -> int:
        return int(self.value(f"select count(*) from materialized.{model}"))  # noqa: S608 - a constant

    def drain_all(self) -> None:
        for model in self.project.aggregates():
            drain(self.db, Refresher(self.db, self.project, "test"), model)

    def materialize(
        self, first: str, last: str, name: str = "energy_hourly", **tags: str
    ) -> dg.ExecuteInProcessResult:
        asset = build_asset(self.settings, self.project, self.project.models[name])
        tags |= dict(zip(RANGE_TAGS, (first, last), strict=True))
        return dg.materialize([asset], instance=self.instance, tags=tags, raise_on_error=False)

    def tick(self) -> Any:  # noqa: ANN401 - SensorExecutionData
        sensor = build_sensor(self.settings, self.project)
        defs = build_aggregates(self.settings, self.project)
        context = dg.build_sensor_context(self.instance, definitions=defs)
        return sensor.evaluate_tick(context)

    def findings(self) -> dict[tuple[str, str], Any]:
        stream = self.project.streams["energy"]
        found = check_stream(self.db, self.project, stream, aggregates_of(self.project, stream))
        return {(each.thing, each.name): each for each in found}


@pytest.fixture
def house(database_url: str) -> Iterator[House]:
    streams = {"energy": load_streams()["energy"]}
    project = load_project(streams)
    migrate(database_url, None, streams.values())
    with closing(SqlDatabase(database_url, "test")) as db:
        deploy(db, project, ZONE, "test")
    with dg.DagsterInstance.local_temp() as instance:
        made = House(database_url, project, instance)
        yield made
        made.db.close()


def recently(**ago: float) -> datetime:
    return (datetime.now(UTC) - timedelta(**ago)).replace(minute=0, second=0, microsecond=0)


def test_a_year_of_days_is_one_run_and_computes_clean_buckets_anew(house: House):
    house.fill(LONG_AGO, LONG_AGO + timedelta(days=200), "6 hours")
    house.drain_all()
    house.execute("update materialized.energy_hourly set n_readings = 99")
    result = house.materialize("2024-01-01", "2024-12-31")
    assert result.success
    keys = {event.partition for event in result.asset_materializations_for_node("postgres__energy_hourly")}
    assert len(keys) == 366
    assert house.value("select max(n_readings) from materialized.energy_hourly") == 1


def test_a_materialization_says_what_was_done_by_which_version_and_of_which_offsets(house: House):
    house.execute(
        "insert into hl.offsets (consumer_group, kafka_topic, kafka_partition, next_offset, epoch, service) "
        "values ('timescaledb-energy', 'homelab.energy', 0, 42, 1, 'sink')"
    )
    house.fill(LONG_AGO, LONG_AGO + timedelta(hours=30))
    result = house.materialize("2024-01-01", "2024-01-02")
    [*_, event] = result.asset_materializations_for_node("postgres__energy_hourly")
    assert event.metadata["buckets"].value == 31
    assert event.metadata["offsets from, to"].value == {"homelab.energy/0": [None, 42]}
    assert {"marks", "duration_ms", "version", "hl.refreshes.id"} <= event.metadata.keys()


def test_a_sensor_older_than_the_deployment_says_so_and_leaves_all_marks(house: House, tmp_path: Path):
    house.fill(recently(hours=30), recently(hours=8))
    text = (resources.files("dbt_like_sql") / "models" / "energy" / "energy_daily.sql").read_text()
    (tmp_path / "own_days.sql").write_text(text.replace("name: energy_daily", "name: own_days"))
    deploy(house.db, load_project(house.project.streams, str(tmp_path)), ZONE, "test")
    before = house.n_marks()
    assert "own_days" in house.tick().skip_message
    assert house.n_marks() == before
    deploy(house.db, house.project, ZONE, "test")
    assert house.tick().asset_events


def test_an_interrupted_run_is_resumed_where_it_stopped(house: House, monkeypatch: pytest.MonkeyPatch):
    house.fill(LONG_AGO, LONG_AGO + timedelta(days=20))
    house.drain_all()
    refresh, calls = Refresher.refresh, []

    def breaking(self: Refresher, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
        calls.append(kwargs)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return refresh(self, *args, **kwargs)

    monkeypatch.setattr(Refresher, "refresh", breaking)
    assert not house.materialize("2024-01-01", "2024-01-20").success
    monkeypatch.undo()
    left = house.n_marks()
    [run] = house.instance.get_runs()
    assert 0 < left < 20 * 24
    assert run.tags[f"{MARKED_TAG}_energy_hourly"] == "true"
    resumed = house.materialize("2024-01-01", "2024-01-20", **{"dagster/parent_run_id": run.run_id})
    [*_, event] = resumed.asset_materializations_for_node("postgres__energy_hourly")
    assert event.metadata["marks"].value == left
    assert house.n_marks() == 0


def test_a_reading_two_years_late_is_materialized_by_the_next_tick(house: House):
    house.fill(LONG_AGO, LONG_AGO + timedelta(hours=10))
    house.drain_all()
    late = LONG_AGO + timedelta(hours=3, minutes=30)
    house.fill(late, late)
    tick = house.tick()
    events = {(event.asset_key, event.partition) for event in tick.asset_events}
    assert {
        (model_key("energy_hourly"), "2024-01-01"),
        (model_key("energy_daily"), "2024-01-01"),
        (model_key("energy_monthly"), "2024-01-01"),
        (model_key("energy_yearly"), "2024-01-01"),
    } == events
    assert house.n_marks() == 0
    assert house.value("select max(n_readings) from materialized.energy_hourly") == 2


def test_a_tick_with_nothing_to_do_emits_nothing(house: House):
    house.fill(LONG_AGO, LONG_AGO + timedelta(hours=10))
    house.drain_all()
    tick = house.tick()
    assert tick.skip_message == "Every closed bucket is materialized."


def test_an_hour_that_has_just_ended_waits_for_the_next_readings_of_its_devices(house: House):
    hour = recently()
    house.fill(hour - timedelta(hours=5), hour - timedelta(minutes=1), "1 minute")
    earliest = recently(seconds=360)
    assert house.tick().asset_events
    # The next hour may settle while the sensor looks.
    latest = recently(seconds=360)
    newest = house.value("select max(bucket) from materialized.energy_hourly")
    assert earliest <= newest + timedelta(hours=1) <= latest


def test_thousands_of_marks_get_one_run_at_a_time_of_the_newest_range(house: House):
    house.fill(LONG_AGO, LONG_AGO + timedelta(days=150), "12 hours")
    tick = house.tick()
    [request] = tick.run_requests
    assert request.run_key is None
    assert [request.tags[tag] for tag in RANGE_TAGS] == ["2024-01-01", "2024-05-30"]
    house.instance.create_run_for_job(
        dg.Definitions(
            assets=[build_asset(house.settings, house.project, house.project.models["energy_hourly"])]
        ).resolve_implicit_global_asset_job_def(),
        tags=request.tags,
    )
    assert "at work" in why_no_run(house.instance)
    assert not house.tick().run_requests


def test_an_audit_finds_and_repairs_a_changed_row(house: House):
    house.fill(LONG_AGO, LONG_AGO + timedelta(days=3))
    house.drain_all()
    hour = LONG_AGO + timedelta(hours=30)
    house.execute("update materialized.energy_hourly set power_kw_sum = 7 where bucket = %(at)s", at=hour)
    found = audit(house.db, house.project, house.project.models["energy_hourly"])
    assert (found.n_wrong, found.named) == (1, (("meter1", hour),))
    house.drain_all()
    asset_check = build_audit(house.settings, house.project, house.project.streams["energy"])
    defs = build_aggregates(house.settings, house.project)
    result = dg.materialize(
        [*defs.assets, asset_check],  # type: ignore[misc, list-item]
        selection=dg.AssetSelection.checks(asset_check),
        instance=house.instance,
    )
    assert {check.passed for check in result.get_asset_check_evaluations()} == {True}


@pytest.mark.parametrize(
    ("harm", "model"),
    [
        ("delete from materialized.energy_hourly where bucket = '2024-01-02'", "energy_hourly"),
        ("update materialized.energy_hourly set total_energy_kwh_last = 1", "energy_hourly"),
        (
            "update materialized.energy_daily set consumption_kwh = 1 where bucket < '2024-01-03'",
            "energy_daily",
        ),
        (
            "insert into materialized.energy_hourly (device_id, bucket, n_readings) values ('ghost', '2024-01-02', 5)",
            "energy_hourly",
        ),
        ("update materialized.energy_yearly set power_kw_sum = -1", "energy_yearly"),
    ],
)
def test_an_audit_sees(house: House, harm: str, model: str):
    house.fill(LONG_AGO, LONG_AGO + timedelta(days=3))
    house.drain_all()
    clean = [audit(house.db, house.project, each).n_wrong for each in house.project.aggregates()]
    house.execute(harm)
    wrong = {each.name for each in house.project.aggregates() if audit(house.db, house.project, each).n_wrong}
    assert set(clean) == {0}
    assert model in wrong


def test_one_fresh_device_hides_no_dead_one(house: House):
    house.fill(recently(days=3), datetime.now(UTC), "10 minutes", "fresh")
    house.fill(recently(days=3), recently(days=1), "10 minutes", "dead")
    house.drain_all()
    found = house.findings()[("energy_readings", "every_device_fresh")]
    assert not found.passed
    assert found.explanation.startswith("Silent for longer than usual: dead for")


def test_a_day_without_readings_is_named_with_its_device(house: House):
    house.fill(recently(days=5), recently(days=3), "10 minutes")
    house.fill(recently(days=1), datetime.now(UTC), "10 minutes")
    found = house.findings()[("energy_hourly", "every_day_covered")]
    assert not found.passed
    assert "meter1 on" in found.explanation


def test_hours_sum_up_to_what_the_meter_moved_through_a_reset(house: House):
    house.fill(recently(days=9), recently(days=4), "10 minutes")
    house.fill(recently(days=4) + timedelta(minutes=10), datetime.now(UTC), "10 minutes")
    house.drain_all()
    before = house.findings()[("energy_hourly", "conserves")]
    events = house.value("select count(*) from hl.counter_events")
    house.execute(
        "update materialized.energy_hourly set consumption_kwh = consumption_kwh + 1 where bucket = %(at)s",
        at=recently(days=2),
    )
    after = house.findings()
    assert events == 1
    assert before.passed, before.explanation
    assert not after[("energy_hourly", "conserves")].passed
    assert not after[("energy_daily", "conserves")].passed


def test_checks_are_shown_when_an_answer_changes(house: House):
    house.fill(LONG_AGO, LONG_AGO + timedelta(hours=3))
    sensor = build_check_sensor(house.settings, house.project)
    first = sensor.evaluate_tick(dg.build_sensor_context(house.instance))
    again = sensor.evaluate_tick(dg.build_sensor_context(house.instance, cursor=first.cursor))
    specs = build_aggregate_checks(house.settings, house.project).asset_checks or []
    told = {(event.asset_key, event.check_name) for event in first.asset_events}
    assert told == {(key.asset_key, key.name) for key in specs[0].check_keys}  # type: ignore[union-attr]
    assert again.asset_events == []


def test_refreshes_that_no_row_names_are_forgotten(house: House):
    house.fill(LONG_AGO, LONG_AGO + timedelta(hours=3))
    house.drain_all()
    house.fill(LONG_AGO + timedelta(minutes=1), LONG_AGO + timedelta(hours=3), "1 hour")
    house.drain_all()
    house.execute("update hl.refreshes set refreshed_at = now() - interval '40 days'")
    n_before = house.value("select count(*) from hl.refreshes")
    n_forgotten = forget_refreshes(house.db, house.project, days=30)
    orphans = house.value(
        "select count(*) from materialized.energy_hourly as m "
        "where not exists (select from hl.refreshes as r where r.id = m.refresh_id)"
    )
    assert (n_forgotten, orphans) == (n_before // 2, 0)
