"""The REST answers on a real PostgreSQL."""

import itertools
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

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
        live.make_models()
        live.make_topics()
        live.start()
        yield live
        live.close()


@pytest.fixture
def device() -> str:
    return f"meter{next(_devices)}"


def at(minutes: float) -> datetime:
    return START + timedelta(minutes=minutes)


def ask(live: LiveProcess, path: str, start: object, end: object, device: str, **more: Any) -> dict[str, Any]:  # noqa: ANN401
    params = {"start": str(start), "end": str(end), "device_id": device, **more}
    answer = live.get(f"/api/v1/energy/{path}", **params)
    document: dict[str, Any] = answer.raise_for_status().json()
    return document


def hourly(live: LiveProcess, start: float, end: float, device: str, **more: Any) -> list[dict[str, Any]]:  # noqa: ANN401
    buckets: list[dict[str, Any]] = ask(
        live, "hourly", at(start).isoformat(), at(end).isoformat(), device, **more
    )["buckets"]
    return buckets


def consumption(live: LiveProcess, start: float, end: float, device: str) -> list[float]:
    return [bucket["consumption_kwh"] for bucket in hourly(live, start, end, device)]


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


def test_raw_is_csv_for_who_prefers_it(live: LiveProcess, device: str) -> None:
    live.store(device, (at(0), 1.0, 1.5), (at(1), 2.0, -1.0))
    answer = httpx.get(
        f"http://127.0.0.1:{live.port}/api/v1/energy/raw",
        params={"start": at(0).isoformat(), "end": at(2).isoformat(), "device_id": device},
        headers={"Accept": "text/csv"},
    )
    assert answer.text.split("\r\n") == [
        "device_id,timestamp,received_at,total_energy_kwh,power_kw,voltage,current,extra",
        f'{device},2026-01-03T16:00:00Z,2026-01-03T16:00:00Z,1.0,1.5,,,"{{""fw"": 1}}"',
        f'{device},2026-01-03T16:01:00Z,2026-01-03T16:01:00Z,2.0,-1.0,,,"{{""fw"": 1}}"',
        "",
    ]


def test_consumption_between_two_hours_is_shared_at_the_border(live: LiveProcess, device: str) -> None:
    # 3 kWh within 30 minutes, 10 of them before the border of an Indian hour at 16:30.
    live.store(device, (at(20), 100.0, 6.0), (at(50), 103.0, 6.0))
    assert consumption(live, -30, 90, device) == [pytest.approx(1.0), pytest.approx(2.0)]


def test_a_bucket_belongs_to_the_range_that_it_begins_in(live: LiveProcess, device: str) -> None:
    live.store(device, *((at(minute), float(minute), 1.0) for minute in range(0, 200, 5)))
    whole = hourly(live, -30, 210, device)
    assert hourly(live, -30, 31, device) + hourly(live, 31, 210, device) == whole
    assert [bucket["start"] for bucket in whole[:2]] == ["2026-01-03T15:30:00Z", "2026-01-03T16:30:00Z"]


def test_a_bucket_tells_how_much_of_it_is_known(live: LiveProcess, device: str) -> None:
    # The stream's readings hold for ten minutes.
    live.store(device, (at(30), 100.0, 2.0), (at(40), 101.0, 4.0), (at(90), 102.0, 1.0))
    bucket = hourly(live, 30, 90, device)[0]
    assert (bucket["n_readings"], bucket["coverage"]) == (2, pytest.approx(20 / 60, abs=1e-6))
    assert (bucket["power_kw_mean"], bucket["power_kw_max"], bucket["gap_kwh"]) == (
        3.0,
        4.0,
        pytest.approx(1.0),
    )


def test_only_a_bucket_that_ends_in_the_future_is_provisional(live: LiveProcess, device: str) -> None:
    before, hour = datetime.now(UTC), timedelta(hours=1)
    live.store(device, (before - 2 * hour, 1.0, 1.0), (before + hour, 2.0, 1.0))
    start, end = (before - 4 * hour).isoformat(), (before + 2 * hour).isoformat()
    buckets = ask(live, "hourly", start, end, device)["buckets"]
    after = datetime.now(UTC)
    ends = [(datetime.fromisoformat(bucket["end"]), bucket["provisional"]) for bucket in buckets]
    # An hour that ends while the service is asked is one or the other.
    assert {provisional for end, provisional in ends if end <= before} == {False}
    assert {provisional for end, provisional in ends if end > after} == {True}


def test_only_the_asked_fields_are_answered(live: LiveProcess, device: str) -> None:
    live.store(device, (at(31), 100.0, 1.0), (at(40), 101.0, 3.0))
    [bucket] = hourly(live, 30, 90, device, fields="power_kw_max,consumption_kwh")
    assert list(bucket) == [
        *("device_id", "start", "end", "n_readings", "coverage", "provisional"),
        *("consumption_kwh", "power_kw_max"),
    ]


def test_pages_are_the_whole_in_order(live: LiveProcess, device: str) -> None:
    devices = [f"{device}a", f"{device}b"]
    for one in devices:
        live.store(one, *((at(hour * 60), float(hour), 1.0) for hour in range(8)))
    params = {"start": at(-60).isoformat(), "end": at(600).isoformat(), "device_id": devices}
    whole = live.get("/api/v1/energy/hourly", **params).json()
    pages, after = [], None
    while True:
        page = live.get(
            "/api/v1/energy/hourly", limit=3, **params, **({"after": after} if after else {})
        ).json()
        pages += page["buckets"]
        after = page["next"]
        if after is None:
            break
    assert (whole["next"], pages) == (None, whole["buckets"])


