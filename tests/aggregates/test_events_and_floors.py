"""What a person says of a counter, models that are made anew, and what retention has taken away."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from importlib import resources
from pathlib import Path

import pytest

from dbt_like_sql.engine.project import Project, load_project
from hl_platform.core.streams import Stream
from tests.aggregates.house import House, at, evenly, meter
from tests.aggregates.oracle import buckets, differences

RESET = at("2026-03-03 12:00")
STEPS = [
    (at("2026-03-03 08:00"), 900.0),
    (at("2026-03-03 09:10"), 901.0),
    (RESET, 3.0),
    (at("2026-03-03 12:30"), 4.0),
]


def override(house: House, device: str, value: float | None) -> None:
    house.execute("update hl.counter_events set override = %s where device_id = %s", value, device)


def test_what_a_person_says_a_reset_moved_counts_at_every_level_at_once(house: House, device: str) -> None:
    house.writer("energy").write(device, meter(STEPS))
    house.drain()
    said = {("total_energy_kwh", RESET): 11.5}
    override(house, device, 11.5)
    assert house.differences("energy", device, overrides=said) == []
    house.drain()
    assert house.differences("energy", device, overrides=said) == []
    assert house.execute("select kind, override from hl.counter_events where device_id = %s", device) == [
        ("reset", 11.5)
    ]
    override(house, device, None)
    assert house.differences("energy", device) == []
    house.drain()
    assert house.differences("energy", device) == []


def test_what_a_person_says_counts_in_models_of_the_household_too(
    own_house: House, device: str, tmp_path: Path
) -> None:
    packaged = Path(str(resources.files("dbt_like_sql") / "models" / "energy" / "energy_hourly.sql"))
    text = packaged.read_text("utf-8").replace("name: energy_hourly", "name: energy_mine")
    (tmp_path / "energy_mine.sql").write_text(text, "utf-8")
    own_house.deploy("Europe/Berlin", load_project(own_house.streams, str(tmp_path)))
    own_house.writer("energy").write(device, meter(STEPS))
    own_house.drain()
    override(own_house, device, 11.5)
    sums = "select (select sum(consumption_kwh) from energy_mine), (select sum(consumption_kwh) from energy_hourly)"
    [(mine, hourly)] = own_house.execute(sums)
    assert mine == hourly
    own_house.drain()
    assert own_house.execute(sums) == [(hourly, hourly)]


def test_override_survives_a_correction_of_its_hour(house: House, device: str) -> None:
    house.writer("energy").write(device, meter(STEPS))
    house.drain()
    override(house, device, 11.5)
    house.drain()
    house.execute(
        "update public.energy_readings set power_kw = 4 where device_id = %s and timestamp = %s",
        device,
        RESET,
    )
    house.drain()
    assert house.differences("energy", device, overrides={("total_energy_kwh", RESET): 11.5}) == []


def test_overridden_event_that_a_person_deletes_counts_by_rule_again(house: House, device: str) -> None:
    house.writer("energy").write(device, meter(STEPS))
    house.drain()
    override(house, device, 11.5)
    house.drain()
    house.execute("delete from hl.counter_events where device_id = %s", device)
    assert house.differences("energy", device) == []


def test_override_that_a_person_inserts_counts_at_once(house: House, device: str) -> None:
    house.writer("energy").write(device, meter(STEPS))
    house.drain()
    house.execute("delete from hl.counter_events where device_id = %s", device)
    house.drain()
    house.execute(
        "insert into hl.counter_events (stream, field, device_id, at, before_at, before, after, kind, moved, override)"
        " values ('energy', 'total_energy_kwh', %s, %s, %s, 901, 3, 'reset', 3, 2.5)",
        *(device, RESET, STEPS[1][0]),
    )
    assert house.differences("energy", device, overrides={("total_energy_kwh", RESET): 2.5}) == []


def test_event_is_forgotten_when_its_reading_is_corrected(house: House, device: str) -> None:
    house.writer("energy").write(device, meter(STEPS))
    house.drain()
    assert house.execute(
        "select before, after, moved from hl.counter_events where device_id = %s", device
    ) == [(901.0, 3.0, 3.0)]
    house.execute(
        "update public.energy_readings set total_energy_kwh = 903 where device_id = %s and timestamp = %s",
        device,
        RESET,
    )
    house.drain()
    assert house.execute(
        "select before, after, kind from hl.counter_events where device_id = %s", device
    ) == [(903.0, 4.0, "reset")]


# -- floors --

# Views that read the hours, and are made anew with them.
COSTS = {"energy_cost_hourly", "energy_cost_daily", "energy_cost_monthly"}
FLOOR = at("2026-03-04 00:00")
# The last reading before the floor is 13 hours before the first behind it.
AROUND = [FLOOR + timedelta(hours=hour) for hour in (-30, -29, -28, -5, 8, 9, 10, 40)]


def drop_below(house: House, before: datetime, *, keep_last: bool) -> None:
    """What the archive does: raises the floor and drops what lies before it."""
    house.execute(
        "delete from public.energy_readings where timestamp < %s and (not %s or timestamp < "
        "(select max(timestamp) from public.energy_readings where timestamp < %s))",
        *(before, keep_last, before),
    )
    # Dropping a partition leaves no marks.
    house.execute("delete from hl.dirty")
    house.execute("insert into hl.floors values ('energy_readings', %s)", before)


def with_sum(streams: Mapping[str, Stream], folder: Path) -> Project:
    """The project with another energy_hourly, whose SQL has a column more."""
    source = Path("dbt_like_sql/models/energy/energy_hourly.sql").read_text()
    keys = "    device_id,\n    bucket,\n"
    changed = source.replace(keys, f"{keys}    count(*) as n_pieces,\n", 1)
    (folder / "energy_hourly.sql").write_text(changed)
    return load_project(streams, str(folder))


def test_buckets_below_the_floor_stay_as_they_are_though_their_readings_are_gone(own_house: House) -> None:
    house = own_house
    writer = house.writer("energy")
    given = evenly(AROUND)
    writer.write("meter", given)
    house.drain()
    drop_below(house, FLOOR, keep_last=False)
    # A late reading above the floor, and one below.
    late = meter([(FLOOR + timedelta(hours=8, minutes=20), 162.0), (FLOOR - timedelta(hours=20), 110.0)])
    before = house.level("energy", "hour", "meter")
    writer.write("meter", late)
    house.drain()
    after = house.level("energy", "hour", "meter")
    kept = {start: row for start, row in before.items() if start < FLOOR}
    assert kept
    assert {start: row for start, row in after.items() if start < FLOOR} == kept
    # The mark of the one below stays, for whoever absorbs it into the archive.
    assert house.marks("energy%") == 1


@pytest.mark.parametrize("zone", ["Europe/Berlin", "Asia/Kolkata"])
def test_bucket_that_lies_on_both_sides_of_the_floor_is_not_computed_from_half_of_it(
    own_house: House, zone: str
) -> None:
    house = own_house
    house.deploy(zone)
    times = [FLOOR + timedelta(minutes=10 * n) for n in range(-30, 30)]
    house.writer("energy").write("meter", evenly(times))
    house.drain()
    before = house.level("energy", "hour", "meter")
    drop_below(house, FLOOR, keep_last=False)
    house.execute(
        "update public.energy_readings set power_kw = 2 where timestamp = %s", FLOOR + timedelta(minutes=20)
    )
    house.drain()
    after = house.level("energy", "hour", "meter")
    sums = [sum(row["consumption_kwh"] for row in rows.values()) for rows in (before, after)]
    # The hour right above the floor has lost the ten minutes that lead into it, where they lead into it.
    assert sums[1] == pytest.approx(sums[0], abs=0.34)
    assert [start for start in before if start < FLOOR] == [start for start in after if start < FLOOR]
    straddling = max(start for start in before if start < FLOOR)
    assert after[straddling]["n_readings"] == before[straddling]["n_readings"]


def test_day_that_lies_on_both_sides_of_the_floor_of_hours_is_not_computed_from_half_of_it(
    own_house: House,
) -> None:
    house = own_house
    times = [FLOOR + timedelta(minutes=10 * n) for n in range(-30, 300)]
    house.writer("energy").write("meter", evenly(times))
    house.drain()
    before = house.level("energy", "day", "meter")
    # Hours are dropped by UTC months; the local day begins an hour earlier.
    house.execute("delete from materialized.energy_hourly where bucket < %s", FLOOR)
    house.execute("insert into hl.floors values ('energy_hourly', %s), ('energy_readings', %s)", FLOOR, FLOOR)
    house.execute(
        "update public.energy_readings set power_kw = 2 where timestamp = %s", FLOOR + timedelta(minutes=20)
    )
    house.drain()
    assert min(before) in house.level("energy", "day", "meter")
    straddling = max(start for start in before if start < FLOOR)
    assert house.level("energy", "day", "meter")[straddling]["n_readings"] == before[straddling]["n_readings"]


def test_hours_right_above_the_floor_keep_their_step_while_the_reading_before_is_there(
    own_house: House, streams: dict[str, Stream], tmp_path: Path
) -> None:
    house = own_house
    given = evenly(AROUND)
    house.writer("energy").write("meter", given)
    house.drain()
    drop_below(house, FLOOR, keep_last=True)
    house.deploy(house.timezone, with_sum(streams, tmp_path))
    house.drain()
    wanted = buckets(streams["energy"], given, "hour", house.timezone)
    assert differences(house.level("energy", "hour", "meter"), wanted) == []


def test_model_whose_sql_changed_is_right_at_once_and_keeps_its_rows_below_the_floor(
    own_house: House, streams: dict[str, Stream], tmp_path: Path
) -> None:
    house = own_house
    given = evenly(AROUND)
    house.writer("energy").write("meter", given)
    house.drain()
    drop_below(house, FLOOR, keep_last=True)
    assert set(house.deploy(house.timezone, with_sum(streams, tmp_path))) == {"energy_hourly", *COSTS}
    assert house.differences("energy", "meter", given) == []
    house.drain()
    assert house.marks("energy%") == 0
    assert house.differences("energy", "meter", given) == []
    pieces = house.execute(
        "select bucket < %s, count(n_pieces) > 0 from energy_hourly group by 1 order by 1", FLOOR
    )
    assert pieces == [(False, True), (True, False)]


def test_view_of_the_household_outlives_a_change_of_what_it_reads(
    own_house: House, streams: dict[str, Stream], tmp_path: Path
) -> None:
    house = own_house
    (tmp_path / "costs.sql").write_text(
        "/*\nname: costs\ndescription: What each hour cost.\nmaterialization: view\ngrain: [device_id, bucket]\n"
        "columns: {device_id: Which, bucket: Hour}\n*/\n"
        "select device_id, bucket, consumption_kwh * 0.3 as costs from {{ ref('energy_hourly') }}"
    )
    house.deploy(house.timezone, load_project(streams, str(tmp_path)))
    house.writer("energy").write("meter", evenly(AROUND[:3]))
    house.deploy(house.timezone, with_sum(streams, tmp_path))
    assert house.execute("select sum(costs)::float8 from public.costs")[0][0] == pytest.approx(1.2)
