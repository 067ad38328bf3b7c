"""The sink's reader: one topic, one member of its consumer group, positions from outside Kafka."""

import time
from collections.abc import Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec
import structlog
from confluent_kafka import (
    TIMESTAMP_LOG_APPEND_TIME,
    Consumer,
    KafkaError,
    KafkaException,
    Message,
    TopicPartition,
)

from hl_platform.adapters.kafka.config import Setting, admin_client, client_config
from hl_platform.adapters.kafka.errors import passes, translate
from hl_platform.adapters.kafka.lookup import find_topics, find_watermarks
from hl_platform.adapters.kafka.times import kafka_time_of
from hl_platform.core.dead_letters import FIRST_KAFKA_MS, REPLAY_OF
from hl_platform.core.errors import TransientError
from hl_platform.core.readings import IMPORT_OF
from hl_platform.core.sections import KafkaSettings
from hl_platform.core.trace_context import TRACEPARENT

log = structlog.get_logger()

# How long the first poll of a batch may block; stopping waits for it.
IDLE_POLL_S = 0.5
REQUEST_TIMEOUT_S = 5.0
# While PostgreSQL is away a batch is held for as long as it takes, without polling and without losing the
# partitions to another member. A process that hangs is found out by its lease instead.
MAX_POLL_INTERVAL_MS = 86_400_000
# The shortest that brokers allow by default: after it the partitions of a dead member go to the others.
SESSION_TIMEOUT_MS = 6_000
# How long the broker holds the answer to a reader that has read everything; a record is sent at once all the same.
# The default of 500 is much of what an idle household asks of Kafka. Other requests on the connection wait as long.
IDLE_FETCH_MS = 2_000
# A commit is a write of the broker; every batch of a quiet household would be one.
SHOW_EVERY_S = 5.0
# Before a member that Kafka has shut out joins again. A real successor has the lease, which ends us within two
# heartbeats: this pause keeps us from shutting it out in turn.
REJOIN_AFTER_S = 1.0
# Of a time in ms; up to the year 5138.
MAX_MS_DIGITS = 14
# Kafka does not have the position that we are at, or librdkafka has noticed by the leader epoch that the record
# before it is not the one we read (Apache KIP-320; it says _AUTO_OFFSET_RESET in both cases).
POSITION_LOST = frozenset(
    {
        KafkaError._AUTO_OFFSET_RESET,  # noqa: SLF001 - the library's public names begin with an underscore
        KafkaError._LOG_TRUNCATION,  # noqa: SLF001
        KafkaError.OFFSET_OUT_OF_RANGE,
    }
)


class Record(msgspec.Struct, frozen=True, gc=False):
    """A Kafka record.

    Args:
        kafka_ms: its Kafka timestamp in ms; of a replay, that of the record that was rejected first.
        replay_of: the dead letter that it replays, as `entry_name` writes it; None for all others.
        is_import: whether a person imported it from a file.
        traceparent: the trace that it belongs to, as its device said.
        appended_ms: when Kafka wrote it, in ms; None where the topic does not note that.
    """

    kafka_partition: int
    offset: int
    key: str | None
    value: bytes
    kafka_ms: int
    leader_epoch: int | None = None
    replay_of: str | None = None
    is_import: bool = False
    traceparent: str | None = None
    appended_ms: int | None = None

    @property
    def kafka_time(self) -> datetime:
        """Its Kafka timestamp, aware."""
        return kafka_time_of(self.kafka_ms)

    @property
    def is_of_device(self) -> bool:
        """Whether it came as a device sent it: others say nothing about devices, and nothing about delays."""
        return self.replay_of is None and not self.is_import


