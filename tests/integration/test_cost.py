"""What energy costs, on a real PostgreSQL, for a household in Berlin."""

import itertools
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from dbt_like_sql.engine.deploy import deploy
from dbt_like_sql.engine.objects import zone_functions
from dbt_like_sql.engine.project import load_project
from hl_platform.adapters.postgres.database import BULK, SqlDatabase
from hl_platform.adapters.postgres.migrate import migrate
from hl_platform.adapters.postgres.tariffs import TariffStore
from hl_platform.core.errors import ConfigError
from hl_platform.core.levels import GRAINS, bucket_end, bucket_start
from hl_platform.core.tariffs import SpotPrice, Tariff, parse_weekdays
from hl_platform.stack.postgres import EmbeddedPostgres
from hl_platform.streams import load_streams
from tests.servers import Database, temporary_database

BERLIN = ZoneInfo("Europe/Berlin")
LONG_AGO = datetime(2020, 1, 1, tzinfo=BERLIN)
_numbers = itertools.count(1)


@pytest.fixture(scope="module")
def prepared(postgres: EmbeddedPostgres) -> Iterator[Database]:
    """A database with the models of the meters; each test has a meter of its own."""
    with temporary_database(postgres, "cost") as database:
        energy = {"energy": load_streams()["energy"]}
        migrate(database.url, database.read_url, energy.values())
        with closing(SqlDatabase(database.url, "test", BULK)) as db:
            deploy(db, load_project(energy), "Europe/Berlin", "test")
        yield database


@pytest.fixture
def db(prepared: Database) -> Iterator[SqlDatabase]:
    with closing(SqlDatabase(prepared.url, "test", BULK)) as db:
        yield db


@pytest.fixture
def store(prepared: Database) -> TariffStore:
    return TariffStore(prepared.url, "test")


@pytest.fixture
def meter() -> str:
    return f"meter{next(_numbers)}"


def rate(meter: str, price: float, **more: object) -> Tariff:
    told = {"name": "home", "valid_from": LONG_AGO, "currency": "EUR", **more}
    return Tariff(device_id=meter, price_per_kwh=price, **told)  # type: ignore[arg-type]


def fill(db: SqlDatabase, meter: str, start: datetime, n_hours: int) -> None:
    """One kWh in each hour: a reading every ten minutes."""
    db.rows(
        """
        insert into energy_readings (device_id, timestamp, total_energy_kwh, power_kw, received_at)
        select %(meter)s, %(start)s + n * interval '10 minutes', n / 6.0, 1, now()
        from generate_series(0, %(n)s) as n
        """,
        {"meter": meter, "start": start, "n": n_hours * 6},
    )


def prices(db: SqlDatabase, meter: str) -> list[float | None]:
    """Of each hour that something moved in, in order."""
    found = db.rows(
        "select price_per_kwh from energy_cost_hourly "
        "where device_id = %(meter)s and consumption_kwh > 0.5 order by bucket",
        {"meter": meter},
    )
    return [price for (price,) in found]


def days(db: SqlDatabase, meter: str, columns: str) -> list[tuple[object, ...]]:
    return db.rows(
        f"select {columns} from energy_cost_daily "  # noqa: S608
        "where device_id = %(meter)s and consumption_kwh > 0.5 order by bucket",
        {"meter": meter},
    )


def test_an_hour_costs_its_consumption_times_the_price(
    db: SqlDatabase, store: TariffStore, meter: str
) -> None:
    store.set(rate(meter, 0.25))
    fill(db, meter, datetime(2026, 6, 1, 12, tzinfo=BERLIN), 2)
    [first, _, *_] = db.rows(
        "select cost, currency, tariff from energy_cost_hourly where device_id = %(meter)s order by bucket",
        {"meter": meter},
    )
    assert first == (pytest.approx(0.25), "EUR", "home")


def test_without_a_tariff_there_is_no_cost_and_the_hours_are_counted(db: SqlDatabase, meter: str) -> None:
    fill(db, meter, datetime(2026, 6, 1, tzinfo=BERLIN), 23)
    [day] = days(db, meter, "cost, currency, n_hours_without_price, priced_kwh, round(consumption_kwh)")
    assert day == (None, None, 24, 0, 23)


@pytest.mark.parametrize(("date", "n_hours"), [((3, 29), 23), ((10, 25), 25), ((6, 1), 24)])
def test_a_day_of_any_length_has_all_its_hours_and_one_standing_charge(
    db: SqlDatabase, store: TariffStore, meter: str, date: tuple[int, int], n_hours: int
) -> None:
    store.set(rate(meter, 0.5, standing_charge_per_day=0.3))
    fill(db, meter, datetime(2026, *date, tzinfo=BERLIN), n_hours)
    [found] = days(db, meter, "n_hours, energy_cost, standing_charge, cost")
    assert found == (n_hours, pytest.approx(0.5 * n_hours), 0.3, pytest.approx(0.5 * n_hours + 0.3))


