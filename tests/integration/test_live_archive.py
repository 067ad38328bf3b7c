"""What retention has taken out of the table is still answered by the API."""

from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
import pytest
from litestar.testing import TestClient

from dbt_like_sql.engine.project import load_project
from dbt_like_sql.engine.retention import Retention
from hl_live.app import create_app
from hl_platform.adapters import archive_reader
from hl_platform.adapters.archive import ArchiveDirectory
from hl_platform.adapters.postgres.database import BULK, SqlDatabase
from hl_platform.adapters.postgres.migrate import migrate
from hl_platform.core.settings import load_settings
from hl_platform.stack.kafka import EmbeddedKafka
from hl_platform.streams import load_streams
from tests.archived import register, write_large_file
from tests.integration.live_service import BOUND, FLOOD, LiveProcess

DAY = datetime(2026, 1, 3, tzinfo=UTC)
CUTOFF = DAY + timedelta(days=2)


@pytest.fixture
def live(database_url: str, kafka: EmbeddedKafka, tmp_path: Path) -> Iterator[LiveProcess]:
    """A service whose household has archived two days of four, of two meters."""
    live = LiveProcess(
        tmp_path, database_url, kafka.bootstrap_servers, HL_ARCHIVE__DIR=str(tmp_path / "archive")
    )
    live.make_tables()
    live.make_models()
    live.make_topics()
    for device in ("a", "b"):
        live.store(device, *((DAY + timedelta(hours=8 * n), 100.0 + n, 1.0) for n in range(12)))
    with closing(SqlDatabase(database_url, "test", BULK)) as db:
        files = ArchiveDirectory(tmp_path / "archive")
        Retention(db, load_project(live.streams), files, "test").run(live.streams["energy"], CUTOFF)
    live.start()
    yield live
    live.close()


def counters(live: LiveProcess, start: datetime, end: datetime, **more: object) -> list[float]:
    ask = {"start": start.isoformat(), "end": end.isoformat(), **more}
    readings = live.get("/api/v1/energy/raw", **ask).raise_for_status().json()["readings"]
    return [reading["data"]["total_energy_kwh"] for reading in readings]


def test_readings_come_from_archive_and_table_in_one_order(live: LiveProcess) -> None:
    with psycopg.connect(live.env["HL_DATABASE__URL"]) as conn:
        assert conn.execute("select count(*) from energy_readings").fetchone() == (14,)
    everything = [100.0 + n for n in range(12)]
    assert counters(live, DAY, DAY + timedelta(days=4), device_id="a") == everything
    assert counters(live, DAY, DAY + timedelta(days=4), device_id="a", limit=5) == everything[:5]
    across = counters(live, DAY + timedelta(hours=40), DAY + timedelta(hours=56))
    assert across == [105.0, 105.0, 106.0, 106.0]


def test_late_reading_of_a_dropped_day_is_there_at_once(live: LiveProcess) -> None:
    live.store("a", (DAY + timedelta(hours=1), 100.1, 1.0), (DAY + timedelta(hours=8), 101.5, 1.0))
    assert counters(live, DAY, DAY + timedelta(hours=9), device_id="a") == [100.0, 100.1, 101.5]


def test_however_many_ask_a_few_read_the_archive_at_once(live: LiveProcess) -> None:
    ask = {"start": DAY.isoformat(), "end": (DAY + timedelta(hours=9)).isoformat()}
    answers, n_connections = live.flood("archives", lambda: live.get("/api/v1/energy/raw", **ask))
    assert (n_connections, answers) == (BOUND, {200: BOUND, 503: FLOOD - BOUND})


def test_damaged_file_is_named_in_the_log(live: LiveProcess, tmp_path: Path) -> None:
    [(path,)] = live.query("select path from hl.archives order by day limit 1")
    (tmp_path / "archive" / path).write_bytes(b"nothing")
    ask = {"start": DAY.isoformat(), "end": (DAY + timedelta(hours=9)).isoformat()}
    assert live.get("/api/v1/energy/raw", **ask).status_code == 500
    assert path in live.log()


def test_pages_go_through_archive_and_table_also_where_two_meters_report_together(live: LiveProcess) -> None:
    ask = {"start": DAY.isoformat(), "end": (DAY + timedelta(days=4)).isoformat()}
    whole = live.get("/api/v1/energy/raw", **ask).raise_for_status().json()["readings"]
    pages, after = [], None
    while True:
        more = {"after": after} if after else {}
        page = live.get("/api/v1/energy/raw", **ask, **more, limit=3).raise_for_status().json()
        pages += page["readings"]
        after = page["next"]
        if after is None:
            break
    assert len(pages) == 24
    assert pages == whole


def test_an_archive_that_takes_too_long_is_a_503_that_says_what_helps(
    database_url: str, kafka: EmbeddedKafka, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    migrate(database_url, None, load_streams().values())
    register(database_url, write_large_file(tmp_path / "archive", "energy_readings", DAY.date()))
    environment = {
        "HL_DATABASE__URL": database_url,
        "HL_KAFKA__BOOTSTRAP_SERVERS": kafka.bootstrap_servers,
        "HL_ARCHIVE__DIR": str(tmp_path / "archive"),
    }
    monkeypatch.setattr(archive_reader, "REQUEST_TIMEOUT_S", 0.2)
    with TestClient(create_app(load_settings(environment)), base_url="http://127.0.0.1") as client:
        answer = client.get(
            "/api/v1/energy/raw",
            params={"start": DAY.isoformat(), "end": CUTOFF.isoformat(), "limit": 1},
        )
    assert (answer.status_code, answer.headers["content-type"]) == (503, "application/problem+json")
    assert answer.json()["type"] == "urn:hl:problem:outage"
    assert "shorter period or a smaller `limit`" in answer.json()["detail"]
    assert int(answer.headers["retry-after"]) >= 1
