"""Accounts that balance are never cried about, whatever is on its way; those that do not are found at rest."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from hl_platform.core.balance import (
    STAGES,
    AccountRow,
    CoverageRow,
    Difference,
    Ledger,
    PositionRow,
    compare,
    confirmed,
)
from hl_platform.core.coverage import DEAD_LETTERED, DROPPED, FORWARDED, REPEATED
from hl_platform.streams import load_streams

ENERGY = load_streams()["energy"]
TOPIC, DEAD_LETTERS = ENERGY.kafka_topic, ENERGY.dead_letter_topic
N_PARTITIONS = 2
# On a partition of Kafka: a bridge's record, or "" for somebody else's.
Log = list[list[str]]

logs = st.lists(
    st.lists(st.sampled_from(["bridge-1", "bridge-2", ""]), max_size=12),
    min_size=N_PARTITIONS,
    max_size=N_PARTITIONS,
)


def account(service: str, stage: str, **counts: int) -> AccountRow:
    zero = dict.fromkeys(AccountRow._fields[3:], 0)
    return AccountRow(**{"service": service, "stage": stage, "stream": ENERGY.name, **zero, **counts})


def bridge_rows(
    log: Log, bridge: str, heard: list[int], n_in_flight: int = 0
) -> tuple[AccountRow, list[CoverageRow]]:
    """What a bridge has counted that has heard of the records before some offsets."""
    rows = []
    for partition, records in enumerate(log):
        mine = [offset for offset, name in enumerate(records[: heard[partition]]) if name == bridge]
        next_offset = mine[-1] + 1 if mine else 0
        rows.append(
            CoverageRow("bridge", bridge, "energy", FORWARDED, TOPIC, partition, len(mine), next_offset)
        )
    n = sum(row.n_records for row in rows)
    return account(bridge, "bridge", received=n + n_in_flight, forwarded=n, in_flight=n_in_flight), rows


def sink_rows(log: Log, read: list[int]) -> tuple[AccountRow, list[CoverageRow], list[PositionRow]]:
    """What the sink has counted that has read up to some offsets."""
    rows = []
    for partition, records in enumerate(log):
        seen = records[: read[partition]]
        for bridge, n in Counter(seen).items():
            last = max(offset for offset, name in enumerate(seen) if name == bridge)
            rows.append(CoverageRow("sink", bridge, "energy", FORWARDED, TOPIC, partition, n, last + 1))
    positions = [
        PositionRow(ENERGY.consumer_group, TOPIC, partition, 0, read[partition])
        for partition in range(N_PARTITIONS)
    ]
    n = sum(read)
    return account("sink", "sink", received=n, forwarded=n), rows, positions


def ledger_of(log: Log, heard: dict[str, list[int]], read: list[int]) -> Ledger:
    sink, sink_coverage, positions = sink_rows(log, read)
    bridges = [bridge_rows(log, bridge, offsets, n_in_flight=1) for bridge, offsets in heard.items()]
    accounts = [row for row, _ in bridges]
    coverage = [row for _, rows in bridges for row in rows]
    return Ledger([*accounts, sink], [*coverage, *sink_coverage], positions)


def at_rest(log: Log) -> Ledger:
    ends = [len(records) for records in log]
    return ledger_of(log, {"bridge-1": ends, "bridge-2": ends}, ends)


def wrong(ledger: Ledger, ends: dict[tuple[str, int], int] | None = None) -> dict[str, int]:
    return {found.stage: found.n_records for found in compare(ledger, ENERGY, ends) if found.n_records}


@st.composite
def moments(draw: st.DrawFn) -> Ledger:
    """A log, and bridges and sink that know of any part of it."""
    log = draw(logs)
    anywhere = st.tuples(*(st.integers(0, len(records)) for records in log)).map(list)
    heard = {bridge: draw(anywhere) for bridge in ("bridge-1", "bridge-2")}
    return ledger_of(log, heard, draw(anywhere))


@given(moments())
def test_balanced_accounts_are_not_found_to_differ_at_any_moment(ledger: Ledger):
    assert wrong(ledger) == {}


@given(logs, st.data())
def test_a_record_of_a_bridge_that_the_sink_did_not_count_is_found_at_rest(log: Log, data: st.DataObject):
    ledger = at_rest(log)
    counted = [row for row in ledger.coverage if row.stage == "sink" and row.bridge]
    if not counted:
        return
    victim = data.draw(st.sampled_from(counted))
    coverage = [
        row._replace(n_records=row.n_records - 1) if row is victim else row for row in ledger.coverage
    ]
    assert wrong(ledger._replace(coverage=coverage)) == {"kafka_to_sink": 1}


@given(logs, st.integers(1, 5), st.sampled_from(["received", "in_flight", "dropped"]))
def test_a_bridge_that_does_not_account_for_what_it_received_is_named(log: Log, n: int, count: str):
    ledger = at_rest(log)
    accounts = [
        row._replace(**{count: getattr(row, count) + n}) if row.service == "bridge-2" else row
        for row in ledger.accounts
    ]
    assert wrong(ledger._replace(accounts=accounts)) == {"bridge": n}


def test_forwarded_records_without_an_offset_on_kafka_are_found():
    ledger = at_rest([["bridge-1"] * 3, []])
    accounts = [
        row._replace(received=row.received + 2, forwarded=row.forwarded + 2)
        if row.service == "bridge-1"
        else row
        for row in ledger.accounts
    ]
    [found] = [each for each in compare(ledger._replace(accounts=accounts), ENERGY, None) if each.n_records]
    assert found == Difference(
        "energy", "bridge_to_kafka", 2, "bridge-1 counts 5 forwarded, and 3 by their offsets on Kafka."
    )


def test_dead_letters_of_a_bridge_are_compared_with_their_offsets():
    row = CoverageRow("bridge", "bridge", "energy", DEAD_LETTERED, DEAD_LETTERS, 0, 4, 9)
    counted = account("bridge", "bridge", received=4, dead_lettered=4)
    assert wrong(Ledger([counted], [row], [])) == {}
    assert wrong(Ledger([counted], [row._replace(n_records=3)], [])) == {"bridge_to_kafka": 1}


def test_a_kafka_partition_that_ends_before_what_it_confirmed_is_found():
    ledger = at_rest([["bridge-1"] * 3, []])
    assert wrong(ledger, {(TOPIC, 0): 3, (TOPIC, 1): 0}) == {}
    assert wrong(ledger, {(TOPIC, 0): 1, (TOPIC, 1): 0}) == {"bridge_to_kafka": 2}


@given(logs, st.integers(1, 5))
def test_a_sink_that_passed_offsets_without_counting_is_found(log: Log, n: int):
    ledger = at_rest(log)
    positions = [ledger.positions[0]._replace(first_offset=-n), *ledger.positions[1:]]
    assert wrong(ledger._replace(positions=positions)) == {"kafka_to_sink": n}


def test_a_sink_that_does_not_account_for_what_it_received_is_named():
    ledger = at_rest([["bridge-1"] * 3, []])
    accounts = [row._replace(forwarded=1) if row.stage == "sink" else row for row in ledger.accounts]
    assert wrong(ledger._replace(accounts=accounts)) == {"sink": 2}


def test_records_that_kafka_dropped_unread_are_no_difference():
    # Three of five expired before the sink came: it jumped to offset 3 and counted them as dropped.
    log = [["bridge-1"] * 5, []]
    counted, rows = bridge_rows(log, "bridge-1", [5, 0])
    sink = account("sink", "sink", received=5, forwarded=2, dropped=3)
    read = [
        CoverageRow("sink", "bridge-1", "energy", FORWARDED, TOPIC, 0, 2, 5),
        CoverageRow("sink", "", "energy", DROPPED, TOPIC, 0, 3, 3),
    ]
    positions = [PositionRow(ENERGY.consumer_group, TOPIC, 0, 0, 5)]
    assert wrong(Ledger([counted, sink], [*rows, *read], positions)) == {}


def test_records_that_the_sink_read_twice_are_no_difference():
    log = [["bridge-1"] * 5, []]
    counted, rows = bridge_rows(log, "bridge-1", [5, 0])
    sink = account("sink", "sink", received=10, forwarded=5, duplicates=5)
    read = [
        CoverageRow("sink", "bridge-1", "energy", FORWARDED, TOPIC, 0, 10, 5),
        CoverageRow("sink", "", "energy", REPEATED, TOPIC, 0, 5, 0),
    ]
    positions = [PositionRow(ENERGY.consumer_group, TOPIC, 0, -5, 5)]
    assert wrong(Ledger([counted, sink], [*rows, *read], positions)) == {}


def test_counts_from_before_offsets_were_kept_balance_by_their_sum():
    before = CoverageRow("bridge", "bridge", "energy", FORWARDED, "", 0, 7, 0)
    assert wrong(Ledger([account("bridge", "bridge", received=7, forwarded=7)], [before], [])) == {}


def test_what_another_stream_counted_is_not_looked_at():
    foreign = account("bridge", "bridge", received=7)._replace(stream="temperature")
    assert wrong(Ledger([foreign], [], [])) == {}


def test_every_stage_gets_its_finding():
    assert [found.stage for found in compare(Ledger([], [], []), ENERGY, None)] == list(STAGES)


def test_only_what_differs_at_both_looks_is_a_difference():
    def found(n_sink: int, n_bridge: int) -> list[Difference]:
        return [Difference("energy", "sink", n_sink, "a"), Difference("energy", "bridge", n_bridge, "b")]

    assert confirmed(found(3, 0), found(4, 5)) == [
        Difference("energy", "sink", 4, "a"),
        Difference("energy", "bridge", 0, ""),
    ]
    assert [each.n_records for each in confirmed(found(3, 0), found(0, 0))] == [0, 0]
