"""A house whose readings are put straight where the bridge and the sink would put them."""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import httpx
import msgspec
import psycopg
from confluent_kafka import Producer
from psycopg import sql

from dbt_like_sql.engine.deploy import deploy
from dbt_like_sql.engine.project import load_project
from hl_platform.adapters.kafka.topics import ensure_topics
from hl_platform.adapters.postgres.database import BULK, SqlDatabase
from hl_platform.adapters.postgres.migrate import migrate
from hl_platform.adapters.postgres.replay_requests import ReplayRequests
from hl_platform.adapters.postgres.tariffs import TariffStore
from hl_platform.adapters.postgres.tokens import TokenStore
from hl_platform.core.access import make_token
from hl_platform.core.settings import load_settings
from hl_platform.core.tariffs import Tariff
from hl_platform.stack.net import free_port
from hl_platform.streams import load_streams
from tests.home import PATIENCE_S
from tests.servers import Database

STOP_WITHIN_S = 10.0

METER = {"total_energy_kwh": 12_345.6, "power_kw": 3.21, "voltage": 230.4, "current": 13.9}
PUMP = {
    "mode": "heating",
    "target_temp": 45.0,
    "actual_temp": 42.5,
    "compressor_running": True,
    "power_consumption_kw": 1.84,
}

REJECTED = """
insert into hl.dead_letters (dead_letter_topic, dead_letter_partition, dead_letter_offset, dead_lettered_at, stream,
    stage, reason, detail, fingerprint, attempts, first_failed_at, last_failed_at, version, declaration, device_id,
    kafka_topic, kafka_partition, kafka_offset, kafka_time, n_bytes, preview, state)
values ('t.dlq', 0, %(offset)s, now(), 'energy', 'bridge', 'not_json', 'JSON is malformed', %(fingerprint)s, 1, now(),
    now(), '0', '0', %(device_id)s, 't', 0, %(offset)s, now(), 7, '{"a"', 'new')
"""


def zone_without_midnight(now: datetime) -> str:
    """A time zone in which no day ends within two hours of `now`, and whose clocks never change.

    What the page says of a day is the same then whenever a test runs. Neither zone is UTC, which a page could show by
    mistake.
    """
    hour = now.astimezone(ZoneInfo("Africa/Lagos")).hour
    return "Africa/Lagos" if 2 <= hour < 22 else "Asia/Tokyo"


