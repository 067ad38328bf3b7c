"""Models that are deployed by one process while another goes on with those that it has loaded."""

import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import timedelta
from importlib import resources
from pathlib import Path

import pytest

from dbt_like_sql.engine.deploy import deploy
from dbt_like_sql.engine.project import Project, load_project
from dbt_like_sql.engine.refresh import Refresher
from hl_platform.adapters.postgres.database import BULK, SqlDatabase
from hl_platform.core.errors import DeployedOtherwiseError
from hl_platform.core.streams import Stream
from tests.aggregates.house import VERSION, House, at, evenly, meter
from tests.aggregates.test_marks import waits
from tests.home import eventually

FROM = at("2026-03-01 08:00")
HALF_HOURS = [FROM + timedelta(minutes=30 * n) for n in range(96)]
LATE = meter([(FROM + timedelta(minutes=10), 500.0)])


def built_in(name: str) -> str:
    return (resources.files("dbt_like_sql") / "models" / "energy" / f"{name}.sql").read_text()


def copied(streams: Mapping[str, Stream], folder: Path, name: str, own: str) -> Project:
    """The project with a model of the household that says what a built-in one does."""
    (folder / f"{own}.sql").write_text(built_in(name).replace(f"name: {name}", f"name: {own}"))
    return load_project(streams, str(folder))


def with_column(streams: Mapping[str, Stream], folder: Path) -> Project:
    """The project with one column more in its hours."""
    before, after = (
        "    device_id,\n    bucket,\n",
        "    device_id,\n    bucket,\n    count(*) as n_pieces,\n",
    )
    (folder / "energy_hourly.sql").write_text(built_in("energy_hourly").replace(before, after, 1))
    return load_project(streams, str(folder))


def drain(house: House) -> None:
    for model in house.project.aggregates():
        while house.refresh(model.name):
            pass


def sums(house: House, *models: str) -> list[float]:
    return [house.execute(f"select sum(consumption_kwh)::float8 from {model}")[0][0] for model in models]


def test_process_that_does_not_know_a_deployed_model_takes_no_marks(
    own_house: House, streams: dict[str, Stream], tmp_path: Path
) -> None:
    house, older = own_house, own_house.project
    newer = copied(streams, tmp_path, "energy_daily", "energy_days")
    house.writer("energy").write("meter", evenly(HALF_HOURS))
    house.deploy(house.timezone, newer)
    drain(house)
    house.writer("energy").write("meter", LATE)
    before = house.marks("energy_hourly")
    house.project = older
    with pytest.raises(DeployedOtherwiseError, match="energy_days"):
        house.refresh("energy_hourly")
    assert house.marks("energy_hourly") == before
    house.project = newer
    drain(house)
    assert sums(house, "energy_days") == sums(house, "energy_daily")
    assert house.differences("energy", "meter") == []


def test_process_that_knows_a_model_that_is_not_deployed_takes_no_marks(
    own_house: House, streams: dict[str, Stream], tmp_path: Path
) -> None:
    house = own_house
    house.writer("energy").write("meter", evenly(HALF_HOURS))
    house.project = copied(streams, tmp_path, "energy_daily", "energy_days")
    with pytest.raises(DeployedOtherwiseError, match="energy_days"):
        house.refresh("energy_hourly")
    assert house.marks("energy_hourly") == len(HALF_HOURS) / 2


def test_view_or_table_that_a_process_does_not_know_holds_up_nothing(
    own_house: House, streams: dict[str, Stream], tmp_path: Path
) -> None:
    house, older = own_house, own_house.project
    (tmp_path / "costs.sql").write_text(
        "/*\nname: costs\ndescription: What each hour cost.\nmaterialization: view\ngrain: [device_id, bucket]\n"
        "columns: {device_id: Which, bucket: Hour}\n*/\n"
        "select device_id, bucket, consumption_kwh * 0.3 as costs from {{ ref('energy_hourly') }}"
    )
    house.deploy(house.timezone, load_project(streams, str(tmp_path)))
    house.writer("energy").write("meter", evenly(HALF_HOURS))
    house.project = older
    assert house.refresh("energy_hourly") == len(HALF_HOURS) / 2


def test_refresher_that_outlives_a_deployment_writes_no_row_without_the_new_column(
    own_house: House, streams: dict[str, Stream], tmp_path: Path
) -> None:
    house = own_house
    house.writer("energy").write("meter", evenly(HALF_HOURS))
    refresher, model = house.refresher(), house.project.models["energy_hourly"]
    refresher.refresh(model, limit=3)
    house.deploy(house.timezone, with_column(streams, tmp_path))
    n_marks = house.marks("energy_hourly")
    with pytest.raises(DeployedOtherwiseError, match="energy_hourly"):
        refresher.refresh(model, limit=1000)
    assert house.marks("energy_hourly") == n_marks
    drain(house)
    assert house.execute("select count(*) - count(n_pieces) from materialized.energy_hourly") == [(0,)]


def test_refresher_goes_on_with_columns_of_a_table_that_was_made_anew(
    own_house: House, streams: dict[str, Stream], tmp_path: Path
) -> None:
    """As when somebody deploys other files by mistake, and then the right ones again."""
    house, project = own_house, own_house.project
    house.writer("energy").write("meter", evenly(HALF_HOURS))
    refresher = house.refresher()
    refresher.refresh(project.models["energy_hourly"], limit=3)
    house.deploy(house.timezone, with_column(streams, tmp_path))
    house.deploy(house.timezone, project)
    assert refresher.refresh(project.models["energy_hourly"], limit=1000).n_marks == len(HALF_HOURS) / 2
    assert house.differences("energy", "meter") == []


def test_deployment_waits_for_a_refresh_and_a_refresh_for_a_deployment(
    own_house: House, streams: dict[str, Stream], tmp_path: Path
) -> None:
    house, older = own_house, own_house.project
    newer = copied(streams, tmp_path, "energy_daily", "energy_days")
    house.writer("energy").write("meter", evenly(HALF_HOURS))
    model = older.models["energy_hourly"]
    with (
        closing(SqlDatabase(house.url, "test-deployer", BULK)) as deployer,
        closing(SqlDatabase(house.url, "test-late", BULK)) as late,
        ThreadPoolExecutor(2) as pool,
    ):
        refreshed, deployed = threading.Event(), threading.Event()
        with house.db.transaction():
            house.refresh("energy_hourly", limit=3)
            done = pool.submit(_deploy_and_stay, deployer, newer, house.timezone, refreshed, deployed)
            eventually(lambda: waits(house, "test-deployer"))
            assert not deployed.is_set()
        assert deployed.wait(30)
        refresh = pool.submit(Refresher(late, older, VERSION).refresh, model, limit=1000)
        eventually(lambda: waits(house, "test-late"))
        refreshed.set()
        done.result()
        with pytest.raises(DeployedOtherwiseError):
            refresh.result()
    house.project = newer
    drain(house)
    assert sums(house, "energy_days") == sums(house, "energy_daily")


def _deploy_and_stay(
    db: SqlDatabase, project: Project, timezone: str, leave: threading.Event, deployed: threading.Event
) -> None:
    with db.transaction():
        deploy(db, project, timezone, VERSION)
        deployed.set()
        assert leave.wait(30)
