"""A Kafka consumer in memory that is assigned one partition, as far as the claims of a sink look at it."""

from collections.abc import Mapping
from uuid import UUID

TOPIC = UUID(int=1)


class OnePartition:
    """A Kafka consumer that was assigned partition 0."""

    def __init__(self, low: int, high: int) -> None:
        self.low, self.high = low, high
        self.assigned: list[int] | None = [0]
        self.started_at: Mapping[int, int] = {}

    def take_assignment(self) -> list[int] | None:
        assigned, self.assigned = self.assigned, None
        return assigned

    def take_lost_positions(self) -> set[int]:
        return set()

    def topic_id(self) -> UUID:
        return TOPIC

    def watermarks(self, _partition: int) -> tuple[int, int]:
        return self.low, self.high

    def start_at(self, offsets: Mapping[int, int]) -> None:
        self.started_at = offsets
