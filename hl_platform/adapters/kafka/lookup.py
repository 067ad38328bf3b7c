"""What a cluster says of topics and partitions, without a request to a group's coordinator."""

from collections.abc import Collection
from typing import Any, NamedTuple
from uuid import UUID

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicCollection, TopicPartition
from confluent_kafka.admin import AdminClient

from hl_platform.adapters.kafka.errors import translate, translated


class TopicFacts(NamedTuple):
    """One topic that there is.

    Args:
        topic_id: another one means another topic of the same name; None where the cluster has no ids.
        partitions: their numbers.
    """

    topic_id: UUID | None
    partitions: frozenset[int]


def find_topics(admin: AdminClient, names: Collection[str], timeout_s: float) -> dict[str, TopicFacts]:
    """Those of the topics that there are, by name.

    Raises:
        HlError: what Kafka says; TransientError where it cannot be reached now.
    """
    answer = admin.describe_topics(TopicCollection(list(names)), request_timeout=timeout_s)
    found = {}
    for name, future in answer.items():
        try:
            topic = future.result()
        except KafkaException as exc:
            if exc.args[0].code() == KafkaError.UNKNOWN_TOPIC_OR_PART:
                continue
            raise translate(exc) from exc
        numbers = frozenset(partition.id for partition in topic.partitions)
        found[name] = TopicFacts(_uuid_of(topic.topic_id), numbers)
    return found


def find_places(consumer: Consumer, kafka_topics: Collection[str], timeout_s: float) -> set[tuple[str, int]]:
    """The partitions of those topics that are there.

    Raises:
        TransientError: the cluster cannot be reached now.
    """
    with translated():
        topics = consumer.list_topics(timeout=timeout_s).topics
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
    with translated():
        low, high = consumer.get_watermark_offsets(
            TopicPartition(kafka_topic, kafka_partition), timeout=timeout_s
        )
    return low, high


def _uuid_of(found: Any) -> UUID | None:  # noqa: ANN401 - its stubs lack what it has
    bits = (found.get_most_significant_bits() << 64) | (found.get_least_significant_bits() & (2**64 - 1))
    return UUID(int=bits & (2**128 - 1)) if bits else None
