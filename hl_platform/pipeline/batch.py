"""A batch of records on its way through the sink: what each is, and what has become of it."""

from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import NamedTuple

import msgspec

from hl_platform.adapters.kafka.consumer import Record
from hl_platform.core.accounts import Account
from hl_platform.core.coverage import NO_BRIDGE, Covered, bridge_of_reading
from hl_platform.core.errors import PoisonRecordError
from hl_platform.core.readings import Reading, ReadingDecoder

Position = tuple[int, int]


class Failure(NamedTuple):
    """Why and how often a record was rejected.

    Args:
        fault: of the last try.
        attempts: how often it was tried.
        first_at, last_at: when it was rejected, aware.
    """

    fault: PoisonRecordError
    attempts: int
    first_at: datetime
    last_at: datetime

    def again(self, fault: PoisonRecordError, at: datetime) -> "Failure":
        """The same after one more try."""
        return Failure(fault, self.attempts + 1, self.first_at, at)


class Item(msgspec.Struct, frozen=True, gc=False):
    """A record with either its reading or, if it is given up, its failure.

    Args:
        record: as it was read.
        reading: None if it is given up.
        failure: None if it is not.
        bridge: that wrote the record; NO_BRIDGE if none did.
    """

    record: Record
    reading: Reading | None
    failure: Failure | None
    bridge: str = NO_BRIDGE

    @property
    def position(self) -> Position:
        """Kafka partition and offset."""
        return (self.record.kafka_partition, self.record.offset)

    def given_up(self, failure: Failure) -> "Item":
        """The same, bound for the dead letters."""
        return Item(self.record, None, failure, self.bridge)


def decode_item(decoder: ReadingDecoder, record: Record, now: datetime) -> Item:
    """A record with its reading. One that cannot be decoded never can: it is given up at the first try."""
    is_replay = record.replay_of is not None
    try:
        reading, bridge = decoder.decode_own(record.value) or decoder.decode_attributed(
            record.value, record.key, record.kafka_time
        )
    except PoisonRecordError as fault:
        # Its bytes may name a bridge all the same.
        named = bridge_of_reading(record.value, is_replay=is_replay)
        return Item(record, None, Failure(fault, 1, now, now), named)
    return Item(record, reading, None, NO_BRIDGE if is_replay else bridge)


def last_of_each(read: Iterable[tuple[Item, Reading]], account: Account) -> list[tuple[Item, Reading]]:
    """Of items with their readings one for each device and timestamp.

    Of several it is the one received last, as it would be had they come in batches of their own.

    Args:
        read: in order of offset, which decides between two that were received at the same time.
        account: gets the repetitions and corrections that the batch holds within itself.
    """
    last: dict[tuple[str, datetime], tuple[Item, Reading]] = {}
    for item, reading in read:
        key = (reading.device_id, reading.timestamp)
        if key in last:
            earlier = last[key][1]
            if reading.received_at < earlier.received_at:
                account.duplicates += 1
                continue
            if (earlier.values, earlier.extra) == (reading.values, reading.extra):
                account.duplicates += 1
            else:
                account.corrected += 1
        last[key] = (item, reading)
    return list(last.values())


def count_origins(items: Sequence[Item]) -> dict[tuple[int, str], Covered]:
    """How many records each bridge wrote, and where they end, by Kafka partition and bridge.

    Args:
        items: in order of offset within each Kafka partition.
    """
    numbers = Counter([(item.record.kafka_partition, item.bridge) for item in items])
    ends = {(item.record.kafka_partition, item.bridge): item.record.offset + 1 for item in items}
    return {key: Covered(n, ends[key]) for key, n in numbers.items()}
