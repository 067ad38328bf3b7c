"""The REST answers on a real PostgreSQL."""

import itertools
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hl_platform.stack.kafka import EmbeddedKafka
from hl_platform.stack.postgres import EmbeddedPostgres
from tests.home import eventually
from tests.integration.live_service import LiveProcess
from tests.servers import temporary_database

START = datetime(2026, 1, 3, 16, 0, tzinfo=UTC)
_devices = itertools.count(1)


@pytest.fixture(scope="module")
def live(
    postgres: EmbeddedPostgres, kafka: EmbeddedKafka, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[LiveProcess]:
    """One service for all tests here; each test has devices of its own."""
    with temporary_database(postgres, "live_rest") as database:
        live = LiveProcess(
            tmp_path_factory.mktemp("live"),
            database.url,
            kafka.bootstrap_servers,
            HL_TIMEZONE="Asia/Kolkata",
        )
        live.make_tables()
        live.make_topics()
        live.start()
        yield live
        live.close()


@pytest.fixture
def device() -> str:
    return f"meter{next(_devices)}"


def at(minutes: float) -> datetime:
    return START + timedelta(minutes=minutes)


def hourly(live: LiveProcess, start: datetime, end: datetime, device: str) -> list[dict[str, Any]]:
    answer = live.get("/api/v1/energy/hourly", start=start.isoformat(), end=end.isoformat(), device_id=device)
    buckets: list[dict[str, Any]] = answer.raise_for_status().json()["buckets"]
    return buckets


def consumption(live: LiveProcess, start: float, end: float, device: str) -> list[float]:
    return [bucket["consumption_kwh"] for bucket in hourly(live, at(start), at(end), device)]


def test_raw_is_half_open_and_oldest_first(live: LiveProcess, device: str) -> None:
    live.store(device, (at(2), 3.0, 1.0), (at(0), 1.0, 1.0), (at(1), 2.0, 1.0))
    answer = live.get(
        "/api/v1/energy/raw", start=at(0).isoformat(), end=at(2).isoformat(), device_id=device
    ).json()
    assert [one["data"]["total_energy_kwh"] for one in answer["readings"]] == [1.0, 2.0]
    first = answer["readings"][0]
    assert (first["timestamp"], first["extra"]) == ("2026-01-03T16:00:00Z", {"fw": 1})


def test_raw_takes_the_oldest_of_several_devices(live: LiveProcess, device: str) -> None:
    live.store(f"{device}a", (at(0), 1.0, 1.0), (at(2), 3.0, 1.0))
    live.store(f"{device}b", (at(1), 2.0, 1.0), (at(3), 4.0, 1.0))
    answer = live.get(
        "/api/v1/energy/raw",
        start=at(0).isoformat(),
        end=at(9).isoformat(),
        device_id=[f"{device}a", f"{device}b"],
        limit=3,
    ).json()
    assert [one["data"]["total_energy_kwh"] for one in answer["readings"]] == [1.0, 2.0, 3.0]


def test_consumption_between_two_hours_is_shared_at_the_border(live: LiveProcess, device: str) -> None:
    # 3 kWh within 30 minutes, 10 of them before the border of an Indian hour at 16:30.
    live.store(device, (at(20), 100.0, 6.0), (at(50), 103.0, 6.0))
    assert consumption(live, -30, 90, device) == [pytest.approx(1.0), pytest.approx(2.0)]


def test_the_readings_around_a_range_count_for_it(live: LiveProcess, device: str) -> None:
    live.store(device, (at(-60), 10.0, 1.0), (at(120), 13.0, 1.0))
    buckets = hourly(live, at(0), at(60), device)
    assert [bucket["consumption_kwh"] for bucket in buckets] == [pytest.approx(0.5), pytest.approx(0.5)]
    assert [(bucket["n_readings"], bucket["mean_power_kw"]) for bucket in buckets] == [(0, None), (0, None)]


def test_a_fall_of_the_counter_is_a_reset(live: LiveProcess, device: str) -> None:
    live.store(device, (at(31), 100.0, 1.0), (at(40), 101.0, 1.0), (at(50), 0.5, 1.0), (at(60), 2.5, 1.0))
    assert consumption(live, 30, 90, device) == [pytest.approx(1.0 + 0.5 + 2.0)]


def test_mean_power_is_weighted_by_time(live: LiveProcess, device: str) -> None:
    # 2 kW for 20 minutes, then 4 kW within a second for 10 minutes, with many readings.
    steps = [(at(50 + second / 60), 101.0, 4.0) for second in range(1, 601)]
    live.store(device, (at(30), 100.0, 2.0), (at(50), 100.0, 2.0), *steps)
    [bucket] = hourly(live, at(30), at(90), device)
    assert bucket["mean_power_kw"] == pytest.approx((2 * 20 + 4 * 10) / 30, rel=1e-3)
    assert (bucket["min_power_kw"], bucket["max_power_kw"], bucket["n_readings"]) == (2.0, 4.0, 602)


def test_a_single_reading_has_its_power_and_no_consumption(live: LiveProcess, device: str) -> None:
    live.store(device, (at(40), 100.0, 2.5))
    [bucket] = hourly(live, at(30), at(90), device)
    assert (bucket["consumption_kwh"], bucket["mean_power_kw"], bucket["n_readings"]) == (0.0, 2.5, 1)


def test_only_a_bucket_that_ends_in_the_future_is_provisional(live: LiveProcess, device: str) -> None:
    now = datetime.now(UTC)
    live.store(device, (now - timedelta(hours=1), 1.0, 1.0), (now, 2.0, 1.0))
    buckets = hourly(live, now - timedelta(hours=1), now + timedelta(hours=1), device)
    assert [bucket["provisional"] for bucket in buckets if bucket["end"] <= now.isoformat()] in (
        [False],
        [False, False],
    )
    assert buckets[-1]["provisional"]


@settings(max_examples=25, deadline=None, database=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    steps=st.lists(
        st.tuples(st.integers(1, 200), st.integers(0, 50), st.booleans()), min_size=1, max_size=20
    ),
    cut=st.integers(1, 599),
)
def test_no_energy_is_lost_or_invented(
    live: LiveProcess, steps: list[tuple[int, int, bool]], cut: int
) -> None:
    """Steps: minutes, what the meter moved, and whether it was reset before."""
    device = f"meter{next(_devices)}"
    minute, counter, moved = 0, 1000.0, 0.0
    readings = [(at(0), counter, 1.0)]
    for minutes, rise, reset in steps:
        # A reset that nobody can see is none: the counter must fall for it to show.
        counter = float(rise) if reset and rise < counter else counter + rise
        minute, moved = minute + minutes, moved + rise
        readings.append((at(minute), counter, 1.0))
    live.store(device, *readings)
    end = minute + 1
    assert sum(consumption(live, -10, end, device)) == pytest.approx(moved)
    if cut < end:
        parts = sum(consumption(live, -10, cut, device)) + sum(consumption(live, cut, end, device))
        assert parts == pytest.approx(moved)


def test_latest_holds_what_the_sink_stored_after_the_start(
    postgres: EmbeddedPostgres, kafka: EmbeddedKafka, tmp_path: Path
) -> None:
    with temporary_database(postgres, "live_latest") as database:
        live = LiveProcess(tmp_path, database.url, kafka.bootstrap_servers)
        try:
            live.make_tables()
            live.make_topics()
            # On Kafka before the service starts, in the database only afterwards.
            live.produce("m1", [1.0])
            live.start_reading()
            assert live.latest() == {}
            live.store("m1", (datetime.now(UTC), 1.0, 1.0))
            assert live.latest() == {"m1": 1.0}
        finally:
            live.close()


@pytest.fixture
def live_with_own_postgres(
    own_postgres: EmbeddedPostgres, kafka: EmbeddedKafka, tmp_path: Path
) -> Iterator[Callable[[], LiveProcess]]:
    live = LiveProcess(tmp_path, own_postgres.url, kafka.bootstrap_servers)
    live.make_tables()
    live.make_topics()
    yield lambda: live
    live.close()


def test_the_service_waits_for_a_database_that_is_away(
    live_with_own_postgres: Callable[[], LiveProcess], own_postgres: EmbeddedPostgres
) -> None:
    live = live_with_own_postgres()
    live.store("m1", (datetime.now(UTC), 1.0, 1.0))
    own_postgres.stop()
    live.start_reading()
    assert live.get("/api/v1/energy/latest").status_code == 503
    own_postgres.restart()
    eventually(lambda: live.get("/api/v1/energy/latest").status_code == 200)
    assert live.latest() == {"m1": 1.0}
    eventually(lambda: live.query("select 1 from hl.leases where service = %s", live.service))


def test_latest_is_answered_from_memory_through_an_outage_of_the_database(
    live_with_own_postgres: Callable[[], LiveProcess], own_postgres: EmbeddedPostgres
) -> None:
    live = live_with_own_postgres()
    live.start_reading()
    # Nothing was on Kafka before, so memory is complete as soon as the database was read once.
    eventually(lambda: live.check("database") == "ok")
    live.produce("m1", [1.0])
    eventually(lambda: live.latest() == {"m1": 1.0})
    eventually(lambda: '"latest_filled"' in live.log())
    own_postgres.kill()
    live.produce("m1", [2.0])
    eventually(lambda: live.latest() == {"m1": 2.0})
    assert live.check("database") == "degraded"
    own_postgres.restart()
    eventually(lambda: live.check("database") == "ok")


def test_a_killed_database_costs_no_request_once_it_is_back(
    live_with_own_postgres: Callable[[], LiveProcess], own_postgres: EmbeddedPostgres
) -> None:
    live = live_with_own_postgres()
    live.start_reading()
    ask = {"start": START.isoformat(), "end": at(60).isoformat()}
    eventually(lambda: live.get("/api/v1/energy/raw", **ask).status_code == 200)
    own_postgres.kill()
    own_postgres.restart()
    assert [live.get("/api/v1/energy/raw", **ask).status_code for _ in range(8)] == [200] * 8
