"""PostgreSQL that is away or cannot write: waited out. No dead letter, nothing lost, nothing twice.

OUTAGE_S=600 in the environment makes the long outage ten minutes long.
"""

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from datetime import UTC, datetime, timedelta

import pytest
import structlog
from structlog.typing import EventDict

from hl_platform.stack.kafka import EmbeddedKafka
from hl_platform.stack.layout import Layout
from hl_platform.stack.mosquitto import EmbeddedMosquitto
from hl_platform.stack.postgres import EmbeddedPostgres
from tests.faults.postgres_harm import execute, full_disk, new_standby, no_connections, read_only
from tests.home import Home, eventually, record
from tests.servers import running, temporary_layout

pytestmark = pytest.mark.slow

NOON = datetime(2026, 1, 3, 12, tzinfo=UTC)
OUTAGE_S = float(os.environ.get("OUTAGE_S", "20"))


@pytest.fixture
def events() -> Iterator[list[EventDict]]:
    """What was logged, by any thread."""
    with structlog.testing.capture_logs() as logs:
        yield logs


def named(events: list[EventDict], home: Home, *names: str) -> list[EventDict]:
    """The events of the energy stream with one of these names."""
    return [entry for entry in events if entry["event"] in names and entry.get("stream") == home.energy.name]


def readings(first: int, n: int, **values: object) -> list[tuple[str, bytes]]:
    return [
        record(f"meter{seq % 9}", NOON + timedelta(seconds=seq), seq=seq, **values)
        for seq in range(first, first + n)
    ]


def assert_each_is_one_row(home: Home, n_sent: int) -> None:
    eventually(home.n_rows, lambda n: n >= n_sent, patience_s=60)
    account = eventually(lambda: home.account("sink"), lambda found: found["received"] >= n_sent)
    assert home.query("select count(*), count(distinct extra ->> 'seq') from {energy}") == [(n_sent, n_sent)]
    assert (account["received"], account["forwarded"]) == (n_sent, n_sent)
    assert home.records(home.energy.dead_letter_topic) == []


def test_postgresql_away_for_long_is_waited_out_without_a_rebalance(
    home_on_own_postgres: Home, own_postgres: EmbeddedPostgres, events: list[EventDict]
):
    home = home_on_own_postgres
    with home.running("sink"):
        home.produce(*readings(0, 500))
        eventually(home.n_rows, lambda n: n == 500)
        own_postgres.stop()
        ends_at = time.monotonic() + OUTAGE_S
        n_sent = 500
        while time.monotonic() < ends_at:
            home.produce(*readings(n_sent, 20))
            n_sent += 20
            threading.Event().wait(1)
        own_postgres.start()
        own_postgres.wait_ready()
        assert_each_is_one_row(home, n_sent)
        eventually(lambda: named(events, home, "outage_over"))
    assert len(named(events, home, "partitions_claimed")) == 1
    # At once and every half minute, not at each of many tries.
    assert len(named(events, home, "database_away")) <= 2 + OUTAGE_S / 30


@pytest.mark.parametrize("harm", [read_only, no_connections])
def test_postgresql_that_refuses_to_write_or_to_listen_is_waited_out(
    home_on_own_postgres: Home,
    own_postgres: EmbeddedPostgres,
    events: list[EventDict],
    harm: Callable[[EmbeddedPostgres], AbstractContextManager[None]],
):
    home = home_on_own_postgres
    with home.running("sink"):
        home.produce(*readings(0, 500))
        eventually(home.n_rows, lambda n: n == 500)
        with harm(own_postgres):
            home.produce(*readings(500, 500))
            eventually(lambda: named(events, home, "database_away"))
        assert_each_is_one_row(home, 1_000)
        eventually(lambda: named(events, home, "outage_over"))


def test_full_disk_is_waited_out(
    home_on_own_postgres: Home, own_postgres: EmbeddedPostgres, own_layout: Layout, events: list[EventDict]
):
    home = home_on_own_postgres
    with home.running("sink"):
        home.produce(*readings(0, 10))
        eventually(home.n_rows, lambda n: n == 10)
        with full_disk(own_postgres, own_layout, home.energy.table):
            # Random, so that compression does not save the day.
            home.produce(*readings(10, 400, blob=os.urandom(4_000).hex()))
            away = eventually(lambda: named(events, home, "database_away"))
        assert_each_is_one_row(home, 410)
    assert "53100" in away[0]["error"]


def test_failover_to_a_promoted_standby_loses_nothing_whatever_the_standby_had_missed(
    own_postgres: EmbeddedPostgres, own_layout: Layout, kafka: EmbeddedKafka, mosquitto: EmbeddedMosquitto
):
    home = Home(own_postgres.url, kafka.bootstrap_servers, (mosquitto.host, mosquitto.port))
    home.prepare()
    with temporary_layout() as layout, running(new_standby(layout, own_postgres, own_layout)) as standby:
        host = f"127.0.0.1:{own_postgres.port}"
        both = own_postgres.url.replace(host, f"{host},127.0.0.1:{standby.port}")
        home.env["HL_DATABASE__URL"] = f"{both}?target_session_attrs=read-write"
        with home.running("sink"):
            home.produce(*readings(0, 500))
            eventually(home.n_rows, lambda n: n == 500)
            # Replication stands still: what follows is committed on the primary and never reaches the standby.
            execute(standby, "select pg_wal_replay_pause()")
            cut = "select pg_terminate_backend(pid) from pg_stat_replication"
            execute(standby, "alter system set primary_conninfo = ''", "select pg_reload_conf()")
            execute(own_postgres, cut)
            home.produce(*readings(500, 500))
            eventually(home.n_rows, lambda n: n == 1_000)
            own_postgres.kill()
            standby.promote()
            # Without a record that would make it look: by itself.
            assert_each_is_one_row(home, 1_000)
            home.produce(*readings(1_000, 500))
            assert_each_is_one_row(home, 1_500)
