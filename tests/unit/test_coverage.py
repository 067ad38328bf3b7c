from datetime import UTC, datetime

import msgspec
import pytest

from hl_platform.adapters.kafka.consumer import Record
from hl_platform.adapters.kafka.log_reader import Extent
from hl_platform.core.accounts import Account, Books, StageStats
from hl_platform.core.coverage import (
    DEAD_LETTERED,
    FORWARDED,
    NO_BRIDGE,
    REPEATED,
    SAME_OFFSET,
    Covered,
    Place,
    bridge_of_reading,
    bridge_of_record,
    find_late,
)
from hl_platform.core.dead_letters import REPLAY_OF
from hl_platform.core.readings import ReadingDecoder
from hl_platform.core.sections import ReadingSettings
from hl_platform.pipeline.batch import count_origins, decode_item
from hl_platform.pipeline.recount import MAX_RECORDS, plan_stretches
from hl_platform.streams import load_streams

NOON = datetime(2026, 1, 3, 12, tzinfo=UTC)
NOON_MS = round(NOON.timestamp() * 1000)
DECODER = ReadingDecoder(load_streams()["energy"], ReadingSettings())
VALID = {"timestamp": NOON, "device_id": "m", "total_energy_kwh": 1, "power_kw": 1}

PLACE = Place("energy", FORWARDED, "homelab.energy", 0)
OTHER = PLACE._replace(kafka_partition=1)
DEAD = Place("energy", DEAD_LETTERED, "homelab.energy.dlq", 0)


@pytest.mark.parametrize("name", ["a\0b", "", "b" * 65, "my bridge", "ü"])
def test_what_no_bridge_of_ours_is_called_is_none_whoever_asks(name: str):
    value = msgspec.json.encode(
        {
            **VALID,
            "received_at": NOON,
            "source": {"mqtt_topic": "t", "qos": 1, "retained": False, "bridge": name},
        }
    )
    assert bridge_of_reading(value, is_replay=False) == NO_BRIDGE
    assert bridge_of_record(DEAD_LETTERED, b"", [("hl.bridge", name.encode())]) == NO_BRIDGE
    item = decode_item(DECODER, Record(0, 0, "m", value, NOON_MS), NOON)
    assert item.bridge == NO_BRIDGE


def test_a_record_belongs_to_the_bridge_that_its_source_names():
    value = msgspec.json.encode(
        {"power_kw": 1.0, "source": {"mqtt_topic": "t", "qos": 1, "bridge": "bridge-2"}}
    )
    assert bridge_of_reading(value, is_replay=False) == "bridge-2"


def test_replays_and_foreign_and_broken_records_belong_to_no_bridge():
    own = b'{"source": {"bridge": "bridge"}}'
    assert bridge_of_reading(own, is_replay=True) == NO_BRIDGE
    for value in (b"{}", b"", b"\xff", b"[]", b'{"source": 5}', b'{"source": {"bridge": 7}}', b"[" * 100_000):
        assert bridge_of_reading(value, is_replay=False) == NO_BRIDGE


@pytest.mark.parametrize("changes", [{}, {"power_kw": "three"}, {"device_id": 7}, {"received_at": "noon"}])
@pytest.mark.parametrize("source", [{"bridge": "bridge-2"}, {"bridge": 7}, {}, None, 5, ["bridge"]])
@pytest.mark.parametrize("replay_of", [None, "a/0/1"])
def test_the_sink_attributes_a_record_as_everybody_does_whether_it_can_be_decoded_or_not(
    changes: dict[str, object], source: object, replay_of: str | None
):
    value = msgspec.json.encode({**VALID, **changes, "source": source})
    item = decode_item(DECODER, Record(0, 5, "m", value, NOON_MS, None, replay_of), NOON)
    assert (item.reading is None) == bool(changes)
    assert item.bridge == bridge_of_reading(value, is_replay=replay_of is not None)


def test_what_is_given_up_later_keeps_its_bridge():
    value = msgspec.json.encode({**VALID, "source": {"bridge": "bridge"}})
    items = [decode_item(DECODER, Record(1, offset, "m", value, NOON_MS), NOON) for offset in (5, 6)]
    broken = decode_item(DECODER, Record(1, 7, "m", b"{", NOON_MS), NOON)
    assert broken.failure is not None
    items[1] = items[1].given_up(broken.failure)
    assert count_origins([*items, broken]) == {
        (1, "bridge"): Covered(2, 7),
        (1, NO_BRIDGE): Covered(1, 8),
    }


