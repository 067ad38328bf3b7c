"""Harm to Kafka's own log: what a power cut, a retention or a person can do to a topic."""

import struct
from pathlib import Path

from confluent_kafka import KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, NewPartitions, NewTopic

from hl_platform.stack.kafka import EmbeddedKafka
from hl_platform.stack.layout import Layout
from tests.home import Home, eventually

# Base offset and length of a record batch, which is followed by so many bytes (Kafka's message format v2).
BATCH_HEAD = struct.Struct(">qi")


def admin(home: Home) -> AdminClient:
    return AdminClient({"bootstrap.servers": home.env["HL_KAFKA__BOOTSTRAP_SERVERS"]})


def recreate_topic(home: Home) -> None:
    """Deletes the topic of energy readings and makes it anew, with one partition."""
    client, topic = admin(home), home.energy.kafka_topic
    client.delete_topics([topic])[topic].result()

    def made() -> bool:
        try:
            client.create_topics([NewTopic(topic, 1, 1)])[topic].result()
        except KafkaException as exc:
            # The old one is still being deleted.
            assert exc.args[0].code() == KafkaError.TOPIC_ALREADY_EXISTS  # noqa: PT017
            return False
        return True

    eventually(made)


def add_partitions(home: Home, n_partitions: int) -> None:
    client, topic = admin(home), home.energy.kafka_topic
    client.create_partitions([NewPartitions(topic, n_partitions)])[topic].result()


def expire(home: Home, kafka_partition: int, before_offset: int) -> None:
    """Deletes the records before an offset, as Kafka's retention does."""
    client, place = admin(home), TopicPartition(home.energy.kafka_topic, kafka_partition, before_offset)
    client.delete_records([place])[place].result()


def cut_tail(layout: Layout, kafka: EmbeddedKafka, kafka_topic: str, n_batches: int) -> None:
    """Kills Kafka and removes the last batches of partition 0, as a power cut does; starts it again."""
    kafka.kill()
    directory = layout.data_dir / "kafka" / "data" / f"{kafka_topic}-0"
    [segment] = sorted(directory.glob("*.log"))
    borders = _batch_borders(segment)
    with segment.open("r+b") as file:
        file.truncate(borders[-n_batches])
    # Kafka makes them again from the log.
    for index in (*directory.glob("*.index"), *directory.glob("*.timeindex")):
        index.unlink()
    kafka.start()
    kafka.wait_ready()


def _batch_borders(segment: Path) -> list[int]:
    content, at, borders = segment.read_bytes(), 0, []
    while at < len(content):
        _, length = BATCH_HEAD.unpack_from(content, at)
        # A segment may end with preallocated zeros.
        if length == 0:
            break
        borders.append(at)
        at += BATCH_HEAD.size + length
    return borders
