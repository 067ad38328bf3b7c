"""What lies on a Kafka topic after a run, and when it came."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime

import msgspec
from confluent_kafka import Consumer, KafkaException, TopicPartition

from bench.bridge_load import number_of

TIMEOUT_S = 30.0


class _Value(msgspec.Struct):
    total_energy_kwh: float
    timestamp: datetime


_decoder = msgspec.json.Decoder(_Value)


class Log:
    """The records of one topic.

    Args:
        bootstrap_servers: of the cluster.
        topic: which.
    """

    def __init__(self, bootstrap_servers: str, topic: str) -> None:
        self._servers, self._topic = bootstrap_servers, topic
        self._consumer = self._connect()

    def count(self) -> int:
        """How many records there are."""
        try:
            return sum(high for _, high in self._ends().values())
        except (LookupError, KafkaException):
            # It is being made.
            return 0

    def check(self, expected: dict[str, int], *, in_order: bool = True) -> None:
        """Fails unless every device's readings are there, each once.

        Args:
            expected: how many, by device.
            in_order: also fails unless those of a device are in order; several bridges keep none.
        """
        seen: dict[str, list[int]] = {}
        n = left = self.count()
        self._consumer.assign([TopicPartition(self._topic, partition, 0) for partition in self._ends()])
        while left:
            batch = self._consumer.consume(min(left, 10_000), TIMEOUT_S)
            assert batch, f"{left} records of {self._topic} did not come"
            left -= len(batch)
            for record in batch:
                value = record.value()
                assert isinstance(value, bytes)
                device = (record.key() or b"").decode()
                seen.setdefault(device, []).append(number_of(_decoder.decode(value).total_energy_kwh))
        self._consumer.close()
        for device, numbers in seen.items():
            found = numbers if in_order else sorted(numbers)
            assert found == list(range(expected.get(device, 0))), f"{device}: not each reading once"
        assert seen.keys() == expected.keys(), f"{n} records, not {sum(expected.values())}"

    @contextmanager
    def tailing(self) -> Iterator[list[float]]:
        """Seconds from each reading's own time to a consumer, while the context lasts."""
        delays: list[float] = []
        ended, ready = threading.Event(), threading.Event()

        def tail() -> None:
            consumer = self._connect()
            while not ended.is_set():
                try:
                    partitions = self._ends()
                except (LookupError, KafkaException):
                    time.sleep(0.1)
                    continue
                consumer.assign([TopicPartition(self._topic, partition, 0) for partition in partitions])
                ready.set()
                break
            while not ended.is_set():
                record = consumer.poll(0.1)
                if record is not None and record.error() is None:
                    value = record.value()
                    assert isinstance(value, bytes)
                    delays.append(time.time() - _decoder.decode(value).timestamp.timestamp())
            consumer.close()

        thread = threading.Thread(target=tail)
        thread.start()
        try:
            assert ready.wait(TIMEOUT_S), f"{self._topic} is not there"
            yield delays
        finally:
            ended.set()
            thread.join()

    def _ends(self) -> dict[int, tuple[int, int]]:
        topic = self._consumer.list_topics(self._topic, TIMEOUT_S).topics[self._topic]
        if not topic.partitions:
            raise LookupError(self._topic)
        return {
            partition: self._consumer.get_watermark_offsets(TopicPartition(self._topic, partition), TIMEOUT_S)
            for partition in topic.partitions
        }

    def _connect(self) -> Consumer:
        return Consumer(
            {
                "bootstrap.servers": self._servers,
                "group.id": f"check-{self._topic}",
                "enable.auto.commit": False,
                "fetch.wait.max.ms": 10,
                "allow.auto.create.topics": False,
            }
        )
