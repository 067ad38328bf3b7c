"""Reads a known stretch of some Kafka partitions, once, without a consumer group."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from hl_platform.adapters.kafka.config import reader_config
from hl_platform.adapters.kafka.errors import translated
from hl_platform.core.sections import KafkaSettings

REQUEST_TIMEOUT_S = 5.0
POLL_S = 0.2
BATCH_RECORDS = 5_000

KafkaPlace = tuple[str, int]


class Extent(NamedTuple):
    """What Kafka has of a partition: the first offset that is there, and the next that it will give."""

    low: int
    high: int


class LoggedRecord(NamedTuple):
    """A record and its place."""

    kafka_topic: str
    kafka_partition: int
    offset: int
    value: bytes
    headers: list[tuple[str, bytes | None]]


class LogReader:
    """One client for both questions: how far partitions reach, and what is in a stretch of them.

    Args:
        kafka: the cluster.
        client_id: shown in the cluster's logs.

    Raises from every method:
        TransientError: the cluster cannot be reached now.
        ConfigError: it refuses us.
    """

    def __init__(self, kafka: KafkaSettings, client_id: str) -> None:
        settings = {
            **reader_config(kafka, client_id),
            "enable.auto.offset.store": False,
            "auto.offset.reset": "earliest",
            "queued.max.messages.kbytes": 16_384,
        }
        with translated():
            self._consumer = Consumer(settings)

    def extents(self, kafka_topics: Iterable[str]) -> dict[KafkaPlace, Extent]:
        """What there is of all partitions of some topics."""
        with translated():
            return {
                (topic, partition): Extent(
                    *self._consumer.get_watermark_offsets(
                        TopicPartition(topic, partition), timeout=REQUEST_TIMEOUT_S
                    )
                )
                for topic in kafka_topics
                for partition in self._partitions_of(topic)
            }

    def read(
        self, stretches: Mapping[KafkaPlace, Extent], finished: Callable[[], bool]
    ) -> Iterator[LoggedRecord]:
        """The records of the given stretches, in order within each partition.

        Args:
            stretches: from and to which offset, by topic and partition.
            finished: says that nobody wants to know any more.
        """
        left = {place: extent for place, extent in stretches.items() if extent.low < extent.high}
        with translated():
            self._consumer.assign([TopicPartition(*place, extent.low) for place, extent in left.items()])
        while left and not finished():
            with translated():
                messages = self._consumer.consume(BATCH_RECORDS, timeout=POLL_S)
            for message in messages:
                place = (message.topic() or "", message.partition() or 0)
                record = _record_of(message)
                offset = message.offset() or 0
                if place in left and record is not None and offset < left[place].high:
                    yield record
                # An offset need not be a record: the end of the partition may come instead.
                if place in left and (_is_end(message) or offset + 1 >= left[place].high):
                    del left[place]
        with translated():
            self._consumer.unassign()

    def close(self) -> None:
        """Ends the connection."""
        with translated():
            self._consumer.close()

    def _partitions_of(self, kafka_topic: str) -> list[int]:
        found = self._consumer.list_topics(kafka_topic, timeout=REQUEST_TIMEOUT_S).topics[kafka_topic]
        if found.error is not None:
            raise KafkaException(found.error)
        return sorted(found.partitions)


def _is_end(message: Message) -> bool:
    error = message.error()
    return error is not None and error.code() == KafkaError._PARTITION_EOF  # noqa: SLF001 - the library's public name


def _record_of(message: Message) -> LoggedRecord | None:
    # An error here is an outage that librdkafka goes on after by itself, or the end of a partition.
    if message.error() is not None:
        return None
    # The stubs allow a form that only producers take.
    headers: Any = message.headers() or []
    return LoggedRecord(
        message.topic() or "",
        message.partition() or 0,
        message.offset() or 0,
        message.value() or b"",
        headers,
    )
