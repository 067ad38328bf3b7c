"""The WebSocket feed on a real Kafka."""

import json
import re
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from confluent_kafka import ConsumerGroupTopicPartitions
from confluent_kafka.admin import AdminClient
from websockets.sync.client import ClientConnection

from hl_platform.stack.kafka import EmbeddedKafka
from tests.home import PATIENCE_S, eventually
from tests.integration.live_service import LiveProcess, RefusedError, counters, end_of

MakeLive = Callable[..., LiveProcess]


@pytest.fixture
def make_live(tmp_path: Path, database_url: str) -> Iterator[MakeLive]:
    made: list[LiveProcess] = []

    def make(bootstrap_servers: str, **env: str) -> LiveProcess:
        live = LiveProcess(tmp_path, database_url, bootstrap_servers, **env)
        made.append(live)
        live.make_tables()
        return live

    yield make
    for live in made:
        live.close()


@pytest.fixture
def live(make_live: MakeLive, kafka: EmbeddedKafka) -> LiveProcess:
    live = make_live(kafka.bootstrap_servers)
    live.make_topics()
    return live.start_reading()


def test_a_reading_reaches_every_client_that_wants_it(live: LiveProcess) -> None:
    with live.subscribe() as everyone, live.subscribe("?device_id=m2&device_id=m3") as some:
        live.produce("m1", [1])
        live.produce("m2", [2])
        live.produce("m3", [3])
        # Devices may lie on different partitions, which have no order among them.
        assert sorted(json.loads(everyone.recv(PATIENCE_S))["device_id"] for _ in range(3)) == [
            "m1",
            "m2",
            "m3",
        ]
        assert sorted(json.loads(some.recv(PATIENCE_S))["device_id"] for _ in range(2)) == ["m2", "m3"]


def test_readings_of_a_device_come_in_order_and_with_their_position(live: LiveProcess) -> None:
    with live.subscribe("?device_id=m1") as client:
        live.produce("m1", range(500))
        frames = [json.loads(client.recv(PATIENCE_S)) for _ in range(500)]
    assert [frame["data"]["total_energy_kwh"] for frame in frames] == list(range(500))
    assert [frame["position"]["offset"] for frame in frames] == list(range(500))


def test_latest_follows_the_feed(live: LiveProcess) -> None:
    live.produce("m1", [1, 2])
    live.produce("m2", [7])
    assert eventually(live.latest, lambda found: found == {"m1": 2, "m2": 7})


def test_a_late_reading_does_not_become_the_latest(live: LiveProcess) -> None:
    live.produce("m1", [5])
    with live.subscribe() as client:
        live.produce("m1", [4], at=datetime.now(UTC) - timedelta(hours=1))
        counters(client, until=4)
    assert live.latest() == {"m1": 5}


def test_a_record_that_is_not_a_reading_hides_no_other(live: LiveProcess) -> None:
    with live.subscribe() as client:
        live.produce("m1", [-1, 1])
        assert counters(client, until=1) == ([1], 0)
    find = "select received, forwarded, dropped, in_flight from hl.accounts where service = %s"
    # A heartbeat may come between the two.
    account = eventually(lambda: live.query(find, live.service), lambda rows: bool(rows) and rows[0][0] == 2)
    assert account == [(2, 1, 1, 0)]


def test_a_slow_client_gets_a_gap_and_slows_nobody(make_live: MakeLive, kafka: EmbeddedKafka) -> None:
    live = make_live(kafka.bootstrap_servers, HL_LIVE__CLIENT_QUEUE_MESSAGES="300")
    live.make_topics()
    live.start_reading()
    device = "m" * 120
    n_rounds, size = 80, 200
    with live.subscribe() as quick, _deaf_client(live) as slow:
        for number in range(n_rounds):
            live.produce(device, range(number * size, (number + 1) * size))
            seen, missed = counters(quick, until=(number + 1) * size - 1)
            assert (len(seen), missed) == (size, 0)
        # Now the slow one listens: the last reading is among those it gets, and all others are counted.
        got, n_missed = counters(slow, until=n_rounds * size - 1)
        told = live.get("/health").json()["checks"]["feed"]["detail"]
    assert got == sorted(set(got))
    assert len(got) + n_missed == n_rounds * size
    assert n_missed > 0
    assert told == f"2 clients; {n_missed} readings left out for those that were too slow"


