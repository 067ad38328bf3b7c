"""What retention drops, and what is still right afterwards."""

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from dbt_like_sql.engine.deploy import deploy
from dbt_like_sql.engine.project import load_project
from dbt_like_sql.engine.scaffold import scaffold_models
from hl_platform.core.errors import DeployedOtherwiseError
from tests.retention.conftest import Pair
from tests.retention.home import DAY, STREAM, Keeper, assert_same, meter

Make = Callable[..., Pair]


def fill(*keepers: Keeper, days: int = 4, step_h: float = 2.5) -> None:
    n = int(days * 24 / step_h)
    for keeper in keepers:
        keeper.ingest(
            meter(DAY + timedelta(hours=step_h * i), 10 + i * 1.3, device=device)
            for i in range(n)
            for device in ("m1", "m2")
        )


def test_aggregates_are_the_same_before_and_after_dropping(houses: Make) -> None:
    house, oracle = houses()
    fill(house, oracle)
    before = house.level("daily")
    house.drop_before(DAY + timedelta(days=3))
    assert house.level("daily") == before
    assert_same(house, oracle)


def test_only_the_last_reading_of_each_device_stays_below_the_floor(houses: Make) -> None:
    house, _ = houses()
    fill(house)
    house.drop_before(DAY + timedelta(days=3))
    floor = DAY + timedelta(days=3)
    assert [device for device, at, _ in house.raw() if at < floor] == ["m1", "m2"]


@pytest.mark.parametrize("zone", ["Europe/Berlin", "Asia/Kolkata", "America/St_Johns"])
def test_late_readings_are_merged_into_what_was_dropped(houses: Make, zone: str) -> None:
    house, oracle = houses(zone)
    fill(house, oracle)
    house.drop_before(DAY + timedelta(days=3))
    late = [
        meter(DAY + timedelta(hours=23, minutes=40), 25),
        meter(DAY + timedelta(days=2, minutes=5), 36.2, device="m2"),
        meter(DAY + timedelta(hours=5), 12.9, sent=9, power=400.5),
    ]
    for keeper in (house, oracle):
        keeper.ingest(late)
    assert house.absorb() == len(late)
    assert_same(house, oracle)
    assert house.waiting() == 0


def test_a_floor_is_no_hour_without_its_first_half(houses: Make) -> None:
    house, oracle = houses("Asia/Kolkata")
    fill(house, oracle, step_h=0.4)
    house.drop_before(DAY + timedelta(days=2))
    for keeper in (house, oracle):
        keeper.ingest([meter(DAY + timedelta(days=2, minutes=10), 150)])
    house.refresh()
    house.absorb()
    assert_same(house, oracle)


def test_a_late_reading_in_the_hour_across_the_floor_holds_nothing_up(houses: Make) -> None:
    house, oracle = houses("Asia/Kolkata")
    fill(house, oracle)
    house.drop_before(DAY + timedelta(days=2))
    for keeper in (house, oracle):
        keeper.ingest([meter(DAY + timedelta(days=2, minutes=10), 150)])
    assert house.drop_before(DAY + timedelta(days=3)) > 0
    house.absorb()
    assert_same(house, oracle)


def test_history_in_the_catch_all_is_archived_and_dropped_by_days(houses: Make) -> None:
    house, oracle = houses()
    for keeper in (house, oracle):
        keeper.ingest((meter(DAY + timedelta(hours=7 * i), i * 2.0) for i in range(12)), partitions=False)
    house.drop_before(DAY + timedelta(days=3))
    assert [n for _, _, n in house.archived()] == [4, 3, 4]
    assert_same(house, oracle)


def test_a_device_that_was_silent_across_the_floor_loses_nothing(houses: Make) -> None:
    house, oracle = houses("Europe/Berlin")
    for keeper in (house, oracle):
        keeper.ingest(meter(DAY + timedelta(hours=h), 10 + h) for h in (1, 2, 30, 31))
        keeper.refresh()
    house.drop_before(DAY + timedelta(days=3))
    for keeper in (house, oracle):
        keeper.ingest([meter(DAY + timedelta(days=9), 300), meter(DAY + timedelta(days=5), 90)])
    house.absorb()
    assert_same(house, oracle)


def test_a_corrected_reading_replaces_the_archived_one_and_an_older_one_does_not(houses: Make) -> None:
    house, oracle = houses()
    for keeper in (house, oracle):
        keeper.ingest(meter(DAY + timedelta(hours=h), 10 + h, sent=5) for h in range(60))
    house.drop_before(DAY + timedelta(days=2))
    for keeper in (house, oracle):
        keeper.ingest(
            [meter(DAY + timedelta(hours=7), 17.5, sent=6), meter(DAY + timedelta(hours=9), 19.5, sent=4)]
        )
    assert house.absorb() == 1
    assert_same(house, oracle)


def test_hours_that_were_dropped_come_back_for_a_late_reading(houses: Make) -> None:
    house, oracle = houses("Asia/Kolkata", hours="1 days")
    fill(house, oracle)
    house.drop_before(DAY + timedelta(days=3))
    house.refresh()
    forgotten = house.model_retention.run(house.project.models["meter_hourly"])
    assert forgotten is not None
    for keeper in (house, oracle):
        keeper.ingest([meter(DAY + timedelta(days=1, hours=3), 24)])
    house.absorb()
    assert_same(house, oracle, hours_since=DAY + timedelta(days=3))


def test_hours_stay_as_long_as_a_late_reading_waits(houses: Make) -> None:
    house, _ = houses(hours="1 days")
    fill(house)
    house.drop_before(DAY + timedelta(days=3))
    house.ingest([meter(DAY + timedelta(days=1, hours=3), 24)])
    assert house.model_retention.run(house.project.models["meter_hourly"]) is None


def test_nothing_is_dropped_that_a_model_may_need_which_only_the_database_knows(
    houses: Make, tmp_path: Path
) -> None:
    house, _ = houses()
    fill(house)
    house.refresh()
    [day, *_] = house.retention.plan(STREAM, DAY + timedelta(days=3))
    checked = house.retention.archive(STREAM, day)
    assert checked is not None
    text = scaffold_models(STREAM)["meter_hourly.sql"].replace("meter_hourly", "own_hours")
    (tmp_path / "own_hours.sql").write_text(text)
    deploy(house.db, load_project({STREAM.name: STREAM}, str(tmp_path)), "Europe/Berlin", "test")
    with pytest.raises(DeployedOtherwiseError, match="own_hours"):
        house.retention.drop(STREAM, checked)
    with pytest.raises(DeployedOtherwiseError, match="own_hours"):
        house.drop_before(DAY + timedelta(days=3))
    assert house.query("select count(*) from hl.archives") == [(0,)]
