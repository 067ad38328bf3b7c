from uuid import UUID

from hl_platform.core.positions import Claim, PartitionLog, Start, plan_start

TOPIC, ANOTHER = UUID(int=1), UUID(int=2)


def start(next_offset: int, log: PartitionLog, topic_id: UUID | None = TOPIC) -> tuple[str, int, int] | None:
    found: Start | None = plan_start(0, Claim(next_offset, 1, 0, topic_id), log)
    return None if found is None else (found.code, found.next_offset, found.n_dropped)


def test_an_offset_that_kafka_has_is_kept():
    assert start(50, PartitionLog(TOPIC, 10, 100)) is None
    assert start(100, PartitionLog(TOPIC, 10, 100)) is None
    assert start(10, PartitionLog(TOPIC, 10, 100)) is None


def test_an_offset_beyond_the_end_reads_all_there_is():
    assert start(101, PartitionLog(TOPIC, 10, 100)) == ("log_truncated", 10, 0)


def test_an_offset_in_range_of_a_log_that_was_cut_reads_all_there_is():
    assert start(50, PartitionLog(TOPIC, 10, 100, diverged=True)) == ("log_truncated", 10, 0)


def test_an_offset_before_the_start_counts_what_expired():
    assert start(4, PartitionLog(TOPIC, 10, 100)) == ("records_expired", 10, 6)
    assert start(4, PartitionLog(TOPIC, 10, 100, diverged=True)) == ("records_expired", 10, 6)


def test_another_topic_of_the_same_name_is_read_from_its_start_and_counts_what_expired_there():
    assert start(50, PartitionLog(ANOTHER, 0, 100)) == ("topic_recreated", 0, 0)
    assert start(50, PartitionLog(ANOTHER, 7, 100)) == ("topic_recreated", 7, 7)


def test_a_cluster_without_topic_ids_is_judged_by_offsets_alone():
    assert start(50, PartitionLog(None, 10, 100)) is None
    assert start(50, PartitionLog(TOPIC, 10, 100), topic_id=None) is None
