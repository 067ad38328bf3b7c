"""Reads the newest records of some Kafka topics, for a feed: every partition, without a consumer group.

Several readers do not share the work: each one sees every record. Positions are kept here, in memory; what is
committed is only for lag tools to see.
"""

import random
import threading
import time
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, NamedTuple

import structlog
from confluent_kafka import (
    Consumer,
    KafkaError,
    KafkaException,
    Message,
    TopicPartition,
)

from hl_platform.adapters.kafka.config import admin_client, client_config
from hl_platform.adapters.kafka.errors import translate
from hl_platform.adapters.kafka.lookup import TopicFacts, find_topics, find_watermarks
from hl_platform.adapters.kafka.times import kafka_time_of
from hl_platform.core.backoff import Backoff
from hl_platform.core.errors import HlError
from hl_platform.core.positions import is_another_topic
from hl_platform.core.sections import KafkaSettings
from hl_platform.core.trace_context import TRACEPARENT

log = structlog.get_logger()

# How often new topics and partitions are looked for; also what `contact_age_s` is at most while all is well.
LOOK_S = 5.0
# Two looks in a row without an answer are an outage.
KAFKA_SILENT_S = 12.0
COMMIT_S = 5.0
MEASURE_S = 0.5
# An answer of a living broker takes milliseconds; longer waits would only delay the stop.
REQUEST_S = 1.0
# Bounds the memory of a batch and the time until its first reading is shown.
MAX_BATCH_RECORDS = 500
READ_S = 0.2

Place = tuple[str, int]


class FeedRecord(NamedTuple):
    """One record as it lies on Kafka."""

    kafka_topic: str
    kafka_partition: int
    offset: int
    key: str | None
    value: bytes
    kafka_time: datetime
    traceparent: str | None = None


def feed_record(message: Message, *, traced: bool = False) -> FeedRecord:
    """The record in a message that is no error; with its trace where that is wanted."""
    key = message.key()
    return FeedRecord(
        str(message.topic()),
        int(message.partition() or 0),
        int(message.offset() or 0),
        None if key is None else key.decode("utf-8", "replace"),
        message.value() or b"",
        kafka_time_of(message.timestamp()[1]),
        _traceparent_of(message) if traced else None,
    )


def _traceparent_of(message: Message) -> str | None:
    headers: dict[str, Any] = dict(message.headers() or ())
    value = headers.get(TRACEPARENT)
    return value.decode(errors="replace") if value is not None else None


class FeedState(NamedTuple):
    """What the reader knows of itself.

    Args:
        contact_age_s: seconds since Kafka last answered; None when it never did.
        positions: next offset to read of each (topic, partition).
        ends: where each ends, as far as Kafka has told lately.
        started_at: next offset of each (topic, partition) when it was first read.
    """

    contact_age_s: float | None
    positions: Mapping[Place, int]
    ends: Mapping[Place, int]
    started_at: Mapping[Place, int]


def lag_of(positions: Mapping[Place, int], ends: Mapping[Place, int]) -> int:
    """Records from these positions to the ends, as far as those are known."""
    return sum(max(0, ends.get(place, offset) - offset) for place, offset in positions.items())


