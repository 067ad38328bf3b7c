"""Ways in which readings on Kafka become rows, each measured on a database of its own."""

import json
import os
import secrets
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from datetime import UTC, datetime, timedelta
from typing import LiteralString, NamedTuple

import psutil
import psycopg
from confluent_kafka import Producer

from bench import mq_bridge
from bench.stack import own_postgres
from dbt_like_sql.engine.deploy import deploy
from dbt_like_sql.engine.project import load_project
from hl_platform.adapters.kafka.topics import ensure_topics
from hl_platform.adapters.postgres.connection import connect
from hl_platform.adapters.postgres.database import BULK, SqlDatabase
from hl_platform.adapters.postgres.migrate import migrate
from hl_platform.core.readings import ReadingDecoder, Source
from hl_platform.core.sections import ReadingSettings
from hl_platform.core.settings import load_settings
from hl_platform.core.streams import Stream
from hl_platform.streams import load_streams

PATIENCE_S = 300.0
POLL_S = 0.05
# What comes first is not measured: processes start, statements are planned, the day's partition is made.
WARM_UP_SHARE = 0.1
COPY_ROWS = 10_000
# They are so slow that a part of the readings tells their rate.
INSERT_SHARE = 0.05

N_ROWS: LiteralString = "select count(*) from public.energy_readings"
# What a sink of ours has finished; looking at the rows would cost the server more than they do.
N_DONE: LiteralString = "select coalesce(sum(next_offset - first_offset), 0)::bigint from hl.offsets"
# Rows of others, from the server's statistics, which are a second old.
N_INSERTED: LiteralString = """
-- n_inserted: rows that were written, committed or not
select coalesce(sum(n_tup_ins), 0)::bigint from pg_stat_user_tables where relname like 'energy\\_readings%'
"""
ACCOUNT: LiteralString = """
-- account: what the sinks counted
select sum(received)::bigint, sum(forwarded)::bigint, sum(in_flight)::bigint
from hl.accounts where stage = 'sink' and stream = 'energy'
"""
COLUMNS = "device_id, timestamp, total_energy_kwh, power_kw, voltage, current, received_at"
COPY = f"copy public.energy_readings ({COLUMNS}) from stdin"
INSERT = f"""
insert into public.energy_readings ({COLUMNS}) values (%s, %s, %s, %s, %s, %s, %s)
on conflict (device_id, timestamp) do nothing
"""  # noqa: S608 - constants
TOKENS = ", ".join(f"${{payload:{name}}}" for name in COLUMNS.split(", "))
# A timestamp needs a cast in an INSERT, and must have none in a COPY.
BRIDGE_COPY = f"insert into public.energy_readings ({COLUMNS}) values ({TOKENS})"  # noqa: S608 - constants
BRIDGE_INSERT = (
    BRIDGE_COPY.replace("timestamp}", "timestamp}::timestamptz").replace("_at}", "_at}::timestamptz")
    + " on conflict (device_id, timestamp) do nothing"
)
Row = tuple[str, datetime, float, float, float, float, datetime]


class Run(NamedTuple):
    """What one contender did.

    Args:
        rows_per_s: written.
        client_us, server_us: CPU time of a row in its process and in PostgreSQL, in microseconds.
        wrong: what does not hold; empty where all does.
    """

    rows_per_s: float
    client_us: float
    server_us: float
    wrong: str = ""


class Moment(NamedTuple):
    """How far it is, and what it cost until then."""

    at: float
    n_rows: int
    client_s: float
    server_s: float


