"""kill -9 under load: every reading sent is one row, whatever died meanwhile."""

import random
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from hl_platform.stack.kafka import EmbeddedKafka
from hl_platform.stack.layout import Layout
from hl_platform.stack.mosquitto import EmbeddedMosquitto
from hl_platform.stack.postgres import EmbeddedPostgres
from hl_platform.stack.server import Server
from tests.home import Home, eventually, reading

N_DEVICES = 20


class Crash:
    """Services of a household as processes, to be killed and started again."""

    def __init__(self, home: Home) -> None:
        self.home = home
        self.processes: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, name: str) -> None:
        self.processes[name] = self.home.start_process(name)

    def kill(self, name: str) -> None:
        process = self.processes.pop(name)
        process.kill()
        process.wait()

    def end(self) -> None:
        for process in self.processes.values():
            process.kill()
            process.wait()


@contextmanager
def crashing(home: Home) -> Iterator[Crash]:
    crash = Crash(home)
    try:
        crash.start("bridge")
        crash.start("sink")
        eventually(home.has_bridge)
        yield crash
    finally:
        crash.end()


def send_in_parts(home: Home, n_parts: int, between: Callable[[int], None]) -> int:
    """Publishes parts of 1,000 readings from a thread while `between` does harm; returns how many were sent."""
    sent = 0
    for part in range(n_parts):
        batch = [(home.topic(f"meter{n % N_DEVICES}"), reading(seq=part * 1_000 + n)) for n in range(1_000)]
        sender = threading.Thread(target=home.publish, args=batch)
        sender.start()
        between(part)
        sender.join()
        sent += len(batch)
    return sent


def assert_every_reading_is_one_row(home: Home, n_sent: int) -> None:
    eventually(home.n_rows, lambda n: n >= n_sent, patience_s=60)
    distinct = home.query("select count(*), count(distinct extra ->> 'seq') from {energy}")
    account = eventually(lambda: home.account("sink"), lambda account: account["received"] >= n_sent)
    assert distinct == [(n_sent, n_sent)]
    assert account["dead_lettered"] == 0
    assert account["received"] == account["forwarded"] + account["duplicates"] + account["corrected"]


@pytest.mark.parametrize("seed", [1, 2])
def test_killed_bridge_and_sink_lose_no_reading_and_repeat_none(home: Home, seed: int):
    rng = random.Random(seed)
    with crashing(home) as crash:

        def kill_one(_part: int) -> None:
            name = rng.choice(["bridge", "sink"])
            threading.Event().wait(rng.uniform(0, 0.3))
            crash.kill(name)
            crash.start(name)

        n_sent = send_in_parts(home, 4, kill_one)
        assert_every_reading_is_one_row(home, n_sent)


def kill_and_start(server: Server) -> None:
    server.kill()
    server.start()
    server.wait_ready()


def test_killed_kafka_loses_no_reading_and_repeats_none(home_of_its_own: Home, own_kafka: EmbeddedKafka):
    with crashing(home_of_its_own):
        n_sent = send_in_parts(
            home_of_its_own, 3, lambda part: kill_and_start(own_kafka) if part == 1 else None
        )
        assert_every_reading_is_one_row(home_of_its_own, n_sent)


def test_killed_postgresql_loses_no_reading_and_repeats_none(
    home_on_own_postgres: Home, own_postgres: EmbeddedPostgres
):
    with crashing(home_on_own_postgres):
        n_sent = send_in_parts(
            home_on_own_postgres, 3, lambda part: kill_and_start(own_postgres) if part == 1 else None
        )
        assert_every_reading_is_one_row(home_on_own_postgres, n_sent)


def test_killed_mosquitto_comes_back_with_its_session_and_what_it_had_saved(
    database_url: str, kafka: EmbeddedKafka, own_mosquitto: EmbeddedMosquitto, own_layout: Layout
):
    home = Home(database_url, kafka.bootstrap_servers, (own_mosquitto.host, own_mosquitto.port))
    home.prepare()
    with home.running("bridge"):
        pass
    # The bridge is away: the queue is all there is.
    home.publish(*((home.topic("meter1"), reading(seq=n)) for n in range(500)))
    saved = own_layout.data_dir / "mosquitto" / "mosquitto.db"
    before = saved.stat().st_size if saved.exists() else 0
    own_mosquitto.save()
    eventually(lambda: saved.exists() and saved.stat().st_size > before)
    own_mosquitto.kill()
    own_mosquitto.start()
    own_mosquitto.wait_ready()
    with home.running("bridge", "sink"):
        eventually(home.n_rows, lambda n: n == 500)
