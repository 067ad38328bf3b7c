"""Where to go on in a Kafka partition, and what to do when Kafka does not have that place.

Offsets alone do not tell whether the record before them is still the one that was read: a topic that was made
anew, or whose tail was lost, grows past the old offset again. So the topic's id and the leader epoch of the last
record are kept beside the offset (Apache KIP-516, KIP-320).
"""

from typing import NamedTuple
from uuid import UUID


class Reached(NamedTuple):
    """How far a Kafka partition is done.

    Args:
        next_offset: of the first record that is not done.
        leader_epoch: of the record before it; None where that is not known.
    """

    next_offset: int
    leader_epoch: int | None = None


class Claim(NamedTuple):
    """Our right to a Kafka partition, and where we are in it.

    Args:
        next_offset: where to go on.
        epoch: of the claim; a later one fences it off.
        leader_epoch: of the record before `next_offset`; None where that is not known.
        topic_id: of the Kafka topic that the offset is of; None where that is not known.
    """

    next_offset: int
    epoch: int
    leader_epoch: int | None = None
    topic_id: UUID | None = None

    def moved_to(self, reached: Reached) -> "Claim":
        """The same right, at another place."""
        return self._replace(next_offset=reached.next_offset, leader_epoch=reached.leader_epoch)


class PartitionLog(NamedTuple):
    """What Kafka has of a partition.

    Args:
        topic_id: of the topic; None where the cluster does not say.
        low: the first offset that is still there.
        high: the next that will be given.
        diverged: whether the offset is known not to follow what we read, wherever the log ends by now.
    """

    topic_id: UUID | None
    low: int
    high: int
    diverged: bool = False


class Start(NamedTuple):
    """Where to begin instead of the stored offset.

    Args:
        next_offset: there.
        n_dropped: records that Kafka had and that nobody will read.
        n_repeated: records that were read and will be read again, at most.
        code: `topic_recreated`, `log_truncated` or `records_expired`.
        message: for a person.
    """

    next_offset: int
    n_dropped: int
    n_repeated: int
    code: str
    message: str


def is_another_topic(before: UUID | None, now: UUID | None) -> bool:
    """Whether a topic is certainly not the one before; None is an id that the cluster did not say."""
    return None not in {before, now} and before != now


def plan_start(kafka_partition: int, claim: Claim, log: PartitionLog) -> Start | None:
    """Where to begin when the stored place is not in Kafka's log; None if it is.

    Guarantee: no record that Kafka has and that was not read before is passed by. What is read once more
    changes nothing that is stored.
    """
    place = f"Partition {kafka_partition}"
    recreated = is_another_topic(claim.topic_id, log.topic_id)
    if recreated:
        message = (
            f"{place}: the Kafka topic was deleted and made anew. Read from its start, offset {log.low}; "
            f"what the old topic held from offset {claim.next_offset} on is gone."
        )
        return Start(log.low, log.low, 0, "topic_recreated", message)
    if claim.next_offset < log.low:
        n_dropped = log.low - claim.next_offset
        message = (
            f"{place}: {n_dropped} records, offsets {claim.next_offset} to {log.low - 1}, were deleted by "
            "Kafka's retention before they were stored. Raise HL_KAFKA__RETENTION_DAYS."
        )
        return Start(log.low, n_dropped, 0, "records_expired", message)
    if log.diverged or claim.next_offset > log.high:
        message = (
            f"{place}: Kafka has lost records that it had confirmed; its end is {log.high}, and we were at "
            f"offset {claim.next_offset}. Read again from offset {log.low}; what is stored stays as it is."
        )
        n_repeated = max(0, min(claim.next_offset, log.high) - log.low)
        return Start(log.low, 0, n_repeated, "log_truncated", message)
    return None
