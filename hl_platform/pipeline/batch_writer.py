"""Gets each record of a batch where it belongs: to its row, or to the dead letters.

1. One transaction for the whole batch. Nearly always that is all.
2. If the database rejects it, `SinkStore.find_rejected` says which records are to blame.
3. Those are tried twice more, all together, after a pause each: the fault may pass, as a lock or a column
   that is being widened does.
4. What was rejected every time goes to the dead letters, and Kafka acknowledges it.
5. One transaction for the whole batch without them, which also counts them and passes their offsets.

An outage anywhere ends the attempt and is none of the three tries: the caller waits and begins anew.
"""

import random
from collections.abc import Callable, Sequence
from datetime import datetime

import structlog

from hl_platform.adapters.kafka.producer import Delivery, KafkaProducer
from hl_platform.adapters.postgres.sink_store import SinkStore
from hl_platform.core.accounts import StageStats
from hl_platform.core.errors import InvariantError, PoisonRecordError, TransientError
from hl_platform.core.positions import Claim
from hl_platform.core.readings import DEVICE_ID
from hl_platform.core.streams import Stream
from hl_platform.pipeline.batch import Failure, Item, Position
from hl_platform.pipeline.dead_letters import make_dead_letter
from hl_platform.pipeline.draft import Draft, make_draft

log = structlog.get_logger()

MAX_TRIES = 3
MAX_KEPT_KEY_CHARS = 4_000
# Mean pause before the second and the third try, in seconds.
PAUSES_S = (0.05, 0.15)


