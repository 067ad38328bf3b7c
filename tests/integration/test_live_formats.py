"""Formats, pages, tags, time zones and limits of the API, on a real PostgreSQL and service."""

import csv
import io
import itertools
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import httpx
import pytest

from hl_platform.stack.kafka import EmbeddedKafka
from hl_platform.stack.postgres import EmbeddedPostgres
from tests.home import PATIENCE_S, eventually
from tests.integration.live_service import LiveProcess
from tests.servers import temporary_database

START = datetime(2026, 1, 3, 16, 0, tzinfo=UTC)
DAY = {"start": "2026-01-03", "end": "2026-01-04"}
CSV, PARQUET = "text/csv", "application/vnd.apache.parquet"
TABLES = ("latest", "raw", "minutely", "hourly", "daily", "monthly", "yearly", "series", "cost")
_devices = itertools.count(1)


@pytest.fixture(scope="module")
def live(
    postgres: EmbeddedPostgres, kafka: EmbeddedKafka, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[LiveProcess]:
    """One service for all tests here; each test has devices of its own."""
    with temporary_database(postgres, "live_formats") as database:
        folder = tmp_path_factory.mktemp("live")
        live = LiveProcess(folder, database.url, kafka.bootstrap_servers, HL_TIMEZONE="Europe/Berlin")
        live.make_tables()
        live.make_models()
        live.make_topics()
        live.start_reading()
        yield live
        live.close()


@pytest.fixture
def device(live: LiveProcess) -> str:
    """With a reading every five minutes for two hours."""
    name = f"meter{next(_devices)}"
    live.store(name, *((at(minute), 100 + minute / 60, 1.5) for minute in range(0, 120, 5)))
    return name


def tell(live: LiveProcess, *device_ids: str) -> None:
    """Has each report through Kafka, and waits until that is the newest of it."""
    for device_id in device_ids:
        live.produce(device_id, [102.0])
    eventually(lambda: set(device_ids) <= live.latest().keys())


def at(minutes: float) -> datetime:
    return START + timedelta(minutes=minutes)


def ask(live: LiveProcess, path: str, accept: str = "*/*", **params: Any) -> httpx.Response:  # noqa: ANN401 - as httpx takes them
    given = DAY if path not in ("latest", "yearly") else {}
    given = {"start": "2026-01-01", "end": "2027-01-01"} if path in ("monthly", "yearly") else given
    url = f"http://127.0.0.1:{live.port}/api/v1/energy/{path}"
    headers = {"Accept": accept, **params.pop("headers", {})}
    return httpx.get(url, params={**given, **params}, headers=headers, timeout=PATIENCE_S)


def parquet_rows(answer: httpx.Response, folder: Path, times: tuple[str, ...]) -> list[dict[str, Any]]:
    """Its rows, with times as Unix microseconds."""
    path = folder / "answer.parquet"
    path.write_bytes(answer.raise_for_status().content)
    replaced = ", ".join(f'epoch_us("{name}") as "{name}"' for name in times)
    found = duckdb.sql(f"select * replace ({replaced}) from '{path}'")  # noqa: S608 - our own names
    return [dict(zip(found.columns, row, strict=True)) for row in found.fetchall()]


def rows_of(document: dict[str, Any]) -> list[dict[str, Any]]:
    return list(document["readings"] if "readings" in document else document["buckets"])


@pytest.mark.parametrize("path", TABLES)
def test_every_route_of_a_stream_tells_the_same_in_all_formats(
    live: LiveProcess, device: str, tmp_path: Path, path: str
) -> None:
    tell(live, device)
    as_json = rows_of(ask(live, path, device_id=device).raise_for_status().json())
    as_csv = ask(live, path, CSV, device_id=device).raise_for_status()
    lines = list(csv.DictReader(io.StringIO(as_csv.text, newline="")))
    as_parquet = ask(live, path, PARQUET, device_id=device)
    reading = path in ("latest", "raw")
    times = ("timestamp", "received_at") if reading else ("start", "end")
    rows = parquet_rows(as_parquet, tmp_path, times)
    assert len(as_json) == len(lines) == len(rows) > 0
    assert {one["device_id"] for one in (*lines, *rows)} == {device}
    for told, line, row in zip(as_json, lines, rows, strict=True):
        flat = {**told, **told.get("data", {})}
        for name in row.keys() & flat.keys() - {"age_s", "extra"}:
            if name in times:
                moment = datetime.fromisoformat(flat[name])
                assert (datetime.fromisoformat(line[name]), row[name]) == (moment, micros(moment))
            elif isinstance(flat[name], float | int):
                assert row[name] == flat[name] == (line[name] == "true" or float_of(line[name]))
    name = f"energy-{path}" if path not in ("cost", "series") else "energy-"
    assert as_csv.headers["content-disposition"].startswith(f'attachment; filename="{name}')
    assert as_parquet.headers["content-type"] == PARQUET
    assert as_parquet.headers["content-disposition"].endswith('.parquet"')


def micros(moment: datetime) -> int:
    return (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)


def float_of(text: str) -> float | bool:
    return False if text == "false" else float(text)


@pytest.mark.parametrize("path", TABLES)
def test_a_format_that_there_is_not_is_a_406_that_names_those_there_are(live: LiveProcess, path: str) -> None:
    answer = ask(live, path, "image/png")
    problem = answer.json()
    assert (answer.status_code, problem["value"]) == (406, "image/png")
    assert all(name in problem["allowed"] for name in ("application/json", CSV, PARQUET))


@pytest.mark.parametrize("accept", ["*/*", CSV, PARQUET])
@pytest.mark.parametrize("path", ["raw", "hourly", "cost"])
def test_who_has_an_answer_is_told_so_until_a_late_reading_changes_it(
    live: LiveProcess, device: str, path: str, accept: str
) -> None:
    first = ask(live, path, accept, device_id=device).raise_for_status()
    assert first.headers["cache-control"] == "private, no-cache"
    assert "Accept" in first.headers["vary"]
    known = {"If-None-Match": first.headers["etag"]}
    again = ask(live, path, accept, device_id=device, headers=known)
    assert (again.status_code, again.content) == (304, b"")
    live.store(device, (at(121), 102.1, 1.5))
    changed = ask(live, path, accept, device_id=device, headers=known)
    assert changed.status_code == 200
    assert changed.headers["etag"] != first.headers["etag"]


def test_each_format_has_a_tag_of_its_own(live: LiveProcess, device: str) -> None:
    tags = {ask(live, "raw", accept, device_id=device).headers["etag"] for accept in ("*/*", CSV, PARQUET)}
    assert len(tags) == 3


def test_pages_of_readings_are_the_whole_in_order_also_where_devices_report_together(
    live: LiveProcess, device: str
) -> None:
    devices = [f"{device}{one}" for one in ("B", "a", "ä", "b", "_")]
    for one in devices:
        live.store(one, *((at(minute), float(minute), 1.0) for minute in range(4)))
    whole = ask(live, "raw", device_id=devices).json()
    pages, link = (
        [],
        str(
            httpx.URL(
                f"http://127.0.0.1:{live.port}/api/v1/energy/raw",
                params={**DAY, "device_id": devices, "limit": 3},
            )
        ),
    )
    while link:
        page = httpx.get(link, timeout=PATIENCE_S).raise_for_status()
        pages += page.json()["readings"]
        following = page.links.get("next", {}).get("url")
        assert (following is None) == (page.json()["next"] is None)
        link = str(httpx.URL(link).join(following)) if following else ""
    assert len(pages) == 20
    assert (whole["next"], pages) == (None, whole["readings"])


def test_pages_of_the_newest_readings_are_the_whole(live: LiveProcess, device: str) -> None:
    devices = [f"{device}{one}" for one in "abcde"]
    tell(live, *devices)
    first = ask(live, "latest", device_id=devices, limit=3).json()
    second = ask(live, "latest", device_id=devices, limit=3, after=first["next"]).json()
    named = [one["device_id"] for page in (first, second) for one in page["readings"]]
    assert (named, second["next"]) == (devices, None)


@pytest.mark.parametrize("path", ["latest", "raw"])
def test_readings_have_only_the_asked_fields(live: LiveProcess, device: str, path: str) -> None:
    tell(live, device)
    answer = ask(live, path, device_id=device, fields="power_kw,total_energy_kwh").json()
    assert list(answer["readings"][0]["data"]) == ["total_energy_kwh", "power_kw"]
    lines = ask(live, path, CSV, device_id=device, fields="power_kw").text.splitlines()
    assert lines[0].startswith("device_id,timestamp,received_at,power_kw,extra")


def test_times_are_read_and_told_in_the_asked_zone(live: LiveProcess, device: str) -> None:
    given = {"start": "2026-01-03", "end": "2026-01-04", "tz": "Asia/Kolkata", "device_id": device}
    answer = ask(live, "hourly", **given).json()
    assert (answer["start"], answer["end"]) == ("2026-01-03T00:00:00+05:30", "2026-01-04T00:00:00+05:30")
    assert answer["buckets"][0]["start"] == "2026-01-03T21:30:00+05:30"
    raw = ask(live, "raw", **given).json()["readings"]
    assert raw[0]["timestamp"] == "2026-01-03T21:30:00+05:30"
    # The day ends at 18:30 UTC, which is behind what there is; the household's began with it.
    assert (
        raw
        == ask(
            live, "raw", **{**given, "start": "2026-01-02T18:30:00Z", "end": "2026-01-03T18:30:00Z"}
        ).json()["readings"]
    )


def test_kept_answers_of_two_zones_are_not_mixed(live: LiveProcess, device: str) -> None:
    starts = [
        ask(live, "hourly", device_id=device, **zone).json()["buckets"][0]["start"]
        for zone in ({}, {"tz": "Europe/Berlin"}, {"tz": "UTC"}, {})
    ]
    assert starts == [
        "2026-01-03T16:00:00Z",
        "2026-01-03T17:00:00+01:00",
        "2026-01-03T16:00:00Z",
        "2026-01-03T16:00:00Z",
    ]


@pytest.mark.parametrize("path", ["daily", "monthly", "yearly", "cost"])
def test_days_are_told_in_a_zone_that_has_the_households_and_refused_in_others(
    live: LiveProcess, device: str, path: str
) -> None:
    told = ask(live, path, device_id=device, tz="Europe/Paris").raise_for_status().json()
    assert told["buckets"][0]["start"].endswith("T00:00:00+01:00")
    refused = ask(live, path, device_id=device, tz="America/New_York")
    assert (refused.status_code, refused.json()["parameter"]) == (400, "tz")
    assert "Europe/Berlin" in refused.json()["allowed"]


@pytest.mark.parametrize("zone", ["Europe", "../etc/passwd", "/etc/localtime", "Mars/Olympus", ""])
def test_a_zone_that_there_is_not_is_a_400(live: LiveProcess, zone: str) -> None:
    answer = ask(live, "raw", tz=zone)
    assert (answer.status_code, answer.json()["parameter"]) == (400, "tz")


def test_a_range_of_readings_longer_than_a_year_is_refused(live: LiveProcess) -> None:
    answer = ask(live, "raw", start="2026-01-01", end="2027-02-01")
    assert (answer.status_code, answer.json()["parameter"]) == (400, "end")


def test_a_405_says_what_is_allowed(live: LiveProcess) -> None:
    answer = httpx.delete(f"http://127.0.0.1:{live.port}/api/v1/energy/raw", timeout=PATIENCE_S)
    assert answer.status_code == 405
    assert "GET" in answer.headers["allow"]


def test_who_asks_too_often_is_told_when_to_come_back_and_nobody_else_is(
    postgres: EmbeddedPostgres, kafka: EmbeddedKafka, tmp_path: Path
) -> None:
    with temporary_database(postgres, "live_rates") as database:
        live = LiveProcess(
            tmp_path, database.url, kafka.bootstrap_servers, HL_LIVE__MAX_REQUESTS_PER_MINUTE="3"
        )
        try:
            live.make_tables()
            live.make_topics()
            live.start()
            # Whoever it says that it speaks for: nobody has named it as a proxy.
            answers = [streams(live, "127.0.0.2", speaks_for=f"192.0.2.{n}") for n in range(4)]
            assert [answer.status_code for answer in answers[:3]] == [200] * 3
            assert answers[0].headers["ratelimit-policy"] == '"requests";q=3;w=60'
            assert answers[0].headers["ratelimit"].startswith('"requests";r=2;t=')
            last = answers[3]
            assert (last.status_code, last.json()["type"]) == (429, "urn:hl:problem:too-many")
            assert 1 <= int(last.headers["retry-after"]) <= 20
            assert last.headers["ratelimit"].startswith('"requests";r=0;')
            assert streams(live, "127.0.0.3", speaks_for="192.0.2.0").status_code == 200
        finally:
            live.close()


def streams(live: LiveProcess, address: str, speaks_for: str) -> httpx.Response:
    """Asks from one of this machine's loopback addresses."""
    url = f"http://127.0.0.1:{live.port}/api/v1/streams"
    with httpx.Client(transport=httpx.HTTPTransport(local_address=address), timeout=PATIENCE_S) as client:
        return client.get(url, headers={"X-Forwarded-For": speaks_for})
