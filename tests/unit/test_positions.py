from collections.abc import Iterable
from uuid import UUID

import pytest

from hl_platform.adapters.kafka.consumer import Record
from hl_platform.core.accounts import StageStats
from hl_platform.core.errors import FencedError, TransientError
from hl_platform.core.positions import Claim, Reached
from hl_platform.pipeline.batch import Item
from hl_platform.pipeline.positions import Positions
from hl_platform.streams import load_streams
from tests.fake_consumer import TOPIC, OnePartition


class OneRow:
    """A store with one row of hl.offsets."""

    def __init__(self, row: Claim) -> None:
        self.row: Claim | None = row
        self.dropped = self.repeated = 0

    def claim(self, _partition: int, low: int, topic_id: UUID) -> Claim:
        row = self.row or Claim(low, 0, None, topic_id)
        self.row = row._replace(epoch=row.epoch + 1)
        return self.row

    def claims(self, _partitions: Iterable[int]) -> dict[int, Claim]:
        return {} if self.row is None else {0: self.row}

    def move(self, _partition: int, claim: Claim, reached: Reached, *, dropped: int, repeated: int) -> None:
        self.row = claim.moved_to(reached)
        self.dropped, self.repeated = dropped, repeated


def settled(row: Claim, low: int = 0, high: int = 100) -> tuple[Positions, OnePartition, OneRow, StageStats]:
    consumer, store, stats = OnePartition(low, high), OneRow(row), StageStats()
    positions = Positions(load_streams()["energy"], consumer, store, stats)  # type: ignore[arg-type]
    assert positions.must_settle()
    positions.settle()
    return positions, consumer, store, stats


def items(*offsets: int, leader_epoch: int = 3) -> list[Item]:
    records = [Record(0, offset, "meter1", b"", 0, leader_epoch=leader_epoch) for offset in offsets]
    return [Item(record, None, None) for record in records]


def test_a_database_that_went_back_is_followed_and_nothing_between_is_passed():
    positions, consumer, store, _ = settled(Claim(50, 1, 3, TOPIC))
    store.row = Claim(20, 2, 3, TOPIC)
    positions.refresh()
    assert positions.unwritten(items(50, 51)) == []
    assert positions.must_settle()
    positions.settle()
    assert consumer.started_at == {0: 19}


def test_a_commit_whose_answer_was_lost_is_found_and_its_records_are_not_written_again():
    positions, _, store, _ = settled(Claim(50, 1, 3, TOPIC))
    store.row = Claim(60, 2, 3, TOPIC)
    positions.refresh()
    assert [item.record.offset for item in positions.unwritten(items(50, 59, 60))] == [60]
    assert not positions.must_settle()


def test_a_claim_of_another_or_without_a_row_is_given_up():
    for found in (Claim(50, 3, 3, TOPIC), None):
        positions, _, store, _ = settled(Claim(50, 1, 3, TOPIC))
        store.row = found
        positions.refresh()
        assert positions.unwritten(items(50)) == []
        assert positions.must_settle()


def test_the_record_before_the_position_is_read_to_see_that_it_is_the_one_we_read():
    positions, consumer, _, _ = settled(Claim(50, 1, 3, TOPIC))
    assert consumer.started_at == {0: 49}
    assert [item.record.offset for item in positions.unwritten(items(49, 50))] == [50]


def test_after_another_record_before_the_position_nothing_is_written_and_all_is_read_again():
    positions, consumer, _, stats = settled(Claim(50, 1, 3, TOPIC))
    assert positions.unwritten(items(49, 50, leader_epoch=4)) == []
    assert positions.must_settle()
    positions.settle()
    assert consumer.started_at == {0: 0}
    assert ("energy", "log_truncated") in stats.alerts


def test_a_partition_that_another_sink_claims_in_between_is_claimed_anew():
    consumer, store = OnePartition(80, 100), OneRow(Claim(50, 1, 3, TOPIC))
    positions = Positions(load_streams()["energy"], consumer, store, StageStats())  # type: ignore[arg-type]
    assert positions.must_settle()
    move, store.move = store.move, fenced  # type: ignore[method-assign, assignment]
    with pytest.raises(TransientError):
        positions.settle()
    store.move = move  # type: ignore[method-assign]
    positions.settle()
    assert consumer.started_at == {0: 80}


def fenced(*_: object, **__: object) -> None:
    raise FencedError("another's")


def test_expired_records_are_counted_and_said_with_their_offsets():
    _, consumer, store, stats = settled(Claim(50, 1, 3, TOPIC), low=80)
    assert consumer.started_at == {0: 80}
    assert store.dropped == 30
    assert "30 records, offsets 50 to 79" in stats.alerts["energy", "records_expired"]
