"""The sink: Kafka to PostgreSQL, rows and offsets in one transaction.

The path of one batch, in this order; a crash between any two steps repeats the batch or finds it done:

1. Kafka assigns partitions; the database hands over their offsets with a new epoch (`SinkStore.claim`).
2. Records are read from those offsets, by number or by age, whichever comes first; few or none while the
   breaker is open.
3. They are decoded; what is invalid, or rejected by the database every time (`BatchWriter`), goes to the dead
   letters and is acknowledged by Kafka.
4. One transaction writes rows, offsets and counts, and fails if somebody else has claimed a partition.
5. Kafka is told the position, for lag tools to see.

While the database is at 4 with one batch, the next one is at 2 and 3, and is made ready for 4 (`make_draft`): a second
thread waits for the database. It writes one batch at a time, in order; claims change only between two batches.
"""

import random
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from datetime import datetime

import structlog

from hl_platform.adapters.kafka.consumer import GroupConsumer, Record
from hl_platform.adapters.kafka.producer import KafkaProducer
from hl_platform.adapters.postgres.sink_store import SinkStore
from hl_platform.adapters.tracing import Tracing
from hl_platform.core.accounts import StageStats
from hl_platform.core.backoff import Backoff
from hl_platform.core.errors import FencedError, InvariantError, PoisonRecordError, TransientError
from hl_platform.core.readings import ReadingDecoder
from hl_platform.core.sections import ReadingSettings, SinkSettings
from hl_platform.core.streams import Stream
from hl_platform.pipeline.batch import Item, decode_item
from hl_platform.pipeline.batch_writer import MAX_TRIES, BatchWriter
from hl_platform.pipeline.breaker import PROBE_EVERY_S, Breaker
from hl_platform.pipeline.draft import Draft, make_draft
from hl_platform.pipeline.outage import Outage
from hl_platform.pipeline.positions import Positions

log = structlog.get_logger()


