"""What the API answers from memory is what the database says at that moment, whatever happened in between."""

import csv
import io
import json
from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from dbt_like_sql.engine.refresh import Bucket, Refresher
from hl_platform.adapters.postgres.database import BULK, SqlDatabase
from hl_platform.adapters.postgres.migrate import migrate
from tests.aggregates.house import VERSION, House, evenly
from tests.aggregates.kept_api import DAY, HOUR, N_DAYS, ZONE, Api, CountedCache, fill, late
from tests.servers import Database


def test_an_answer_from_memory_is_the_one_that_was_read(api: Api) -> None:
    first = api.ask(device_id="meter1")
    assert api.parts.n_found == 0
    assert api.ask(device_id="meter1").content == first.content
    assert api.parts.n_found == N_DAYS
    assert api.differences() == []


def test_days_that_are_not_in_memory_are_read_beside_those_that_are(api: Api) -> None:
    middle = DAY + timedelta(days=2)
    api.ask(device_id="meter1", start=middle.isoformat(), end=(middle + timedelta(days=1)).isoformat())
    assert api.differences() == []


def test_a_late_reading_is_in_the_next_answer_and_stays_in_it(api: Api) -> None:
    assert api.differences() == []
    late(api.house, DAY + timedelta(hours=30, minutes=7), 160.3)
    assert api.house.marks("energy_hourly")
    assert api.differences() == []
    api.house.refresh("energy_hourly")
    assert not api.house.marks("energy_hourly")
    assert api.differences() == []
    assert api.differences("daily", start=(DAY - timedelta(days=60)).isoformat()) == []


@pytest.mark.parametrize(
    "change",
    [
        "update energy_readings set total_energy_kwh = total_energy_kwh + 0.2 where timestamp = %s",
        "delete from energy_readings where timestamp = %s",
        "update hl.counter_events set override = 3 where at = %s",
    ],
)
def test_a_correction_is_in_the_next_answer(api: Api, change: str) -> None:
    at = DAY + timedelta(hours=50)
    late(api.house, at, 1.0)
    api.house.drain()
    assert api.differences() == []
    before = api.ask(device_id="meter1").content
    api.house.execute(change, at)
    assert api.differences() == []
    api.house.drain()
    assert api.differences() == []
    assert api.ask(device_id="meter1").content != before


def test_a_household_that_moves_to_another_time_zone_has_other_days(own_house: House) -> None:
    fill(own_house)
    with Api(own_house) as api:
        moves(api)


def test_a_table_from_before_gets_the_refresh_into_its_key(own_house: House) -> None:
    fill(own_house)
    table = "materialized.energy_hourly"
    own_house.execute(
        f"alter table {table} drop constraint energy_hourly_pkey, add primary key (device_id, bucket)"
    )
    own_house.deploy(ZONE)
    key = "select pg_get_indexdef(conindid) from pg_constraint where conrelid = to_regclass(%s) and contype = 'p'"
    assert own_house.execute(key, table)[0][0].endswith("(device_id, bucket) INCLUDE (refresh_id)")
    with Api(own_house) as api:
        assert api.differences() == []


def moves(api: Api) -> None:
    start = (DAY - timedelta(days=60)).isoformat()
    assert api.differences("daily", start=start) == []
    before = api.ask("daily", device_id="meter1", start=start)
    api.house.deploy("Asia/Kolkata")
    after = api.ask("daily", device_id="meter1", start=start)
    assert after.content != before.content
    assert api.differences("daily", start=start) == []
    assert api.differences() == []
    api.house.drain()
    assert api.differences("daily", start=start) == []
    assert api.differences() == []


def test_rows_that_were_dropped_are_no_longer_told(api: Api) -> None:
    assert api.differences() == []
    dropped = DAY + timedelta(days=1, hours=5)
    api.house.execute("delete from materialized.energy_hourly where bucket < %s", dropped)
    assert api.differences() == []
    assert len(api.ask(device_id="meter1").json()["buckets"]) == N_DAYS * 24 - 29
    api.house.execute(f"drop table materialized.energy_hourly_p{DAY:%Y%m}")
    assert api.differences() == []


