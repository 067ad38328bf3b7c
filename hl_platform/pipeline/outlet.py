"""Where the bridge's records go: directly to Kafka, or through the spool while Kafka is away.

```
direct ──the oldest record has waited too long──> spooled: what waits goes to disk, in order of arrival,
   ^                                                 │      then every further record; acknowledged when synced
   └──the spool is empty <── drained in order <── Kafka answers
```

The direct way touches no disk. In between, one producer is dropped with what it holds and another takes its place,
so that nothing is sent twice out of order.
"""

import threading
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import Protocol

import structlog

from hl_platform.adapters.kafka.producer import Delivery, KafkaProducer, check_size
from hl_platform.adapters.mqtt.session import Token
from hl_platform.adapters.spool import Spool, SpoolError
from hl_platform.core.errors import HlError
from hl_platform.pipeline.drain import Drain
from hl_platform.pipeline.outgoing import Outgoing, Waiting, encode_entry
from hl_platform.pipeline.probe import Probe
from hl_platform.pipeline.spool_report import SpoolReport

log = structlog.get_logger()

# How often the age of the oldest record is looked at, in seconds.
LOOK_EVERY_S = 0.25
# A disk that failed or is full, and a spool that cannot be opened, are tried again after this, in seconds.
RETRY_S = 1.0
# Without a delivery for so long, a drain has stalled and everything that comes is taken in again, in seconds.
STALLED_AFTER_S = 1.0
# One sync takes what waits, up to so many bytes.
FRAME_BYTES = 4 * 1024 * 1024


class Receiver(Protocol):
    """Who is told what became of a record."""

    def on_safe(self, token: Token | None) -> None:
        """The message may be acknowledged: its record is on Kafka, or on disk."""

    def on_delivered(self, record: Outgoing, delivery: Delivery) -> None:
        """Kafka has the record."""

    def on_unheard(self, waiting: Waiting) -> None:
        """The record was let go, because its message will come again or was never to be acknowledged."""

    def is_awaited(self, token: Token | None) -> bool:
        """Whether a message still waits for its acknowledgement."""


