"""Rates and spot prices as people write them."""

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import click
import pytest

from hl_platform.core.errors import ConfigError
from hl_platform.core.tariffs import parse_hours, parse_local, parse_spot_csv, parse_weekdays, show_weekdays
from hl_platform.stack.tariffs import plan_tariff

BERLIN = ZoneInfo("Europe/Berlin")
NOW = datetime(2026, 6, 1, 23, 0, tzinfo=UTC)
OPTIONS = {
    "price": 0.3,
    "currency": "EUR",
    "valid_from": None,
    "valid_to": None,
    "device_id": None,
    "days": None,
    "hours": None,
    "area": None,
    "standing": 0.0,
}


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("mon-fri", "mon,tue,wed,thu,fri"),
        ("sat,sun", "sat,sun"),
        ("Fri-mon", "mon,fri,sat,sun"),
        ("sun", "sun"),
        ("mon-sun", "mon,tue,wed,thu,fri,sat,sun"),
    ],
)
def test_weekdays_are_lists_and_ranges(text: str, shown: str) -> None:
    assert show_weekdays(parse_weekdays(text)) == shown


@pytest.mark.parametrize("text", ["", "monday", "1", "fri-xyz"])
def test_what_is_no_weekday_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not in"):
        parse_weekdays(text)


@pytest.mark.parametrize(
    ("text", "hours"),
    [("22-6", ("22:00", "06:00")), ("06:00-22:00", ("06:00", "22:00")), ("17-24", ("17:00", "24:00"))],
)
def test_hours_are_full_ones(text: str, hours: tuple[str, str]) -> None:
    assert parse_hours(text) == hours


@pytest.mark.parametrize("text", ["6:30-8", "6", "6-6", "24-6", "6-25", "-1-3", "a-b"])
def test_a_time_of_use_that_is_not_of_full_hours_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_hours(text)


def test_a_date_is_a_local_midnight() -> None:
    assert parse_local("2026-06-01", BERLIN) == datetime(2026, 5, 31, 22, 0, tzinfo=UTC)


def test_a_rate_begins_today_on_the_households_clock() -> None:
    made = plan_tariff("home", BERLIN, NOW, **OPTIONS)
    assert (made.kind, made.valid_from) == ("flat", datetime(2026, 6, 1, 22, 0, tzinfo=UTC))


def test_options_tell_the_kind() -> None:
    assert plan_tariff("night", BERLIN, NOW, **{**OPTIONS, "hours": "22-6"}).kind == "time_of_use"
    assert plan_tariff("spot", BERLIN, NOW, **{**OPTIONS, "area": "DE-LU"}).kind == "spot"


@pytest.mark.parametrize(
    "wrong", [{"hours": "6:30-8"}, {"hours": "1-2", "area": "X"}, {"valid_from": "today"}]
)
def test_options_that_mean_nothing_are_refused(wrong: dict[str, str]) -> None:
    with pytest.raises(click.UsageError):
        plan_tariff("home", BERLIN, NOW, **{**OPTIONS, **wrong})


def test_a_spot_price_holds_until_the_next_one() -> None:
    lines = ["start,price_per_kwh", "2026-01-01T00:00:00Z,0.1", "2026-01-01T00:15:00Z,-0.2"]
    prices = parse_spot_csv(lines, "x.csv")
    assert [price.price_per_kwh for price in prices] == [0.1, -0.2]
    assert prices[0].end_at == prices[1].start_at
    assert prices[1].end_at == datetime(2026, 1, 1, 0, 30, tzinfo=UTC)


@pytest.mark.parametrize("option", ["price", "standing"])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_a_rate_is_a_finite_number(option: str, value: float) -> None:
    with pytest.raises(click.UsageError, match=f"--{option}"):
        plan_tariff("home", BERLIN, NOW, **{**OPTIONS, option: value})


@pytest.mark.parametrize("price", ["nan", "inf", "-Infinity"])
def test_a_spot_price_is_a_finite_number_and_its_line_is_named(price: str) -> None:
    lines = ["start,price_per_kwh", "2026-01-01T00:00:00Z,0.1", "", f"2026-01-01T01:00:00Z,{price}"]
    with pytest.raises(ConfigError, match=r"x\.csv, line 4"):
        parse_spot_csv(lines, "x.csv")


@pytest.mark.parametrize(
    "rows",
    [
        ["2026-01-01T00:00:00,0.1", "2026-01-01T01:00:00Z,0.1"],
        ["2026-01-01T00:00:00Z,x"],
        ["2026-01-01T00:00:00Z"],
        ["2026-01-01T01:00:00Z,0.1", "2026-01-01T00:00:00Z,0.1"],
        ["2026-01-01T01:00:00Z,0.1"],
    ],
)
def test_a_file_that_tells_no_prices_is_refused_by_name(rows: list[str]) -> None:
    with pytest.raises(ConfigError, match=r"x\.csv"):
        parse_spot_csv(["start,price_per_kwh", *rows], "x.csv")
