"""Which Kafka partitions the sink may write, and where it stands in each."""

import time
from collections.abc import Sequence
from contextlib import suppress

import structlog

from hl_platform.adapters.kafka.consumer import GroupConsumer, Record
from hl_platform.adapters.postgres.sink_store import SinkStore
from hl_platform.core.accounts import StageStats
from hl_platform.core.errors import FencedError, TransientError
from hl_platform.core.positions import Claim, PartitionLog, Reached, plan_start
from hl_platform.core.streams import Stream
from hl_platform.pipeline.batch import Item

log = structlog.get_logger()

# What no error tells: a topic that is made anew while the sink reads it keeps its name, and a database that failed
# over while nothing was written may have gone back.
CHECK_EVERY_S = 10.0


class Positions:
    """The claims of one sink on the partitions of its topic.

    Kafka proposes partitions; a claim in the database, whose epoch every transaction checks, makes them ours.

    Args:
        stream: whose topic.
        consumer: assigns, and reads where it is told to.
        store: has the claims.
        stats: takes the alerts.

    Guarantee: only records of claimed partitions, each from the claim's offset on, are handed out by `unwritten`.
    A position that Kafka does not have is decided by `plan_start`, never skipped.
    """

    def __init__(self, stream: Stream, consumer: GroupConsumer, store: SinkStore, stats: StageStats) -> None:
        self._stream = stream
        self._consumer = consumer
        self._store = store
        self._stats = stats
        self._assigned: Sequence[int] = ()
        # Partitions whose records are not those that we read.
        self._diverged: set[int] = set()
        self._must_claim = False
        self._checked_at = time.monotonic()
        self.claims: dict[int, Claim] = {}

    def next_offsets(self) -> dict[int, int]:
        """Where each claim stands."""
        return {partition: claim.next_offset for partition, claim in self.claims.items()}

    def unwritten(self, items: Sequence[Item]) -> list[Item]:
        """Those of the items whose records are ours to write and are not written yet."""
        mine = []
        for item in items:
            record = item.record
            claim = self.claims.get(record.kafka_partition)
            if claim is None:
                continue
            if record.offset >= claim.next_offset:
                mine.append(item)
            elif _is_another(record, claim):
                # What follows it is not what follows the record that we read.
                self._diverged.add(record.kafka_partition)
                del self.claims[record.kafka_partition]
                self._must_claim = True
        return mine

    def refresh(self) -> None:
        """Asks the database where the claims stand, after an error that does not tell.

        The answer to a commit may have been lost with the line: the claim stands further on then. A claim that
        is another's by now, whose row is gone, or that has gone back with its database (a standby that had
        not everything, a backup) is given up; `settle` claims anew what Kafka still assigns to us, and reads
        from where the database is.

        Raises:
            TransientError: the database is away.
        """
        stored = self._store.claims(self.claims)
        for partition, claim in list(self.claims.items()):
            now = stored.get(partition)
            if now is not None and now.epoch == claim.epoch and now.next_offset >= claim.next_offset:
                self.claims[partition] = now
                continue
            log.warning(
                "claim_lost", stream=self._stream.name, kafka_partition=partition, held=claim, found=now
            )
            del self.claims[partition]
            self._must_claim = True

    def give_up(self) -> None:
        """Drops all claims, because one of them turned out not to be ours; `settle` tries again."""
        self.claims = {}
        self._must_claim = True

    def must_settle(self) -> bool:
        """Whether partitions came or went, or a position is in doubt. Between batches."""
        assigned = self._consumer.take_assignment()
        if assigned is not None:
            self._assigned, self._diverged, self._must_claim = assigned, set(), True
        lost = self._consumer.take_lost_positions()
        if lost:
            self._diverged |= lost
            self._must_claim = True
        if time.monotonic() - self._checked_at >= CHECK_EVERY_S:
            self._checked_at = time.monotonic()
            # What is away now is looked at the next time.
            with suppress(TransientError):
                self._check()
        return self._must_claim

    def settle(self) -> None:
        """Claims what is assigned to us, decides where to begin, and lets the consumer read there.

        Raises:
            FencedError: the service has another holder by now.
            TransientError: Kafka or the database is away; call again.
        """
        topic_id = self._consumer.topic_id()
        claims, offsets = {}, {}
        for partition in self._assigned:
            low, high = self._consumer.watermarks(partition)
            found = PartitionLog(topic_id, low, high, partition in self._diverged)
            claims[partition] = claim = self._claim(partition, found)
            # From the record before, if there is one whose leader epoch we know: `unwritten` compares it.
            n_back = 1 if claim.leader_epoch is not None and claim.next_offset > low else 0
            offsets[partition] = claim.next_offset - n_back
        self.claims = claims
        self._consumer.start_at(offsets)
        self._diverged, self._must_claim = set(), False
        log.info("partitions_claimed", stream=self._stream.name, claims=claims)

    def _claim(self, partition: int, found: PartitionLog) -> Claim:
        claim = self._store.claim(partition, found.low, found.topic_id)
        start = plan_start(partition, claim, found)
        if start is None:
            return claim
        log.error(
            start.code,
            stream=self._stream.name,
            kafka_partition=partition,
            claim=claim,
            found=found,
            start=start,
        )
        self._stats.alert(self._stream.name, start.code, start.message)
        reached = Reached(start.next_offset)
        here = claim._replace(topic_id=found.topic_id)
        try:
            self._store.move(partition, here, reached, dropped=start.n_dropped, repeated=start.n_repeated)
        except FencedError as exc:
            # Another sink claimed it in between, or has our lease: claiming anew tells which.
            raise TransientError(f"Kafka partition {partition} was claimed by another sink: {exc}") from exc
        return here.moved_to(reached)

    def _check(self) -> None:
        if not self.claims:
            return
        self.refresh()
        topic_id = self._consumer.topic_id()
        if any(topic_id is not None and claim.topic_id != topic_id for claim in self.claims.values()):
            self._must_claim = True


def _is_another(record: Record, claim: Claim) -> bool:
    # Appended by another leader than the one whose record we read at this offset: that one was lost.
    return (
        record.offset == claim.next_offset - 1
        and None not in {record.leader_epoch, claim.leader_epoch}
        and record.leader_epoch != claim.leader_epoch
    )