class GroupConsumer:
    """Reads one topic as a static member of a consumer group.

    The member has a name, so that a restarted process gets its partitions back at once instead of waiting for
    its predecessor's session to expire, and a predecessor that is still alive is shut out by Kafka. A member
    can also be shut out by itself: the answer to its joining was lost with the broker, it joins once more and
    gets another id, and the first id is the one it goes on with (librdkafka issue 3437, Apache KAFKA-20985).
    From here the two look alike. So a member that was shut out joins again; whether it may write is for the
    lease and the epoch of its claim to say, not for Kafka's group.

    Args:
        kafka: the cluster.
        group: the consumer group.
        kafka_topic: what to read.
        member: this member's name within the group.
    """

    def __init__(self, kafka: KafkaSettings, group: str, kafka_topic: str, member: str) -> None:
        self._topic = kafka_topic
        self._config = _consumer_config(kafka, group, member)
        self._assigned: list[int] | None = None
        self._paused = False
        self._lost: set[int] = set()
        self._to_show: dict[int, int] = {}
        self._show_at = 0.0
        self._admin = admin_client(kafka, f"{member}-topic")
        self._consumer = self._join()

    def take_assignment(self) -> list[int] | None:
        """The partitions that Kafka gave us since the last call, or None. Answer with `start_at`."""
        assigned, self._assigned = self._assigned, None
        return assigned

    def take_lost_positions(self) -> set[int]:
        """The partitions whose position Kafka did not have, since the last call. Answer with `start_at`."""
        lost, self._lost = self._lost, set()
        return lost

    def start_at(self, offsets: Mapping[int, int]) -> None:
        """Begins to read the given partitions at the given offsets, and only those."""
        places = [TopicPartition(self._topic, partition, offset) for partition, offset in offsets.items()]
        # librdkafka keeps a partition paused through every assignment, also one that was ours long ago.
        self._consumer.resume(places)
        self._consumer.assign(places)
        self._lost, self._paused = set(), False

    def pause(self) -> None:
        """Reads nothing until `resume` or `start_at`. `consume` goes on keeping up our membership."""
        if not self._paused:
            self._consumer.pause(self._consumer.assignment())
            self._paused = True

    def resume(self) -> None:
        """Reads on where `pause` stopped."""
        if self._paused:
            self._consumer.resume(self._consumer.assignment())
            self._paused = False

    def topic_id(self) -> UUID | None:
        """Kafka's id of the topic, see TopicFacts.

        Raises:
            TransientError: the cluster cannot be reached now, or there is no such topic.
        """
        found = find_topics(self._admin, [self._topic], REQUEST_TIMEOUT_S)
        if self._topic not in found:
            raise TransientError(f"there is no Kafka topic {self._topic!r} now")
        return found[self._topic].topic_id

    def watermarks(self, kafka_partition: int) -> tuple[int, int]:
        """The first offset that Kafka still has, and the next that it will give.

        Raises:
            TransientError: the cluster cannot be reached now.
        """
        return find_watermarks(self._consumer, self._topic, kafka_partition, REQUEST_TIMEOUT_S)

    def consume(self, max_records: int, max_age_s: float) -> list[Record]:
        """Up to `max_records`, after the first of them for at most `max_age_s` longer.

        Raises:
            TransientError: Kafka cannot serve us now.

        Guarantee: after a position was lost (`take_lost_positions`) no more of that partition is returned.
        """
        if time.monotonic() >= self._show_at:
            self._commit()
        messages = self._consumer.consume(1, timeout=IDLE_POLL_S)
        if messages and max_records > 1:
            messages += self._consumer.consume(max_records - 1, timeout=max_age_s)
        records = []
        for message in messages:
            error = message.error()
            if error is None:
                records.append(_record_of(message))
            elif _is_fatal(error):
                self._join_again(error)
                # What came with it is read again by the new member.
                return []
            else:
                self._note(error, message.partition())
        return records

    def show_position(self, next_offsets: Mapping[int, int]) -> None:
        """Commits to Kafka within some seconds, for lag tools to see. Nothing depends on it or waits for it."""
        self._to_show = dict(next_offsets)

    def close(self) -> None:
        """Ends the reading. The static member keeps its place for a session timeout."""
        self._commit()
        self._consumer.close()
        # It calls us back, and so holds us; and the other client ends only when nobody holds it.
        del self._consumer, self._admin

    def _commit(self) -> None:
        if not self._to_show:
            return
        offsets = [TopicPartition(self._topic, *place) for place in self._to_show.items()]
        self._to_show = {}
        self._show_at = time.monotonic() + SHOW_EVERY_S
        try:
            self._consumer.commit(offsets=offsets, asynchronous=True)
        except KafkaException as exc:
            log.debug("position_not_shown", error=str(exc))

    def _join(self) -> Consumer:
        consumer = Consumer(self._config)
        consumer.subscribe([self._topic], on_assign=self._on_assign, on_revoke=self._on_revoke)
        return consumer

    def _join_again(self, error: KafkaError) -> None:
        log.warning("group_member_shut_out", kafka_topic=self._topic, error=error.str(), code=error.name())
        self._consumer.close()
        time.sleep(REJOIN_AFTER_S)
        self._assigned, self._lost, self._to_show, self._paused = None, set(), {}, False
        self._consumer = self._join()

    def _note(self, error: KafkaError, kafka_partition: int | None) -> None:
        if error.code() in POSITION_LOST and kafka_partition is not None:
            log.warning(
                "position_lost", kafka_partition=kafka_partition, error=error.str(), code=error.name()
            )
            self._lost.add(kafka_partition)
        elif passes(error):
            log.warning("kafka_away", error=error.str())
        else:
            raise translate(error)

    def _on_assign(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        # Nothing is read before the database has said where to begin.
        consumer.assign([])
        self._assigned = [partition.partition for partition in partitions]
        # Of what is not ours any more.
        self._to_show = {}

    def _on_revoke(self, _consumer: Consumer, partitions: list[TopicPartition]) -> None:
        log.info("partitions_revoked", kafka_partitions=[partition.partition for partition in partitions])


def _consumer_config(kafka: KafkaSettings, group: str, member: str) -> dict[str, Setting]:
    return {
        **client_config(kafka, member),
        "group.id": group,
        "group.instance.id": member,
        "session.timeout.ms": SESSION_TIMEOUT_MS,
        "heartbeat.interval.ms": 1_500,
        "max.poll.interval.ms": MAX_POLL_INTERVAL_MS,
        "enable.auto.commit": False,
        # Positions come from the database. One that Kafka does not have must be decided, not skipped.
        "auto.offset.reset": "error",
        "topic.metadata.refresh.interval.ms": 10_000,
        "fetch.wait.max.ms": IDLE_FETCH_MS,
        # Bounds what waits in memory for the database.
        "queued.max.messages.kbytes": 32_768,
    }


def _is_fatal(error: KafkaError) -> bool:
    # librdkafka says it with the flag, or with the code alone when a request meets it later.
    return bool(error.fatal()) or error.code() in {KafkaError._FATAL, KafkaError.FENCED_INSTANCE_ID}  # noqa: SLF001


def _record_of(message: Message) -> Record:
    key, found = message.key(), message.headers()
    kind, kafka_ms = message.timestamp()
    record = Record(
        message.partition() or 0,
        message.offset() or 0,
        key.decode(errors="replace") if key is not None else None,
        message.value() or b"",
        kafka_ms,
        message.leader_epoch(),
        appended_ms=kafka_ms if kind == TIMESTAMP_LOG_APPEND_TIME else None,
    )
    # Nearly every record has no headers at all.
    if not found:
        return record
    headers: dict[str, Any] = dict(found)
    replay_of, first_ms = _replay_of(headers)
    return msgspec.structs.replace(
        record,
        kafka_ms=kafka_ms if first_ms is None else first_ms,
        replay_of=replay_of,
        is_import=IMPORT_OF in headers,
        traceparent=_traceparent_of(headers),
    )


def _traceparent_of(headers: Mapping[str, Any]) -> str | None:
    value = headers.get(TRACEPARENT)
    return value.decode(errors="replace") if value is not None else None


def _replay_of(headers: Mapping[str, Any]) -> tuple[str | None, int | None]:
    """Which dead letter a record replays, and the Kafka timestamp that it had first, in ms."""
    name, first = headers.get(REPLAY_OF), headers.get(FIRST_KAFKA_MS)
    if name is None:
        return None, None
    # Anybody may write a header: only a time that a datetime can hold.
    if first is None or not first.isdigit() or len(first) > MAX_MS_DIGITS:
        return name.decode(errors="replace"), None
    return name.decode(errors="replace"), int(first)