class SinkBench:
    """Readings on a topic, and the ways in which they become rows.

    Args:
        kafka: bootstrap servers.
        n_readings, n_devices: how many.
        batch_rows: what mq-bridge takes at once.
    """

    def __init__(self, kafka: str, n_readings: int, n_devices: int, batch_rows: int) -> None:
        self._kafka, self._batch_rows = kafka, batch_rows
        self._streams = load_streams(None)
        self._topic = self._streams["energy"].kafka_topic
        self._n, self._n_devices = n_readings, n_devices
        self._rows: list[Row] = []
        self._records: list[tuple[str, bytes]] = []

    def fill(self) -> None:
        """Puts the readings on Kafka as a bridge does: the newest seconds, all devices in step."""
        self._prepare()
        self._ensure(self._streams["energy"])
        self._produce(self._streams["energy"])

    def _prepare(self) -> None:
        energy = self._streams["energy"]
        decoder = ReadingDecoder(energy, ReadingSettings())
        begin = datetime.now(UTC).replace(microsecond=0) - timedelta(seconds=self._n // self._n_devices + 1)
        names = [field.name for field in energy.fields]
        for number in range(self._n):
            second, device = divmod(number, self._n_devices)
            at = begin + timedelta(seconds=second)
            values = (1000 + second / 2400, 1.5 + device % 7 / 10, 230.1, 6.5)
            row: Row = (f"meter{device + 1:05}", at, *values, at + timedelta(milliseconds=40))
            payload = {"timestamp": at.isoformat(), **dict(zip(names, values, strict=True))}
            source = Source(f"homelab/energy/{row[0]}", 1, retained=False, bridge="bridge")
            self._records.append(decoder.encode_record(json.dumps(payload).encode(), row[6], source))
            self._rows.append(row)

    def _ensure(self, stream: Stream) -> None:
        ensure_topics(load_settings({"HL_KAFKA__BOOTSTRAP_SERVERS": self._kafka}).kafka, [stream])

    def _produce(self, stream: Stream) -> None:
        # Room for all of them, however slow Kafka is.
        room = {
            "queue.buffering.max.messages": len(self._records) + 1,
            "queue.buffering.max.kbytes": 1_000_000,
        }
        producer = Producer({"bootstrap.servers": self._kafka, "linger.ms": 20, **room})
        for key, value in self._records:
            producer.produce(stream.kafka_topic, value, key)
            producer.poll(0)
        producer.flush()

    @contextmanager
    def _database(self, *, marks: bool) -> Iterator[tuple[str, psycopg.Connection]]:
        """The url of a fresh server with our tables, and a connection there."""
        with own_postgres() as url:
            migrate(url, None, self._streams.values())
            if marks:
                with closing(SqlDatabase(url, "hl-bench-deploy", BULK)) as database:
                    deploy(database, load_project(self._streams), "Europe/Berlin", "bench")
            with closing(connect(url, application_name="hl-bench")) as conn:
                for day in sorted({row[1].date() for row in self._rows}):
                    conn.execute("select hl.ensure_partition('energy_readings', %s)", (day,))
                yield url, conn

    def run_hl(self, *, marks: bool) -> Run:
        """Our sink, which also marks what aggregates have to do, or finds no model to mark."""
        with self._database(marks=marks) as (url, conn):
            environment = os.environ | {
                "HL_KAFKA__BOOTSTRAP_SERVERS": self._kafka,
                "HL_DATABASE__URL": url,
                "HL_SINK__LAYOUT": "per_stream",
                "HL_LOG__LEVEL": "warning",
            }
            command = [sys.executable, "-m", "hl_platform.pipeline", "sink-energy"]
            with subprocess.Popen(command, env=environment) as process:
                try:
                    run = self._watch(conn, N_DONE, [psutil.Process(process.pid)])
                finally:
                    process.terminate()
                    process.wait(30)
            return self._checked(run, conn)

    def _checked(self, run: Run, conn: psycopg.Connection, n_before: int = 0) -> Run:
        row = conn.execute(N_ROWS).fetchone()
        account = conn.execute(ACCOUNT).fetchone()
        if row != (n_before + self._n,) or account != (self._n, self._n, 0):
            return run._replace(wrong=f"{self._n} readings: {row} rows, account {account}")
        return run

    def run_bridge(self, *, bulk: bool) -> Run:
        """mq-bridge, with COPY or with INSERTs that leave out what is there."""
        with self._database(marks=False) as (url, conn):
            target = {
                "url": url,
                "table": "energy_readings",
                "insert_query": BRIDGE_COPY if bulk else BRIDGE_INSERT,
                "bulk_copy": bulk,
            }
            source = {"url": self._kafka, "topic": self._topic, "group_id": f"peer-{secrets.token_hex(4)}"}
            route = {"input": {"kafka": source}, "output": {"sqlx": target}, "batch_size": self._batch_rows}
            with mq_bridge.running(route) as process:
                return self._watch(conn, N_INSERTED, [process])

    def run_copy(self) -> Run:
        """The limit: the same rows, made beforehand, into the same table with its indexes."""
        with self._database(marks=False) as (_, conn), conn.cursor() as cursor:
            texts = [
                "".join("\t".join(map(str, row)) + "\n" for row in self._rows[first : first + COPY_ROWS])
                for first in range(0, self._n, COPY_ROWS)
            ]
            before = self._moment(0, [psutil.Process()])
            for text in texts:
                with conn.transaction(), cursor.copy(COPY) as copy:
                    copy.write(text)
            return _between(before, self._moment(self._n, [psutil.Process()]))

    def run_inserts(self) -> Run:
        """What most people write: a statement and a transaction for each row."""
        with self._database(marks=False) as (_, conn):
            n_rows = max(1, int(self._n * INSERT_SHARE))
            before = self._moment(0, [psutil.Process()])
            for row in self._rows[:n_rows]:
                conn.execute(INSERT, row)
            return _between(before, self._moment(n_rows, [psutil.Process()]))

    def _watch(
        self,
        conn: psycopg.Connection,
        query: LiteralString,
        processes: Sequence[psutil.Process],
        n_warm: int | None = None,
    ) -> Run:
        """From when the processes are warm, by so many rows, until they have written all."""
        deadline = time.monotonic() + PATIENCE_S
        n_seen, moment = 0, self._moment(0, processes)
        start = moment
        n_warm = int(WARM_UP_SHARE * self._n) if n_warm is None else n_warm
        begin = None if n_warm else start
        while time.monotonic() < deadline and not any(
            process.status() == psutil.STATUS_ZOMBIE for process in processes
        ):
            row = conn.execute(query).fetchone()
            n_rows = row[0] if row else 0
            if n_rows > n_seen:
                n_seen, moment = n_rows, self._moment(n_rows, processes)
                if begin is None and n_rows >= n_warm:
                    begin = moment
            if n_rows >= self._n and begin is not None:
                # Few readings come at once: then the start of the process is in the figure.
                return _between(begin if begin.n_rows < n_rows else start, moment)
            time.sleep(POLL_S)
        return Run(0, 0, 0, f"only {n_seen:,} of {self._n:,} readings arrived")

    def _moment(self, n_rows: int, processes: Sequence[psutil.Process]) -> Moment:
        used = [process.cpu_times() for process in processes]
        client_s = sum(one.user + one.system for one in used)
        return Moment(time.perf_counter(), n_rows, client_s, _server_seconds())


def _server_seconds() -> float:
    """CPU time of every PostgreSQL that this process started, ended backends included."""
    total = 0.0
    for process in psutil.Process().children(recursive=True):
        # A worker of the server may end at any moment; its time is its parent's then.
        with suppress(psutil.NoSuchProcess):
            if process.name().startswith("postgres"):
                used = process.cpu_times()
                total += used.user + used.system + used.children_user + used.children_system
    return total


def _between(begin: Moment, end: Moment) -> Run:
    n_rows = end.n_rows - begin.n_rows
    return Run(
        n_rows / (end.at - begin.at),
        (end.client_s - begin.client_s) / n_rows * 1e6,
        (end.server_s - begin.server_s) / n_rows * 1e6,
    )


# In the order of a round.
CONTENDERS: dict[str, Callable[[SinkBench], Run]] = {
    "hl": lambda bench: bench.run_hl(marks=True),
    "hl without marks": lambda bench: bench.run_hl(marks=False),
    "plain COPY": SinkBench.run_copy,
    "mq-bridge ON CONFLICT": lambda bench: bench.run_bridge(bulk=False),
    "mq-bridge bulk COPY": lambda bench: bench.run_bridge(bulk=True),
    "single INSERTs": SinkBench.run_inserts,
}
