"""Makes the Kafka topics that the streams need."""

from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Future

import structlog
from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import (  # type: ignore[attr-defined] # the library does not mark them as its own
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    ResourceType,
)
from confluent_kafka.cimpl import NewPartitions, NewTopic

from hl_platform.adapters.kafka.config import admin_client
from hl_platform.adapters.kafka.errors import MAX_MESSAGE_BYTES, translate, translated
from hl_platform.core.sections import KafkaSettings
from hl_platform.core.streams import Stream

log = structlog.get_logger()

DAY_MS = 86_400_000
REQUEST_TIMEOUT_S = 10.0
# Three copies where the cluster can hold them, and two that must have a record before it counts as written.
FULL_REPLICATION = 3
# A record's Kafka timestamp: when Kafka wrote it, instead of when it was handed to a producer.
TIMESTAMP_TYPE, APPEND_TIME = "message.timestamp.type", "LogAppendTime"


def ensure_topics(kafka: KafkaSettings, streams: Iterable[Stream]) -> None:
    """Creates missing topics and raises the number of partitions to what is declared; never lowers it.

    Topics of readings that are there are told to note when they write a record. Where the cluster does not let us, the
    delay to Kafka is not measured, and all else is as it was.

    Raises:
        TransientError: the cluster cannot be reached now.
        ConfigError: it refuses us.
    """
    admin = admin_client(kafka, "hl-topics")
    with translated():
        metadata = admin.list_topics(timeout=REQUEST_TIMEOUT_S)
    existing = {name: len(topic.partitions) for name, topic in metadata.topics.items()}
    streams = list(streams)
    wanted = [topic for stream in streams for topic in plan_topics(kafka, stream, len(metadata.brokers))]
    new = [topic for topic in wanted if topic.topic not in existing]
    if new:
        _await(admin.create_topics(new, request_timeout=REQUEST_TIMEOUT_S))
        log.info("topics_created", kafka_topics=[topic.topic for topic in new])
    grown = [
        NewPartitions(topic.topic, topic.num_partitions)
        for topic in wanted
        if existing.get(topic.topic, topic.num_partitions) < topic.num_partitions
    ]
    if grown:
        _await(admin.create_partitions(grown, request_timeout=REQUEST_TIMEOUT_S))
    _note_appends(admin, [stream.kafka_topic for stream in streams if stream.kafka_topic in existing])


def plan_topics(kafka: KafkaSettings, stream: Stream, n_brokers: int) -> list[NewTopic]:
    """The topic of a stream's readings and that of its dead letters."""
    replication = FULL_REPLICATION if n_brokers >= FULL_REPLICATION else max(1, n_brokers)
    common = {
        "cleanup.policy": "delete",
        "min.insync.replicas": str(max(1, replication - 1)),
        # A cluster's own limit may be lower than what a producer of ours sends at once.
        "max.message.bytes": str(MAX_MESSAGE_BYTES),
    }
    return [
        NewTopic(
            topic,
            num_partitions=n_partitions,
            replication_factor=replication,
            config={**common, **own, "retention.ms": str(days * DAY_MS)},
        )
        for topic, n_partitions, days, own in (
            (
                stream.kafka_topic,
                stream.kafka_partitions,
                kafka.retention_days,
                {TIMESTAMP_TYPE: APPEND_TIME},
            ),
            (stream.dead_letter_topic, 1, kafka.dead_letter_retention_days, {}),
        )
    ]


def _note_appends(admin: AdminClient, kafka_topics: Sequence[str]) -> None:
    if not kafka_topics:
        return
    topics = [ConfigResource(ResourceType.TOPIC, topic) for topic in kafka_topics]
    try:
        found = admin.describe_configs(topics, request_timeout=REQUEST_TIMEOUT_S)
        others = [
            topic for topic, configs in found.items() if configs.result()[TIMESTAMP_TYPE].value != APPEND_TIME
        ]
        for topic in others:
            topic.add_incremental_config(
                ConfigEntry(TIMESTAMP_TYPE, APPEND_TIME, incremental_operation=AlterConfigOpType.SET)
            )
        if others:
            for altered in admin.incremental_alter_configs(
                others, request_timeout=REQUEST_TIMEOUT_S
            ).values():
                altered.result()
            log.info("append_time_set", kafka_topics=[topic.name for topic in others])
    except KafkaException as exc:
        # Others' clusters may forbid it. It is tried again whenever a service starts.
        log.warning("append_time_not_set", kafka_topics=kafka_topics, error=str(translate(exc)))


def _await(futures: Mapping[str, Future[None]]) -> None:
    for future in futures.values():
        try:
            future.result()
        except KafkaException as exc:
            # Two services may create the same topic at once.
            if exc.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                raise translate(exc) from exc
