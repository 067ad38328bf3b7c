"""What `hl status` reads from PostgreSQL and Kafka."""

import uuid
from collections.abc import Iterator

import psycopg
import pytest
from confluent_kafka import Consumer, Producer, TopicPartition

from hl_platform.adapters.kafka.lag import read_lag
from hl_platform.adapters.kafka.topics import ensure_topics
from hl_platform.adapters.postgres.connection import connect
from hl_platform.adapters.postgres.migrate import migrate
from hl_platform.adapters.postgres.status import Delay, StageTotals, read_status
from hl_platform.core.histogram import DelayHistogram
from hl_platform.core.sections import KafkaSettings
from hl_platform.core.streams import Stream, parse_stream
from hl_platform.stack.kafka import EmbeddedKafka
from hl_platform.streams import load_streams
from tests.servers import Database


@pytest.fixture
def conn(database: Database) -> Iterator[psycopg.Connection]:
    migrate(database.url, database.read_url, load_streams().values())
    with connect(database.url, application_name="test") as conn:
        yield conn


@pytest.fixture
def stream() -> Stream:
    name = f"s{uuid.uuid4().hex[:8]}"
    return parse_stream(
        f"""
        name = "{name}"
        title = "Test"
        description = "A stream of this test."
        mqtt_filter = "homelab/{name}/#"
        kafka_topic = "homelab.{name}"
        kafka_partitions = 2
        table = "{name}_readings"
        [fields.power_kw]
        description = "Power"
        type = "float"
        kind = "gauge"
        unit = "kW"
        required = true
        """,
        "test",
    )


def _account(conn: psycopg.Connection, service: str, stage: str, stream: str, received: int) -> None:
    conn.execute(
        "insert into hl.accounts (service, stage, stream, received, forwarded, in_flight) "
        "values (%s, %s, %s, %s, %s, 1)",
        (service, stage, stream, received, received - 1),
    )


def test_stages_are_summed_over_services_and_streams_in_the_order_of_the_flow(
    conn: psycopg.Connection,
) -> None:
    for service, stage, stream in (
        ("sink", "sink", "energy"),
        ("bridge-1", "bridge", "energy"),
        ("bridge-2", "bridge", "energy"),
        ("bridge-2", "bridge", "heatpump"),
    ):
        _account(conn, service, stage, stream, 10)
    assert read_status(conn).stages == [
        StageTotals("bridge", 30, 27, 0, 0, 0, 0, 3),
        StageTotals("sink", 10, 9, 0, 0, 0, 0, 1),
    ]


def test_delays_are_merged_over_services_and_only_of_the_last_minutes(conn: psycopg.Connection) -> None:
    def write(service: str, age: str, delay_ms: float) -> None:
        histogram = DelayHistogram()
        histogram.add(delay_ms, 100)
        conn.execute(
            "insert into hl.delays values (%s, 'device_to_row', now() - %s::interval, %s, %s)",
            (service, age, histogram.counts, histogram.max_ms),
        )

    write("sink-energy", "1 minute", 20.0)
    write("sink-heatpump", "1 minute", 40.0)
    write("sink-energy", "10 minutes", 5_000.0)
    delay = read_status(conn).delays["device_to_row"]
    assert (delay.p50, delay.max) == (pytest.approx(20.0, rel=0.09), 40.0)


def test_delay_that_was_never_measured_is_unknown(conn: psycopg.Connection) -> None:
    assert read_status(conn).delays["device_to_frame"] == Delay(None, None, None)


def test_reader_may_read_the_status(database: Database) -> None:
    migrate(database.url, database.read_url, load_streams().values())
    with connect(database.read_url, application_name="test") as conn:
        assert read_status(conn).stages == []


def test_lag_is_what_lies_between_position_and_end(kafka: EmbeddedKafka, stream: Stream) -> None:
    settings = KafkaSettings(bootstrap_servers=kafka.bootstrap_servers)
    ensure_topics(settings, [stream])
    producer = Producer({"bootstrap.servers": kafka.bootstrap_servers})
    for partition, n_records in ((0, 5), (1, 3)):
        for _ in range(n_records):
            producer.produce(stream.kafka_topic, b"{}", partition=partition)
    producer.flush(10)
    consumer = Consumer({"bootstrap.servers": kafka.bootstrap_servers, "group.id": f"{stream.name}-ws"})
    consumer.commit(offsets=[TopicPartition(stream.kafka_topic, 0, 4)], asynchronous=False)
    consumer.close()
    positions = {
        (stream.consumer_group, stream.kafka_topic, 0): 5,
        (stream.consumer_group, stream.kafka_topic, 1): 1,
    }
    assert read_lag(settings, [stream], positions) == {stream.consumer_group: 2, f"{stream.name}-ws": 1}