class StreamSink:
    """Carries one stream from its Kafka topic to its table.

    Args:
        stream: which.
        consumer: reads the topic.
        store: writes the table.
        producer: takes the dead letters.
        sink: batch size and age, and when the breaker opens.
        rules: which readings are believed.
        stats: takes the delays and alerts; counts are in the store's transaction.
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
        tracing: Tracing | None = None,
    ) -> None:
        self._stream = stream
        self._consumer = consumer
        self._store = store
        self._sink = sink
        self._decoder = ReadingDecoder(stream, rules)
        self._stats = stats
        self._now = now
        self._tracing = tracing
        self._positions = Positions(stream, consumer, store, stats)
        self._outage = Outage(stream.name, stats, now)
        self._breaker = Breaker(sink.breaker_share)
        self._stop = threading.Event()
        self._thread = ThreadPoolExecutor(1, f"write-{stream.name}")
        self._writing: Future[list[Item]] | None = None
        self._writer = BatchWriter(
            stream=stream, store=store, producer=producer, stats=stats, now=now, pause=self._stop.wait
        )

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
            self._finish()
        finally:
            # Also when it ends by an error: a batch that waits for the database must not wait on.
            self._stop.set()
            self._thread.shutdown()
            self._consumer.close()
            self._store.close()
            log.info("sink_stopped", stream=self._stream.name)

    def stop(self) -> None:
        """Ends `run` after the batch at hand. Any thread."""
        self._stop.set()

    def _step(self) -> None:
        if self._breaker.is_open:
            # Whether to read on is for the probe that is being written to say.
            self._finish()
        records, now = self._read(), self._now()
        draft = make_draft([decode_item(self._decoder, record, now) for record in records])
        self._finish()
        if self._stop.is_set():
            # The batch before may have been given up, in an outage: what follows it must not be written.
            return
        must_settle = self._positions.must_settle()
        self._begin(draft)
        if must_settle:
            self._finish()
            self._writer.forget_sent()
            self._persist(self._positions.settle)
            # Not that of a partition that went to another.
            self._consumer.show_position(self._positions.next_offsets())

    def _begin(self, draft: Draft) -> None:
        """Starts to write a batch; `_finish` comes next."""
        if draft.items:
            self._writing = self._thread.submit(self._write, draft)

    def _finish(self) -> None:
        """Waits for the batch that is being written, if there is one."""
        if self._writing is None:
            return
        writing, self._writing = self._writing, None
        try:
            self._watch(writing.result())
        except FencedError as exc:
            # A partition went to another member of the group, or our service to a successor: claiming tells.
            log.warning("batch_not_ours", stream=self._stream.name, reason=str(exc))
            self._positions.give_up()
        self._consumer.show_position(self._positions.next_offsets())

    def _read(self) -> list[Record]:
        n_allowed = self._breaker.plan_read(time.monotonic(), self._sink.max_batch_rows)
        if n_allowed == 0:
            self._consumer.pause()
        else:
            self._consumer.resume()
        # Also when paused: who does not ask loses its membership, and hears of no assignment.
        return self._consumer.consume(max(n_allowed, 1), self._sink.max_batch_age_ms / 1000)

    def _write(self, draft: Draft) -> list[Item]:
        """Writes what of a batch is ours and not written yet; returns it as it ended."""
        written: list[Item] = []

        def write() -> None:
            unwritten = self._positions.unwritten(draft.items)
            if unwritten:
                ours = draft if len(unwritten) == len(draft.items) else make_draft(unwritten)
                written.extend(self._writer.write(ours, self._positions.claims))

        start_ns = time.time_ns()
        self._persist(write)
        if self._tracing is not None:
            self._trace(self._tracing, written, start_ns)
        return written

    def _trace(self, tracing: Tracing, items: Sequence[Item], start_ns: int) -> None:
        traced = [item.record.traceparent for item in items if item.record.traceparent is not None]
        if traced:
            about: dict[str, str | int] = {"hl.stream": self._stream.name, "hl.n_records": len(items)}
            tracing.record_batch("sink.write", traced, start_ns, about)

    def _watch(self, items: Sequence[Item]) -> None:
        # Replays were rejected before, a file or a probe is a person's: they say nothing about what devices send.
        own = [
            item
            for item in items
            if item.record.is_of_device and not (item.reading is not None and item.reading.is_probe)
        ]
        failures = [item.failure for item in own if item.failure is not None]
        was_open = self._breaker.is_open
        self._breaker.count(time.monotonic(), len(own), len(failures))
        if self._breaker.is_open and not was_open:
            fault = failures[-1].fault
            log.error("breaker_open", stream=self._stream.name, n_rejected=len(failures), last=str(fault))
            message = _breaker_message(self._stream, self._sink.breaker_share, fault)
            self._stats.alert(self._stream.name, "breaker_open", message)
        elif was_open and not self._breaker.is_open:
            log.info("breaker_closed", stream=self._stream.name)
            self._stats.clear_alert(self._stream.name, "breaker_open")

    def _persist(self, work: Callable[[], None]) -> None:
        # An outage is waited out with the batch in hand; nothing is skipped and nothing is a dead letter.
        backoff = Backoff(random.Random())  # noqa: S311 - jitter, not secrecy
        n_unknown = 0
        while True:
            try:
                work()
            except TransientError as exc:
                self._outage.met(exc)
                if self._stop.wait(backoff.next_s()):
                    # Not written: the successor reads it again.
                    return
                self._refresh()
            except InvariantError as exc:
                # What nobody foresaw may pass, or be of this connection only. If not: stop, discard nothing.
                n_unknown += 1
                log.error("unknown_error", stream=self._stream.name, n_tries=n_unknown, error=str(exc))  # noqa: TRY400
                if n_unknown == MAX_TRIES or self._stop.wait(backoff.next_s()):
                    raise
                self._store.close()
                self._refresh()
            else:
                self._outage.over()
                return

    def _refresh(self) -> None:
        # If the database is still away, the next try finds out.
        with suppress(TransientError):
            self._positions.refresh()


def _breaker_message(stream: Stream, share: float, fault: PoisonRecordError) -> str:
    return (
        f"More than {share:.0%} of what came in on {stream.kafka_topic} within a minute was rejected, last because "
        f"of: {fault}. The stream is paused but for a probe every {PROBE_EVERY_S:g} s, and goes on by itself when "
        "one passes; Kafka keeps the rest. Mend what sends, or what rejects; then `hl dlq replay`."
    )