def test_a_slow_reader_of_events_gets_a_gap_and_slows_nobody(
    make_live: MakeLive, kafka: EmbeddedKafka
) -> None:
    live = make_live(kafka.bootstrap_servers, HL_LIVE__CLIENT_QUEUE_MESSAGES="300")
    live.make_topics()
    live.start_reading()
    device, n_rounds, size = "m" * 120, 60, 200
    with live.subscribe() as quick, _deaf_reader(live) as slow:
        for number in range(n_rounds):
            live.produce(device, range(number * size, (number + 1) * size))
            seen, missed = counters(quick, until=(number + 1) * size - 1)
            assert (len(seen), missed) == (size, 0)
        got, n_missed = _events_until(slow, n_rounds * size - 1)
    assert got == sorted(set(got))
    assert len(got) + n_missed == n_rounds * size
    assert n_missed > 0
    # It has left in the middle of it all.
    eventually(lambda: live.get("/health").json()["checks"]["feed"]["detail"].startswith("0 clients"))


@contextmanager
def _deaf_reader(live: LiveProcess) -> Iterator[socket.socket]:
    """A reader of events that has begun, and reads nothing more until it is asked to."""
    with socket.socket() as line:
        line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        line.settimeout(PATIENCE_S)
        line.connect(("127.0.0.1", live.port))
        line.sendall(b"GET /api/v1/feed/events?stream=energy HTTP/1.1\r\nHost: localhost\r\n\r\n")
        told = b""
        while b'"subscribed"' not in told:
            told += line.recv(512)
        yield line


def _events_until(line: socket.socket, until: float) -> tuple[list[float], int]:
    """Counters that were read, and how many readings were said to be missing."""
    got, n_missed, text = list[float](), 0, b""
    while not got or got[-1] != until:
        more = line.recv(65_536)
        assert more, "the service has ended the stream"
        text += more
        *whole, text = text.split(b"\n\n")
        for event in whole:
            found = re.search(rb"^data: (.*)$", event, re.MULTILINE)
            message = json.loads(found[1]) if found else {"type": "none"}
            if message["type"] == "data":
                got.append(message["data"]["total_energy_kwh"])
            n_missed += message.get("missed") or 0
    return got, n_missed


def test_a_client_that_stops_reading_altogether_is_disconnected(
    make_live: MakeLive, kafka: EmbeddedKafka
) -> None:
    live = make_live(kafka.bootstrap_servers, HL_LIVE__MAX_CLIENTS="1", HL_LIVE__WRITE_TIMEOUT_S="0.5")
    live.make_topics()
    live.start_reading()
    with _deaf_client(live), ExitStack() as stack:

        def place_is_free() -> bool:
            # Enough to fill what the system holds for a client that does not read.
            live.produce("m" * 120, range(500))
            with suppress(RefusedError):
                stack.enter_context(live.subscribe())
                return True
            return False

        assert eventually(place_is_free)


def test_clients_that_leave_with_a_backlog_leave_their_places(
    make_live: MakeLive, kafka: EmbeddedKafka
) -> None:
    live = make_live(kafka.bootstrap_servers, HL_LIVE__MAX_CLIENTS="4", HL_LIVE__CLIENT_QUEUE_MESSAGES="50")
    live.make_topics()
    live.start_reading()
    for number in range(200):
        with ExitStack() as stack:
            # With four places, one that was not given back would soon be missed.
            client = _join(live, stack)
            live.produce("m1", range(20))
            if number % 2:
                # Gone without a word, in the middle of it all.
                client.socket.shutdown(socket.SHUT_RDWR)
    with ExitStack() as stack:
        for _ in range(4):
            _join(live, stack)
        with pytest.raises(RefusedError, match="too_many_clients"):
            stack.enter_context(live.subscribe())


def test_a_restart_of_kafka_skips_and_repeats_nothing(make_live: MakeLive, own_kafka: EmbeddedKafka) -> None:
    live = make_live(own_kafka.bootstrap_servers)
    live.make_topics()
    live.start_reading()
    with live.subscribe() as client:
        live.produce("m1", range(100))
        counters(client, until=99)
        own_kafka.kill()
        own_kafka.restart()
        live.produce("m1", range(100, 200))
        assert counters(client, until=199) == ([float(number) for number in range(100, 200)], 0)


def test_a_topic_that_appears_later_is_read_from_its_first_record(
    make_live: MakeLive, kafka: EmbeddedKafka
) -> None:
    live = make_live(kafka.bootstrap_servers)
    live.start()
    # It has looked, and found nothing to read.
    eventually(lambda: "topics" in live.get("/health").json()["checks"]["kafka"]["detail"])
    with live.subscribe() as client:
        live.make_topics()
        live.produce("m1", [1, 2, 3])
        assert counters(client, until=3) == ([1, 2, 3], 0)


