"""From the spool to Kafka: in order, a bounded number at a time, and gone from the disk only when Kafka has them."""

from collections import OrderedDict
from collections.abc import Callable

from hl_platform.adapters.kafka.producer import Delivered, Delivery, KafkaProducer
from hl_platform.adapters.spool import Spool
from hl_platform.core.coverage import Covered, Place
from hl_platform.core.errors import HlError
from hl_platform.pipeline.outgoing import Outgoing, decode_entry

# Enough to keep a producer busy between two looks at the deliveries, and little memory.
WINDOW_RECORDS = 10_000
WINDOW_BYTES = 16 * 1024 * 1024


class Drain:
    """Sends what a spool holds. One thread.

    Guarantee: a frame is released only after Kafka has all its records and those of the frames before it.

    Args:
        spool: what to drain.
        on_delivered: told where records are that Kafka has, and how many.
    """

    def __init__(self, spool: Spool, on_delivered: Callable[[Place, Covered], None]) -> None:
        self.n_delivered = 0
        self.n_in_flight = 0
        self.failure: HlError | None = None
        self._spool = spool
        self._on_delivered = on_delivered
        self._bytes_in_flight = 0
        self._missing: OrderedDict[int, int] = OrderedDict()

    def refill(self, producer: KafkaProducer) -> None:
        """Sends on as far as the window allows. One producer through the life of a spool.

        Raises:
            TransientError: the disk failed.
            InvariantError: an entry is no record of ours.
        """
        while self.n_in_flight < WINDOW_RECORDS and self._bytes_in_flight < WINDOW_BYTES:
            frame = self._spool.take()
            if frame is None:
                return
            self._missing[frame.number] = len(frame.entries)
            self.n_in_flight += len(frame.entries)
            self._bytes_in_flight += sum(map(len, frame.entries))
            for entry in frame.entries:
                record = decode_entry(entry)
                on_delivery = self._reporter(frame.number, record, len(entry))
                producer.send(record.kafka_topic, record.key, record.value, on_delivery, record.headers)
            self._release()

    def _reporter(self, number: int, record: Outgoing, n_bytes: int) -> Delivered:
        def delivered(delivery: Delivery) -> None:
            if delivery.error is not None:
                self.failure = delivery.error
                return
            self.n_delivered += 1
            self.n_in_flight -= 1
            self._bytes_in_flight -= n_bytes
            self._missing[number] -= 1
            self._on_delivered(record.place(delivery.kafka_partition), Covered(1, delivery.offset + 1))
            self._release()

        return delivered

    def _release(self) -> None:
        done = None
        while self._missing and next(iter(self._missing.values())) == 0:
            done, _ = self._missing.popitem(last=False)
        if done is not None:
            self._spool.release(done)
