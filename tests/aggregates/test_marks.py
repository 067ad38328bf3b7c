"""Marks: every change leaves those it needs, whoever makes it and whatever else happens at that moment."""

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import timedelta

import psycopg
import pytest

from dbt_like_sql.engine.refresh import Refresher
from hl_platform.adapters.postgres.connection import connect
from hl_platform.adapters.postgres.database import BULK, SqlDatabase
from tests.aggregates.house import VERSION, House, Writer, at, evenly, meter
from tests.home import eventually

DAY_OF_HOURS = [at("2026-03-03 08:00") + timedelta(hours=hour) for hour in range(8)]


def waits(house: House, application_name: str = "test-writer") -> bool:
    """Whether a connection waits for a lock."""
    query = "select count(*) from pg_stat_activity where wait_event_type = 'Lock' and application_name = %s"
    return bool(house.execute(query, application_name)[0][0])


def test_late_row_in_a_gap_of_years_costs_marks_of_three_months_at_most(house: House, device: str) -> None:
    writer = house.writer("energy")
    writer.write(device, meter([(at("2024-01-01 00:00"), 1.0), (at("2026-01-01 00:00"), 900.0)]))
    house.refresh("energy_hourly")
    writer.write(device, meter([(at("2025-01-01 00:00"), 500.0)]))
    assert house.marks("energy_hourly") <= 3 * 31 * 24 + 4
    assert house.differences("energy", device, levels=["hour"]) == []


def test_new_partition_marks_changes_made_to_it_directly(house: House, device: str) -> None:
    house.writer("energy").write(device, evenly(DAY_OF_HOURS))
    house.drain()
    partition = "public.energy_readings_p20260303"
    where = "where device_id = %s and timestamp = %s"
    house.execute(f"delete from {partition} {where}", device, DAY_OF_HOURS[4])
    assert house.marks("energy_hourly") == 3
    house.execute(f"update {partition} set power_kw = 9 {where}", device, DAY_OF_HOURS[6])
    house.execute(
        f"insert into {partition} (device_id, timestamp, total_energy_kwh, power_kw, received_at)"
        " values (%s, %s, 100, 1, now())",
        *(device, DAY_OF_HOURS[0] - timedelta(minutes=1)),
    )
    assert house.differences("energy", device) == []


def test_writer_that_is_open_during_a_refresh_is_not_waited_for_and_nothing_is_lost(
    house: House, device: str
) -> None:
    writer = house.writer("energy")
    writer.write(device, evenly(DAY_OF_HOURS))
    with writer.conn.transaction():
        writer.write_open(device, meter([(DAY_OF_HOURS[3] + timedelta(minutes=5), 170.0)]))
        assert house.refresh("energy_hourly") == 6
    assert house.marks("energy_hourly") == 2
    assert house.differences("energy", device) == []
    house.drain()
    assert house.differences("energy", device) == []


def test_writer_that_comes_while_a_refresh_has_taken_its_mark_marks_anew(house: House, device: str) -> None:
    writer = house.writer("energy")
    writer.write(device, evenly(DAY_OF_HOURS))
    late = meter([(DAY_OF_HOURS[3] + timedelta(minutes=5), 170.0)])
    with ThreadPoolExecutor(1) as pool:
        with house.db.transaction():
            house.refresh("energy_hourly")
            written = pool.submit(writer.write, device, late)
            eventually(lambda: waits(house))
        written.result()
    assert house.marks("energy_hourly") == 2
    assert house.differences("energy", device) == []


def test_reading_behind_one_that_is_being_deleted_is_counted_from_the_one_before(
    house: House, device: str
) -> None:
    first, middle, late, last = (at(f"2026-03-03 {hour}:00") for hour in ("08", "12", "14", "15"))
    writer = house.writer("energy")
    writer.write(device, meter([(first, 10.0), (middle, 20.0), (last, 25.0)]))
    house.drain()
    deleting = Writer(house.url, house.streams["energy"])
    written, refreshed = threading.Event(), threading.Event()

    def write() -> None:
        with writer.conn.transaction():
            writer.write_open(device, meter([(late, 23.0)]))
            written.set()
            assert refreshed.wait(30)

    with ThreadPoolExecutor(1) as pool:
        with deleting.conn.transaction():
            deleting.conn.execute(
                "delete from public.energy_readings where device_id = %s and timestamp = %s", (device, middle)
            )
            done = pool.submit(write)
            eventually(lambda: waits(house))
        assert written.wait(30)
        house.drain()
        refreshed.set()
        done.result()
    deleting.conn.close()
    assert house.differences("energy", device) == []


def test_second_refresher_waits_for_the_first_where_hours_begin_at_the_half_hour(
    own_house: House, device: str
) -> None:
    """Two marks stand for one bucket there: the older of two results could come last."""
    house = own_house
    house.deploy("Asia/Kolkata")
    house.writer("energy").write(device, evenly(DAY_OF_HOURS))
    other_db = SqlDatabase(house.url, "test-second", BULK)
    other = Refresher(other_db, house.project, VERSION)
    model = house.project.models["energy_hourly"]
    with ThreadPoolExecutor(1) as pool:
        with house.db.transaction():
            house.refresh("energy_hourly", limit=2)
            done = pool.submit(other.refresh, model, limit=2)
            eventually(lambda: waits(house, "test-second"))
        assert done.result().n_marks == 2
    other_db.close()