class House:
    """One database, the shared Kafka, and a live service that can be killed.

    Args:
        database: of this test alone.
        kafka: bootstrap servers.
        folder: for stream declarations and the log.
    """

    def __init__(self, database: Database, kafka: str, folder: Path) -> None:
        self._database = database
        self._folder = folder
        self._port = free_port()
        self.timezone = zone_without_midnight(datetime.now(UTC))
        (folder / "streams").mkdir()
        self._env = {
            "HL_DATABASE__URL": database.url,
            "HL_DATABASE__READ_URL": database.read_url,
            "HL_KAFKA__BOOTSTRAP_SERVERS": kafka,
            "HL_LIVE__PORT": str(self._port),
            "HL_STREAMS_DIR": str(folder / "streams"),
            "HL_TIMEZONE": self.timezone,
        }
        # Outlives the broker of the session by a moment, which is not worth a line of its log.
        self._producer = Producer({"bootstrap.servers": kafka, "linger.ms": 0, "log_level": 0})
        self._live: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}/"

    def declare(self, name: str, toml: str) -> None:
        """Adds a stream of the user's own; before `start`."""
        (self._folder / "streams" / f"{name}.toml").write_text(toml)

    def start(self, **more: str) -> None:
        """Starts the live service, with more settings, and waits until it answers."""
        self._env.update(more)
        settings = load_settings(self._env)
        self._streams = load_streams(settings.streams_dir)
        migrate(self._database.url, self._database.read_url, self._streams.values())
        with closing(SqlDatabase(self._database.url, "hl-deploy", BULK)) as db:
            deploy(db, load_project(self._streams), settings.timezone, "test")
        ensure_topics(settings.kafka, self._streams.values())
        with (self._folder / "live.log").open("ab") as log:
            self._live = subprocess.Popen(
                [sys.executable, "-m", "hl_live"], env={**os.environ, **self._env}, stdout=log, stderr=log
            )
        deadline = time.monotonic() + PATIENCE_S
        while not self._answers():
            log_text = (self._folder / "live.log").read_text()
            assert self._live.poll() is None, f"the live service ended:\n{log_text}"
            assert time.monotonic() < deadline, f"no answer after {PATIENCE_S} s:\n{log_text}"
            time.sleep(0.05)

    def sets_price(self, price: float, currency: str) -> None:
        """What a kWh costs, since long ago."""
        since = datetime(2020, 1, 1, tzinfo=UTC)
        tariff = Tariff(name="home", valid_from=since, price_per_kwh=price, currency=currency)
        TariffStore(self._database.url, "test").set(tariff)

    def rejects(self, device_id: str, fingerprint: str = "f0") -> None:
        """A dead letter, as the index has it; one of each fingerprint."""
        with psycopg.connect(self._database.url) as conn:
            place = {"offset": int(fingerprint, 16)}
            conn.execute(REJECTED, {"device_id": device_id, "fingerprint": fingerprint, **place})

    @property
    def replay_requests(self) -> ReplayRequests:
        """What the page has asked for, and what Dagster would answer."""
        return ReplayRequests(self._database.url, "test")

    def makes_token(self, name: str, scope: str) -> str:
        token = make_token()
        with closing(TokenStore(self._database.url, "test")) as store:
            store.add(token, name, [scope], None, None)
        return token

    def revokes(self, name: str) -> None:
        with closing(TokenStore(self._database.url, "test")) as store:
            assert store.revoke(name)

    def kill(self) -> None:
        """The live service is gone without a word."""
        assert self._live is not None
        self._live.kill()
        self._live.wait()
        self._live = None

    def close(self) -> None:
        if self._live is None:
            return
        self._live.terminate()
        try:
            self._live.wait(STOP_WITHIN_S)
        except subprocess.TimeoutExpired:
            self.kill()

    def reports(self, stream: str, device_id: str, data: dict[str, Any], at: datetime | None = None) -> None:
        """A reading that has come through bridge and sink."""
        # The same time in both, or it would be two readings.
        at = at or datetime.now(UTC)
        self.stores(stream, device_id, [(at, data)])
        self.sends(stream, device_id, data, at)

    def sends(self, stream: str, device_id: str, data: dict[str, Any], at: datetime | None = None) -> None:
        """A reading that the bridge has put on the Kafka topic, as of now unless said otherwise."""
        now = datetime.now(UTC)
        body = {"timestamp": at or now, **data, "device_id": device_id, "received_at": now}
        self._producer.produce(self._streams[stream].kafka_topic, msgspec.json.encode(body), device_id)
        assert self._producer.flush(PATIENCE_S) == 0

    def stores(self, stream: str, device_id: str, readings: list[tuple[datetime, dict[str, Any]]]) -> None:
        """Readings of the past, as the sink has stored them."""
        declared = self._streams[stream]
        columns = [*declared.columns, "received_at", "ingested_at"]
        statement = sql.SQL("insert into {} ({}) values ({}) on conflict do nothing").format(
            sql.Identifier(declared.table),
            sql.SQL(", ").join(map(sql.Identifier, columns)),
            sql.SQL(", ").join(sql.Placeholder() * len(columns)),
        )
        rows = [
            (device_id, at, *(data.get(field.name) for field in declared.fields), at, at)
            for at, data in readings
        ]
        with psycopg.connect(self._database.url) as conn, conn.cursor() as cursor:
            cursor.executemany(statement, rows)

    @contextmanager
    def reporting(self, every_s: float = 0.2) -> Iterator[None]:
        """Two meters, a heat pump and two rooms report again and again."""
        stop = threading.Event()

        def run() -> None:
            while not stop.wait(every_s):
                self.report_all()

        thread = threading.Thread(target=run)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()

    def report_all(self) -> None:
        """Every device of an ordinary house reports once."""
        self.reports("energy", "meter1", METER)
        self.reports("energy", "meter2", {**METER, "power_kw": 0.47})
        self.reports("heatpump", "heatpump1", PUMP)
        self.reports("temperature", "t1", {"room": "living_room", "temperature": 21.4, "humidity": 45.0})
        self.reports("temperature", "t2", {"room": "bedroom", "temperature": 18.2, "humidity": 51.0})

    def _answers(self) -> bool:
        try:
            return httpx.get(self.url).is_success
        except httpx.TransportError:
            return False