def test_filled_buckets_are_null_with_coverage_0(live: LiveProcess, device: str) -> None:
    live.store(device, (at(91), 100.0, 1.0), (at(95), 101.0, 3.0))
    known = hourly(live, 30, 210, device, fields="consumption_kwh")
    buckets = hourly(live, 30, 210, device, fields="consumption_kwh", fill="true")
    assert [(bucket["consumption_kwh"], bucket["coverage"] > 0) for bucket in buckets] == [
        (None, False),
        (1.0, True),
        (None, False),
    ]
    assert buckets[1:2] == known


def test_pages_of_filled_buckets_are_the_whole(live: LiveProcess, device: str) -> None:
    live.store(device, (at(91), 100.0, 1.0), (at(95), 101.0, 3.0))
    start, end = at(30).isoformat(), at(510).isoformat()
    whole = ask(live, "hourly", start, end, device, fill="true")
    first = ask(live, "hourly", start, end, device, fill="true", limit=5)
    second = ask(live, "hourly", start, end, device, fill="true", limit=5, after=first["next"])
    assert (first["buckets"] + second["buckets"], second["next"]) == (whole["buckets"], None)


def test_every_level_tells_the_same_consumption(live: LiveProcess, device: str) -> None:
    live.store(device, *((at(minute), float(minute), 1.0) for minute in range(0, 300, 5)))
    ranges = {
        "minutely": ("2026-01-03", "2026-01-05"),
        "hourly": ("2026-01-01", "2026-02-01"),
        "daily": ("2026-01-01", "2026-02-01"),
        "monthly": ("2026-01-01", "2027-01-01"),
        "yearly": ("2026-01-01", "2027-01-01"),
    }
    for level, (start, end) in ranges.items():
        buckets = ask(live, level, start, end, device)["buckets"]
        assert sum(bucket["consumption_kwh"] for bucket in buckets) == pytest.approx(295.0), level


def test_days_are_the_households(live: LiveProcess, device: str) -> None:
    live.store(device, (at(0), 100.0, 1.0), (at(5), 101.0, 1.0))
    [bucket] = ask(live, "daily", "2026-01-03", "2026-01-04", device)["buckets"]
    assert (bucket["start"], bucket["end"]) == ("2026-01-02T18:30:00Z", "2026-01-03T18:30:00Z")


def test_a_series_begins_with_the_bucket_that_its_range_begins_in(live: LiveProcess, device: str) -> None:
    live.store(device, (at(0), 100.0, 1.0), (at(5), 101.0, 1.0))
    answer = ask(live, "series", at(2).isoformat(), at(20 * 24 * 60).isoformat(), device, points=40)
    assert answer["level"] == "day"
    assert [bucket["consumption_kwh"] for bucket in answer["buckets"]] == [1.0]


def test_a_stream_of_states_has_buckets(live: LiveProcess, device: str) -> None:
    live.execute(
        "insert into heatpump_status (device_id, timestamp, mode, compressor_running, received_at) "
        "values (%s, %s, 'heating', true, now()), (%s, %s, 'idle', false, now())",
        *(device, at(30), device, at(35)),
    )
    params = {"start": at(30).isoformat(), "end": at(90).isoformat(), "device_id": device}
    [bucket] = live.get("/api/v1/heatpump/hourly", **params).json()["buckets"]
    assert (bucket["mode_seconds"], bucket["mode_changes"]) == ({"heating": 300}, 1)
    assert (bucket["compressor_running_true_s"], bucket["compressor_running_starts"]) == (300, 0)


def test_the_cost_is_told_by_hour_day_and_month(live: LiveProcess, device: str) -> None:
    live.store(device, *((at(minute), 100 + minute / 60, 1.0) for minute in range(0, 241, 5)))
    live.execute(
        "insert into hl.tariffs (name, device_id, valid_from, kind, price_per_kwh, currency, standing_charge_per_day) "
        "values ('home', %s, '2020-01-01', 'flat', 0.5, 'EUR', 0.25)",
        device,
    )
    costs = {
        per: ask(live, "cost", "2026-01-01", "2026-02-01", device, per=per)["buckets"]
        for per in ("hour", "day", "month")
    }
    assert sum(bucket["cost"] for bucket in costs["hour"]) == pytest.approx(2.0)
    # From 21:30 to 01:30 in India.
    assert [bucket["cost"] for bucket in costs["day"]] == [
        pytest.approx(1.25 + 0.25),
        pytest.approx(0.75 + 0.25),
    ]
    [month] = costs["month"]
    assert (month["currency"], month["n_hours_without_price"]) == ("EUR", 0)
    assert (month["cost"], month["standing_charge"]) == (pytest.approx(2.5), 0.5)


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


def test_device_is_silent_when_its_stream_has_waited_long_enough(live: LiveProcess, device: str) -> None:
    eventually(lambda: live.check("kafka") == "ok")
    now = datetime.now(UTC)
    live.produce(f"{device}a", [1.0], at=now - timedelta(minutes=9))
    live.produce(f"{device}b", [1.0], at=now - timedelta(minutes=11))

    def listed() -> dict[str, dict[str, Any]]:
        devices = live.get("/api/v1/devices").raise_for_status().json()["devices"]
        return {one["device_id"]: one for one in devices if one["device_id"].startswith(device)}

    found = eventually(listed, lambda known: len(known) == 2)
    assert [found[f"{device}{one}"]["silent"] for one in "ab"] == [False, True]
    assert 540 <= found[f"{device}a"]["age_s"] < 600
