"""Sends imported readings to Kafka, no faster than they can be taken."""

import threading
import time
from collections.abc import Mapping
from typing import Protocol

import structlog

from hl_platform.adapters.kafka.lag import read_ends
from hl_platform.adapters.kafka.producer import Delivery, KafkaProducer
from hl_platform.adapters.postgres.import_watch import ImportWatch
from hl_platform.core.errors import ConfigError, HlError, TransientError
from hl_platform.core.sections import KafkaSettings
from hl_platform.core.streams import Stream

log = structlog.get_logger()

# Records that Kafka has not confirmed: enough for full batches, and some megabytes of memory.
MAX_IN_FLIGHT = 20_000
# Records that the sink has still to read. What devices send meanwhile waits behind them: for about a second.
MAX_AHEAD = 20_000
# Records between two looks at Kafka's reports, and seconds between two at the sink's position.
REPORTS_EVERY = 500
LOOK_EVERY_S = 0.2
# How long Kafka or the sink may stand still before we stop waiting for them.
PATIENCE_S = 60.0
# How long Kafka may be away when the import begins.
REACH_KAFKA_S = 5.0
# How long what is under way is waited for when somebody wants an end.
DRAIN_AFTER_STOP_S = 5.0


class Progress(Protocol):
    """Is told how far an import has come."""

    def read(self, n_rows: int, share: float) -> None:
        """So many rows are read, and that share of the files."""

    def stored(self, n_stored: int, n_sent: int) -> None:
        """The sink has passed so many of the records that were sent."""


class ImportEndedError(HlError):
    """The import ends before its files do. The message says why."""


class ImportSender:
    """Sends records to a stream's topic.

    Their Kafka timestamp is the time now, whatever the readings' own: Kafka counts its retention from there.

    Args:
        stream: whose.
        kafka: the cluster.
        watch: where the sink stands; None not to wait for it, neither underway nor at the end.
        stop: ends the work at the next record.
        progress: is told.

    Raises from every method:
        ImportEndedError: it was stopped, or Kafka or the sink stood still for too long.
        HlError: Kafka has refused a record.
    """

    def __init__(
        self,
        stream: Stream,
        kafka: KafkaSettings,
        watch: ImportWatch | None,
        stop: threading.Event,
        progress: Progress,
    ) -> None:
        self._stream = stream
        self._watch = watch
        self._stop = stop
        self._progress = progress
        _check_topic(kafka, stream)
        self._producer = KafkaProducer(kafka, "hl-import")
        self._n_sent = 0
        self._n_delivered = 0
        self._ends: dict[int, int] = {}
        self._error: HlError | None = None
        self._look_at_s = 0.0

    @property
    def n_sent(self) -> int:
        """Records that were handed to Kafka's client."""
        return self._n_sent

    def send(self, device_id: str, value: bytes, headers: Mapping[str, str | bytes]) -> None:
        """Sends a record, when Kafka and the sink are ready for it.

        Raises:
            PoisonRecordError: it is too large for Kafka.
        """
        if self._n_sent - self._n_delivered >= MAX_IN_FLIGHT:
            self._await_reports(MAX_IN_FLIGHT - REPORTS_EVERY)
        self._producer.send(self._stream.kafka_topic, device_id, value, self._on_delivery, headers)
        self._n_sent += 1
        if self._n_sent % REPORTS_EVERY == 0:
            self._producer.poll(0)
            self._check()
            if self._watch is not None and time.monotonic() >= self._look_at_s:
                self._await_sink(MAX_AHEAD)

    def finish(self) -> None:
        """Waits until Kafka has confirmed all records, and the sink has passed them."""
        self._await_reports(0)
        if self._watch is not None:
            self._await_sink(0)

    def drain(self) -> bool:
        """Waits shortly for what is under way; returns whether Kafka has all that was sent."""
        until_s = time.monotonic() + DRAIN_AFTER_STOP_S
        while self._n_delivered < self._n_sent and self._error is None and time.monotonic() < until_s:
            self._producer.poll(0.1)
        return self._n_delivered == self._n_sent

    def close(self) -> None:
        """Drops what is not sent yet."""
        self._producer.close(0)

    def _await_reports(self, n_left: int) -> None:
        patience = _Patience()
        while (left := self._n_sent - self._n_delivered) > n_left:
            if not patience.lasts(left):
                raise ImportEndedError(f"Kafka has confirmed nothing for {PATIENCE_S:g} s.")
            self._producer.poll(0.1)
            self._check()

    def _await_sink(self, n_left: int) -> None:
        patience = _Patience()
        while (left := self._n_behind()) > n_left:
            if not patience.lasts(left):
                raise ImportEndedError(
                    f"The sink has stored nothing for {PATIENCE_S:g} s; `hl status` shows what is the matter."
                )
            self._producer.poll(LOOK_EVERY_S / 4)
            self._check()
        self._look_at_s = time.monotonic() + LOOK_EVERY_S

    def _n_behind(self) -> int:
        """Records between the sink's position and our last ones, those of others in between included.

        Those that Kafka has not confirmed are ahead of the sink, too.
        """
        assert self._watch is not None  # noqa: S101 - the callers have looked
        try:
            reached = self._watch.next_offsets()
        except TransientError as exc:
            # An outage: the sink waits it out, and so do we.
            log.info("sink_position_unknown", error=str(exc))
            return self._n_sent + MAX_AHEAD
        behind = sum(max(0, end - reached.get(partition, 0)) for partition, end in self._ends.items())
        self._progress.stored(max(0, self._n_delivered - behind), self._n_sent)
        return behind + self._n_sent - self._n_delivered

    def _on_delivery(self, delivery: Delivery) -> None:
        if delivery.error is not None:
            self._error = self._error or delivery.error
            return
        self._n_delivered += 1
        end = delivery.offset + 1
        if end > self._ends.get(delivery.kafka_partition, 0):
            self._ends[delivery.kafka_partition] = end

    def _check(self) -> None:
        if self._error is not None:
            raise self._error
        if self._stop.is_set():
            raise ImportEndedError("Stopped.")


def _check_topic(kafka: KafkaSettings, stream: Stream) -> None:
    """Sees that the topic is there, before a producer would wait for it for ever."""
    places = [(stream.kafka_topic, partition) for partition in range(stream.kafka_partitions)]
    until_s = time.monotonic() + REACH_KAFKA_S
    while True:
        try:
            if not read_ends(kafka, places):
                raise ConfigError(f"Kafka has no topic {stream.kafka_topic}. Run `hl up`, which makes it.")
        except TransientError:
            # A topic that has just been made has no leader yet.
            if time.monotonic() > until_s:
                raise
            time.sleep(LOOK_EVERY_S)
        else:
            return


class _Patience:
    """Lasts as long as a number falls now and then."""

    def __init__(self) -> None:
        self._least: int | None = None
        self._until_s = 0.0

    def lasts(self, left: int) -> bool:
        """Whether it is still worth waiting."""
        if self._least is None or left < self._least:
            self._least, self._until_s = left, time.monotonic() + PATIENCE_S
        return time.monotonic() < self._until_s
