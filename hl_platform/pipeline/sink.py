"""The sink: Kafka to PostgreSQL, rows and offsets in one transaction.

The path of one batch, in this order; a crash between any two steps repeats the batch or finds it done:

1. Kafka assigns partitions; the database hands over their offsets with a new epoch (`SinkStore.claim`).
2. Records are read from those offsets, by number or by age, whichever comes first.
3. They are decoded; what is invalid goes to the dead letters and is acknowledged by Kafka.
4. One transaction writes rows, offsets and counts, and fails if somebody else has claimed a partition.
5. Kafka is told the position, for lag tools to see.
"""

import random
import threading
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import NamedTuple

import structlog

from hl_platform.adapters.kafka.consumer import GroupConsumer, Record
from hl_platform.adapters.kafka.producer import Delivery, KafkaProducer
from hl_platform.adapters.postgres.sink_store import Claim, SinkStore
from hl_platform.core.accounts import Account, StageStats
from hl_platform.core.backoff import Backoff
from hl_platform.core.errors import FencedError, PoisonRecordError, TransientError
from hl_platform.core.readings import Reading, ReadingDecoder
from hl_platform.core.settings import ReadingSettings, SinkSettings
from hl_platform.core.streams import Stream
from hl_platform.pipeline.dead_letters import make_dead_letter

log = structlog.get_logger()


class Item(NamedTuple):
    """A record, and what became of it when it was decoded."""

    record: Record
    reading: Reading | None
    fault: PoisonRecordError | None


