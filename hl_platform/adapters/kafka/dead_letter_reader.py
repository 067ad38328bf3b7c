"""Reads the dead-letter topics for the index: one consumer for all of them, positions from outside Kafka."""

from collections.abc import Collection, Mapping

import structlog
from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from hl_platform.adapters.kafka.config import client_config
from hl_platform.adapters.kafka.errors import passes, translate
from hl_platform.adapters.kafka.letters import LetterRecord, Place, letter_of
from hl_platform.adapters.kafka.lookup import find_places, find_watermarks
from hl_platform.core.errors import TransientError
from hl_platform.core.sections import KafkaSettings

log = structlog.get_logger()

# How long a poll may block; stopping waits for it.
IDLE_POLL_S = 0.5
REQUEST_TIMEOUT_S = 5.0
# A dead letter can be a megabyte: what one step takes is bounded in bytes, too.
MAX_BYTES = 8_000_000
POLL_RECORDS = 50


class DeadLetterReader:
    """Reads several topics by manual assignment, without being a member of a group.

    Args:
        kafka: the cluster.
        group: under which positions are shown.
        kafka_topics: what to read; one that is not there yet is left out.
        client_id: shown in the cluster's logs.
    """

    def __init__(
        self, kafka: KafkaSettings, group: str, kafka_topics: Collection[str], client_id: str
    ) -> None:
        self._topics = frozenset(kafka_topics)
        self._consumer = Consumer(
            {
                **client_config(kafka, client_id),
                "group.id": group,
                "enable.auto.commit": False,
                # Positions come from the database. One that Kafka does not have must be decided, not skipped.
                "auto.offset.reset": "error",
                # Low priority: a flood of dead letters must not fill the memory of the sink beside us.
                "queued.max.messages.kbytes": 4_096,
                "fetch.max.bytes": 2_097_152,
            }
        )

    def places(self) -> set[Place]:
        """The partitions of our topics.

        Raises:
            TransientError: the cluster cannot be reached now.
        """
        return find_places(self._consumer, self._topics, REQUEST_TIMEOUT_S)

    def watermarks(self, place: Place) -> tuple[int, int]:
        """The first offset that Kafka still has, and the next that it will give.

        Raises:
            TransientError: the cluster cannot be reached now.
        """
        return find_watermarks(self._consumer, *place, REQUEST_TIMEOUT_S)

    def start_at(self, next_offsets: Mapping[Place, int]) -> None:
        """Reads the given partitions, and no others, from the given offsets on."""
        self._consumer.assign(
            [TopicPartition(*place, next_offset) for place, next_offset in next_offsets.items()]
        )

    def read(self, max_records: int) -> list[LetterRecord]:
        """What is there, up to `max_records` and some megabytes; waits half a second for the first.

        Raises:
            TransientError: Kafka cannot serve us now, or no longer has the position we are at.
        """
        found = self._poll(1, IDLE_POLL_S)
        n_bytes = sum(len(record.value) for record in found)
        while found and len(found) < max_records and n_bytes < MAX_BYTES:
            more = self._poll(min(POLL_RECORDS, max_records - len(found)), 0)
            if not more:
                break
            found += more
            n_bytes += sum(len(record.value) for record in more)
        return found

    def show_position(self, next_offsets: Mapping[Place, int]) -> None:
        """Commits to Kafka, for lag tools to see. Nothing depends on it, so nothing waits for it."""
        offsets = [TopicPartition(*place, next_offset) for place, next_offset in next_offsets.items()]
        try:
            self._consumer.commit(offsets=offsets, asynchronous=True)
        except KafkaException as exc:
            log.debug("position_not_shown", error=str(exc))

    def close(self) -> None:
        """Ends the reading."""
        self._consumer.close()

    def _poll(self, max_records: int, timeout_s: float) -> list[LetterRecord]:
        found = []
        for message in self._consumer.consume(max_records, timeout=timeout_s):
            error = message.error()
            if error is None:
                found.append(letter_of(message))
            elif error.code() == KafkaError._AUTO_OFFSET_RESET:  # noqa: SLF001 - the library's public name
                raise TransientError(f"Kafka no longer has the position of the index: {error.str()}")
            elif error.fatal() or not passes(error):
                raise translate(error)
        return found
