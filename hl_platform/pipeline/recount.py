"""Brings a bridge's account to what is on Kafka, before the bridge carries anything itself.

The account is written with each heartbeat. What its predecessor delivered after its last one is on Kafka behind
the offsets that the account covers: it is read and counted.
"""

from collections import Counter
from collections.abc import Callable, Mapping

import structlog

from hl_platform.adapters.kafka.log_reader import Extent, KafkaPlace, LogReader
from hl_platform.core.accounts import Books, StageStats
from hl_platform.core.coverage import DEAD_LETTERED, FORWARDED, Covered, Place, bridge_of_record
from hl_platform.core.sections import KafkaSettings
from hl_platform.pipeline.services import Service

log = structlog.get_logger()

# More than this would keep the bridge from its work for longer than some seconds. Only a database that was away
# for long, or that is younger than the topics, leaves so much uncounted.
MAX_RECORDS = 1_000_000


class Recount:
    """Counts, once, what predecessors of a bridge delivered and could not write down.

    Args:
        kafka: the cluster.
        service: the bridge, holding its lease.
        before: what its predecessors wrote down.
        stats: of this process.
        finished: says that the service is to stop.
    """

    def __init__(
        self,
        kafka: KafkaSettings,
        service: Service,
        before: Books,
        stats: StageStats,
        finished: Callable[[], bool],
    ) -> None:
        self._kafka = kafka
        self._service = service
        self._before = before
        self._stats = stats
        self._finished = finished
        self._done = False

    def once(self) -> None:
        """Counts, if that is not done yet. To be called before this process has delivered anything.

        Raises:
            TransientError: the cluster cannot be reached now; nothing was counted, call again.
        """
        # What was delivered without waiting for this is beyond telling apart, but not lost: the sink reads it.
        if self._done or self._stats.books().covered:
            return
        streams = self._service.streams
        topics = {stream.kafka_topic: (stream.name, FORWARDED) for stream in streams}
        topics |= {stream.dead_letter_topic: (stream.name, DEAD_LETTERED) for stream in streams}
        reader = LogReader(self._kafka, f"hl-{self._service.name}-recount")
        try:
            found = {
                Place(*topics[topic], topic, partition): extent
                for (topic, partition), extent in reader.extents(topics).items()
            }
            stretches = plan_stretches(self._before, found)
            counts = _count(reader, self._service.name, stretches, self._finished)
        finally:
            reader.close()
        if self._finished():
            return
        for place, covered in counts.items():
            self._stats.cover(place, covered, received=covered.n_records)
        n_records = sum(covered.n_records for covered in counts.values())
        log.info("accounts_taken_over", service=self._service.name, n_uncounted=n_records)
        self._done = True


def plan_stretches(before: Books, found: Mapping[Place, Extent]) -> dict[Place, Extent]:
    """What to read of each place: from the offset that the account covers to the end.

    Args:
        before: what predecessors wrote down.
        found: what Kafka has, by place.

    Returns:
        A stretch for each place; an empty one where there is nothing to count.
    """
    # Counted when no offsets were kept: what is there now is in the account.
    all_counted = bool(before.accounts) and not any(place.kafka_topic for place in before.covered)
    stretches = {}
    for place, (low, high) in found.items():
        covered = before.covered.get(place)
        start = covered.next_offset if covered else high if all_counted else low
        stretches[place] = Extent(min(max(start, low), high), high)
    n_records = sum(high - low for low, high in stretches.values())
    if n_records > MAX_RECORDS:
        log.error("too_much_uncounted", n_records=n_records, max_records=MAX_RECORDS)
        return {place: Extent(high, high) for place, (_, high) in stretches.items()}
    return stretches


def _count(
    reader: LogReader, bridge: str, stretches: Mapping[Place, Extent], finished: Callable[[], bool]
) -> dict[Place, Covered]:
    places: dict[KafkaPlace, Place] = {
        (place.kafka_topic, place.kafka_partition): place for place in stretches
    }
    counts: Counter[Place] = Counter()
    for record in reader.read({key: stretches[place] for key, place in places.items()}, finished):
        place = places[record.kafka_topic, record.kafka_partition]
        if bridge_of_record(place.kind, record.value, record.headers) == bridge:
            counts[place] += 1
    # Every place gets its row, so that a successor looks for a first record, too.
    return {place: Covered(counts[place], extent.high) for place, extent in stretches.items()}
