"""Reads Kafka topics from their ends on, beside everybody else, for a person who looks."""

import time
from collections.abc import Collection, Mapping

from confluent_kafka import Consumer, KafkaError, Message, TopicPartition

from hl_platform.adapters.kafka.config import reader_config
from hl_platform.adapters.kafka.errors import passes, translate
from hl_platform.adapters.kafka.letters import LetterRecord, letter_of
from hl_platform.adapters.kafka.lookup import find_places, find_watermarks
from hl_platform.core.sections import KafkaSettings

REQUEST_S = 5.0

KafkaPlace = tuple[str, int]


class TopicTail:
    """Hands out the records that arrive after it was made; no consumer group, nothing is committed.

    Args:
        kafka: the cluster.
        kafka_topics: which; those that are not there are left out.
        client_id: shown in the cluster's logs.
        starts: where to begin instead of at the end, by topic and partition.

    Raises:
        TransientError: the cluster cannot be reached now.

    Guarantee: holds a few megabytes, however much arrives. Order is that of each partition. Once it is made, every
    record that is put on Kafka afterwards is handed out.
    """

    def __init__(
        self,
        kafka: KafkaSettings,
        kafka_topics: Collection[str],
        client_id: str,
        starts: Mapping[KafkaPlace, int] | None = None,
    ) -> None:
        self._consumer = Consumer(
            {
                **reader_config(kafka, client_id),
                "enable.auto.offset.store": False,
                "auto.offset.reset": "latest",
                "fetch.error.backoff.ms": 50,
                "queued.max.messages.kbytes": 4_096,
            }
        )
        try:
            self._begin(kafka_topics, starts or {})
        except BaseException:
            self._consumer.close()
            raise

    def poll(self, timeout_s: float) -> LetterRecord | None:
        """The next record; None when there is none within the time.

        Raises:
            TransientError: a partition cannot be read any more.
        """
        message = self._consumer.poll(timeout_s)
        return None if message is None else _record_of(message)

    def close(self) -> None:
        """Ends the connection."""
        self._consumer.close()

    def _begin(self, kafka_topics: Collection[str], starts: Mapping[KafkaPlace, int]) -> None:
        places = find_places(self._consumer, kafka_topics, REQUEST_S)
        self._consumer.assign(
            [
                TopicPartition(
                    *place,
                    starts[place]
                    if place in starts
                    else find_watermarks(self._consumer, *place, REQUEST_S)[1],
                )
                for place in places
            ]
        )
        if not starts:
            self._wait_for_ends(set(places))

    def _wait_for_ends(self, left: set[KafkaPlace]) -> None:
        # Until each partition has answered once, its connection is still being made: that would be taken for delay.
        until = time.monotonic() + REQUEST_S
        while left and time.monotonic() < until:
            message = self._consumer.poll(0.1)
            # With traffic there may be no end to meet; a record tells as much.
            if message is not None:
                left.discard((message.topic() or "", message.partition() or 0))


def _record_of(message: Message) -> LetterRecord | None:
    error = message.error()
    if error is None:
        return letter_of(message)
    if error.code() == KafkaError._PARTITION_EOF or passes(error):  # noqa: SLF001 - the library's public name
        return None
    raise translate(error)
