"""What Kafka says of topics: which they are, and their partitions."""

from collections.abc import Collection
from typing import Any, NamedTuple
from uuid import UUID

from confluent_kafka import KafkaError, KafkaException, TopicCollection
from confluent_kafka.admin import AdminClient

from hl_platform.adapters.kafka.errors import translate


class TopicFacts(NamedTuple):
    """One topic that there is.

    Args:
        topic_id: another one means another topic of the same name; None where the cluster has no ids.
        partitions: their numbers.
    """

    topic_id: UUID | None
    partitions: frozenset[int]


def find_topics(admin: AdminClient, names: Collection[str], timeout_s: float) -> dict[str, TopicFacts]:
    """Those of the topics that there are, by name. Asks any broker, nothing of a group's coordinator.

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


def _uuid_of(found: Any) -> UUID | None:  # noqa: ANN401 - its stubs lack what it has
    bits = (found.get_most_significant_bits() << 64) | (found.get_least_significant_bits() & (2**64 - 1))
    return UUID(int=bits & (2**128 - 1)) if bits else None
