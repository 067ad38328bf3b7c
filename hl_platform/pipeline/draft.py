"""What a batch comes to, made before the database is asked: while it works on one batch, the next is made ready."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from hl_platform.adapters.postgres.rows import AT, RECEIVED, UNIX_EPOCH_US, Rows, make_rows, microseconds
from hl_platform.core.accounts import Account
from hl_platform.core.coverage import Covered
from hl_platform.core.positions import Reached
from hl_platform.core.readings import LIVE_FROM, LIVE_WITHIN, Reading
from hl_platform.pipeline.batch import Item, count_origins, last_of_each

MICROSECOND = timedelta(microseconds=1)
LIVE_FROM_US, LIVE_WITHIN_US = LIVE_FROM // MICROSECOND, LIVE_WITHIN // MICROSECOND


@dataclass(frozen=True, slots=True)
class Live:
    """When the live readings of a batch were where, in ms since the time of their devices.

    Args:
        sent_us: that time, in microseconds as in the rows.
        to_mqtt_ms: when the bridge got them.
        to_kafka_ms: when Kafka wrote them, of those for which it noted that.
    """

    sent_us: list[int]
    to_mqtt_ms: list[float]
    to_kafka_ms: list[float]

    def delays_ms(self, now: datetime) -> dict[str, list[float]]:
        """By measure, of readings whose rows are there now."""
        now_us = microseconds(now)
        to_row_ms = [(now_us - sent_us) / 1000 for sent_us in self.sent_us]
        return {
            "device_to_mqtt": self.to_mqtt_ms,
            "device_to_kafka": self.to_kafka_ms,
            "device_to_row": to_row_ms,
        }


@dataclass(frozen=True, slots=True)
class Draft:
    """A batch, ready to be written.

    Args:
        items: in order of offset within each Kafka partition.
        rejected: those that are bound for the dead letters.
        stored: those whose readings go to the table, in the order of `rows`.
        rows: distinct.
        probes: readings that go beside the table.
        reached: where the batch ends, by Kafka partition.
        origins: how many of the records which bridge wrote, by Kafka partition and bridge.
        live: the live ones among `stored`.
    """

    items: Sequence[Item]
    rejected: list[Item]
    stored: list[Item]
    rows: Rows
    probes: list[Reading]
    reached: dict[int, Reached]
    origins: dict[tuple[int, str], Covered]
    live: Live
    _account: Account

    def account(self) -> Account:
        """What it adds to the counts, except what only the table knows. A fresh one for each try."""
        return replace(self._account)


def make_draft(items: Sequence[Item]) -> Draft:
    """A draft of some items. Any thread."""
    rejected = [item for item in items if item.failure is not None]
    account = Account(received=len(items), dead_lettered=len(rejected))
    read = [(item, item.reading) for item in items if item.reading is not None]
    probes = [reading for _, reading in read if reading.is_probe]
    if probes:
        read = [(item, reading) for item, reading in read if not reading.is_probe]
    rows = make_rows([reading for _, reading in read])
    if not rows.are_distinct:
        read = last_of_each(read, account)
        rows = make_rows([reading for _, reading in read])
    # What is imported or replayed says nothing of when readings came last; a probe is no device's.
    received = [reading.received_at for item, reading in read if item.record.is_of_device]
    account.last_reading_at = max(received, default=None)
    newest = {item.record.kafka_partition: item.record for item in items}
    reached = {
        partition: Reached(record.offset + 1, record.leader_epoch) for partition, record in newest.items()
    }
    stored = [item for item, _ in read]
    return Draft(
        items, rejected, stored, rows, probes, reached, count_origins(items), _live_of(stored, rows), account
    )


def _live_of(stored: Sequence[Item], rows: Rows) -> Live:
    live = Live([], [], [])
    for item, row in zip(stored, rows.rows, strict=True):
        at_us = row[AT]
        delay_us = row[RECEIVED] - at_us
        # A replay was late by the time it took to mend its cause, an import by however old it is.
        if LIVE_FROM_US <= delay_us <= LIVE_WITHIN_US and item.record.is_of_device:
            live.sent_us.append(at_us)
            live.to_mqtt_ms.append(delay_us / 1000)
            if item.record.appended_ms is not None:
                live.to_kafka_ms.append(item.record.appended_ms - (at_us - UNIX_EPOCH_US) / 1000)
    return live
