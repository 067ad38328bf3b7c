"""Positions of a consumer group in hl.offsets, to be moved in the transaction of the work they stand for."""

from collections.abc import Iterable, Mapping
from uuid import UUID

import psycopg

from hl_platform.core.errors import FencedError
from hl_platform.core.positions import Claim, Reached

CLAIM = """
-- claim: take over a Kafka partition; whoever held it before can no longer commit. No row without the lease
insert into hl.offsets as o (consumer_group, kafka_topic, kafka_partition, first_offset, next_offset, epoch,
                             service, kafka_topic_id)
select %(group)s, %(topic)s, %(partition)s, %(start)s, %(start)s, 1, %(service)s, %(topic_id)s
from hl.leases where service = %(service)s and epoch = %(lease_epoch)s
on conflict (consumer_group, kafka_topic, kafka_partition) do update
set epoch = o.epoch + 1, service = excluded.service, updated_at = now(),
    kafka_topic_id = coalesce(o.kafka_topic_id, excluded.kafka_topic_id)
returning next_offset, epoch, leader_epoch, kafka_topic_id
"""

ADVANCE = """
-- advance: move the offsets of a batch; a row less than there are partitions means that a claim is not ours
update hl.offsets as o
set next_offset = n.next_offset, leader_epoch = n.leader_epoch, kafka_topic_id = n.topic_id, updated_at = now()
from unnest(%(partitions)s::int[], %(expected)s::bigint[], %(epochs)s::bigint[], %(next)s::bigint[],
            %(leader_epochs)s::int[], %(topic_ids)s::uuid[])
     as n (kafka_partition, expected, epoch, next_offset, leader_epoch, topic_id)
where o.consumer_group = %(group)s and o.kafka_topic = %(topic)s and o.kafka_partition = n.kafka_partition
  and o.epoch = n.epoch and o.next_offset = n.expected
"""

READ_CLAIMS = """
-- read_claims: where claims stand, after a commit whose answer was lost
select kafka_partition, next_offset, epoch, leader_epoch, kafka_topic_id
from hl.offsets
where consumer_group = %(group)s and kafka_topic = %(topic)s and kafka_partition = any(%(partitions)s)
"""

SHIFT_FIRST_OFFSET = """
-- shift_first_offset: keep next_offset - first_offset the number of records received, through a jump
update hl.offsets set first_offset = first_offset + %(shift)s
where consumer_group = %(group)s and kafka_topic = %(topic)s and kafka_partition = %(partition)s
"""


class OffsetStore:
    """Where one consumer group stands in one Kafka topic.

    Every method runs on the connection it is given and lets the driver's errors out: the caller has the
    transaction, and translates.

    Args:
        consumer_group: whose.
        kafka_topic: in which.
        service: that works for the group here.
        lease_epoch: under which this process holds the lease of the service.
    """

    def __init__(self, consumer_group: str, kafka_topic: str, service: str, lease_epoch: int) -> None:
        self._key = {
            "group": consumer_group,
            "topic": kafka_topic,
            "service": service,
            "lease_epoch": lease_epoch,
        }

    def claim(self, conn: psycopg.Connection, kafka_partition: int, low: int, topic_id: UUID | None) -> Claim:
        """Takes over a Kafka partition.

        Args:
            conn: outside of a transaction, so that a process that is stopped here holds no lock.
            kafka_partition: which.
            low: the first offset Kafka has, where to begin if nobody has read it before.
            topic_id: kept with an offset that has none yet.

        Raises:
            FencedError: the service's lease is another process's by now.
        """
        values = {**self._key, "partition": kafka_partition, "start": low, "topic_id": topic_id}
        row = conn.execute(CLAIM, values).fetchone()
        if row is None:
            raise FencedError(f"{self._key['service']}: the lease is held by another process")
        return Claim(*row)

    def read(self, conn: psycopg.Connection, kafka_partitions: Iterable[int]) -> dict[int, Claim]:
        """Where claims stand now; a partition without a row is left out."""
        rows = conn.execute(READ_CLAIMS, {**self._key, "partitions": list(kafka_partitions)}).fetchall()
        return {partition: Claim(*claim) for partition, *claim in rows}

    def advance(
        self, conn: psycopg.Connection, claims: Mapping[int, Claim], reached: Mapping[int, Reached]
    ) -> None:
        """Moves claims to other positions, and writes the topic ids that they name.

        Args:
            conn: in the transaction of the work that is done.
            claims: as they stand; more than are moved are allowed.
            reached: by Kafka partition, of those that move.

        Raises:
            FencedError: one of the claims is not as it was: another process has claimed the partition, or the
                row is gone. The transaction must not be committed.
        """
        # In the same order in every process, so that two never wait for each other.
        moves = [(partition, claims[partition], reached[partition]) for partition in sorted(reached)]
        values = {
            **self._key,
            "partitions": [partition for partition, _, _ in moves],
            "expected": [claim.next_offset for _, claim, _ in moves],
            "epochs": [claim.epoch for _, claim, _ in moves],
            "topic_ids": [claim.topic_id for _, claim, _ in moves],
            "next": [place.next_offset for _, _, place in moves],
            "leader_epochs": [place.leader_epoch for _, _, place in moves],
        }
        if conn.execute(ADVANCE, values).rowcount != len(moves):
            raise FencedError(f"{self._key['group']}: a claim on {self._key['topic']} is not ours any more")

    def jump(
        self, conn: psycopg.Connection, kafka_partition: int, claim: Claim, reached: Reached, *, dropped: int
    ) -> None:
        """Moves a claim past records, or back over records, that are not received by that.

        Args:
            conn: in the transaction of the work that is done.
            kafka_partition: which.
            claim: as it stands.
            reached: where to.
            dropped: how many of the records in between are counted as received all the same.

        Raises:
            FencedError: as from `advance`.
        """
        self.advance(conn, {kafka_partition: claim}, {kafka_partition: reached})
        shift = reached.next_offset - claim.next_offset - dropped
        conn.execute(SHIFT_FIRST_OFFSET, {**self._key, "partition": kafka_partition, "shift": shift})