def test_a_night_rate_crosses_midnight_on_the_households_clock(
    db: SqlDatabase, store: TariffStore, meter: str
) -> None:
    store.set(rate(meter, 0.4))
    store.set(rate(meter, 0.1, kind="time_of_use", local_from="22:00", local_to="06:00"))
    fill(db, meter, datetime(2026, 6, 1, 20, tzinfo=BERLIN), 12)
    assert prices(db, meter) == [0.4] * 2 + [0.1] * 8 + [0.4] * 2


def test_a_night_belongs_to_the_day_that_it_began_on(db: SqlDatabase, store: TariffStore, meter: str) -> None:
    store.set(rate(meter, 0.4))
    friday = {"weekdays": parse_weekdays("fri"), "local_from": "22:00", "local_to": "06:00"}
    store.set(rate(meter, 0.1, kind="time_of_use", **friday))
    # From Friday evening to Sunday morning.
    fill(db, meter, datetime(2026, 6, 5, 20, tzinfo=BERLIN), 36)
    assert prices(db, meter) == [0.4] * 2 + [0.1] * 8 + [0.4] * 26


@pytest.mark.parametrize(("date", "n_night"), [((3, 29), 5), ((10, 25), 7)])
def test_a_night_is_as_long_as_the_clock_makes_it(
    db: SqlDatabase, store: TariffStore, meter: str, date: tuple[int, int], n_night: int
) -> None:
    store.set(rate(meter, 0.4))
    store.set(rate(meter, 0.1, kind="time_of_use", local_from="00:00", local_to="06:00"))
    fill(db, meter, datetime(2026, *date, tzinfo=BERLIN), n_night + 2)
    assert prices(db, meter) == [0.1] * n_night + [0.4] * 2


def test_a_later_tariff_wins_from_its_hour_on(db: SqlDatabase, store: TariffStore, meter: str) -> None:
    noon = datetime(2026, 6, 1, 12, tzinfo=BERLIN)
    store.set(rate(meter, 0.4, standing_charge_per_day=0.3))
    store.set(rate(meter, 0.2, valid_from=noon, standing_charge_per_day=9.0))
    fill(db, meter, noon - timedelta(hours=2), 4)
    assert prices(db, meter) == [0.4, 0.4, 0.2, 0.2]
    assert days(db, meter, "energy_cost, standing_charge") == [(pytest.approx(1.2), 0.3)]


def test_a_tariff_that_ended_counts_no_more(db: SqlDatabase, store: TariffStore, meter: str) -> None:
    noon = datetime(2026, 6, 1, 12, tzinfo=BERLIN)
    store.set(rate(meter, 0.4, valid_to=noon))
    fill(db, meter, noon - timedelta(hours=2), 4)
    assert prices(db, meter) == [0.4, 0.4, None, None]
    assert days(db, meter, "cost, round(priced_kwh)") == [(pytest.approx(0.8), 2)]


def test_a_meters_own_tariff_wins_over_one_for_all(db: SqlDatabase, store: TariffStore, meter: str) -> None:
    at = datetime(2019, 6, 1, 12, tzinfo=BERLIN)
    for_all = {"valid_from": at - timedelta(days=1), "valid_to": at + timedelta(days=1), "currency": "EUR"}
    store.set(Tariff(name="all", price_per_kwh=0.9, **for_all))  # type: ignore[arg-type]
    store.set(rate(meter, 0.4, valid_from=at - timedelta(days=9)))
    fill(db, meter, at, 1)
    fill(db, f"{meter}-other", at, 1)
    assert (prices(db, meter), prices(db, f"{meter}-other")) == ([0.4], [0.9])


def test_a_spot_price_is_the_mean_of_its_hour_and_the_rate_comes_on_top(
    db: SqlDatabase, store: TariffStore, meter: str
) -> None:
    start = datetime(2026, 6, 1, 12, tzinfo=UTC)
    store.set(rate(meter, 0.1, kind="spot", area=meter))
    quarter = timedelta(minutes=15)
    store.put_prices(
        meter, [SpotPrice(start + n * quarter, start + (n + 1) * quarter, 0.1 * n) for n in range(4)]
    )
    store.put_prices(meter, [SpotPrice(start + timedelta(hours=1), start + timedelta(hours=2), -0.3)])
    fill(db, meter, start, 2)
    assert prices(db, meter) == [pytest.approx(0.15 + 0.1), pytest.approx(-0.2)]


