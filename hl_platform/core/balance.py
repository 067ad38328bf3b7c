"""Whether the accounts of one stream balance, within each stage and from one to the next. Pure.

Bridge and sink are never at the same offset while readings flow. Their counts are compared through the offsets they
cover: what lies between two offsets bounds the difference, and where both are at the same one it must be 0.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from hl_platform.core.coverage import DEAD_LETTERED, DROPPED, FORWARDED, REPEATED, Covered
from hl_platform.core.streams import Stream

STAGES = ("bridge", "bridge_to_kafka", "kafka_to_sink", "sink")


class AccountRow(NamedTuple):
    """A row of hl.accounts."""

    service: str
    stage: str
    stream: str
    received: int
    forwarded: int
    dead_lettered: int
    duplicates: int
    corrected: int
    dropped: int
    in_flight: int

    @property
    def difference(self) -> int:
        """What was received and is not accounted for."""
        settled = self.forwarded + self.dead_lettered + self.duplicates + self.corrected + self.dropped
        return self.received - settled - self.in_flight


class CoverageRow(NamedTuple):
    """A row of hl.coverage."""

    stage: str
    bridge: str
    stream: str
    kind: str
    kafka_topic: str
    kafka_partition: int
    n_records: int
    next_offset: int


class PositionRow(NamedTuple):
    """A row of hl.offsets."""

    consumer_group: str
    kafka_topic: str
    kafka_partition: int
    first_offset: int
    next_offset: int


class Ledger(NamedTuple):
    """All accounts and what they cover, at one moment."""

    accounts: Sequence[AccountRow]
    coverage: Sequence[CoverageRow]
    positions: Sequence[PositionRow]


class Difference(NamedTuple):
    """What the comparison of a stream found at a stage.

    Args:
        stream: its name.
        stage: one of STAGES.
        n_records: by how many the accounts differ; 0 if they balance.
        explanation: for a person; empty if they balance.
    """

    stream: str
    stage: str
    n_records: int = 0
    explanation: str = ""


Ends = Mapping[tuple[str, int], int]


def compare(ledger: Ledger, stream: Stream, ends: Ends | None) -> list[Difference]:
    """Compares the accounts of a stream.

    Args:
        ledger: as read from the database.
        stream: whose.
        ends: where each Kafka partition ended, by topic and partition, after the ledger was read; None when
            Kafka did not tell.

    Returns:
        One finding for each of STAGES.

    Guarantee: balanced accounts are never found to differ, whatever is on its way. Accounts that differ are found
    at the latest when nothing is.
    """
    accounts = [row for row in ledger.accounts if row.stream == stream.name]
    coverage = [row for row in ledger.coverage if row.stream == stream.name]
    positions = {
        row.kafka_partition: row
        for row in ledger.positions
        if (row.consumer_group, row.kafka_topic) == (stream.consumer_group, stream.kafka_topic)
    }
    found = {
        "bridge": _inside(accounts, "bridge"),
        "bridge_to_kafka": [*_covered(accounts, coverage), *_on_kafka(coverage, ends or {})],
        "kafka_to_sink": [*_received(accounts, positions.values()), *_carried(coverage, positions)],
        "sink": _inside(accounts, "sink"),
    }
    return [
        Difference(
            stream.name,
            stage,
            sum(abs(n_records) for n_records, _ in found[stage]),
            " ".join(text for _, text in found[stage]),
        )
        for stage in STAGES
    ]


def confirmed(first: Iterable[Difference], second: Iterable[Difference]) -> list[Difference]:
    """The second look's findings, of which only those count that the first look had, too."""
    differed = {(found.stream, found.stage) for found in first if found.n_records}
    return [
        found if (found.stream, found.stage) in differed else found._replace(n_records=0, explanation="")
        for found in second
    ]


Finding = tuple[int, str]


def _inside(accounts: Iterable[AccountRow], stage: str) -> list[Finding]:
    return [
        (
            row.difference,
            f"{row.service} received {row.received} and accounts for {row.received - row.difference}.",
        )
        for row in accounts
        if row.stage == stage and row.difference
    ]


def _covered(accounts: Iterable[AccountRow], coverage: Iterable[CoverageRow]) -> list[Finding]:
    counted: Counter[tuple[str, str]] = Counter()
    for row in coverage:
        if row.stage == "bridge":
            counted[row.bridge, row.kind] += row.n_records
    findings = []
    for account in accounts:
        if account.stage != "bridge":
            continue
        for kind, n_records in ((FORWARDED, account.forwarded), (DEAD_LETTERED, account.dead_lettered)):
            n_covered = counted[account.service, kind]
            if n_records != n_covered:
                text = (
                    f"{account.service} counts {n_records} {kind}, and {n_covered} by their offsets on Kafka."
                )
                findings.append((n_records - n_covered, text))
    return findings


def _on_kafka(coverage: Iterable[CoverageRow], ends: Ends) -> list[Finding]:
    findings = []
    for row in coverage:
        end = ends.get((row.kafka_topic, row.kafka_partition))
        if row.stage == "bridge" and end is not None and end < row.next_offset:
            text = (
                f"{row.kafka_topic}/{row.kafka_partition} ends at offset {end}, before {row.next_offset}, up to "
                f"where it had confirmed records of {row.bridge}: Kafka has lost records."
            )
            findings.append((row.next_offset - end, text))
    return findings


def _received(accounts: Iterable[AccountRow], positions: Iterable[PositionRow]) -> list[Finding]:
    n_received = sum(row.received for row in accounts if row.stage == "sink")
    n_passed = sum(row.next_offset - row.first_offset for row in positions)
    if n_received == n_passed:
        return []
    return [
        (n_received - n_passed, f"The sink counts {n_received} received and has passed {n_passed} offsets.")
    ]


def _carried(coverage: Iterable[CoverageRow], positions: Mapping[int, PositionRow]) -> list[Finding]:
    written: dict[tuple[str, int], Covered] = {}
    read: dict[tuple[str, int], Covered] = {}
    slack: dict[str, Counter[int]] = defaultdict(Counter)
    for row in coverage:
        # Without a topic: counted before offsets were kept; there is nothing to compare it with.
        if not row.kafka_topic or row.kind == DEAD_LETTERED:
            continue
        if row.kind in (DROPPED, REPEATED):
            slack[row.kind][row.kafka_partition] += row.n_records
        elif row.stage == "bridge":
            written[row.bridge, row.kafka_partition] = Covered(row.n_records, row.next_offset)
        elif row.bridge:
            read[row.bridge, row.kafka_partition] = Covered(row.n_records, row.next_offset)
    findings = []
    for bridge, partition in sorted(written.keys() | read.keys()):
        ours = written.get((bridge, partition), Covered())
        theirs = read.get((bridge, partition), Covered())
        reached = positions[partition].next_offset if partition in positions else 0
        most = max(0, ours.next_offset - reached) + slack[DROPPED][partition]
        least = -max(0, theirs.next_offset - ours.next_offset) - slack[REPEATED][partition]
        missing = ours.n_records - theirs.n_records
        if not least <= missing <= most:
            text = (
                f"Kafka partition {partition}: {bridge} wrote {ours.n_records} records up to offset "
                f"{ours.next_offset}, and the sink, at offset {reached}, has read {theirs.n_records} of its."
            )
            findings.append((missing, text))
    return findings
