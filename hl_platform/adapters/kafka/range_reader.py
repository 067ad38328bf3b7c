"""Reads ranges of Kafka partitions again, for clients of the feed that come back."""

import time
from typing import NamedTuple

from confluent_kafka import Consumer, KafkaError, TopicPartition

from hl_platform.adapters.kafka.config import reader_config
from hl_platform.adapters.kafka.errors import passes, translate, translated
from hl_platform.adapters.kafka.feed_reader import FeedRecord, Place, feed_record
from hl_platform.adapters.kafka.lookup import find_watermarks
from hl_platform.core.errors import TransientError
from hl_platform.core.sections import KafkaSettings

REQUEST_TIMEOUT_S = 5.0
# Without a record for this long the cluster counts as away.
PATIENCE_S = 10.0
POLL_S = 0.2
POLL_RECORDS = 500


class RangeRead(NamedTuple):
    """What Kafka had of a range.

    Args:
        first: where it begins: later than asked for where Kafka no longer has the begin.
        next_offset: behind it: earlier than asked for where Kafka has nothing more.
    """

    first: int
    next_offset: int
    records: list[FeedRecord]


class RangeReader:
    """One connection, without a group; nothing is committed. For one thread at a time.

    Args:
        kafka: where the cluster is.
        client_id: shown in the cluster's logs.
    """

    def __init__(self, kafka: KafkaSettings, client_id: str) -> None:
        self._consumer = Consumer(
            {
                **reader_config(kafka, client_id),
                "auto.offset.reset": "error",
                "queued.max.messages.kbytes": 4_096,
                # Other requests wait behind a fetch.
                "fetch.wait.max.ms": 50,
            }
        )

    def range(self, place: Place) -> tuple[int, int]:
        """The first offset that Kafka has of a partition, and its end.

        Raises:
            TransientError: the cluster cannot be reached now, or has no such partition now.
        """
        return find_watermarks(self._consumer, *place, REQUEST_TIMEOUT_S)

    def read(self, place: Place, first: int, end: int) -> RangeRead:
        """The records of [first, end), as far as Kafka has them.

        Raises:
            TransientError: the cluster cannot serve us now.
        """
        with translated():
            try:
                return self._read_what_is_left(place, first, end)
            finally:
                # Else it would go on fetching ahead.
                self._consumer.unassign()

    def close(self) -> None:
        """Ends the connection."""
        self._consumer.close()

    def _read_what_is_left(self, place: Place, first: int, end: int) -> RangeRead:
        found = self._read(place, first, end)
        if found is None:
            low, high = self.range(place)
            # Behind the end: this is not the log that was asked about.
            if first >= high or low >= end:
                return RangeRead(max(low, first), max(low, first), [])
            first = low
            found = self._read(place, first, end)
        if found is None:
            raise TransientError("Kafka's retention has passed what was to be read.")
        return RangeRead(first, *found)

    def _read(self, place: Place, first: int, end: int) -> tuple[int, list[FeedRecord]] | None:
        """Next offset and records; None where Kafka does not have the begin."""
        self._consumer.assign([TopicPartition(*place, first)])
        records: list[FeedRecord] = []
        position, until_s = first, time.monotonic() + PATIENCE_S
        while position < end:
            for message in self._consumer.consume(min(POLL_RECORDS, end - position), timeout=POLL_S):
                error = message.error()
                if error is None:
                    record = feed_record(message)
                    if record.offset < end:
                        records.append(record)
                    position = record.offset + 1
                    until_s = time.monotonic() + PATIENCE_S
                elif error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001 - the library's public name
                    return position, records
                elif error.code() == KafkaError._AUTO_OFFSET_RESET:  # noqa: SLF001
                    return None
                elif error.fatal() or not passes(error):
                    raise translate(error)
            if time.monotonic() > until_s:
                raise TransientError(f"Kafka has not given a record for {PATIENCE_S:g} s.")
        return end, records