def test_an_hour_whose_spot_price_is_missing_or_partly_known_has_none(
    db: SqlDatabase, store: TariffStore, meter: str
) -> None:
    start = datetime(2026, 6, 1, 12, tzinfo=UTC)
    store.set(rate(meter, 0.1, kind="spot", area=meter))
    store.put_prices(meter, [SpotPrice(start, start + timedelta(minutes=45), 0.2)])
    fill(db, meter, start, 2)
    assert prices(db, meter) == [None, None]
    assert days(db, meter, "cost, n_hours_without_price") == [(None, 3)]


def test_a_month_is_the_sum_of_its_days(db: SqlDatabase, store: TariffStore, meter: str) -> None:
    store.set(rate(meter, 0.5, standing_charge_per_day=1.0))
    fill(db, meter, datetime(2026, 6, 10, tzinfo=BERLIN), 50)
    [month] = db.rows(
        "select energy_cost, standing_charge, cost, n_hours_without_price "
        "from energy_cost_monthly where device_id = %(meter)s",
        {"meter": meter},
    )
    assert month == (pytest.approx(25.0), 3.0, pytest.approx(28.0), 0)


def test_two_currencies_are_not_added(db: SqlDatabase, store: TariffStore, meter: str) -> None:
    noon = datetime(2026, 6, 1, 12, tzinfo=BERLIN)
    store.set(rate(meter, 0.4))
    store.set(rate(meter, 0.4, valid_from=noon, currency="CHF"))
    fill(db, meter, noon - timedelta(hours=2), 4)
    assert days(db, meter, "cost, currency, n_hours_without_price") == [(None, None, 0)]
    [month] = db.rows(
        "select cost, currency from energy_cost_monthly where device_id = %(meter)s", {"meter": meter}
    )
    assert month == (None, None)


@pytest.mark.parametrize(
    "wrong",
    [
        {"local_from": "06:30", "kind": "time_of_use"},
        {"local_from": "06:00"},
        {"kind": "spot"},
        {"area": "DE-LU"},
        {"currency": "euro"},
        {"valid_to": LONG_AGO},
    ],
)
def test_a_rate_that_means_nothing_is_refused(
    store: TariffStore, meter: str, wrong: dict[str, object]
) -> None:
    with pytest.raises(ConfigError, match="refuses"):
        store.set(rate(meter, 0.4, **wrong))


def test_a_rate_is_replaced_by_one_for_the_same_meter_and_begin(store: TariffStore, meter: str) -> None:
    store.set(rate(meter, 0.4))
    store.set(rate(meter, 0.3, name="cheaper"))
    assert [one for one in store.list() if one.device_id == meter] == [
        rate(meter, 0.3, name="cheaper", valid_from=LONG_AGO.astimezone(UTC))
    ]


@pytest.mark.parametrize("zone", ["Europe/Berlin", "Asia/Kolkata", "Australia/Lord_Howe", "America/Havana"])
def test_python_and_the_database_agree_on_the_borders_of_buckets(db: SqlDatabase, zone: str) -> None:
    """Around every change of the clocks in a year, and the ends of months."""
    times = [datetime(2026, 1, 1, tzinfo=UTC) + timedelta(minutes=47 * n) for n in range(11_200)]
    with db.transaction():
        for statement in zone_functions(zone):
            db.rows(statement)
        for grain in GRAINS:
            told = db.rows(
                "select hl.bucket_start(%(grain)s, t), hl.bucket_end(%(grain)s, hl.bucket_start(%(grain)s, t)) "
                "from unnest(%(times)s::timestamptz[]) as t",
                {"grain": grain, "times": times},
            )
            starts = [bucket_start(grain, time, ZoneInfo(zone)) for time in times]
            assert told == [(start, bucket_end(grain, start, ZoneInfo(zone))) for start in starts], grain
        for statement in zone_functions("Europe/Berlin"):
            db.rows(statement)


def test_an_hour_that_is_remade_takes_the_views_above_along(prepared: Database) -> None:
    energy = load_streams()["energy"]
    with closing(SqlDatabase(prepared.url, "test", BULK)) as db:
        db.rows("update hl.models set digest = 'old' where model = 'energy_hourly'")
        remade = deploy(db, load_project({"energy": energy}), "Europe/Berlin", "test").remade
    assert remade == ["energy_hourly", "energy_cost_hourly", "energy_cost_daily", "energy_cost_monthly"]
