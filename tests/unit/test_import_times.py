"""Times of files: with an offset, as Unix times, and by a clock on the wall that is set twice a year."""

from datetime import UTC, date, datetime
from zoneinfo import ZoneInfo

import pytest

from hl_platform.core.errors import PoisonRecordError
from hl_platform.core.import_times import TimeReader

BERLIN = ZoneInfo("Europe/Berlin")
NOON = datetime(2024, 1, 3, 12, tzinfo=UTC)


def read(value: object, form: str | None = None) -> datetime:
    return TimeReader(BERLIN, form).read(value, "meter1")


def read_all(*clocks: str) -> list[str]:
    reader = TimeReader(BERLIN)
    return [f"{reader.read(f'2024-10-27 {clock}', 'meter1'):%H:%M}" for clock in clocks]


@pytest.mark.parametrize(
    "value",
    [
        "2024-01-03T12:00:00Z",
        "2024-01-03T13:00:00+01:00",
        "2024-01-03 12:00:00+00",
        " 2024-01-03 13:00 ",
        "1704283200",
        "1704283200.0",
        "1704283200000",
        1704283200,
        1704283200000,
        1704283200000000,
        1704283200000000000,
        datetime(2024, 1, 3, 13),  # noqa: DTZ001 - a clock on a wall
        NOON,
    ],
)
def test_one_moment_in_many_forms(value: object):
    assert read(value) == NOON


def test_fractions_are_kept_to_the_microsecond():
    assert read("1704283200.123456") == NOON.replace(microsecond=123456)
    assert read("1704283200123") == NOON.replace(microsecond=123000)


def test_a_date_is_its_local_midnight():
    assert read(date(2024, 7, 1)) == read("2024-07-01") == datetime(2024, 6, 30, 22, tzinfo=UTC)


def test_a_form_of_ones_own():
    assert read("03.01.2024 13:00", "%d.%m.%Y %H:%M") == NOON


@pytest.mark.parametrize(
    "value", ["", None, "yesterday", "03.01.2024", True, -5, "9999-12-31 23:59:59-12:00"]
)
def test_what_is_no_time_is_rejected(value: object):
    with pytest.raises(PoisonRecordError) as caught:
        read(value)
    assert caught.value.reason == "not_a_time"


def test_an_hour_that_never_was_is_rejected():
    with pytest.raises(PoisonRecordError) as caught:
        read("2024-03-31 02:30:00")
    assert caught.value.reason == "no_such_local_time"


def test_the_hour_that_comes_twice_is_told_by_the_order_of_the_rows():
    rising = ["01:30", "02:00", "02:30", "02:00", "02:30", "03:00"]
    assert read_all(*rising) == ["23:30", "00:00", "00:30", "01:00", "01:30", "02:00"]


def test_the_order_may_go_back_in_time():
    falling = ["03:30", "03:00", "02:30", "02:00", "02:30", "02:00", "01:30"]
    assert read_all(*falling) == ["02:30", "02:00", "01:30", "01:00", "00:30", "00:00", "23:30"]


def test_an_hourly_row_comes_twice_too():
    assert read_all("01:00", "02:00", "02:00", "03:00") == ["23:00", "00:00", "01:00", "02:00"]


def test_devices_have_an_order_each():
    reader = TimeReader(BERLIN)
    found = [reader.read("2024-10-27 02:00", device) for device in ("a", "b", "a", "b")]
    assert (found[0], found[2]) == (found[1], found[3])
    assert found[0] < found[2]
    assert reader.n_ambiguous == 4