def test_refreshes_that_commit_in_another_order_than_they_began_are_both_told(api: Api) -> None:
    house, model = api.house, api.house.project.models["energy_hourly"]
    # Of one UTC day, but of two of the household's: otherwise the second would wait for the mark of the day.
    hours = [Bucket("meter1", DAY + n * HOUR, DAY + (n + 1) * HOUR, DAY) for n in (5, 23)]
    house.execute("update materialized.energy_hourly set n_readings = 99, consumption_kwh = 99")
    assert api.differences() == []
    with closing(SqlDatabase(house.url, "test-first", BULK)) as first:
        with first.transaction():
            older = Refresher(first, house.project, VERSION).swap(model, hours[:1])
            with house.db.transaction():
                newer = house.refresher().swap(model, hours[1:])
            assert older < newer
            assert api.differences() == []
        assert api.differences() == []
    told = api.ask(device_id="meter1").json()["buckets"]
    assert [told[n]["n_readings"] for n in (4, 5, 22, 23)] == [99, 1, 99, 1]


@pytest.mark.parametrize(
    "params",
    [
        {"start": (DAY + timedelta(hours=7, minutes=20)).isoformat()},
        {"end": (DAY + timedelta(hours=55, seconds=1)).isoformat()},
        {"start": (DAY - timedelta(days=30)).isoformat(), "fill": "true"},
        {"device_id": ["meter2", "meter1", "meter0"], "fill": "true", "fields": "consumption_kwh"},
        {"device_id": ["meter2", "meter1", "nobody"]},
        {"device_id": ["nobody"]},
        {"limit": 130},
        {"device_id": ["meter1", "meter2"], "limit": 130},
        {"device_id": ["meter1", "meter2"], "limit": 7},
        pytest.param({"end": datetime.now(UTC).isoformat()}, id="until now"),
        pytest.param(
            {"end": (datetime.now(UTC) + timedelta(days=30)).isoformat(), "fill": "true"},
            id="into the future",
        ),
    ],
    ids=str,
)
def test_whatever_is_cut_out_is_exact(api: Api, params: dict[str, Any]) -> None:
    assert api.differences(**params) == []


@pytest.mark.parametrize("limit", [122, 130, 200])
@pytest.mark.parametrize("fill", ["false", "true"])
def test_pages_from_memory_are_the_whole(api: Api, limit: int, fill: str) -> None:
    """A page holds at least one device's whole range: only then are parts of it kept."""
    asked = {"device_id": ["meter1", "meter2", "meter3"], "fill": fill}
    whole = api.ask(**asked).json()["buckets"]
    pages: list[dict[str, Any]] = []
    after: dict[str, str] = {}
    while True:
        page = api.ask(**asked, limit=limit, **after).json()
        pages += page["buckets"]
        if page["next"] is None:
            break
        after = {"after": page["next"]}
    assert pages == whole
    assert api.parts.n_found > 0


def test_the_running_day_is_read_every_time(api: Api) -> None:
    now = datetime.now(UTC)
    # The last one's hour does not end while we ask.
    api.house.writer("energy").write("meter1", evenly([now - n * HOUR for n in (50, 26, 3, 2, 1, -2)], 400))
    api.house.drain()
    asked = {"start": (now - timedelta(days=3)).isoformat(), "end": (now + timedelta(days=1)).isoformat()}
    assert api.differences(**asked) == []
    late(api.house, now, 570.0)
    assert api.differences(**asked) == []
    assert api.ask(device_id="meter1", **asked).json()["buckets"][-1]["provisional"]


def test_who_has_the_answer_is_told_so_until_it_changes(api: Api) -> None:
    first = api.ask(device_id="meter1")
    known = {"If-None-Match": first.headers["etag"]}
    same = api.ask(device_id="meter1", headers=known)
    assert (same.status_code, same.content) == (304, b"")
    assert same.headers["etag"] == first.headers["etag"]
    assert same.headers["cache-control"] == "private, no-cache"
    late(api.house, DAY + timedelta(hours=30, minutes=7), 160.3)
    dirty = api.ask(device_id="meter1", headers=known)
    assert (dirty.status_code, dirty.headers["etag"] != first.headers["etag"]) == (200, True)
    again = api.ask(device_id="meter1", headers={"If-None-Match": dirty.headers["etag"]})
    assert again.status_code == 304
    api.house.drain()
    assert api.ask(device_id="meter1", headers=known).status_code == 200


@pytest.mark.parametrize("level", ["minutely", "hourly", "daily", "monthly", "yearly", "series"])
@pytest.mark.parametrize("devices", [{}, {"device_id": "meter1"}], ids=["all", "one"])
def test_every_route_of_buckets_knows_what_a_client_has(
    api: Api, level: str, devices: dict[str, str]
) -> None:
    # Buckets that begin in the range; the coarser ones begin long before the reading.
    start = {"monthly": DAY - timedelta(days=31), "yearly": DAY - timedelta(days=366)}.get(
        level, DAY - HOUR * 3
    )
    asked = {"start": start.isoformat(), "end": (DAY + timedelta(days=1)).isoformat(), **devices}
    first = api.ask(level, **asked)
    assert first.status_code == 200
    same = api.ask(level, headers={"If-None-Match": f'"other", W/{first.headers["etag"]}'}, **asked)
    assert same.status_code == 304
    late(api.house, DAY + timedelta(hours=3, minutes=3), 108.0)
    other = api.ask(level, headers={"If-None-Match": first.headers["etag"]}, **asked)
    assert other.status_code == 200