class BatchWriter:
    """Writes the batches of one stream.

    Args:
        stream: which.
        store: writes the table.
        producer: takes the dead letters.
        stats: takes the delays; counts are in the store's transaction.
        now: the time, aware.
        pause: waits for so many seconds; returns True at once when the sink is to stop.

    Guarantee: after `write` returned, each record of the batch is one row, or changed none because its row is
    there, or is a dead letter that Kafka has acknowledged; and its offset is passed.
    """

    def __init__(
        self,
        *,
        stream: Stream,
        store: SinkStore,
        producer: KafkaProducer,
        stats: StageStats,
        now: Callable[[], datetime],
        pause: Callable[[float], bool],
    ) -> None:
        self._stream = stream
        self._store = store
        self._producer = producer
        self._stats = stats
        self._now = now
        self._pause = pause
        self._rng = random.Random()  # noqa: S311 - jitter, not secrecy
        # Dead letters that Kafka has and whose offsets are not committed yet: an outage of the database
        # repeats the batch, and must neither repeat them nor find their records acceptable after all.
        self._sent: dict[Position, Failure] = {}

    def write(self, draft: Draft, claims: dict[int, Claim]) -> Sequence[Item]:
        """Writes a batch.

        Args:
            draft: what it comes to.
            claims: of its Kafka partitions, as they stand; moved on here.

        Returns:
            The items as they ended.

        Raises:
            FencedError: another sink has taken over.
            InvariantError: the database rejects the batch for no record's fault; nothing was discarded.
            TransientError: an outage; call again with what is not written yet.
        """
        if self._sent:
            # Of a batch whose commit was answered too late, nothing is to come any more.
            self._sent = {
                (partition, offset): failure
                for (partition, offset), failure in self._sent.items()
                if partition in claims and offset >= claims[partition].next_offset
            }
        if self._sent:
            draft = make_draft(
                [
                    item.given_up(self._sent[item.position]) if item.position in self._sent else item
                    for item in draft.items
                ]
            )
        failures: dict[Position, Failure] = {}
        n_unexplained = 0
        while True:
            try:
                self._commit(draft, claims)
            except PoisonRecordError as fault:
                if not self._try_apart(draft, failures):
                    n_unexplained += 1
                    if n_unexplained == MAX_TRIES:
                        msg = f"The database rejects a batch but no record of it: {fault}"
                        raise InvariantError(msg) from fault
                    self._back_off(n_unexplained)
                draft = make_draft([_given_up_if_hopeless(item, failures) for item in draft.items])
            else:
                return draft.items

    def forget_sent(self) -> None:
        """Call when partitions were assigned: what was not committed may be another sink's by now."""
        self._sent.clear()

    def _try_apart(self, draft: Draft, failures: dict[Position, Failure]) -> bool:
        """Tries the records by themselves, the rejected ones again; notes failures, returns if there were any."""
        suspects = list(zip(draft.stored, draft.rows.readings, strict=True))
        any_rejected = False
        while suspects:
            rejected = self._store.find_rejected([reading for _, reading in suspects])
            now = self._now()
            for index, fault in rejected:
                position = suspects[index][0].position
                earlier = failures.get(position)
                failures[position] = earlier.again(fault, now) if earlier else Failure(fault, 1, now, now)
            any_rejected = any_rejected or bool(rejected)
            suspects = [
                suspects[index]
                for index, _ in rejected
                if failures[suspects[index][0].position].attempts < MAX_TRIES
            ]
            if suspects:
                self._back_off(max(failures[item.position].attempts for item, _ in suspects))
        return any_rejected

    def _back_off(self, n_tries: int) -> None:
        if self._pause(PAUSES_S[n_tries - 1] * self._rng.uniform(0.5, 1.5)):
            raise TransientError("stopped between two tries")

    def _commit(self, draft: Draft, claims: dict[int, Claim]) -> None:
        started_at = self._now()
        self._send_dead_letters([item for item in draft.rejected if item.position not in self._sent])
        written = self._store.write(
            draft.rows, claims, draft.reached, draft.account(), draft.origins, probes=draft.probes
        )
        claims.update(
            {partition: claims[partition].moved_to(place) for partition, place in draft.reached.items()}
        )
        for item in draft.rejected:
            del self._sent[item.position]
        now = self._now()
        for measure, delays_ms in draft.live.delays_ms(now).items():
            self._stats.delays(measure, delays_ms)
        log.debug(
            "batch_committed",
            stream=self._stream.name,
            reached=draft.reached,
            n_rows=written.inserted,
            n_corrected=written.corrected,
            n_dead_lettered=len(draft.rejected),
            duration_ms=(now - started_at).total_seconds() * 1000,
        )

    def _send_dead_letters(self, items: Sequence[Item]) -> None:
        if not items:
            return
        arrived: list[Delivery] = []
        for item in items:
            self._send_dead_letter(item, arrived.append)
        log.warning(
            "records_rejected", stream=self._stream.name, n=len(items), first=str(_failure_of(items[0]).fault)
        )
        while len(arrived) < len(items):
            self._producer.poll(0.1)
            if self._pause(0):
                raise TransientError("stopped before Kafka had the dead letters")
        for delivery in arrived:
            if delivery.error is not None:
                raise delivery.error
        self._sent.update((item.position, _failure_of(item)) for item in items)

    def _send_dead_letter(self, item: Item, on_delivery: Callable[[Delivery], None]) -> None:
        record, failure = item.record, _failure_of(item)
        # Any program may have written the record; with a longer key the letter might not fit into Kafka.
        key = record.key if record.key is None or len(record.key) <= MAX_KEPT_KEY_CHARS else None
        letter = make_dead_letter(
            self._stream,
            "sink",
            failure.fault,
            record.value,
            failure.last_at,
            attempts=failure.attempts,
            first_failed_at=failure.first_at,
            device_id=key if key is not None and DEVICE_ID.fullmatch(key) else None,
            kafka_topic=self._stream.kafka_topic,
            kafka_partition=record.kafka_partition,
            offset=record.offset,
            kafka_time=record.kafka_time,
            replay_of=record.replay_of,
        )
        self._producer.send(self._stream.dead_letter_topic, key, letter.value, on_delivery, letter.headers)


def _failure_of(item: Item) -> Failure:
    assert item.failure is not None  # noqa: S101 - the caller chose those that have one
    return item.failure


def _given_up_if_hopeless(item: Item, failures: dict[Position, Failure]) -> Item:
    failure = failures.get(item.position)
    return item.given_up(failure) if failure is not None and failure.attempts >= MAX_TRIES else item
