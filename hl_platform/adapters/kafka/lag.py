"""How many records each consumer group has still to read."""

from collections.abc import Iterable, Mapping

from confluent_kafka import ConsumerGroupTopicPartitions, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.admin._listoffsets import OffsetSpec

from hl_platform.adapters.kafka.config import admin_client
from hl_platform.adapters.kafka.errors import translated
from hl_platform.core.lag import PartitionLag
from hl_platform.core.sections import KafkaSettings
from hl_platform.core.streams import Stream

REQUEST_TIMEOUT_S = 3.0

Place = tuple[str, int]


def read_lag(
    kafka: KafkaSettings, streams: Iterable[Stream], next_offsets: Mapping[tuple[str, str, int], int]
) -> dict[str, int]:
    """Records between a group's position and the end of its topic, by consumer group.

    Args and Raises are those of `read_partition_lag`.
    """
    lag: dict[str, int] = {}
    for place in read_partition_lag(kafka, streams, next_offsets):
        lag[place.consumer_group] = lag.get(place.consumer_group, 0) + place.n_records
    return lag


def read_partition_lag(
    kafka: KafkaSettings, streams: Iterable[Stream], next_offsets: Mapping[tuple[str, str, int], int]
) -> list[PartitionLag]:
    """How far each group is behind in each partition, by group, topic and partition.

    Args:
        kafka: the cluster.
        streams: whose live feed's groups are looked at, too; their positions are Kafka's own, a few seconds old.
        next_offsets: by (consumer group, Kafka topic, Kafka partition), of the groups that keep their position
            outside Kafka.

    Raises:
        TransientError: the cluster cannot be reached now.
    """
    admin = admin_client(kafka, "hl-lag")
    feeds = {stream.feed_group: stream.kafka_topic for stream in streams}
    with translated():
        # Not asked for nothing: a request to a group's coordinator whose line breaks can end the process
        # (librdkafka, pull request 5397), and Dagster's code server is among the callers.
        shown = _feed_positions(admin, feeds) if feeds else {}
        positions = {**shown, **next_offsets}
        ends = _ends(admin, {(topic, partition) for _, topic, partition in positions})
    return [
        PartitionLag(*key, next_offset, ends.get(key[1:], next_offset), is_exact=key in next_offsets)
        for key, next_offset in sorted(positions.items())
    ]


def read_ends(kafka: KafkaSettings, places: Iterable[Place]) -> dict[Place, int]:
    """Where Kafka partitions end; those of topics that are not there are left out.

    Args:
        kafka: the cluster.
        places: Kafka topic and partition.

    Raises:
        TransientError: the cluster cannot be reached now.
    """
    admin = admin_client(kafka, "hl-ends")
    with translated():
        there = admin.list_topics(timeout=REQUEST_TIMEOUT_S).topics
        return _ends(admin, {place for place in places if place[0] in there})


def _feed_positions(admin: AdminClient, feeds: Mapping[str, str]) -> dict[tuple[str, str, int], int]:
    listing = admin.list_consumer_groups(request_timeout=REQUEST_TIMEOUT_S).result()
    positions = {}
    for group in (found.group_id for found in listing.valid):
        # An instance that is one of several adds its name.
        topic = next((topic for feed_group, topic in feeds.items() if group.startswith(feed_group)), None)
        if topic is None:
            continue
        request = [ConsumerGroupTopicPartitions(group)]
        answer = admin.list_consumer_group_offsets(request, request_timeout=REQUEST_TIMEOUT_S)
        for place in answer[group].result().topic_partitions:
            if place.topic == topic and place.offset >= 0:
                positions[(group, topic, place.partition)] = place.offset
    return positions


def _ends(admin: AdminClient, places: set[Place]) -> dict[Place, int]:
    if not places:
        return {}
    latest = {TopicPartition(*place): OffsetSpec.latest() for place in places}  # type: ignore[no-untyped-call]
    answers = admin.list_offsets(latest, request_timeout=REQUEST_TIMEOUT_S)
    return {(place.topic, place.partition): future.result().offset for place, future in answers.items()}
