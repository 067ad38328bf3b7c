"""Where the bridge's records go: directly to Kafka, or through the spool while Kafka is away.

```
direct ──the oldest record has waited too long──> spooled: what waits goes to disk, in order of arrival,
   ^                                                 │      then every further record; acknowledged when synced
   └──the spool is empty <── drained in order <── Kafka answers
```

The direct way touches no disk. In between, one producer is dropped with what it holds and another takes its place,
so that nothing is sent twice out of order.
"""

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

import structlog

from hl_platform.adapters.kafka.producer import Arrived, KafkaProducer
from hl_platform.adapters.mqtt.session import Token
from hl_platform.adapters.spool import Spool, SpoolError
from hl_platform.core.coverage import Covered, Place
from hl_platform.pipeline.drain import Drain
from hl_platform.pipeline.outgoing import Outgoing, encode_entry
from hl_platform.pipeline.probe import Probe
from hl_platform.pipeline.spool_report import SpoolReport

log = structlog.get_logger()

# How often the age of the oldest record is looked at, in seconds.
LOOK_EVERY_S = 0.25
# A disk that failed or is full, and a spool that cannot be opened, are tried again after this, in seconds.
RETRY_S = 1.0
# But a try to open the spool that took longer only after so many times what it took: else there is little but tries.
RETRY_SHARE = 10.0
# Without a delivery for so long, a drain has stalled and everything that comes is taken in again, in seconds.
STALLED_AFTER_S = 1.0
# One sync takes what waits, up to so many bytes.
FRAME_BYTES = 4 * 1024 * 1024
# How long a turn may wait for a message while reports are due, in seconds: the broker may wait for what they allow.
SHORT_TURN_S = 0.002
# The same once so many turns were in vain: an outage. What comes then is in no hurry.
LONG_TURN_S = 0.05
MAX_IDLE_TURNS = 100
# At QoS 1 the receive maximum bounds what waits for the spool; at QoS 0, while it drains, this does.
MAX_PENDING = 100_000


class Receiver(Protocol):
    """Who is told what became of records."""

    def on_safe(self, tokens: Sequence[Token]) -> None:
        """The messages may be acknowledged: their records are on Kafka, or on disk."""

    def on_delivered(self, place: Place, covered: Covered) -> None:
        """Kafka has these records; those of one place come in order."""

    def on_unheard(self, record: Outgoing) -> None:
        """The record was let go, because its message will come again or was never to be acknowledged."""

    def is_awaited(self, token: Token | None) -> bool:
        """Whether a message still waits for its acknowledgement."""


