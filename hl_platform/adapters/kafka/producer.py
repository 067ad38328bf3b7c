"""A producer that reports on every record: delivered or failed."""

import threading
from collections.abc import Callable, Iterable, Mapping
from types import MethodType
from typing import Any, NamedTuple, Protocol

import msgspec
from confluent_kafka import KafkaError, KafkaException, Message, Producer

from hl_platform.adapters.kafka.config import client_config
from hl_platform.adapters.kafka.errors import translate
from hl_platform.core.errors import HlError, PoisonRecordError
from hl_platform.core.sections import KafkaSettings

# Waits for company no longer than this: at home's rates a reading goes out at once, at a fleet's in batches.
LINGER_MS = 5
# As librdkafka understands them: the partition is that of the key, and the time is that of the call.
ANY_PARTITION, NOW = -1, 0
# How long a dropped producer's reports are awaited.
RETIRE_S = 10.0
# Larger than any payload that is accepted, with what the bridge adds; Kafka's own default limit.
MAX_RECORD_BYTES = 1_000_000
# What Kafka adds to a record, generously.
RECORD_FRAME_BYTES = 1_000
# A value that fits whatever the MQTT topic is, which has up to 65,535 bytes and is key and header of a dead letter.
SURELY_FITS_BYTES = 500_000


class Delivery(NamedTuple):
    """What became of a record.

    Args:
        error: why Kafka did not take it; None if it did.
        kafka_partition, offset: where it is then; both -1 if it is nowhere.
    """

    error: HlError | None
    kafka_partition: int
    offset: int


Delivered = Callable[[Delivery], None]


class Queueable(Protocol):
    """A record as `KafkaProducer.queue` takes it."""

    kafka_topic: str
    key: str
    value: bytes
    headers: dict[str, Any] | None


class Arrived(msgspec.Struct):
    """Queued records that Kafka has, all in one Kafka partition.

    Args:
        kafka_topic, kafka_partition: where they are.
        next_offset: the offset after the last of them.
        records: just those that were queued, in order.
    """

    kafka_topic: str
    kafka_partition: int
    next_offset: int
    records: list[Any]


