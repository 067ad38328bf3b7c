"""Whatever is interrupted, comes in between or is damaged: nothing is lost, and nothing is wrong."""

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from dbt_like_sql.engine.restore import forget_restored, restore
from hl_platform.adapters import archive_reader
from hl_platform.adapters.archive_reader import ArchiveReader
from hl_platform.adapters.postgres.connection import connect
from hl_platform.core.errors import ConfigError, InvariantError, TookTooLongError, TransientError
from tests.retention.conftest import Pair
from tests.retention.home import DAY, STREAM, House, Keeper, assert_same, meter

Make = Callable[..., Pair]
CUTOFF = DAY + timedelta(days=2)


def fill(*keepers: Keeper) -> None:
    for keeper in keepers:
        keeper.ingest(meter(DAY + timedelta(hours=h), 10 + h * 1.5) for h in range(60))


def first_file(house: House) -> Path:
    return house.directory / house.query("select path from hl.archives order by day, part limit 1")[0][0]


def test_interrupted_after_the_file_leaves_everything_in_the_table(houses: Make) -> None:
    house, oracle = houses()
    fill(house, oracle)
    day = house.retention.plan(STREAM, CUTOFF)[0]
    house.retention.refresh(STREAM, day)
    house.retention.archive(STREAM, day)
    assert len(house.raw()) == 60
    assert house.drop_before(CUTOFF) == 48
    assert_same(house, oracle)


def test_a_reading_that_comes_while_its_day_is_written_is_not_lost(houses: Make) -> None:
    house, oracle = houses()
    fill(house, oracle)
    day = house.retention.plan(STREAM, CUTOFF)[0]
    house.retention.refresh(STREAM, day)
    checked = house.retention.archive(STREAM, day)
    for keeper in (house, oracle):
        keeper.ingest([meter(DAY + timedelta(hours=3, minutes=7), 14.6)])
    assert not house.retention.drop(STREAM, checked)
    house.drop_before(CUTOFF)
    assert house.archived() == [("2024-05-06", 1, 25), ("2024-05-07", 0, 24)]
    assert_same(house, oracle)


def test_a_reading_of_an_earlier_day_that_comes_meanwhile_is_not_lost(houses: Make) -> None:
    house, oracle = houses()
    fill(house, oracle)
    late = [meter(DAY - timedelta(days=3), 1.0)]
    day = house.retention.plan(STREAM, CUTOFF)[0]
    for keeper in (house, oracle):
        keeper.ingest(late, partitions=False)
        keeper.refresh()
    with pytest.raises(TransientError, match="Next time"):
        house.retention.run_day(STREAM, day, tries=1)
    house.drop_before(CUTOFF)
    assert_same(house, oracle)


def test_a_table_in_use_is_not_waited_for_and_nothing_is_dropped(houses: Make) -> None:
    house, _ = houses()
    fill(house)
    day = house.retention.plan(STREAM, CUTOFF)[0]
    house.retention.refresh(STREAM, day)
    checked = house.retention.archive(STREAM, day)
    with connect(house.url, application_name="test-writer", autocommit=False) as writer:
        writer.execute("update meter_readings set power = power where timestamp < %s", [CUTOFF])
        with pytest.raises(TransientError):
            house.retention.drop(STREAM, checked)
        writer.rollback()
    assert house.retention.drop(STREAM, checked)


def test_an_aggregate_that_is_wrong_keeps_its_readings(houses: Make) -> None:
    house, oracle = houses()
    fill(house, oracle)
    house.refresh()
    house.query(
        "update materialized.meter_hourly set power_sum = power_sum + 1 where bucket = '2024-05-06 05:00Z' returning 1"
    )
    day = house.retention.plan(STREAM, CUTOFF)[0]
    with pytest.raises(InvariantError, match="sum of power"):
        house.retention.archive(STREAM, day)
    assert house.archived() == []
    # It was marked, and is computed again.
    house.drop_before(CUTOFF)
    assert_same(house, oracle)


