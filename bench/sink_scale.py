"""Sinks that share the partitions of a topic, and write to a table that may hold rows already."""

import os
import secrets
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from typing import LiteralString

import psutil
import psycopg
from msgspec.structs import replace

from bench.sink_runs import N_DONE, POLL_S, Run, SinkBench

CLAIMED: LiteralString = """
-- claimed: partitions of readings that sinks have, and how many sinks have one
select count(*), count(distinct service) from hl.offsets where first_offset is not null
"""
HISTORY: LiteralString = """
-- history: rows of the day before the readings, of the same devices; device by device, which the index takes quickest
insert into public.energy_readings (device_id, timestamp, total_energy_kwh, power_kw, voltage, current, received_at)
select 'meter' || lpad((number / %(each)s + 1)::text, 5, '0'), at, 900, 1.5, 230.1, 6.5, at
from generate_series(0, %(rows)s - 1) as number,
lateral (select %(end)s::timestamptz - interval '1 day' * (1 - (number %% %(each)s)::float8 / %(each)s) as at) as moment
"""
DAY = timedelta(days=1)
START_S = 60.0


class SinksAtScale(SinkBench):
    """Readings, and sinks that are ready before the readings come.

    Args:
        kafka: bootstrap servers.
        n_readings, n_devices: how many; before them comes one more of each device, which is not measured: what the
            first reading of a device's hour costs, a mark for instance, it costs by device and not by reading.
        max_sinks: at most so many share the Kafka topic.
    """

    def __init__(self, kafka: str, n_readings: int, n_devices: int, max_sinks: int) -> None:
        super().__init__(kafka, n_devices + n_readings, n_devices, 0)
        self._n_warm = n_devices if n_readings else 0
        self._n_partitions = max(max_sinks, self._streams["energy"].kafka_partitions)
        self._prepare()

    def run(self, n_sinks: int = 1, n_before: int = 0) -> Run:
        """One run, on a database and a topic of its own.

        Args:
            n_sinks: that share the topic.
            n_before: rows that the table holds already, in the partitions that are written to.
        """
        topic = f"homelab.energy.{secrets.token_hex(3)}"
        stream = replace(self._streams["energy"], kafka_topic=topic, kafka_partitions=self._n_partitions)
        with self._database(marks=True) as (url, conn):
            self._write_history(conn, n_before)
            self._ensure(stream)
            with self._sinks(url, topic, n_sinks) as processes:
                wrong = self._await_claims(conn, n_sinks)
                if wrong:
                    return Run(0, 0, 0, wrong)
                # Else those that are quickest would have read what is for the others.
                for process in processes:
                    process.suspend()
                self._produce(stream)
                for process in processes:
                    process.resume()
                run = self._watch(conn, N_DONE, processes, n_warm=self._n_warm)
            return self._checked(run, conn, n_before)

    @contextmanager
    def _sinks(self, url: str, topic: str, n_sinks: int) -> Iterator[list[psutil.Process]]:
        environment = os.environ | {
            "HL_KAFKA__BOOTSTRAP_SERVERS": self._kafka,
            "HL_DATABASE__URL": url,
            "HL_LOG__LEVEL": "warning",
        }
        with ExitStack() as stack:
            processes = []
            for number in range(n_sinks):
                command = [sys.executable, "-m", "bench.sink_peer", f"sink-{number + 1}", topic]
                process = stack.enter_context(subprocess.Popen(command, env=environment))
                stack.callback(process.terminate)
                processes.append(psutil.Process(process.pid))
            yield processes

    def _write_history(self, conn: psycopg.Connection, n_rows: int) -> None:
        if not n_rows:
            return
        begin = self._rows[0][1]
        conn.execute("select hl.ensure_partition('energy_readings', %s)", ((begin - DAY).date(),))
        # Nobody is to be told of them.
        conn.execute("alter table public.energy_readings disable trigger user")
        each = max(1, n_rows // self._n_devices)
        conn.execute(HISTORY, {"each": each, "rows": n_rows, "end": begin})
        conn.execute("alter table public.energy_readings enable trigger user")
        conn.execute("analyze public.energy_readings")

    def _await_claims(self, conn: psycopg.Connection, n_sinks: int) -> str:
        until, claimed = time.monotonic() + START_S, None
        while time.monotonic() < until:
            claimed = conn.execute(CLAIMED).fetchone()
            if claimed == (self._n_partitions, n_sinks):
                return ""
            time.sleep(POLL_S)
        return f"{n_sinks} sinks have not shared {self._n_partitions} partitions: {claimed}"
