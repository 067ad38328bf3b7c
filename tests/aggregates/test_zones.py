"""Local days and hours in zones whose days are odd: hours partition days, days partition time, sums agree."""

from collections.abc import Callable
from datetime import datetime, timedelta
from itertools import pairwise

import pytest

from dbt_like_sql.engine.objects import zone_functions
from tests.aggregates.house import House, at, evenly, meter
from tests.aggregates.oracle import moment, span_of

# Each zone with a moment two days before something happens to its clocks.
ZONES = {
    "Europe/Berlin, a day of 23 hours": ("Europe/Berlin", at("2026-03-27 12:00")),
    "Europe/Berlin, a day of 25 hours": ("Europe/Berlin", at("2025-10-24 12:00")),
    "Asia/Kolkata, half hours": ("Asia/Kolkata", at("2026-02-26 12:00")),
    "Australia/Lord_Howe, half an hour less": ("Australia/Lord_Howe", at("2025-10-03 12:00")),
    "Australia/Lord_Howe, half an hour more": ("Australia/Lord_Howe", at("2026-04-02 12:00")),
    "America/Havana, midnight comes twice": ("America/Havana", at("2025-10-31 12:00")),
    "America/Sao_Paulo, no midnight": ("America/Sao_Paulo", at("2017-10-13 12:00")),
}
# A border of days, hours in which the clocks are set, and nothing round.
TIMES = [timedelta(minutes=37 * n) for n in range(180)]


def readings(begin: datetime) -> list[datetime]:
    return [begin + offset for offset in TIMES]


@pytest.mark.parametrize("name", ZONES)
def test_hours_make_up_days_and_days_make_up_time(new_house: Callable[[str], House], name: str) -> None:
    zone, begin = ZONES[name]
    house = new_house(zone)
    house.writer("energy").write("meter", evenly(readings(begin)), partitions=False)
    house.refresh("energy_hourly", limit=40)
    assert house.differences("energy", "meter") == []
    house.drain()
    assert house.marks("energy%") == 0
    assert house.differences("energy", "meter") == []
    for level in ("hour", "day"):
        spans = sorted(
            (start, row["bucket_end"]) for start, row in house.level("energy", level, "meter").items()
        )
        assert all(end == start for (_, end), (start, _) in pairwise(spans))
    days = house.level("energy", "day", "meter")
    hours = house.level("energy", "hour", "meter")
    for day, row in days.items():
        within = [
            hour["consumption_kwh"] for start, hour in hours.items() if day <= start < row["bucket_end"]
        ]
        assert sum(within) == pytest.approx(row["consumption_kwh"])


@pytest.mark.parametrize(
    ("since", "until"), [("2026-02-01 08:00", "2026-04-10 07:30"), ("2025-08-01 08:00", "2025-11-10 07:30")]
)
def test_energy_is_the_same_whatever_time_zone_a_session_has(
    house: House, device: str, since: str, until: str
) -> None:
    house.writer("energy").write(device, meter([(at(since), 100.0)]))
    house.drain()
    # A person's session, or Grafana's: the clocks change within the 31 days that the step is spread over.
    house.execute("set timezone = 'Europe/Berlin'")
    insert = (
        "insert into energy_readings (device_id, timestamp, total_energy_kwh, power_kw, received_at) "
        "values (%s, %s, 844, 1, now())"
    )
    house.execute(insert, device, at(until))
    sum_of = "select round(sum(consumption_kwh)::numeric, 6) from energy_hourly where device_id = %s"
    assert house.execute(sum_of, device) == [(744,)]
    house.execute("set timezone = 'UTC'")
    assert house.execute(sum_of, device) == [(744,)]
    house.drain()
    assert house.execute(sum_of, device) == [(744,)]
    assert house.differences("energy", device) == []


def test_another_time_zone_makes_all_buckets_anew(new_house: Callable[[str], House]) -> None:
    house = new_house("Europe/Berlin")
    house.writer("energy").write("meter", evenly(readings(at("2026-03-27 12:00"))), partitions=False)
    house.drain()
    house.deploy("Asia/Kolkata")
    assert house.differences("energy", "meter") == []
    house.drain()
    assert house.differences("energy", "meter") == []
    assert house.marks("energy%") == 0


def test_bucket_functions_agree_with_the_calendar(own_house: House) -> None:
    house = own_house
    for zone, begin in ZONES.values():
        for statement in zone_functions(zone):
            house.execute(statement)
        moments = [begin + timedelta(minutes=10 * n) for n in range(600)]
        for level in ("hour", "day", "month", "year"):
            found = house.execute(
                "select at, start, hl.bucket_end(%s, start) from unnest(%s::timestamptz[]) as at "
                "cross join lateral hl.bucket_start(%s, at) as start order by at",
                *(level, moments, level),
            )
            spans = [span_of(level, round(m.timestamp() * 1_000_000), zone) for m in moments]
            wanted = [
                (m, moment(span.start), moment(span.end)) for m, span in zip(moments, spans, strict=True)
            ]
            assert found == wanted
