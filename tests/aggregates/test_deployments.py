"""Models that are deployed by one process while another goes on with those that it has loaded, or that come and go."""

import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import timedelta
from importlib import resources
from pathlib import Path

import psycopg
import pytest

from dbt_like_sql.engine.deploy import deploy
from dbt_like_sql.engine.project import Project, load_project
from dbt_like_sql.engine.refresh import Refresher
from dbt_like_sql.engine.refreshes import forget_refreshes
from hl_platform.adapters.postgres.database import BULK, SqlDatabase
from hl_platform.core.errors import DeployedOtherwiseError
from hl_platform.core.streams import Stream
from tests.aggregates.house import VERSION, House, at, evenly, meter
from tests.aggregates.test_marks import waits
from tests.home import eventually

FROM = at("2026-03-01 08:00")
HALF_HOURS = [FROM + timedelta(minutes=30 * n) for n in range(96)]
LATE = meter([(FROM + timedelta(minutes=10), 500.0)])
FLOOR = at("2026-03-02 00:00")


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


def is_there(house: House, *names: str) -> list[bool]:
    return [house.execute("select to_regclass(%s) is not null", name)[0][0] for name in names]


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


@pytest.mark.parametrize("name", ["energy_hourly", "energy_daily"])
def test_model_that_was_away_for_a_deployment_comes_back_with_what_happened_meanwhile(
    own_house: House, streams: dict[str, Stream], tmp_path: Path, name: str
) -> None:
    house, without = own_house, own_house.project
    own = copied(streams, tmp_path, name, "own")
    house.writer("energy").write("meter", evenly(HALF_HOURS[:10]))
    house.deploy(house.timezone, own)
    drain(house)
    assert sums(house, "own") == sums(house, name)
    house.deploy(house.timezone, without)
    # Nobody can read what nothing keeps right any more.
    assert is_there(house, "own", "hl.dirty_own", "materialized.own") == [False] * 3
    house.writer("energy").write("meter", evenly(HALF_HOURS) | LATE)
    drain(house)
    assert house.marks("own") == 0
    assert house.deploy(house.timezone, own) == ["own"]
    assert sums(house, "own") == sums(house, name)
    drain(house)
    assert sums(house, "own") == sums(house, name)
    assert house.marks("own") == 0


def test_rows_below_the_floor_of_a_model_that_was_away_are_there_when_it_comes_back(
    own_house: House, streams: dict[str, Stream], tmp_path: Path
) -> None:
    house, without = own_house, own_house.project
    own = copied(streams, tmp_path, "energy_hourly", "own")
    house.writer("energy").write("meter", evenly(HALF_HOURS))
    house.deploy(house.timezone, own)
    drain(house)
    before = house.execute("select bucket, consumption_kwh from own order by 1")
    house.execute("set hl.unmarked = 'on'")
    house.execute("delete from public.energy_readings where timestamp < %s", FLOOR - timedelta(minutes=30))
    house.execute("reset hl.unmarked")
    house.execute("insert into hl.floors values ('energy_readings', %s)", FLOOR)
    house.deploy(house.timezone, without)
    assert is_there(house, "own", "materialized.own") == [False, True]
    kept = house.execute("select distinct refresh_id from materialized.own where bucket < %s", FLOOR)
    house.execute("update hl.refreshes set refreshed_at = now() - interval '90 days'")
    forget_refreshes(house.db, without, days=30)
    ids = [row[0] for row in kept]
    assert house.execute("select count(*) from hl.refreshes where id = any(%s)", ids) == [(len(ids),)]
    # Once more: it is no deployed model any more.
    house.deploy(house.timezone, without)
    house.deploy(house.timezone, own)
    drain(house)
    assert house.execute("select bucket, consumption_kwh from own order by 1") == before


def test_view_of_somebody_who_reads_a_model_that_went_says_so_until_it_comes_back(
    own_house: House, streams: dict[str, Stream], tmp_path: Path
) -> None:
    house, without = own_house, own_house.project
    own = copied(streams, tmp_path, "energy_hourly", "own")
    house.writer("energy").write("meter", evenly(HALF_HOURS[:10]))
    house.deploy(house.timezone, own)
    drain(house)
    house.execute("create view public.mine as select bucket, consumption_kwh from public.own")
    house.deploy(house.timezone, without)
    for name in ("own", "mine"):
        with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState, match="own is not deployed any more"):
            sums(house, name)
    house.writer("energy").write("meter", evenly(HALF_HOURS))
    house.deploy(house.timezone, own)
    assert sums(house, "mine") == sums(house, "energy_hourly")
    drain(house)
    assert sums(house, "mine") == sums(house, "energy_hourly")


