"""A live service of one test, as its own process, with streams, topics and a port of its own."""

import itertools
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from importlib import resources
from pathlib import Path
from typing import Any, Self

import httpx
import msgspec
import psycopg
from confluent_kafka import Producer
from psycopg import sql
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from dbt_like_sql.engine.deploy import deploy
from dbt_like_sql.engine.project import load_project
from hl_platform.adapters.kafka.topics import ensure_topics
from hl_platform.adapters.postgres.database import BULK, SqlDatabase
from hl_platform.adapters.postgres.migrate import migrate
from hl_platform.core.settings import load_settings
from hl_platform.stack.net import free_port
from hl_platform.streams import load_streams
from tests.home import PATIENCE_S, eventually

FLOOD = 20
# Of connections that requests of one kind may have.
BOUND = 4
WAITING = "select count(*) from pg_locks where not granted and relation = %s::regclass"
_numbers = itertools.count(1)


class RefusedError(Exception):
    """The feed said why it does not serve this client."""


class LiveProcess:
    """`python -m hl_live`, and the Kafka topics and tables before it.

    Args:
        folder: for the declarations and the log.
        url: of the database.
        kafka: bootstrap servers.
        env: further settings.
    """

    def __init__(self, folder: Path, url: str, kafka: str, **env: str) -> None:
        self.prefix = f"live{os.getpid()}n{next(_numbers)}"
        self._folder = folder
        self.port = free_port()
        declarations = folder / "streams"
        declarations.mkdir(exist_ok=True)
        for file in resources.files("hl_platform.streams").iterdir():
            if file.name.endswith(".toml"):
                text = file.read_text(encoding="utf-8").replace("homelab", self.prefix)
                (declarations / file.name).write_text(text)
        self.env = {
            "HL_DATABASE__URL": url,
            "HL_KAFKA__BOOTSTRAP_SERVERS": kafka,
            "HL_LIVE__PORT": str(self.port),
            "HL_LIVE__INSTANCE": self.prefix,
            "HL_STREAMS_DIR": str(declarations),
            **env,
        }
        self.streams = load_streams(str(declarations))
        self.process: subprocess.Popen[bytes] | None = None
        self._stopped = False
        self.token: str | None = None
        self._producer = Producer({"bootstrap.servers": kafka, "linger.ms": 1, "log_level": 0})

    @property
    def service(self) -> str:
        return f"live-{self.prefix}"

    @property
    def topic(self) -> str:
        return self.streams["energy"].kafka_topic

    def make_tables(self) -> None:
        migrate(self.env["HL_DATABASE__URL"], None, self.streams.values())

    def make_models(self) -> None:
        settings = load_settings(self.env)
        with closing(SqlDatabase(self.env["HL_DATABASE__URL"], "hl-deploy", BULK)) as db:
            deploy(db, load_project(self.streams), settings.timezone, "test")

    def make_topics(self) -> None:
        ensure_topics(load_settings(self.env).kafka, self.streams.values())

    def start(self) -> Self:
        """Starts the service and waits until it answers."""
        with (self._folder / "live.log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "hl_live"], env={**os.environ, **self.env}, stdout=log, stderr=log
            )
        eventually(self._answers)
        return self

    def start_reading(self) -> Self:
        """Starts the service and waits until it reads what is put on Kafka from now on."""
        self.start()
        eventually(lambda: self.check("kafka") == "ok")
        return self

    def stop(self) -> int:
        """Asks the service to end; returns its exit code."""
        assert self.process is not None
        self._stopped = True
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=PATIENCE_S)

    def kill(self) -> None:
        """Ends the service at once."""
        assert self.process is not None
        self._stopped = True
        self.process.kill()
        self.process.wait()

    def restart(self) -> Self:
        """Starts the service again after a stop, and waits until it reads."""
        self._stopped = False
        return self.start_reading()

    def close(self) -> None:
        """Ends the service; fails if it has ended without being asked."""
        if self.process is None or self._stopped:
            return
        code = self.process.poll()
        self.process.kill()
        self.process.wait()
        assert code is None, f"the service ended with {code}:\n{self.log()}"

    @property
    def headers(self) -> dict[str, str]:
        return {} if self.token is None else {"Authorization": f"Bearer {self.token}"}

    def get(self, path: str, **params: Any) -> httpx.Response:  # noqa: ANN401 - as httpx takes them
        url = f"http://127.0.0.1:{self.port}{path}"
        return httpx.get(url, params=params, headers=self.headers, timeout=PATIENCE_S)

    def flood(self, table: str, request: Callable[[], httpx.Response]) -> tuple[Counter[int], int]:
        """Sends FLOOD requests that wait for a locked table, until all but BOUND are answered, and lets those go on.

        Returns:
            How often each status came; how many connections waited for the table.
        """
        with psycopg.connect(self.env["HL_DATABASE__URL"]) as conn, ThreadPoolExecutor(FLOOD) as threads:
            conn.execute(sql.SQL("lock table hl.{} in access exclusive mode").format(sql.Identifier(table)))
            asked = [threads.submit(request) for _ in range(FLOOD)]
            eventually(lambda: sum(one.done() for one in asked), lambda n: n == FLOOD - BOUND)
            [(n_waiting,)] = self.query(WAITING, f"hl.{table}")
            conn.rollback()
            return Counter(one.result().status_code for one in asked), n_waiting

    def check(self, name: str) -> str:
        """The status of one of the health checks."""
        return str(self.get("/health").json()["checks"][name]["status"])

    def latest(self) -> dict[str, float]:
        """The newest counter of each device."""
        answer = self.get("/api/v1/energy/latest").raise_for_status().json()
        return {one["device_id"]: one["data"]["total_energy_kwh"] for one in answer["readings"]}

    @contextmanager
    def subscribe(
        self,
        query: str = "",
        **options: Any,  # noqa: ANN401
    ) -> Iterator[ClientConnection]:
        """A client of the energy feed that has been told that it is subscribed."""
        options = {"max_queue": 100_000, "compression": None, "additional_headers": self.headers, **options}
        with connect(f"ws://127.0.0.1:{self.port}/ws/energy{query}", **options) as client:
            first = json.loads(client.recv(PATIENCE_S))
            if first["type"] != "subscribed":
                raise RefusedError(first["code"])
            yield client

    def produce(self, device_id: str, counters: Sequence[float], at: datetime | None = None) -> None:
        """Readings as the bridge would put them on Kafka, in order."""
        now = datetime.now(UTC)
        for counter in counters:
            body = {
                "timestamp": at or datetime.now(UTC),
                "total_energy_kwh": counter,
                "power_kw": 1.5,
                "device_id": device_id,
                "received_at": now,
            }
            self._producer.produce(self.topic, msgspec.json.encode(body), device_id)
        assert self._producer.flush(PATIENCE_S) == 0

    def store(self, device_id: str, *readings: tuple[datetime, float, float]) -> None:
        """Rows of (time, counter, power) as the sink would have stored them."""
        statement = sql.SQL(
            "insert into energy_readings (device_id, timestamp, total_energy_kwh, power_kw, extra, received_at) "
            "values (%s, %s, %s, %s, %s, %s)"
        )
        with psycopg.connect(self.env["HL_DATABASE__URL"]) as conn, conn.cursor() as cursor:
            cursor.executemany(
                statement,
                [(device_id, at, counter, power, '{"fw": 1}', at) for at, counter, power in readings],
            )

    def query(self, statement: str, *values: object) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.env["HL_DATABASE__URL"]) as conn:
            return conn.execute(statement.encode(), values).fetchall()

    def execute(self, statement: str, *values: object) -> None:
        with psycopg.connect(self.env["HL_DATABASE__URL"]) as conn:
            conn.execute(statement.encode(), values)

    def log(self) -> str:
        return (self._folder / "live.log").read_text()

    def _answers(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, self.log()
        try:
            return self.get("/api/v1/streams").is_success
        except httpx.TransportError:
            return False


def counters(client: ClientConnection, until: float) -> tuple[list[float], int]:
    """The counters of a client's frames up to this one, and how many it was told that it missed."""
    seen: list[float] = []
    missed = 0
    while not seen or seen[-1] != until:
        frame = json.loads(client.recv(PATIENCE_S))
        if frame["type"] == "gap":
            missed += frame["missed"]
        elif frame["type"] == "data":
            seen.append(frame["data"]["total_energy_kwh"])
    return seen, missed


def end_of(client: Any, within_s: float) -> tuple[int, str]:  # noqa: ANN401
    """Why the service closes this connection; what it still says before is passed over."""
    deadline = time.monotonic() + within_s
    try:
        while True:
            client.recv(max(0, deadline - time.monotonic()))
    except ConnectionClosed as closed:
        return (closed.rcvd.code, closed.rcvd.reason) if closed.rcvd else (0, "cut off")