class FeedReader:
    """Hands every record that arrives from now on to `on_records`, in batches, from a thread of its own.

    Args:
        kafka: where the cluster is.
        groups: by Kafka topic, the consumer group under which the position is committed.
        client_id: shown in the cluster's logs.
        on_records: called from the reader's thread; while it blocks, nothing more is read.
        traced: whether records are handed on with the trace that they belong to.

    Raises:
        ConfigError: no cluster is set.

    Guarantee: starts at the end of each partition that is there at first; after an outage it goes on from
    its own position, so that no record is skipped. A topic or partition that appears later is read from its
    first record, also one that was deleted and made anew: within seconds, wherever the new one ends. Only a log
    that the cluster has cut is picked up by time, which may repeat records of the last millisecond. Order is that
    of each partition.
    """

    def __init__(
        self,
        kafka: KafkaSettings,
        groups: Mapping[str, str],
        client_id: str,
        on_records: Callable[[list[FeedRecord]], None],
        *,
        traced: bool = False,
    ) -> None:
        # Made here, so that a wrong setting is found at the start.
        self._client = client_config(kafka, client_id)
        self._admin = admin_client(kafka, f"{client_id}-topics")
        self._groups = groups
        self._client_id = client_id
        self._on_records = on_records
        self._traced = traced
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="feed-reader", daemon=True)
        self._backoff = Backoff(random.Random(), max_s=2.0)  # noqa: S311 - jitter, not secrecy
        self._positions: dict[Place, int] = {}
        self._started_at: dict[Place, int] = {}
        self._newest_ms: dict[Place, int] = {}
        self._lost: set[Place] = set()
        self._topics: dict[str, TopicFacts] = {}
        self._ends: dict[Place, int] = {}
        self._first_look_ms: int | None = None
        self._contact_at: float | None = None
        self._look_at = 0.0
        self._measure_at = 0.0
        self._commits = _Commits(self._client)

    def start(self) -> None:
        """Begins to read. An unreachable cluster is waited for."""
        self._thread.start()

    def stop(self, timeout_s: float) -> bool:
        """Ends the reading; returns whether that was done within the time."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(timeout_s)
        return not self._thread.is_alive()

    @property
    def is_reading(self) -> bool:
        """Whether its thread runs."""
        return self._thread.is_alive()

    def state(self) -> FeedState:
        """A view of now; any thread may ask."""
        age = None if self._contact_at is None else time.monotonic() - self._contact_at
        return FeedState(age, dict(self._positions), dict(self._ends), dict(self._started_at))

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                self._serve()
            except Exception:
                # The supervisor's edge: the feed must not end while the service lives.
                log.exception("feed_reader_failed")
                self._stop.wait(self._backoff.next_s())
        self._commits.close(self._by_group())

    def _serve(self) -> None:
        consumer = Consumer(self._config())
        try:
            if self._positions:
                self._assign(consumer)
            while not self._stop.is_set():
                self._turn(consumer)
        finally:
            consumer.close()

    def _config(self) -> dict[str, Any]:
        return {
            **self._client,
            # Required by the library; nothing is subscribed or committed under it.
            "group.id": self._client_id,
            "enable.auto.commit": False,
            "enable.auto.offset.store": False,
            # Told by an error instead of being moved: see _start_of.
            "auto.offset.reset": "error",
            "fetch.error.backoff.ms": 100,
            # The default keeps 64 MB for each partition when we are slow.
            "queued.max.messages.kbytes": 4_096,
        }

    def _assign(self, consumer: Consumer) -> None:
        consumer.assign([TopicPartition(*place, offset) for place, offset in self._positions.items()])

    def _turn(self, consumer: Consumer) -> None:
        if time.monotonic() >= self._look_at:
            try:
                self._look(consumer)
            except (KafkaException, HlError) as exc:
                error = translate(exc) if isinstance(exc, KafkaException) else exc
                log.warning("feed_kafka_away", error=str(error))
                wait_s = self._backoff.next_s()
                self._look_at = time.monotonic() + wait_s
                if not self._positions:
                    self._stop.wait(wait_s)
                    return
            else:
                self._backoff.reset()
                self._look_at = time.monotonic() + LOOK_S
        if self._positions:
            self._read(consumer)
            if time.monotonic() >= self._measure_at:
                self._measure_at = time.monotonic() + MEASURE_S
                self._ends = self._ends_of(consumer)
        else:
            self._stop.wait(READ_S)
        self._commits.write_when_due(self._by_group())

    def _look(self, consumer: Consumer) -> None:
        """Finds new partitions, new places in those that were lost, and topics of the same name."""
        known = find_topics(self._admin, self._groups, REQUEST_S)
        self._contact_at = time.monotonic()
        places = {(name, number) for name, topic in known.items() for number in topic.partitions}
        others = {name for name, topic in known.items() if self._is_another(name, topic)}
        made_anew = {place for place in places & self._positions.keys() if place[0] in others}
        new = sorted((places - self._positions.keys()) | (places & self._lost) | made_anew)
        if new:
            # Of another topic we know nothing yet, wherever our offset would lie in it.
            starts = {
                place: find_watermarks(consumer, *place, REQUEST_S)[0]
                if place in made_anew
                else self._start_of(consumer, place)
                for place in new
            }
            for place, offset in starts.items():
                self._positions[place] = offset
                self._started_at.setdefault(place, offset)
            self._lost -= starts.keys()
            self._assign(consumer)
            log.info("feed_partitions_assigned", positions={f"{t}/{p}": o for (t, p), o in starts.items()})
        self._topics |= known
        if self._first_look_ms is None:
            self._first_look_ms = int(time.time() * 1000)

    def _is_another(self, name: str, topic: TopicFacts) -> bool:
        before = self._topics.get(name)
        return before is not None and is_another_topic(before.topic_id, topic.topic_id)

    def _start_of(self, consumer: Consumer, place: Place) -> int:
        """Next offset to read: the end at first, else the first record since we last saw one or looked."""
        # Before the search, so that a record between the two requests is not skipped.
        high = find_watermarks(consumer, *place, REQUEST_S)[1]
        since_ms = self._newest_ms.get(place, self._first_look_ms)
        if since_ms is None:
            return high
        found = consumer.offsets_for_times([TopicPartition(*place, since_ms)], timeout=REQUEST_S)[0]
        if found.error is not None:
            raise KafkaException(found.error)
        return int(found.offset) if found.offset >= 0 else high

    def _read(self, consumer: Consumer) -> None:
        # `consume` alone would wait for the batch to fill; the first record is wanted at once.
        first = consumer.poll(READ_S)
        if first is None:
            return
        messages = [first, *consumer.consume(MAX_BATCH_RECORDS - 1, 0)]
        records = [record for message in messages if (record := self._record_of(message)) is not None]
        if not records:
            return
        self._contact_at = time.monotonic()
        self._on_records(records)
        for record in records:
            place = (record.kafka_topic, record.kafka_partition)
            self._positions[place] = record.offset + 1
            self._newest_ms[place] = int(record.kafka_time.timestamp() * 1000)

    def _record_of(self, message: Message) -> FeedRecord | None:
        kafka_topic, kafka_partition = str(message.topic()), int(message.partition() or 0)
        if (error := message.error()) is not None:
            if error.code() == KafkaError._AUTO_OFFSET_RESET:  # noqa: SLF001 - the library's public name
                log.warning("feed_position_lost", kafka_topic=kafka_topic, kafka_partition=kafka_partition)
                self._lost.add((kafka_topic, kafka_partition))
                self._look_at = 0.0
            else:
                log.warning("feed_read_failed", kafka_topic=kafka_topic, error=str(translate(error)))
            return None
        return feed_record(message, traced=self._traced)

    def _ends_of(self, consumer: Consumer) -> dict[Place, int]:
        """What the last answers to the reading said; costs no request."""
        ends = {}
        for place, next_offset in self._positions.items():
            high = consumer.get_watermark_offsets(TopicPartition(*place), cached=True)[1]
            # Negative while Kafka has not told.
            ends[place] = max(high, next_offset)
        return ends

    def _by_group(self) -> dict[str, dict[Place, int]]:
        groups: dict[str, dict[Place, int]] = {}
        for place, offset in self._positions.items():
            groups.setdefault(self._groups[place[0]], {})[place] = offset
        return groups


class _Commits:
    """Writes positions for lag tools to see, without ever holding up the reading.

    A consumer for each group, which reads nothing: librdkafka 2.16 aborts the whole process when the connection
    drops during an administrator's request to a group's coordinator (its pull request 5397).
    """

    def __init__(self, client: Mapping[str, Any]) -> None:
        self._client = client
        self._consumers: dict[str, Consumer] = {}
        self._written: dict[str, dict[Place, int]] = {}
        self._due_at = time.monotonic() + COMMIT_S

    def write_when_due(self, groups: Mapping[str, dict[Place, int]]) -> None:
        """Begins to write every few seconds what has moved."""
        if time.monotonic() >= self._due_at:
            self._due_at = time.monotonic() + COMMIT_S
            for group, positions in groups.items():
                self._write(group, positions)

    def close(self, groups: Mapping[str, dict[Place, int]]) -> None:
        """Writes once more, while that is quick, and closes."""
        for group, positions in groups.items():
            self._write(group, positions)
        for consumer in self._consumers.values():
            consumer.close()

    def _write(self, group: str, positions: dict[Place, int]) -> None:
        consumer = self._consumers.get(group)
        if consumer is None:
            consumer = self._consumers[group] = Consumer(
                {
                    **self._client,
                    "group.id": group,
                    "enable.auto.commit": False,
                    "on_commit": _report_commit,
                }
            )
        # Serves the answers to the writes before.
        consumer.poll(0)
        if self._written.get(group) != positions:
            offsets = [TopicPartition(*place, offset) for place, offset in positions.items()]
            consumer.commit(offsets=offsets, asynchronous=True)
            self._written[group] = dict(positions)


def _report_commit(error: KafkaError | None, _places: list[TopicPartition]) -> None:
    if error is not None:
        log.warning("feed_commit_failed", error=str(translate(error)))
