"""Offsets that Kafka does not have, or that are of other records by now: decided, said, and nothing is skipped."""

from datetime import UTC, datetime, timedelta

import msgspec
import psycopg
import pytest

from hl_platform.stack.kafka import EmbeddedKafka
from hl_platform.stack.layout import Layout
from tests.faults.kafka_log import add_partitions, cut_tail, expire, recreate_topic
from tests.home import Home, eventually, record

pytestmark = pytest.mark.slow

NOON = datetime(2026, 1, 3, 12, tzinfo=UTC)


@pytest.fixture
def one_partition(own_kafka: EmbeddedKafka, database_url: str, mosquitto: object) -> Home:
    """A household whose energy readings are in one Kafka partition, on a Kafka of its own."""
    home = Home(database_url, own_kafka.bootstrap_servers, (mosquitto.host, mosquitto.port))
    streams = {"energy": msgspec.structs.replace(home.energy, kafka_partitions=1)}
    home.streams = {**home.streams, **streams}
    home.prepare()
    return home


def send(home: Home, first: int, last: int, device_id: str = "meter1") -> None:
    """Puts readings on Kafka, each a batch of its own; `seq` and timestamp tell them apart."""
    for seq in range(first, last + 1):
        home.produce(record(device_id, NOON + timedelta(seconds=seq), seq=seq))


def stored(home: Home) -> list[int]:
    """The `seq` of every row."""
    return [int(row[0]) for row in home.query("select extra ->> 'seq' from {energy} order by timestamp")]


def numbers(first: int, last: int) -> list[int]:
    return list(range(first, last + 1))


def store(home: Home, first: int, last: int) -> None:
    """Sends readings and has a sink store them, which ends then."""
    with home.running("sink"):
        send(home, first, last)
        eventually(lambda: stored(home), lambda found: last in found)


def test_topic_made_anew_and_grown_past_our_offset_is_read_from_its_start(one_partition: Home):
    home = one_partition
    store(home, 1, 5)
    recreate_topic(home)
    send(home, 6, 20)
    with home.running("sink"):
        eventually(lambda: stored(home), lambda found: found == numbers(1, 20))
    assert home.account("sink")["dropped"] == 0


def test_topic_made_anew_while_the_sink_runs_is_read_from_its_start(one_partition: Home):
    home = one_partition
    with home.running("sink"):
        send(home, 1, 5)
        eventually(lambda: stored(home), lambda found: found == numbers(1, 5))
        recreate_topic(home)
        send(home, 6, 20)
        eventually(lambda: stored(home), lambda found: found == numbers(1, 20), patience_s=90)


def test_tail_that_kafka_lost_and_outgrew_while_the_sink_was_away_is_read_again(
    one_partition: Home, own_kafka: EmbeddedKafka, own_layout: Layout
):
    home = one_partition
    store(home, 1, 10)
    cut_tail(own_layout, own_kafka, home.energy.kafka_topic, 4)
    send(home, 11, 30)
    with home.running("sink"):
        eventually(lambda: stored(home), lambda found: found == numbers(1, 30))


def test_tail_that_kafka_lost_and_outgrew_while_the_sink_ran_is_read_again(
    one_partition: Home, own_kafka: EmbeddedKafka, own_layout: Layout
):
    home = one_partition
    with home.running("sink"):
        send(home, 1, 10)
        eventually(lambda: stored(home), lambda found: found == numbers(1, 10))
        cut_tail(own_layout, own_kafka, home.energy.kafka_topic, 4)
        send(home, 11, 30)
        eventually(lambda: stored(home), lambda found: found == numbers(1, 30), patience_s=90)


def test_kafka_killed_without_loss_makes_the_sink_read_nothing_twice(
    one_partition: Home, own_kafka: EmbeddedKafka
):
    home = one_partition
    store(home, 1, 10)
    own_kafka.kill()
    own_kafka.start()
    own_kafka.wait_ready()
    store(home, 11, 20)
    account = home.account("sink")
    assert (account["received"], account["forwarded"]) == (20, 20)


def test_records_that_expired_while_the_sink_was_away_are_counted_as_dropped(one_partition: Home):
    home = one_partition
    store(home, 1, 5)
    send(home, 6, 20)
    expire(home, 0, 12)
    with home.running("sink"):
        eventually(lambda: stored(home), lambda found: found == [*numbers(1, 5), *numbers(13, 20)])
    account = home.account("sink")
    assert (account["received"], account["forwarded"], account["dropped"]) == (20, 13, 7)


def test_records_that_expire_before_a_running_sink_has_fetched_them_are_counted_as_dropped(
    one_partition: Home,
):
    home = one_partition
    # More than fits into its queue and the batch that it reads ahead.
    n_sent = 1_800
    with home.running("sink"):
        store_first = record("meter1", NOON, seq=0)
        home.produce(store_first)
        eventually(home.n_rows)
        with psycopg.connect(home.env["HL_DATABASE__URL"]) as conn:
            # The sink waits for its table with what it has fetched, which is bounded.
            conn.execute(f"lock table {home.energy.table} in share mode")
            big = "x" * 60_000
            home.produce(*(record("meter1", NOON + timedelta(seconds=n), blob=big) for n in range(1, n_sent)))
            expire(home, 0, n_sent)
        eventually(lambda: home.account("sink")["received"], lambda n: n == n_sent)
        home.produce(record("meter1", NOON - timedelta(seconds=1)))
        eventually(lambda: home.account("sink")["received"], lambda n: n == n_sent + 1)
    account = home.account("sink")
    assert account["dropped"] > 0
    assert account["forwarded"] + account["dropped"] == n_sent + 1


def test_partitions_added_while_the_sink_runs_are_read_from_their_start(one_partition: Home):
    home = one_partition
    with home.running("sink"):
        send(home, 1, 5)
        add_partitions(home, 4)
        # Keys decide the partition: some of these devices are in each.
        home.produce(
            *(record(f"meter{n}", NOON + timedelta(seconds=n), seq=n) for n in range(6, 106)),
        )
        eventually(lambda: stored(home), lambda found: found == numbers(1, 105), patience_s=90)
    assert home.query("select count(*) from hl.offsets where kafka_topic = %s", home.energy.kafka_topic) == [
        (4,)
    ]


def test_row_of_an_offset_that_is_deleted_while_the_sink_runs_makes_it_read_all_again(one_partition: Home):
    home = one_partition
    with home.running("sink"):
        send(home, 1, 5)
        eventually(lambda: stored(home), lambda found: found == numbers(1, 5))
        with psycopg.connect(home.env["HL_DATABASE__URL"]) as conn:
            conn.execute("delete from hl.offsets where kafka_topic = %s", (home.energy.kafka_topic,))
        send(home, 6, 10)
        eventually(lambda: stored(home), lambda found: found == numbers(1, 10))
        eventually(lambda: home.account("sink")["duplicates"] == 5)