def test_another_question_has_another_tag(api: Api) -> None:
    asked: list[dict[str, Any]] = [
        {"device_id": "meter1"},
        {"device_id": "meter2"},
        {"device_id": "meter1", "fields": "consumption_kwh"},
        {"device_id": "meter1", "fill": "true"},
        {"device_id": "meter1", "end": (DAY + timedelta(days=N_DAYS, hours=-1)).isoformat()},
        {},
    ]
    assert len({api.ask(**one).headers["etag"] for one in asked}) == len(asked)


@pytest.mark.parametrize("level", ["hourly", "daily", "series"])
def test_csv_says_what_json_says(api: Api, level: str) -> None:
    asked = {"device_id": "meter1", "fields": "consumption_kwh,power_kw_mean,last_at"}
    told = api.ask(level, **asked).json()["buckets"]
    answer = api.ask(level, {"Accept": "text/csv"}, **asked)
    assert answer.headers["content-type"].startswith("text/csv")
    lines = list(csv.DictReader(io.StringIO(answer.text, newline="")))
    wanted = [
        {name: json.dumps(value) if isinstance(value, bool) else str(value) for name, value in one.items()}
        for one in told
    ]
    assert lines == wanted
    assert len(lines) > 1


def test_csv_has_a_tag_of_its_own(api: Api) -> None:
    wants = {"Accept": "text/csv"}
    tag = api.ask(device_id="meter1").headers["etag"]
    first = api.ask(headers={**wants, "If-None-Match": tag}, device_id="meter1")
    assert first.status_code == 200
    assert first.headers["vary"] == "Accept"
    again = api.ask(headers={**wants, "If-None-Match": first.headers["etag"]}, device_id="meter1")
    assert (again.status_code, again.content) == (304, b"")


def test_a_link_leads_to_the_next_page(api: Api) -> None:
    wants = {"Accept": "text/csv"}
    page = api.ask(headers=wants, device_id=["meter1", "meter2"], limit=150)
    following = page.links["next"]["url"]
    rest = api.kept.get(following, headers=wants)
    whole = api.ask(headers=wants, device_id=["meter1", "meter2"]).text.splitlines()
    assert page.text.splitlines() + rest.text.splitlines()[1:] == whole
    assert "next" not in rest.links


def test_memory_that_is_too_small_is_never_exceeded_and_every_answer_right(api: Api) -> None:
    parts = CountedCache(40_000)
    with Api(api.house, parts) as small:
        for device in ("meter1", "meter2", "meter1"):
            assert small.differences(device_id=[device]) == []
            assert 0 < parts.n_bytes <= 40_000


def test_the_reader_may_ask_for_all_that_it_needs(database: Database, streams: dict[str, Any]) -> None:
    migrate(database.url, database.read_url, streams.values())
    with closing(House(database.url, streams)) as house:
        fill(house)
        with Api(house, HL_DATABASE__READ_URL=database.read_url) as api:
            assert api.differences() == []
            assert api.parts.n_found == N_DAYS


def test_a_reader_who_may_read_the_views_only_gets_every_answer(
    database: Database, streams: dict[str, Any]
) -> None:
    migrate(database.url, database.read_url, streams.values())
    with closing(House(database.url, streams)) as house:
        fill(house)
        house.execute("revoke usage on schema materialized from hl_read")
        with Api(house, HL_DATABASE__READ_URL=database.read_url) as api:
            assert api.differences() == []
            assert api.differences(fill="true") == []
            assert len(api.parts) == 0


def test_filled_buckets_of_a_day_that_has_none_come_from_memory(api: Api) -> None:
    midnight = datetime(2020, 1, 1, tzinfo=ZoneInfo(ZONE))
    asked = {
        "start": midnight.isoformat(),
        "end": (midnight + timedelta(days=3)).isoformat(),
        "fill": "true",
        "device_id": ["meter1"],
    }
    assert api.differences(**asked) == []
    assert len(api.ask(**asked).json()["buckets"]) == 72
    assert api.parts.n_found > 0
