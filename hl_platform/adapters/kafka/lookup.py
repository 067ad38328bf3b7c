"""What a cluster says of partitions, without a request to a group's coordinator."""

from collections.abc import Collection

from confluent_kafka import Consumer, KafkaException, TopicPartition

from hl_platform.adapters.kafka.errors import translate


def find_places(consumer: Consumer, kafka_topics: Collection[str], timeout_s: float) -> set[tuple[str, int]]:
    """The partitions of those topics that are there.

    Raises:
        TransientError: the cluster cannot be reached now.
    """
    try:
        topics = consumer.list_topics(timeout=timeout_s).topics
    except KafkaException as exc:
        raise translate(exc) from exc
    return {
        (name, partition) for name in kafka_topics if name in topics for partition in topics[name].partitions
    }


def find_watermarks(
    consumer: Consumer, kafka_topic: str, kafka_partition: int, timeout_s: float
) -> tuple[int, int]:
    """The first offset that Kafka still has, and the next that it will give.

    Raises:
        TransientError: the cluster cannot be reached now, or has no such partition now.
    """
    try:
        low, high = consumer.get_watermark_offsets(
            TopicPartition(kafka_topic, kafka_partition), timeout=timeout_s
        )
    except KafkaException as exc:
        raise translate(exc) from exc
    return low, high
