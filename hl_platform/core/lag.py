"""How far a consumer group is behind in each Kafka partition, and from when on that is worth a person's look."""

from typing import Literal, NamedTuple

WARN_RECORDS = 100
CRITICAL_RECORDS = 1_000

Level = Literal["ok", "warning", "critical", "shown"]


class PartitionLag(NamedTuple):
    """The position of a consumer group in one Kafka partition.

    Args:
        consumer_group: whose.
        kafka_topic: where.
        kafka_partition: where.
        next_offset: what it reads next.
        end_offset: what Kafka will give out next.
        is_exact: False where the position was written down only now and then, as a live service's.
    """

    consumer_group: str
    kafka_topic: str
    kafka_partition: int
    next_offset: int
    end_offset: int
    is_exact: bool = True

    @property
    def n_records(self) -> int:
        """What is left to read. A topic that was made anew may end before the position."""
        return max(0, self.end_offset - self.next_offset)

    @property
    def level(self) -> Level:
        """Whether that is much; `shown` where the position is too old to say."""
        if not self.is_exact:
            return "shown"
        if self.n_records > CRITICAL_RECORDS:
            return "critical"
        return "warning" if self.n_records > WARN_RECORDS else "ok"
