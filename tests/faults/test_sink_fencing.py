"""Several sinks that believe in the same partitions: stopped, overtaken, rebalanced. One writes, each row once."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import msgspec
import psycopg
import pytest

from tests.home import Home, eventually, record

NOON = datetime(2026, 1, 3, 12, tzinfo=UTC)


def fence_process(home: Home, name: str) -> subprocess.Popen[str]:
    """A service as a process that prints why it ended."""
    streams = msgspec.json.encode(list(home.streams.values())).decode()
    return subprocess.Popen(
        [sys.executable, "-c", _PROCESS, name, streams],
        env={**os.environ, **home.env},
        stdout=subprocess.PIPE,
        text=True,
    )


_PROCESS = """
import os, sys, threading
import msgspec
from hl_platform.core.settings import load_settings
from hl_platform.core.streams import Stream
from hl_platform.pipeline.run_service import run_service
from hl_platform.pipeline.services import Service
name = sys.argv[1]
streams = msgspec.json.decode(sys.argv[2], type=tuple[Stream, ...])
report = run_service(load_settings(os.environ), Service(name, name.split("-")[0], streams), "", threading.Event())
print("ended:", report.reason)
"""


def readings(first: int, n: int) -> list[tuple[str, bytes]]:
    return [
        record(f"meter{seq % 9}", NOON + timedelta(seconds=seq), seq=seq) for seq in range(first, first + n)
    ]


def stop_between_records(home: Home, process: subprocess.Popen[str]) -> None:
    eventually(home.n_rows)
    process.send_signal(signal.SIGSTOP)


def stop_with_locks(home: Home, process: subprocess.Popen[str]) -> None:
    """Stops the sink in its transaction, after it has locked its offsets and while it holds rows of its table."""
    eventually(home.n_rows)
    with psycopg.connect(home.env["HL_DATABASE__URL"]) as conn:
        # The sink waits here, in its transaction, behind the offsets that it has locked already.
        conn.execute(f"lock table {home.energy.table} in share mode")
        home.produce(*readings(2_000, 50))
        eventually(lambda: home.query("select 1 from pg_locks where not granted"))
        process.send_signal(signal.SIGSTOP)
    held = (
        "select 1 from pg_stat_activity where state = 'idle in transaction' and datname = current_database()"
    )
    eventually(lambda: home.query(held))


@pytest.mark.parametrize("stop", [stop_between_records, stop_with_locks])
def test_stopped_sink_that_wakes_after_its_successor_took_over_writes_nothing_and_ends(
    home: Home, stop: Callable[[Home, subprocess.Popen[str]], None]
):
    zombie = fence_process(home, "sink")
    successor = None
    try:
        home.produce(*readings(0, 1_000))
        stop(home, zombie)
        home.produce(*readings(1_000, 1_000))
        successor = fence_process(home, "sink")
        eventually(home.n_rows, lambda n: n >= 2_000, patience_s=60)
        zombie.send_signal(signal.SIGCONT)
        output, _ = zombie.communicate(timeout=60)
        home.produce(*readings(3_000, 500))
        n_sent = 2_550 if stop is stop_with_locks else 2_500
        eventually(home.n_rows, lambda n: n >= n_sent)
        account = eventually(lambda: home.account("sink"), lambda found: found["received"] >= n_sent)
        assert "ended: fenced" in output
        assert successor.poll() is None
        assert home.n_rows() == n_sent
        assert (account["received"], account["forwarded"]) == (n_sent, n_sent)
    finally:
        for process in (zombie, successor):
            if process is not None:
                process.kill()
                process.communicate()


def test_second_sink_that_joins_and_leaves_under_load_costs_no_row_and_repeats_none(home: Home):
    n_sent = 12_000

    def send() -> None:
        for first in range(0, n_sent, 200):
            home.produce(*readings(first, 200))

    sender = threading.Thread(target=send)
    claimed = "select 1 from hl.offsets where service = 'sink-2' and kafka_topic = %s"
    with home.running("sink-1"):
        sender.start()
        for _ in range(2):
            eventually(home.n_rows)
            with home.running("sink-2"):
                eventually(lambda: home.query(claimed, home.energy.kafka_topic))
                written = home.n_rows()
                eventually(home.n_rows, lambda n, written=written: n > written or n == n_sent)
        sender.join()
        eventually(home.n_rows, lambda n: n >= n_sent, patience_s=60)
        account = eventually(lambda: home.account("sink"), lambda found: found["received"] >= n_sent)
    assert home.query("select count(*), count(distinct extra ->> 'seq') from {energy}") == [(n_sent, n_sent)]
    assert (account["received"], account["forwarded"]) == (n_sent, n_sent)