class StreamSink:
    """Carries one stream from its Kafka topic to its table.

    Args:
        stream: which.
        consumer: reads the topic.
        store: writes the table.
        producer: takes the dead letters.
        sink: batch size and age.
        rules: which readings are believed.
        stats: takes the delays; counts are in the store's transaction.
        now: the time, aware.

    Guarantee: every record is one row, or changes none because its row is there, or is a dead letter that
    Kafka has acknowledged; then, and in the same transaction, its offset is passed.
    """

    def __init__(
        self,
        *,
        stream: Stream,
        consumer: GroupConsumer,
        store: SinkStore,
        producer: KafkaProducer,
        sink: SinkSettings,
        rules: ReadingSettings,
        stats: StageStats,
        now: Callable[[], datetime],
    ) -> None:
        self._stream = stream
        self._consumer = consumer
        self._store = store
        self._producer = producer
        self._sink = sink
        self._decoder = ReadingDecoder(stream, rules)
        self._stats = stats
        self._now = now
        self._claims: dict[int, Claim] = {}
        # Dead letters that Kafka has and whose offsets are not committed yet: an outage of the database
        # repeats the batch, and must not repeat them.
        self._sent: set[tuple[int, int]] = set()
        self._stop = threading.Event()

    def run(self) -> None:
        """Works until `stop`.

        Raises:
            FencedError: another sink has taken over.
            HlError: why it cannot go on; nothing is lost.
        """
        log.info("sink_started", stream=self._stream.name)
        try:
            while not self._stop.is_set():
                self._step()
        finally:
            self._consumer.close()
            self._store.close()
            log.info("sink_stopped", stream=self._stream.name)

    def stop(self) -> None:
        """Ends `run` after the batch at hand. Any thread."""
        self._stop.set()

    def _step(self) -> None:
        records = self._consumer.consume(self._sink.max_batch_rows, self._sink.max_batch_age_ms / 1000)
        # Records of partitions that we lost meanwhile are for whoever has them now.
        mine = [record for record in records if record.kafka_partition in self._claims]
        if mine:
            self._persist(
                lambda: self._store_items([self._decode(record) for record in self._unwritten(mine)])
            )
            self._consumer.show_position(
                {partition: claim.next_offset for partition, claim in self._claims.items()}
            )
        assigned = self._consumer.take_assignment()
        if assigned is not None:
            self._persist(lambda: self._claim_all(assigned))

    def _persist(self, work: Callable[[], None]) -> None:
        # An outage is waited out with the batch in hand; nothing is skipped and nothing is a dead letter.
        backoff = Backoff(random.Random())  # noqa: S311 - jitter, not secrecy
        while True:
            try:
                work()
            except TransientError as exc:
                log.warning("outage", stream=self._stream.name, error=str(exc))
                if self._stop.wait(backoff.next_s()):
                    # Not written: the successor reads it again.
                    return
                self._refresh_claims()
            else:
                return

    def _refresh_claims(self) -> None:
        # The answer to a commit may have been lost with the line: only the database knows.
        try:
            stored = self._store.claims(self._claims)
        except TransientError:
            return
        for partition, claim in self._claims.items():
            if stored.get(partition, claim).epoch != claim.epoch:
                raise FencedError(
                    f"{self._stream.consumer_group}: partition {partition} was claimed by another sink"
                )
        self._claims.update(stored)

    def _claim_all(self, partitions: Sequence[int]) -> None:
        self._claims = {partition: self._claim(partition) for partition in partitions}
        self._consumer.start_at({partition: claim.next_offset for partition, claim in self._claims.items()})
        log.info("partitions_claimed", stream=self._stream.name, claims=self._claims)

    def _claim(self, partition: int) -> Claim:
        low, high = self._consumer.watermarks(partition)
        claim = self._store.claim(partition, low)
        if claim.next_offset > high:
            # The topic was made anew, or its last records went down with the broker. What is there now may
            # be unread, so it is read from the start: what is stored already changes nothing.
            log.error(
                "offset_beyond_kafka", kafka_partition=partition, next_offset=claim.next_offset, high=high
            )
            return self._store.move(partition, claim, low, dropped=0)
        if claim.next_offset < low:
            # Kafka's retention was faster than we. Said, counted, and not to be mended by standing still.
            lost = low - claim.next_offset
            log.error("records_expired_unread", kafka_partition=partition, n_records=lost)
            return self._store.move(partition, claim, low, dropped=lost)
        return claim

    def _unwritten(self, records: list[Record]) -> list[Record]:
        return [
            record for record in records if record.offset >= self._claims[record.kafka_partition].next_offset
        ]

    def _decode(self, record: Record) -> Item:
        try:
            reading = self._decoder.decode_record(record.value, record.key, record.kafka_time)
        except PoisonRecordError as fault:
            return Item(record, None, fault)
        return Item(record, reading, None)

    def _store_items(self, items: list[Item]) -> None:
        if not items:
            return
        try:
            self._write(items)
        except PoisonRecordError as fault:
            # Half of the batch at a time: the good rows land, and what is left over is the bad one.
            if len(items) == 1:
                self._store_items([items[0]._replace(reading=None, fault=fault)])
                return
            middle = len(items) // 2
            self._store_items(items[:middle])
            self._store_items(items[middle:])

    def _write(self, items: list[Item]) -> None:
        started_at = self._now()
        rejected = [item for item in items if item.fault is not None]
        self._send_dead_letters([item for item in rejected if _position(item) not in self._sent])
        self._sent.update(_position(item) for item in rejected)
        account = Account(received=len(items), dead_lettered=len(rejected))
        readings = _last_of_each(items, account)
        account.last_reading_at = max((reading.received_at for reading in readings), default=None)
        next_offsets = {item.record.kafka_partition: item.record.offset + 1 for item in items}
        written = self._store.write(readings, self._claims, next_offsets, account)
        for partition, next_offset in next_offsets.items():
            self._claims[partition] = self._claims[partition]._replace(next_offset=next_offset)
        self._sent.difference_update(_position(item) for item in rejected)
        self._measure(readings)
        log.debug(
            "batch_committed",
            stream=self._stream.name,
            next_offsets=next_offsets,
            n_rows=written.inserted,
            n_corrected=written.corrected,
            n_dead_lettered=len(rejected),
            duration_ms=(self._now() - started_at).total_seconds() * 1000,
        )

    def _send_dead_letters(self, items: list[Item]) -> None:
        if not items:
            return
        arrived: list[Delivery] = []
        for item in items:
            assert item.fault is not None  # noqa: S101 - the caller chose those that have one
            letter = make_dead_letter(
                self._stream,
                "sink",
                item.fault,
                item.record.value,
                self._now(),
                device_id=item.record.key,
                kafka_topic=self._stream.kafka_topic,
                kafka_partition=item.record.kafka_partition,
                offset=item.record.offset,
                kafka_time=item.record.kafka_time,
            )
            self._producer.send(
                self._stream.dead_letter_topic, item.record.key, letter.value, arrived.append, letter.headers
            )
        log.warning("records_rejected", stream=self._stream.name, n=len(items), first=str(items[0].fault))
        while len(arrived) < len(items):
            self._producer.poll(0.1)
            if self._stop.is_set():
                raise TransientError("stopped before Kafka had the dead letters")
        for delivery in arrived:
            if delivery.error is not None:
                raise delivery.error

    def _measure(self, readings: Sequence[Reading]) -> None:
        now = self._now()
        for reading in readings:
            if reading.is_live:
                self._stats.delay("device_to_row", (now - reading.timestamp).total_seconds() * 1000)


def _position(item: Item) -> tuple[int, int]:
    return (item.record.kafka_partition, item.record.offset)


def _last_of_each(items: Sequence[Item], account: Account) -> list[Reading]:
    """The readings of a batch, the last one of those with the same device and timestamp.

    Args:
        items: in order of offset, so that a device's own order decides.
        account: gets the repetitions and corrections that the batch holds within itself.
    """
    last: dict[tuple[str, datetime], Reading] = {}
    for item in items:
        if item.reading is None:
            continue
        key = (item.reading.device_id, item.reading.timestamp)
        earlier = last.get(key)
        if earlier is not None:
            if (earlier.values, earlier.extra) == (item.reading.values, item.reading.extra):
                account.duplicates += 1
            else:
                account.corrected += 1
        last[key] = item.reading
    return list(last.values())