def test_a_dead_letter_belongs_to_the_bridge_that_its_header_names():
    own = b'{"source": {"bridge": "bridge"}}'
    assert bridge_of_record(DEAD_LETTERED, own, [("hl.bridge", b"bridge-1")]) == "bridge-1"
    assert bridge_of_record(DEAD_LETTERED, own, [("hl.stage", b"sink")]) == NO_BRIDGE
    assert bridge_of_record(FORWARDED, own, []) == "bridge"
    assert bridge_of_record(FORWARDED, own, [(REPLAY_OF, b"a/0/1")]) == NO_BRIDGE


def test_a_delivered_record_is_counted_with_its_offset():
    stats = StageStats()
    stats.count("energy", received=3)
    stats.cover(PLACE, Covered(1, 7))
    stats.cover(DEAD, Covered(1, 1))
    accounts, covered = stats.books()
    assert accounts["energy"] == Account(received=3, forwarded=1, dead_lettered=1)
    assert covered == {PLACE: Covered(1, 7), DEAD: Covered(1, 1)}


def test_records_that_were_never_received_here_balance_all_the_same():
    stats = StageStats()
    stats.cover(PLACE, Covered(1, 7))
    stats.cover(PLACE, Covered(4, SAME_OFFSET), received=4)
    accounts, covered = stats.books()
    assert accounts["energy"] == Account(received=4, forwarded=5)
    assert covered == {PLACE: Covered(5, 7)}


def test_a_first_run_counts_all_there_is():
    assert plan_stretches(Books({}, {}), {PLACE: Extent(0, 5)}) == {PLACE: Extent(0, 5)}


def test_a_successor_reads_behind_what_its_predecessor_wrote_down():
    before = Books({"energy": Account(7, 7)}, {PLACE: Covered(7, 20)})
    found = {PLACE: Extent(0, 25), OTHER: Extent(3, 9)}
    # A place without a row had no records when the predecessor began.
    assert plan_stretches(before, found) == {PLACE: Extent(20, 25), OTHER: Extent(3, 9)}


def test_offsets_that_kafka_does_not_have_are_not_read():
    before = Books({}, {PLACE: Covered(7, 20), OTHER: Covered(7, 20)})
    assert plan_stretches(before, {PLACE: Extent(0, 5), OTHER: Extent(30, 31)}) == {
        PLACE: Extent(5, 5),
        OTHER: Extent(30, 31),
    }


def test_counts_from_before_offsets_were_kept_cover_all_that_is_there():
    before = Books({"energy": Account(7, 7)}, {Place("energy", FORWARDED, "", 0): Covered(7, 0)})
    assert plan_stretches(before, {PLACE: Extent(0, 5)}) == {PLACE: Extent(5, 5)}


def test_more_than_can_be_read_at_a_start_is_not_read():
    found = {PLACE: Extent(0, MAX_RECORDS), OTHER: Extent(0, 1)}
    assert plan_stretches(Books({}, {}), found) == {
        PLACE: Extent(MAX_RECORDS, MAX_RECORDS),
        OTHER: Extent(1, 1),
    }


def test_what_the_sink_read_more_than_the_bridge_counted_is_late():
    assert find_late({PLACE: Covered(5, 9)}, {PLACE: Covered(8, 9)}, {}) == {PLACE: 3}
    assert find_late({PLACE: Covered(5, 9)}, {PLACE: Covered(5, 9)}, {}) == {}
    assert find_late({PLACE: Covered()}, {PLACE: Covered(2, 2)}, {}) == {PLACE: 2}


def test_a_place_that_was_not_recounted_yet_has_nothing_late():
    assert find_late({}, {PLACE: Covered(2, 2)}, {}) == {}


def test_what_may_be_our_own_on_its_way_is_not_late():
    read = {PLACE: Covered(8, 12)}
    assert find_late({PLACE: Covered(5, 9)}, read, {"energy": 3}) == {}
    assert find_late({PLACE: Covered(5, 9)}, read, {"energy": 0}) == {PLACE: 3}


def test_what_the_sink_read_twice_is_not_late():
    read = {PLACE: Covered(8, 9), PLACE._replace(kind=REPEATED): Covered(3, 0)}
    assert find_late({PLACE: Covered(5, 9)}, read, {}) == {}
