"""Fetches single records by their place."""

import time
from collections.abc import Collection

from confluent_kafka import Consumer, KafkaError, TopicPartition

from hl_platform.adapters.kafka.config import reader_config
from hl_platform.adapters.kafka.errors import passes, translate
from hl_platform.adapters.kafka.letters import LetterRecord, Place, letter_of
from hl_platform.adapters.kafka.lookup import find_places, find_watermarks
from hl_platform.core.errors import TransientError
from hl_platform.core.sections import KafkaSettings

REQUEST_TIMEOUT_S = 10.0
# Without a record for this long the cluster counts as away.
PATIENCE_S = 30.0
POLL_S = 0.5
POLL_RECORDS = 500
# Reading over so many unwanted records is cheaper than asking for another position.
MAX_SKIP = 2_000


class RecordFetcher:
    """Looks up records; a context of its own, no group, nothing committed.

    Args:
        kafka: the cluster.
        client_id: shown in the cluster's logs.
    """

    def __init__(self, kafka: KafkaSettings, client_id: str) -> None:
        self._consumer = Consumer(
            {
                **reader_config(kafka, client_id),
                "auto.offset.reset": "error",
                "queued.max.messages.kbytes": 8_192,
                # Other requests wait behind a fetch.
                "fetch.wait.max.ms": 100,
            }
        )
        self._ranges: dict[Place, tuple[int, int]] = {}
        # Where the next record comes from; batches mostly follow each other.
        self._at: tuple[Place, int] | None = None

    def places(self, kafka_topics: Collection[str]) -> set[Place]:
        """The partitions of those topics that are there.

        Raises:
            TransientError: the cluster cannot be reached now.
        """
        return find_places(self._consumer, kafka_topics, REQUEST_TIMEOUT_S)

    def watermarks(self, place: Place) -> tuple[int, int]:
        """The first offset that Kafka still has, and the next that it will give.

        Raises:
            TransientError: the cluster cannot be reached now, or has no such partition now.
        """
        return find_watermarks(self._consumer, *place, REQUEST_TIMEOUT_S)

    def fetch(self, place: Place, offsets: Collection[int]) -> dict[int, LetterRecord]:
        """The records at some offsets of a partition; what Kafka no longer has is missing.

        Raises:
            TransientError: the cluster cannot serve us now.
        """
        low, high = self._range_of(place, max(offsets, default=0))
        wanted = sorted(offset for offset in offsets if low <= offset < high)
        found: dict[int, LetterRecord] = {}
        while wanted:
            self._go_to(place, wanted[0])
            wanted = self._read(place, wanted, found)
        return found

    def close(self) -> None:
        """Ends the connection."""
        self._consumer.close()

    def _range_of(self, place: Place, highest: int) -> tuple[int, int]:
        # Asked for seldom: the broker answers it behind the fetch that is under way, half a second later.
        if place not in self._ranges or highest >= self._ranges[place][1]:
            if place not in self.places([place[0]]):
                return 0, 0
            self._ranges[place] = self.watermarks(place)
        return self._ranges[place]

    def _go_to(self, place: Place, offset: int) -> None:
        if self._at is None or self._at[0] != place or not 0 <= offset - self._at[1] <= MAX_SKIP:
            self._consumer.assign([TopicPartition(*place, offset)])
            self._at = (place, offset)

    def _read(self, place: Place, wanted: list[int], found: dict[int, LetterRecord]) -> list[int]:
        """Adds records to `found` until the next wanted one is far away; returns what is still wanted."""
        assert self._at is not None  # noqa: S101 - set by _go_to
        position = self._at[1]
        until_s = time.monotonic() + PATIENCE_S
        while wanted and wanted[0] - position <= MAX_SKIP:
            n = min(POLL_RECORDS, wanted[-1] - position + 1)
            for message in self._consumer.consume(n, timeout=POLL_S):
                error = message.error()
                if error is None:
                    record = letter_of(message)
                    if record.offset in wanted:
                        found[record.offset] = record
                    position = record.offset + 1
                    until_s = time.monotonic() + PATIENCE_S
                elif error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001 - the library's public name
                    # One that was left over from an earlier end says nothing about what came since.
                    if (message.offset() or 0) > wanted[-1]:
                        self._at = None
                        return []
                elif error.code() == KafkaError._AUTO_OFFSET_RESET:  # noqa: SLF001
                    raise TransientError(f"Kafka's retention has passed what was to be read: {error.str()}")
                elif error.fatal() or not passes(error):
                    raise translate(error)
            self._at = (place, position)
            # An offset without a record, such as a transaction's end, is passed over.
            wanted = [offset for offset in wanted if offset >= position]
            if time.monotonic() > until_s:
                raise TransientError(f"Kafka has not given a record for {PATIENCE_S:g} s.")
        return wanted