def test_view_that_was_left_for_somebody_goes_when_nobody_reads_it_any_more(
    own_house: House, streams: dict[str, Stream], tmp_path: Path
) -> None:
    house, without = own_house, own_house.project
    house.deploy(house.timezone, copied(streams, tmp_path, "energy_hourly", "own"))
    house.execute("create view public.mine as select bucket, consumption_kwh from public.own")
    house.deploy(house.timezone, without)
    assert is_there(house, "own", "materialized.own") == [True, True]
    house.execute("drop view public.mine")
    house.deploy(house.timezone, without)
    assert is_there(house, "own", "materialized.own") == [False, False]


def test_models_that_read_each_other_go_together(
    own_house: House, streams: dict[str, Stream], tmp_path: Path
) -> None:
    house, without = own_house, own_house.project
    copied(streams, tmp_path, "energy_hourly", "own")
    for name, read in (("a_view", "own"), ("z_view", "a_view")):
        (tmp_path / f"{name}.sql").write_text(
            f"/*\nname: {name}\ndescription: Of hours.\nmaterialization: view\ngrain: [bucket]\n"
            f"columns: {{bucket: Hour}}\n*/\nselect bucket from {{{{ ref('{read}') }}}}"
        )
    own = load_project(streams, str(tmp_path))
    house.deploy(house.timezone, own)
    house.deploy(house.timezone, without)
    assert is_there(house, "own", "a_view", "z_view") == [False] * 3
    assert set(house.deploy(house.timezone, own)) == {"own", "a_view", "z_view"}


def test_table_whose_file_is_gone_keeps_its_rows(
    own_house: House, streams: dict[str, Stream], tmp_path: Path
) -> None:
    house, without = own_house, own_house.project
    (tmp_path / "first.sql").write_text(
        "/*\nname: first\ndescription: The first hour.\nmaterialization: table\ngrain: [bucket]\n"
        "columns: {bucket: Hour}\n*/\nselect min(bucket) as bucket from {{ ref('energy_hourly') }}"
    )
    house.writer("energy").write("meter", evenly(HALF_HOURS))
    own = load_project(streams, str(tmp_path))
    house.deploy(house.timezone, own)
    house.deploy(house.timezone, without)
    assert house.execute("select bucket from first") == [(FROM,)]
    assert house.deploy(house.timezone, own) == []


def test_model_that_becomes_one_of_another_kind_is_made_anew(
    own_house: House, streams: dict[str, Stream], tmp_path: Path
) -> None:
    house = own_house
    text = built_in("energy_hourly").replace("name: energy_hourly", "name: own")
    file = tmp_path / "own.sql"
    house.writer("energy").write("meter", evenly(HALF_HOURS))
    for kind in ("function", "continuous_aggregate", "function", "continuous_aggregate"):
        file.write_text(text.replace("continuous_aggregate", kind))
        assert house.deploy(house.timezone, load_project(streams, str(tmp_path))) == ["own"]
        drain(house)
    assert sums(house, "own") == sums(house, "energy_hourly")


def test_table_of_a_stream_that_is_declared_no_more_marks_nothing_until_it_is_again(
    own_house: House, streams: dict[str, Stream]
) -> None:
    house, everything = own_house, own_house.project
    writer = house.writer("energy")
    writer.write("meter", evenly(HALF_HOURS[:10]))
    house.drain()
    house.deploy(house.timezone, load_project({n: stream for n, stream in streams.items() if n != "energy"}))
    assert is_there(house, "energy_hourly", "energy_yearly") == [False, False]
    writer.write("meter", evenly(HALF_HOURS))
    assert house.marks("energy%") == 0
    house.execute("truncate public.energy_readings")
    writer.write("meter", evenly(HALF_HOURS[:20]))
    house.deploy(house.timezone, everything)
    assert house.differences("energy", "meter") == []
    house.drain()
    assert house.differences("energy", "meter") == []
    house.execute("truncate public.energy_readings")
    assert house.differences("energy", "meter") == []


def test_removing_a_model_does_not_wait_for_a_writer_that_marks_it(
    own_house: House, streams: dict[str, Stream], tmp_path: Path
) -> None:
    house, without = own_house, own_house.project
    own = copied(streams, tmp_path, "energy_hourly", "own")
    house.deploy(house.timezone, own)
    writer = house.writer("energy")
    writer.write("meter", evenly(HALF_HOURS[:10]))
    with writer.conn.transaction():
        writer.write_open("meter", LATE)
        house.deploy(house.timezone, without)
    house.deploy(house.timezone, without)
    assert house.marks("own") == 0
    house.deploy(house.timezone, own)
    assert sums(house, "own") == sums(house, "energy_hourly")