def test_the_service_waits_for_a_kafka_that_is_away(make_live: MakeLive, own_kafka: EmbeddedKafka) -> None:
    live = make_live(own_kafka.bootstrap_servers)
    live.make_topics()
    own_kafka.stop()
    live.start()
    assert live.check("kafka") == "degraded"
    own_kafka.restart()
    eventually(lambda: live.check("kafka") == "ok")
    with live.subscribe() as client:
        live.produce("m1", [1])
        assert counters(client, until=1) == ([1], 0)


def test_the_position_is_committed_for_lag_tools(live: LiveProcess) -> None:
    live.produce("m1", range(10))
    group = f"energy-ws-{live.prefix}"
    admin = AdminClient({"bootstrap.servers": live.env["HL_KAFKA__BOOTSTRAP_SERVERS"], "log_level": 0})

    def committed() -> int:
        answer = admin.list_consumer_group_offsets([ConsumerGroupTopicPartitions(group)])
        return sum(max(0, place.offset) for place in answer[group].result().topic_partitions)

    assert eventually(committed, lambda offset: offset == 10)


def test_counts_and_delays_are_written_with_the_heartbeat(live: LiveProcess) -> None:
    with live.subscribe() as client:
        live.produce("m1", range(10))
        counters(client, until=9)
    find = "select received, forwarded, in_flight from hl.accounts where service = %s"
    assert eventually(lambda: live.query(find, live.service), lambda rows: rows == [(10, 10, 0)])
    # Over all rows: a minute may end between two heartbeats.
    delays = "select sum(n)::int from hl.delays cross join lateral unnest(counts) as n where service = %s"
    counted = eventually(lambda: live.query(delays, live.service), lambda rows: (rows[0][0] or 0) >= 10)
    assert counted == [(10,)]


def test_late_readings_do_not_pose_as_slowness(live: LiveProcess) -> None:
    with live.subscribe() as client:
        live.produce("m1", [1], at=datetime.now(UTC) - timedelta(minutes=10))
        live.produce("m1", [2])
        counters(client, until=2)
    delays = "select (select sum(n) from unnest(counts) n)::int, max_ms from hl.delays where service = %s"
    [(n_delays, max_ms)] = eventually(lambda: live.query(delays, live.service))
    assert n_delays == 1
    assert max_ms < 60_000


def test_a_stop_says_goodbye_to_clients_and_gives_the_lease_back(live: LiveProcess) -> None:
    eventually(lambda: live.query("select 1 from hl.leases where service = %s", live.service))
    with live.subscribe() as client, _deaf_client(live):
        assert live.stop() == 0
        assert end_of(client, PATIENCE_S)[0] == 1012
    released = "select released_at is not null from hl.leases where service = %s"
    assert live.query(released, live.service) == [(True,)]


def test_a_second_service_of_the_same_name_does_not_end_the_first(live: LiveProcess, tmp_path: Path) -> None:
    (tmp_path / "second").mkdir()
    second = LiveProcess(
        tmp_path / "second",
        live.env["HL_DATABASE__URL"],
        live.env["HL_KAFKA__BOOTSTRAP_SERVERS"],
        HL_LIVE__INSTANCE=live.prefix,
        HL_STREAMS_DIR=live.env["HL_STREAMS_DIR"],
    )
    epoch = "select epoch from hl.leases where service = %s"
    eventually(lambda: live.query(epoch, live.service))
    try:
        second.start()
        eventually(lambda: live.query(epoch, live.service) == [(2,)])
        with live.subscribe() as client:
            live.produce("m1", [1])
            assert counters(client, until=1) == ([1], 0)
    finally:
        second.close()


@contextmanager
def _deaf_client(live: LiveProcess) -> Iterator[ClientConnection]:
    """A client that does not listen, with as little room for what it does not hear as there can be."""
    with socket.socket() as line:
        line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        line.connect(("127.0.0.1", live.port))
        with live.subscribe(sock=line, max_queue=1) as client:
            yield client


def _join(live: LiveProcess, stack: ExitStack) -> ClientConnection:
    """A client, as soon as there is a place for it."""

    def try_to_join() -> ClientConnection | None:
        with suppress(RefusedError):
            return stack.enter_context(live.subscribe())
        return None

    client = eventually(try_to_join)
    assert client is not None
    return client