class KafkaProducer:
    """Idempotent, acknowledged by all in-sync replicas, waiting out any outage.

    Guarantee: records of one key keep their order, each is written once per producer session, and
    what became of it is told once: `on_delivery` of a sent one, from `send`, `poll`, `collect` or `close`; a queued one
    is in what `collect` returns, or `failure` is set. What `close` or `drop` dropped is told nothing of.
    """

    def __init__(self, kafka: KafkaSettings, client_id: str) -> None:
        self._producer = Producer(
            {
                **client_config(kafka, client_id),
                "enable.idempotence": True,
                "acks": "all",
                "linger.ms": LINGER_MS,
                "compression.type": "lz4",
                # 0 is for ever: an outage is waited out, and MQTT's receive maximum bounds what waits here.
                "message.timeout.ms": 0,
                "message.max.bytes": MAX_RECORD_BYTES,
                "queue.buffering.max.messages": 200_000,
                # The same partition for a device as Kafka's own clients would choose.
                "partitioner": "murmur2_random",
            }
        )
        # Why Kafka did not take a queued record.
        self.failure: HlError | None = None
        self._arrived: list[Arrived] = []

    def send(
        self,
        kafka_topic: str,
        key: str | bytes | None,
        value: bytes,
        on_delivery: Delivered,
        headers: Mapping[str, str | bytes] | None = None,
    ) -> None:
        """Queues a record, and serves delivery reports until there is room for it.

        Raises:
            PoisonRecordError: the record is too large for Kafka.
        """
        report = _reporter(on_delivery)
        while True:
            try:
                self._producer.produce(
                    kafka_topic, value, key, on_delivery=report, headers=dict(headers) if headers else None
                )
            except BufferError:
                self._producer.poll(0.1)
            except KafkaException as exc:
                raise _refusal(exc) from exc
            else:
                return

    def queue(self, records: Iterable[Queueable]) -> int:
        """Queues records in order, as far as there is room; returns how many. `collect` returns what became of them.

        At one that is refused it stops, and `failure` says why.
        """
        produce, note, n = self._producer.produce, self._note, 0
        try:
            for record in records:
                # A partial would take three times as long to make; arguments by position are read faster than by name.
                report = MethodType(note, record)
                produce(
                    record.kafka_topic,
                    record.value,
                    record.key,
                    ANY_PARTITION,
                    report,
                    None,
                    NOW,
                    record.headers,
                )
                n += 1
        except BufferError:
            pass
        except KafkaException as exc:
            self.failure = _refusal(exc)
        return n

    def collect(self, timeout_s: float) -> list[Arrived]:
        """Serves reports for at most this long, and returns the queued records that Kafka has since the last time.

        Those that it refused are never returned; `failure` says why.
        """
        self._producer.poll(timeout_s)
        return self.take_collected()

    def take_collected(self) -> list[Arrived]:
        """What was reported since the last `collect`, to `close` for instance."""
        arrived, self._arrived = self._arrived, []
        return arrived

    def _note(self, record: Queueable, error: KafkaError | None, message: Message) -> None:
        if error is not None:
            self.failure = translate(error)
            return
        kafka_partition, next_offset = message.partition() or 0, (message.offset() or 0) + 1
        # The reports of a partition come together.
        if self._arrived:
            last = self._arrived[-1]
            if last.kafka_partition == kafka_partition and last.kafka_topic == record.kafka_topic:
                last.records.append(record)
                last.next_offset = next_offset
                return
        self._arrived.append(Arrived(record.kafka_topic, kafka_partition, next_offset, [record]))

    def poll(self, timeout_s: float) -> int:
        """Serves delivery reports for at most this long; returns how many."""
        return int(self._producer.poll(timeout_s))

    def close(self, timeout_s: float) -> int:
        """Waits for what is queued, then ends without a report on the rest; returns how many those were."""
        n_left = int(self._producer.flush(timeout_s))
        # Else librdkafka would go on sending them for as long as the process lives.
        self._producer.purge()
        # Ends its threads and connections now, whoever still holds us: the library has no other way.
        del self._producer
        return n_left

    def drop(self) -> None:
        """Drops everything at once, what is under way included. `retire` comes next."""
        self._producer.purge()

    def retire(self) -> None:
        """Ends a dropped producer, without waiting for that: its brokers are away, and its reports unwanted."""
        threading.Thread(target=_end, args=(self._producer,), name="kafka-retire", daemon=True).start()
        del self._producer


def _end(producer: Producer) -> None:
    producer.flush(RETIRE_S)


def check_size(key: str, value: bytes, headers: Mapping[str, str | bytes] | None = None) -> None:
    """Finds out before anything is queued or written to disk.

    Raises:
        PoisonRecordError: the record is too large for Kafka.
    """
    n_bytes = len(value)
    if n_bytes <= SURELY_FITS_BYTES:
        return
    n_bytes += len(key.encode()) + RECORD_FRAME_BYTES
    n_bytes += sum(
        len(name) + len(text.encode() if isinstance(text, str) else text)
        for name, text in (headers or {}).items()
    )
    if n_bytes > MAX_RECORD_BYTES:
        raise PoisonRecordError("too_large", f"{n_bytes} bytes with headers; {MAX_RECORD_BYTES} are allowed")


def _refusal(exc: KafkaException) -> HlError:
    if exc.args[0].code() == KafkaError.MSG_SIZE_TOO_LARGE:
        return PoisonRecordError("too_large", str(exc.args[0].str()))
    return translate(exc)


def _reporter(on_delivery: Delivered) -> Callable[[KafkaError | None, Message], None]:
    def report(error: KafkaError | None, message: Message) -> None:
        if error is not None:
            on_delivery(Delivery(translate(error), -1, -1))
        else:
            on_delivery(Delivery(None, message.partition() or 0, message.offset() or 0))

    return report
