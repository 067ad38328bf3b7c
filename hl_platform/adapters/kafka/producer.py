"""A producer that reports on every record: delivered or failed."""

import threading
from collections.abc import Callable, Mapping
from functools import partial
from typing import NamedTuple

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from hl_platform.adapters.kafka.config import client_config
from hl_platform.adapters.kafka.errors import translate
from hl_platform.core.errors import HlError, PoisonRecordError
from hl_platform.core.sections import KafkaSettings

# Waits for company no longer than this: at home's rates a reading goes out at once, at a fleet's in batches.
LINGER_MS = 5
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


# What became of a record that was queued under a number: that number, why Kafka did not take it or None, and the
# partition and offset where it is. A plain tuple: one is made for every reading.
Report = tuple[int, HlError | None, int, int]


class KafkaProducer:
    """Idempotent, acknowledged by all in-sync replicas, waiting out any outage.

    Guarantee: records of one key keep their order, each is written once per producer session, and
    `on_delivery` is called once per record, from `poll` or `close`, unless `close` dropped it.
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
        self._reports: list[Report] = []

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
        while not self.try_send(kafka_topic, key, value, on_delivery, headers):
            self._producer.poll(0.1)

    def try_send(
        self,
        kafka_topic: str,
        key: str | bytes | None,
        value: bytes,
        on_delivery: Delivered,
        headers: Mapping[str, str | bytes] | None = None,
    ) -> bool:
        """Queues a record; False when there is no room for it.

        Raises:
            PoisonRecordError: the record is too large for Kafka.
        """
        return self._produce(kafka_topic, key, value, headers, _reporter(on_delivery))

    def queue(
        self,
        kafka_topic: str,
        key: str,
        value: bytes,
        headers: Mapping[str, str | bytes] | None,
        number: int,
    ) -> bool:
        """Queues a record whose report `collect` returns; False when there is no room for it.

        Raises:
            PoisonRecordError: the record is too large for Kafka.
        """
        return self._produce(kafka_topic, key, value, headers, partial(self._note, number))

    def collect(self, timeout_s: float) -> list[Report]:
        """Serves reports for at most this long, and returns those of records that were queued under a number."""
        self._producer.poll(timeout_s)
        return self.take_collected()

    def take_collected(self) -> list[Report]:
        """The reports that were served since the last `collect`, by `close` for instance."""
        reports, self._reports = self._reports, []
        return reports

    def _note(self, number: int, error: KafkaError | None, message: Message) -> None:
        if error is None:
            self._reports.append((number, None, message.partition() or 0, message.offset() or 0))
        else:
            self._reports.append((number, translate(error), -1, -1))

    def _produce(
        self,
        kafka_topic: str,
        key: str | bytes | None,
        value: bytes,
        headers: Mapping[str, str | bytes] | None,
        report: Callable[[KafkaError | None, Message], None],
    ) -> bool:
        try:
            if headers:
                self._producer.produce(kafka_topic, value, key, headers=dict(headers), on_delivery=report)
            else:
                self._producer.produce(kafka_topic, value, key, on_delivery=report)
        except BufferError:
            return False
        except KafkaException as exc:
            if exc.args[0].code() == KafkaError.MSG_SIZE_TOO_LARGE:
                raise PoisonRecordError("too_large", str(exc.args[0].str())) from exc
            raise translate(exc) from exc
        return True

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


def _reporter(on_delivery: Delivered) -> Callable[[KafkaError | None, Message], None]:
    def report(error: KafkaError | None, message: Message) -> None:
        if error is not None:
            on_delivery(Delivery(translate(error), -1, -1))
        else:
            on_delivery(Delivery(None, message.partition() or 0, message.offset() or 0))

    return report