def test_a_lost_file_leaves_late_readings_and_aggregates_as_they_are(houses: Make) -> None:
    house, oracle = houses()
    fill(house, oracle)
    house.drop_before(CUTOFF)
    file = first_file(house)
    data = file.read_bytes()
    before = house.level("daily")
    for keeper in (house, oracle):
        keeper.ingest([meter(DAY + timedelta(hours=3, minutes=7), 14.6)])
    marks = house.waiting()
    file.unlink()
    with pytest.raises(ConfigError, match=file.name):
        house.absorb()
    assert (house.level("daily"), house.waiting()) == (before, marks)
    file.write_bytes(data)
    house.absorb()
    assert_same(house, oracle)


def test_absorbing_that_fails_at_the_end_has_changed_nothing(
    houses: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    house, oracle = houses()
    fill(house, oracle)
    house.drop_before(CUTOFF)
    for keeper in (house, oracle):
        keeper.ingest([meter(DAY + timedelta(hours=3, minutes=7), 14.6)])
    before = (house.raw(), house.waiting(), house.archived())
    with monkeypatch.context() as patch:
        patch.setattr("dbt_like_sql.engine.absorb_sql.LEAVE", "select 1 / 0")
        with pytest.raises(Exception, match="division"):
            house.absorber.absorb(STREAM)
    assert (house.raw(), house.waiting(), house.archived()) == before
    house.absorb()
    assert_same(house, oracle)


def test_a_refresh_and_a_drop_wait_for_each_other(houses: Make) -> None:
    house, _ = houses()
    fill(house)
    day = house.retention.plan(STREAM, CUTOFF)[0]
    house.retention.refresh(STREAM, day)
    checked = house.retention.archive(STREAM, day)
    with connect(house.url, application_name="test-refresh", autocommit=False) as other:
        other.execute("select pg_advisory_xact_lock_shared(hashtextextended('hl.floors.meter_readings', 0))")
        with pytest.raises(TransientError):
            house.retention.drop(STREAM, checked)
        other.rollback()
    assert house.retention.drop(STREAM, checked)


def test_restored_readings_are_those_that_were_archived_and_change_nothing(houses: Make) -> None:
    house, oracle = houses()
    fill(house, oracle)
    house.drop_before(CUTOFF)
    before = (house.raw(), house.waiting())
    for _ in range(2):
        n_rows = restore(house.db, house.files, STREAM.table, DAY + timedelta(hours=20), CUTOFF)
    assert n_rows == 28
    columns = "device_id, timestamp, total, power, mode, running, level, received_at"
    wanted = f"select {columns} from meter_readings where timestamp >= %s and timestamp < %s order by 2"  # noqa: S608
    restored = house.query(f"select {columns} from restored.meter_readings order by 2")  # noqa: S608
    assert restored == oracle.query(wanted, [DAY + timedelta(hours=20), CUTOFF])
    assert (house.raw(), house.waiting()) == before
    assert forget_restored(house.db) == ["meter_readings"]


def test_the_reader_gives_archived_readings_in_order_up_to_the_limit(houses: Make) -> None:
    house, _ = houses()
    sent = [
        meter(DAY + timedelta(hours=h), 10 + h * 1.5, device=device)
        for h in range(60)
        for device in ("a", "b")
    ]
    house.ingest(sent)
    house.drop_before(CUTOFF)
    reader = ArchiveReader(house.url, house.directory)
    start = DAY + timedelta(hours=22)
    assert reader.raw(STREAM, start, CUTOFF, 7) == sent[44:51]
    assert reader.raw(STREAM, start, CUTOFF, 3, ["b"]) == sent[45:51:2]
    assert reader.raw(STREAM, start, CUTOFF, 3, ["c"]) == []


def test_the_reader_begins_no_further_day_when_its_time_is_over(
    houses: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    house, _ = houses()
    fill(house)
    house.drop_before(CUTOFF)
    monkeypatch.setattr(archive_reader, "REQUEST_TIMEOUT_S", 0)
    with pytest.raises(TookTooLongError, match="20240506"):
        ArchiveReader(house.url, house.directory).raw(STREAM, DAY, CUTOFF, 1000)
