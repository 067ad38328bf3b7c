"""The index of the dead letters: one entry for each rejected record, whatever happens in between."""

import random
import string
from datetime import UTC, datetime, timedelta

import psycopg
import pytest
from confluent_kafka import Consumer, Producer, TopicPartition

from hl_platform.adapters.postgres.dead_letter_store import CONSUMER_GROUP, DeadLetterStore
from hl_platform.adapters.postgres.dead_letters import forget_dead_letters
from hl_platform.core.errors import FencedError, PoisonRecordError
from hl_platform.pipeline.dead_letters import DeadLetterRecord, make_dead_letter
from hl_platform.stack.kafka import EmbeddedKafka
from hl_platform.stack.postgres import EmbeddedPostgres
from tests.home import Home, eventually

NOON = datetime(2026, 1, 3, 12, tzinfo=UTC)


def entries(home: Home, columns: str = "state") -> list[tuple[object, ...]]:
    """Of the energy stream: a bridge that comes up leaves one of another."""
    query = f"select {columns} from hl.dead_letters where stream = %s order by id"  # noqa: S608 - constants
    return home.query(query, home.energy.name)


def letter(home: Home, offset: int, value: bytes = b"{", **about: object) -> DeadLetterRecord:
    """A dead letter as the sink makes it of a record at that offset."""
    fault = PoisonRecordError("not_json", f"no JSON at {offset}")
    origin = {
        "device_id": "meter1",
        "kafka_topic": home.energy.kafka_topic,
        "kafka_partition": 0,
        "offset": offset,
        "kafka_time": NOON,
        **about,
    }
    return make_dead_letter(home.energy, "sink", fault, value, NOON, **origin)


def send(home: Home, *letters: DeadLetterRecord) -> None:
    producer = Producer({"bootstrap.servers": home.env["HL_KAFKA__BOOTSTRAP_SERVERS"]})
    for one in letters:
        producer.produce(home.energy.dead_letter_topic, one.value, "meter1", headers=dict(one.headers))
    assert producer.flush(30) == 0


def indexed_up_to(home: Home) -> int:
    rows = home.query(
        "select next_offset from hl.offsets where consumer_group = %s and kafka_topic = %s",
        CONSUMER_GROUP,
        home.energy.dead_letter_topic,
    )
    return int(rows[0][0]) if rows else 0


def shown_position(home: Home) -> int:
    servers = home.env["HL_KAFKA__BOOTSTRAP_SERVERS"]
    consumer = Consumer({"bootstrap.servers": servers, "group.id": CONSUMER_GROUP})
    try:
        [place] = consumer.committed([TopicPartition(home.energy.dead_letter_topic, 0)], timeout=30)
        return int(place.offset)
    finally:
        consumer.close()


def test_what_the_bridge_rejects_is_an_entry_with_where_it_came_from(home: Home):
    with home.running("bridge", "sink"):
        home.publish((home.topic("meter1"), b"{nonsense"))
        eventually(lambda: entries(home), lambda rows: len(rows) == 1)
    assert entries(home, "stream, stage, reason, device_id, mqtt_topic, qos, retained, preview, state") == [
        (home.energy.name, "bridge", "not_json", "meter1", home.topic("meter1"), 1, False, "{nonsense", "new")
    ]


def test_what_the_sink_rejects_is_an_entry_with_its_place(home: Home):
    with home.running("sink"):
        home.produce(("meter1", b"{nonsense"))
        eventually(lambda: entries(home))
    [(topic, offset, letter_topic, letter_offset, n_bytes)] = entries(
        home, "kafka_topic, kafka_offset, dead_letter_topic, dead_letter_offset, n_bytes"
    )
    assert (topic, offset) == (home.energy.kafka_topic, 0)
    assert (letter_topic, letter_offset, n_bytes) == (home.energy.dead_letter_topic, 0, 9)


def test_a_dead_letter_sent_twice_by_a_crash_before_the_commit_is_one_entry(home: Home):
    send(home, letter(home, 7), letter(home, 7))
    with home.running("sink"):
        eventually(lambda: indexed_up_to(home), lambda n: n == 2)
        send(home, letter(home, 7))
        eventually(lambda: indexed_up_to(home), lambda n: n == 3)
    assert entries(home, "kafka_offset") == [(7,)]


def test_a_failed_replay_changes_its_entry_and_counts_once(home: Home):
    name = f"{home.energy.dead_letter_topic}/0/0"
    again = letter(home, 50, attempts=3, replay_of=name)
    send(home, letter(home, 7), again, again)
    with home.running("sink"):
        eventually(lambda: indexed_up_to(home), lambda n: n == 3)
        send(home, again)
        eventually(lambda: indexed_up_to(home), lambda n: n == 4)
    assert entries(home, "kafka_offset, state, attempts, detail") == [(7, "failed_again", 4, "no JSON at 50")]