class Outlet:
    """Takes records in order of arrival from one thread, and carries them on in another.

    Guarantee: `on_safe` is called only when the record is on Kafka or durable on disk; what is on disk reaches
    Kafka, in order per key; a crash repeats records and loses none.

    Args:
        make_producer: a fresh one, which nobody else uses.
        open_spool: raises SpoolError while it cannot be used.
        probe: tells when Kafka answers.
        after_s: age of the oldest record at which the spool takes over, in seconds.
        report: tells people how the spool is doing.
        receiver: told what became of the records.
        clock: seconds, monotonic.
    """

    def __init__(
        self,
        *,
        make_producer: Callable[[], KafkaProducer],
        open_spool: Callable[[Callable[[Sequence[bytes]], None]], Spool],
        probe: Probe,
        after_s: float,
        report: SpoolReport,
        receiver: Receiver,
        clock: Callable[[], float],
    ) -> None:
        self._make_producer = make_producer
        self._open_spool = open_spool
        self._probe = probe
        self._after_s = after_s
        self._report = report
        self._receiver = receiver
        self._clock = clock
        self._producer = make_producer()
        self._spool: Spool | None = None
        self._drain: Drain | None = None
        # Guards what both threads touch: where records go, and what waits there.
        self._lock = threading.Lock()
        self._arrived = threading.Event()
        self._direct = True
        self._closed = False
        self._sent: dict[int, Waiting] = {}
        self._n_sent = 0
        self._pending: deque[Waiting] = deque()
        self._failure: HlError | None = None
        self._n_taken_in = 0
        self._look_at = self._open_at = self._write_at = self._moved_at = 0.0

    def start(self, *, kafka_answers: bool) -> None:
        """Opens the spool, and begins with it if it holds anything or Kafka is away."""
        self._try_open()
        if self._spool is not None and not (kafka_answers and self._spool.is_empty):
            self._turn_to_spool()

    def submit(self, record: Outgoing, token: Token | None) -> None:
        """Takes a record, once there is room for it. One thread.

        Raises:
            PoisonRecordError: it is too large for Kafka.
            HlError: Kafka refuses us.
        """
        check_size(record.key, record.value, record.headers)
        waiting = Waiting(record, token, self._clock())
        while not self._try_submit(waiting):
            # The producer is full: Kafka is slower than MQTT, which is held back by that.
            self._arrived.wait(0.01)

    def work(self, timeout_s: float) -> None:
        """One turn: delivery reports, and what the spool needs. One thread.

        Raises:
            HlError: why it cannot go on; nothing unacknowledged is lost.
        """
        if self._direct:
            self._producer.poll(timeout_s)
            self._look_after_direct()
        else:
            self._work_spooled(timeout_s)
        failure = self._failure or (self._drain.failure if self._drain else None)
        if failure is not None:
            raise failure

    def close(self, timeout_s: float) -> int:
        """Waits for what is on the way to Kafka; returns how many records were neither there nor on disk."""
        with self._lock:
            self._closed = True
        self._probe.stop()
        self._producer.close(timeout_s)
        if self._spool is not None:
            self._spool.close()
        return len(self._sent) + len(self._pending)

    def _try_submit(self, waiting: Waiting) -> bool:
        with self._lock:
            if self._closed:
                return True
            if self._direct:
                return self._send(waiting)
            self._pending.append(waiting)
        self._arrived.set()
        return True

    def _send(self, waiting: Waiting) -> bool:
        self._n_sent += 1
        number, record = self._n_sent, waiting.record
        # Noted first: the report may come before `try_send` returns.
        self._sent[number] = waiting
        taken = self._producer.try_send(
            record.kafka_topic, record.key, record.value, partial(self._delivered, number), record.headers
        )
        if not taken:
            del self._sent[number]
        return taken

    def _delivered(self, number: int, delivery: Delivery) -> None:
        waiting = self._sent.get(number)
        if waiting is None:
            # Of a producer that was dropped: the record is in the spool.
            return
        if delivery.error is not None:
            # Not acknowledged, so MQTT sends it again to whoever comes after this process.
            log.error("kafka_refused_record", error=str(delivery.error))
            self._failure = delivery.error
            return
        del self._sent[number]
        self._receiver.on_delivered(waiting.record, delivery)
        self._receiver.on_safe(waiting.token)

    def _look_after_direct(self) -> None:
        now = self._clock()
        if now < self._look_at:
            return
        self._look_at = now + LOOK_EVERY_S
        with self._lock:
            oldest = next(iter(self._sent.values()), None)
        overdue = oldest is not None and now - oldest.since > self._after_s
        if self._spool is None:
            self._try_open()
        if self._spool is not None and (overdue or not self._spool.is_empty):
            self._turn_to_spool()

    def _try_open(self) -> None:
        if self._clock() < self._open_at:
            return
        self._open_at = self._clock() + RETRY_S
        try:
            self._spool = self._open_spool(self._report.found)
        except SpoolError as exc:
            self._report.unusable(exc)
        else:
            self._report.usable()
            self._drain = Drain(self._spool, self._receiver.on_delivered)

    def _turn_to_spool(self) -> None:
        log.warning("bridge_spools", n_waiting=len(self._sent))
        dropped = self._producer
        fresh = self._make_producer()
        with self._lock:
            # From here on its reports are not wanted, and nobody else can give it more.
            dropped.drop()
            self._pending.extend(self._sent.values())
            self._sent.clear()
            self._producer = fresh
            self._direct = False
        dropped.retire()
        self._n_taken_in = self._drain.n_delivered // 2 if self._drain else 0
        self._moved_at = self._clock()
        self._probe.begin()

    def _work_spooled(self, timeout_s: float) -> None:
        assert self._spool is not None  # noqa: S101 - without a spool, records go the direct way
        assert self._drain is not None  # noqa: S101
        self._arrived.clear()
        n_before, draining = self._drain.n_delivered, self._probe.answered
        if draining:
            self._refill()
            self._producer.poll(min(timeout_s, 0.005))
            if self._spool.is_empty and not self._drain.n_in_flight:
                self._return_to_direct()
                return
        now = self._clock()
        if self._drain.n_delivered > n_before:
            self._moved_at = now
        stalled = now - self._moved_at > STALLED_AFTER_S
        self._take_in(now, draining=draining and not stalled)
        self._report.tell(self._spool, now)
        if not draining:
            self._arrived.wait(min(timeout_s, 0.05))

    def _refill(self) -> None:
        assert self._drain is not None  # noqa: S101
        try:
            self._drain.refill(self._producer)
        except SpoolError as exc:
            self._report.failing(exc)

    def _take_in(self, now: float, *, draining: bool) -> None:
        """Writes what waits, and lets it be acknowledged; what the disk does not take waits on."""
        assert self._spool is not None  # noqa: S101
        assert self._drain is not None  # noqa: S101
        if now < self._write_at or self._sent:
            return
        n = plan_intake(len(self._pending), self._drain.n_delivered, self._n_taken_in, draining=draining)
        batch, entries = self._next_batch(n)
        if not batch:
            return
        try:
            self._spool.append(entries)
        except SpoolError as exc:
            self._pending.extendleft(reversed(batch))
            self._report.failing(exc)
            self._let_go()
            self._write_at = now + RETRY_S
            return
        self._report.working()
        self._n_taken_in += len(batch) if draining else 0
        for waiting in batch:
            self._receiver.on_safe(waiting.token)

    def _next_batch(self, n: int) -> tuple[list[Waiting], list[bytes]]:
        batch: list[Waiting] = []
        entries: list[bytes] = []
        n_bytes = 0
        while len(batch) < n and n_bytes < FRAME_BYTES:
            waiting = self._pending.popleft()
            batch.append(waiting)
            entries.append(encode_entry(waiting.record))
            n_bytes += len(entries[-1])
        return batch, entries

    def _let_go(self) -> None:
        """Else every reconnection, and every message at QoS 0, would add to what a full disk keeps in memory."""
        with self._lock:
            waiting, self._pending = self._pending, deque()
            for one in waiting:
                if self._receiver.is_awaited(one.token):
                    self._pending.append(one)
                else:
                    self._receiver.on_unheard(one)

    def _return_to_direct(self) -> None:
        with self._lock:
            while self._pending:
                if not self._send(self._pending[0]):
                    return
                self._pending.popleft()
            self._direct = True
        self._report.over()
        log.info("bridge_sends_directly")


def plan_intake(n_pending: int, n_delivered: int, n_taken_in: int, *, draining: bool) -> int:
    """How many records may go into the spool now.

    While it drains, one for every two that have left: so it runs empty whatever the load, and MQTT keeps the rest.

    Args:
        n_pending: records that wait.
        n_delivered: that left the spool.
        n_taken_in: that came into it while it drained.
        draining: whether Kafka takes records.
    """
    return min(n_pending, max(0, n_delivered // 2 - n_taken_in)) if draining else n_pending