class Outlet:
    """Takes records in order of arrival, and carries them on in turns. One thread.

    Guarantee: `on_safe` is called only when the record is on Kafka or durable on disk; what is on disk reaches
    Kafka, in order per key; a crash repeats records and loses none.

    Args:
        make_producer: a fresh one, which nobody else uses.
        open_spool: given who is told of what is in it; raises SpoolError while it cannot be used.
        probe: tells when Kafka answers.
        after_s: how long the producer may have the oldest record before the spool takes over, in seconds.
        report: tells people how the spool is doing.
        receiver: told what became of the records.
        clock: seconds, monotonic.
    """

    def __init__(
        self,
        *,
        make_producer: Callable[[], KafkaProducer],
        open_spool: Callable[[Callable[[Iterable[bytes]], None]], Spool],
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
        self._direct = True
        # With the producer, in order, and since when; and behind it, where there is no room yet or the spool's turn.
        self._sent: dict[Outgoing, float] = {}
        self._pending: deque[Outgoing] = deque()
        self._n_taken_in = 0
        self._idle_turns = 0
        self._look_at = self._open_at = self._write_at = self._moved_at = 0.0

    def start(self, *, kafka_answers: bool) -> None:
        """Opens the spool, and begins with it if it holds anything or Kafka is away."""
        self._try_open()
        if self._spool is not None and not (kafka_answers and self._spool.is_empty):
            self._turn_to_spool()

    @property
    def has_room(self) -> bool:
        """Whether more may come. Else Kafka is slower than MQTT, which is to be held back by that."""
        return len(self._pending) < MAX_PENDING and not (self._direct and self._pending)

    @property
    def patience_s(self) -> float:
        """How long it can do without `work`, in seconds."""
        if self._direct and not self._sent:
            return LOOK_EVERY_S
        return SHORT_TURN_S if self._idle_turns < MAX_IDLE_TURNS else LONG_TURN_S

    def submit(self, records: Iterable[Outgoing]) -> None:
        """Takes records that fit into Kafka (`check_size`).

        Raises:
            HlError: Kafka refuses us.
        """
        self._pending.extend(records)
        if self._direct:
            self._send_pending()

    def work(self, timeout_s: float) -> None:
        """One turn: delivery reports, and what the spool needs.

        Raises:
            HlError: why it cannot go on; nothing unacknowledged is lost.
        """
        if self._direct:
            self._collect(timeout_s)
            self._send_pending()
            self._look_after_direct()
        else:
            self._work_spooled(timeout_s)
        if self._drain is not None and self._drain.failure is not None:
            raise self._drain.failure

    def close(self, timeout_s: float) -> int:
        """Waits for what is on the way to Kafka; returns how many records were neither there nor on disk."""
        self._probe.stop()
        self._producer.close(timeout_s)
        # Not `collect`: a closed producer has no client left that it could ask.
        self._take_arrived(self._producer.take_collected())
        if self._spool is not None:
            self._spool.close()
        return len(self._sent) + len(self._pending)

    def _send_pending(self) -> bool:
        """Sends as far as there is room; returns whether that was everything."""
        pending = self._pending
        if pending:
            now = self._clock()
            n = self._producer.queue(pending)
            self._sent.update([(pending.popleft(), now) for _ in range(n)])
            self._check_producer()
        return not pending

    def _collect(self, timeout_s: float) -> None:
        self._take_arrived(self._producer.collect(timeout_s))
        self._check_producer()

    def _check_producer(self) -> None:
        if self._producer.failure is not None:
            # What it refused is not acknowledged, so MQTT sends it again to whoever comes after this process.
            log.error("kafka_refused_record", error=str(self._producer.failure))
            raise self._producer.failure

    def _take_arrived(self, arrived: Sequence[Arrived]) -> None:
        self._idle_turns = 0 if arrived else min(self._idle_turns + 1, MAX_IDLE_TURNS)
        sent = self._sent
        tokens: list[Token] = []
        for run in arrived:
            records: list[Outgoing] = run.records
            for record in records:
                del sent[record]
            tokens += [record.token for record in records if record.token is not None]
            # A Kafka topic is of one stream, and of one kind.
            place = records[0].place(run.kafka_partition)
            self._receiver.on_delivered(place, Covered(len(records), run.next_offset))
        if tokens:
            self._receiver.on_safe(tokens)

    def _look_after_direct(self) -> None:
        now = self._clock()
        if now < self._look_at:
            return
        self._look_at = now + LOOK_EVERY_S
        overdue = now - next(iter(self._sent.values()), now) > self._after_s
        if self._spool is None:
            self._try_open()
        if self._spool is not None and (overdue or not self._spool.is_empty):
            self._turn_to_spool()

    def _try_open(self) -> None:
        began = self._clock()
        if began < self._open_at:
            return
        try:
            self._spool = self._open_spool(self._report.found)
        except SpoolError as exc:
            # It may have read gigabytes before it failed, in which nothing else was done.
            now = self._clock()
            self._open_at = now + max(RETRY_S, RETRY_SHARE * (now - began))
            self._report.unusable(exc)
        else:
            self._report.usable()
            self._drain = Drain(self._spool, self._receiver.on_delivered)

    def _turn_to_spool(self) -> None:
        log.warning("bridge_spools", n_waiting=len(self._sent))
        dropped = self._producer
        fresh = self._make_producer()
        # From here on its reports are not wanted.
        dropped.drop()
        self._pending.extendleft(reversed(self._sent))
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
        n_before, draining = self._drain.n_delivered, self._probe.answered
        if draining:
            self._refill()
        # While Kafka is away nothing can come, but a turn that is to wait waits here.
        self._collect(timeout_s)
        if draining and self._spool.is_empty and not self._drain.n_in_flight:
            self._return_to_direct()
            return
        now = self._clock()
        if self._drain.n_delivered > n_before:
            self._moved_at = now
        stalled = now - self._moved_at > STALLED_AFTER_S
        self._take_in(now, draining=draining and not stalled)
        self._report.tell(self._spool, now)
        moving = self._drain.n_delivered > n_before
        self._idle_turns = 0 if moving else min(self._idle_turns + 1, MAX_IDLE_TURNS)

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
        self._receiver.on_safe([record.token for record in batch if record.token is not None])

    def _next_batch(self, n: int) -> tuple[list[Outgoing], list[bytes]]:
        batch: list[Outgoing] = []
        entries: list[bytes] = []
        n_bytes = 0
        while len(batch) < n and n_bytes < FRAME_BYTES:
            batch.append(self._pending.popleft())
            entries.append(encode_entry(batch[-1]))
            n_bytes += len(entries[-1])
        return batch, entries

    def _let_go(self) -> None:
        """Else every reconnection, and every message at QoS 0, would add to what a full disk keeps in memory."""
        waiting, self._pending = self._pending, deque()
        for one in waiting:
            if self._receiver.is_awaited(one.token):
                self._pending.append(one)
            else:
                self._receiver.on_unheard(one)

    def _return_to_direct(self) -> None:
        if not self._send_pending():
            return
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