def test_a_failed_replay_of_an_entry_that_is_not_there_is_an_entry_itself(home: Home):
    send(home, letter(home, 50, replay_of=f"{home.energy.dead_letter_topic}/0/999"))
    with home.running("sink"):
        eventually(lambda: entries(home))
    assert entries(home, "kafka_offset, state") == [(50, "new")]


def test_reading_the_topic_again_changes_nothing(home: Home):
    name = f"{home.energy.dead_letter_topic}/0/0"
    send(home, letter(home, 7), letter(home, 8), letter(home, 50, replay_of=name))
    with home.running("sink"):
        eventually(lambda: indexed_up_to(home), lambda n: n == 3)
    with psycopg.connect(home.env["HL_DATABASE__URL"]) as conn:
        conn.execute("update hl.dead_letters set state = 'replayed'")
        # Beyond the end: the index reads the topic from its start.
        conn.execute("update hl.offsets set next_offset = 1000 where consumer_group = %s", [CONSUMER_GROUP])
    with home.running("sink"):
        eventually(lambda: indexed_up_to(home), lambda n: n == 3)
    assert entries(home, "kafka_offset, state, attempts") == [(7, "replayed", 2), (8, "replayed", 1)]


def test_a_record_that_is_no_dead_letter_is_an_entry_and_stops_nobody(home: Home):
    strange = DeadLetterRecord(b"\x00\xff?", {"hl.stage": "sink", "x": b"\x00"})
    forged = letter(home, 9)._replace(headers={**letter(home, 9).headers, "hl.offset": str(2**70)})
    # Longer than a page of the index by device takes, and it cannot be compressed.
    device = "".join(random.Random(1).choices(string.ascii_letters, k=8_000))
    long = letter(home, 10)._replace(headers={**letter(home, 10).headers, "hl.device_id": device})
    send(home, strange, forged, long, letter(home, 7))
    with home.running("sink"):
        eventually(lambda: entries(home), lambda rows: len(rows) == 4)
    assert entries(home, "stage, stream") == [
        ("unknown", home.energy.name),
        ("unknown", home.energy.name),
        ("unknown", home.energy.name),
        ("sink", home.energy.name),
    ]


def test_the_index_of_a_process_that_was_replaced_writes_nothing(home: Home):
    url = home.env["HL_DATABASE__URL"]
    place = (home.energy.dead_letter_topic, 0)
    zombie, successor = DeadLetterStore(url, "sink"), DeadLetterStore(url, "sink")
    stale = zombie.claim(place, 0)
    successor.claim(place, 0)
    with pytest.raises(FencedError):
        zombie.write([], [], {place: stale}, {place: 5})
    assert indexed_up_to(home) == 0
    zombie.close()
    successor.close()


def test_the_index_survives_an_outage_of_the_database(
    home_on_own_postgres: Home, own_postgres: EmbeddedPostgres
):
    home = home_on_own_postgres
    with home.running("sink"):
        send(home, letter(home, 1))
        eventually(lambda: entries(home))
        own_postgres.kill()
        send(home, letter(home, 2))
        own_postgres.start()
        own_postgres.wait_ready()
        eventually(lambda: entries(home), lambda rows: len(rows) == 2)


def test_the_index_survives_an_outage_of_kafka(home_of_its_own: Home, own_kafka: EmbeddedKafka):
    home = home_of_its_own
    with home.running("sink"):
        send(home, letter(home, 1))
        eventually(lambda: entries(home))
        own_kafka.kill()
        own_kafka.start()
        own_kafka.wait_ready()
        send(home, letter(home, 2))
        eventually(lambda: entries(home), lambda rows: len(rows) == 2, patience_s=60)


def test_the_position_is_shown_to_lag_tools(home: Home):
    send(home, letter(home, 1), letter(home, 2))
    with home.running("sink"):
        eventually(lambda: indexed_up_to(home), lambda n: n == 2)
        eventually(lambda: shown_position(home), lambda n: n == 2)


def test_entries_are_forgotten_when_kafka_forgets_their_bytes(home: Home):
    send(home, letter(home, 1), letter(home, 2))
    with home.running("sink"):
        eventually(lambda: entries(home), lambda rows: len(rows) == 2)
    url = home.env["HL_DATABASE__URL"]
    with psycopg.connect(url) as conn:
        old = datetime.now(UTC) - timedelta(days=366)
        conn.execute("update hl.dead_letters set dead_lettered_at = %s where kafka_offset = 1", [old])
    assert forget_dead_letters(url, days=365) == 1
    assert entries(home, "kafka_offset") == [(2,)]