def test_deploying_a_model_waits_for_an_open_writer_and_has_its_rows(own_house: House, device: str) -> None:
    house = own_house
    writer = house.writer("energy")
    writer.write(device, evenly(DAY_OF_HOURS[:4]))
    house.execute("delete from hl.models where model = 'energy_hourly'")
    house.execute("drop view public.energy_hourly cascade; drop view hl.dirty_energy_hourly")
    house.execute("drop table materialized.energy_hourly cascade")
    house.execute("delete from hl.dirty where model = 'energy_hourly'")
    with ThreadPoolExecutor(1) as pool:
        with writer.conn.transaction():
            writer.write_open(device, evenly(DAY_OF_HOURS))
            writer.conn.execute("delete from hl.dirty")
            deployed = pool.submit(house.deploy, house.timezone)
            # The server ends a transaction that is idle for long.
            eventually(lambda: writer.conn.execute("select 1") and waits(house, "test-refresher"))
        assert "energy_hourly" in deployed.result()
    assert house.differences("energy", device) == []


def test_reader_of_one_snapshot_sees_no_half_refresh(house: House, device: str) -> None:
    house.writer("energy").write(device, evenly(DAY_OF_HOURS))
    conn = connect(house.url, application_name="test-snapshot", autocommit=False)
    query = b"select sum(consumption_kwh), count(*) from public.energy_daily where device_id = %s"
    conn.execute(b"set transaction isolation level repeatable read")
    before = conn.execute(query, (device,)).fetchone()
    house.drain()
    assert conn.execute(query, (device,)).fetchone() == before
    conn.rollback()
    assert conn.execute(query, (device,)).fetchone() == before
    conn.close()


def test_deleting_all_readings_at_once_leaves_nothing_of_the_steps_between_them(
    house: House, device: str
) -> None:
    house.writer("energy").write(device, evenly(DAY_OF_HOURS[::4]))
    house.drain()
    house.execute("delete from public.energy_readings where device_id = %s", device)
    assert house.differences("energy", device) == []


def test_first_readings_of_a_device_by_two_writers_at_once_are_joined(house: House, device: str) -> None:
    one, two = house.writer("energy"), Writer(house.url, house.streams["energy"])
    with ThreadPoolExecutor(1) as pool:
        with two.conn.transaction():
            two.write_open(device, evenly(DAY_OF_HOURS[:1]))
            done = pool.submit(one.write, device, meter([(DAY_OF_HOURS[7], 130.0)]))
            eventually(lambda: done.done() or waits(house))
        done.result()
    two.conn.close()
    assert house.differences("energy", device) == []


@pytest.mark.parametrize(
    ("before", "between", "behind"),
    [(("10:20", "10:30"), "10:50", "11:20"), (("09:40", "09:50"), "10:10", "15:00")],
    ids=["the next hour", "hours behind"],
)
def test_late_readings_of_two_writers_at_once_are_joined_though_a_refresh_comes_between(
    house: House, device: str, before: tuple[str, str], between: str, behind: str
) -> None:
    writer, other = house.writer("energy"), Writer(house.url, house.streams["energy"])
    writer.write(device, meter((at(f"2026-03-02 {time}"), 100.0 + n) for n, time in enumerate(before)))
    house.drain()
    may_commit = threading.Event()

    def write_between() -> None:
        with writer.conn.transaction():
            writer.write_open(device, meter([(at(f"2026-03-02 {between}"), 190.0)]))
            may_commit.wait()

    with ThreadPoolExecutor(1) as thread, closing(other.conn):
        with other.conn.transaction():
            other.write_open(device, meter([(at(f"2026-03-02 {behind}"), 200.0)]))
            waiting = thread.submit(write_between)
            eventually(lambda: waits(house))
        # The one has committed; the other has written, knowing of it or not, and not committed.
        eventually(lambda: not waits(house))
        house.refresh("energy_hourly")
        may_commit.set()
        waiting.result()
    house.drain()
    assert house.differences("energy", device) == []


def test_readings_cannot_be_changed_by_who_does_not_see_what_he_waited_for(house: House, device: str) -> None:
    writer = house.writer("energy")
    writer.write(device, evenly(DAY_OF_HOURS))
    house.drain()
    for level in ("repeatable read", "serializable"):
        house.execute(f"begin isolation level {level}")
        with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState, match="read committed"):
            house.execute("delete from energy_readings where device_id = %s", device)
        house.execute("rollback")
    assert house.marks("energy_hourly", device) == 0


def test_own_connections_see_what_others_committed_whatever_the_servers_default_is(own_house: House) -> None:
    [[name]] = own_house.execute("select current_database()")
    own_house.execute(f"alter database {name} set default_transaction_isolation = 'serializable'")
    with closing(connect(own_house.url, application_name="test-reader")) as conn:
        assert conn.execute("show transaction_isolation").fetchone() == ("read committed",)


def test_two_who_want_the_same_partition_at_once_both_go_on(house: House) -> None:
    query = "select hl.ensure_bucket_partition('energy_hourly', 'month', '2031-05-01 00:00+00')"
    other = connect(house.url, application_name="test-writer")
    with ThreadPoolExecutor(1) as pool:
        with house.db.transaction():
            assert house.db.rows(query) == [(True,)]
            # It has looked for the partition, and waits for us to have made it.
            done = pool.submit(lambda: other.execute(query.encode()).fetchone())
            eventually(lambda: waits(house))
        assert done.result() == (False,)
    other.close()


def test_emptied_table_empties_its_aggregates(own_house: House) -> None:
    own_house.writer("energy").write("m", evenly(DAY_OF_HOURS))
    own_house.drain()
    own_house.execute("truncate public.energy_readings_p20260303")
    assert own_house.differences("energy", "m", {}) == []
    own_house.drain()
    assert own_house.differences("energy", "m", {}) == []
    assert own_house.execute("select count(*) from materialized.energy_hourly") == [(0,)]
