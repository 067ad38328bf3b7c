"""Writes the index of the dead letters: rows and positions in one transaction, fenced by epoch."""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import msgspec
import psycopg
from psycopg import sql

from hl_platform.adapters.postgres.connection import WRITER, connect
from hl_platform.adapters.postgres.dead_letter_rows import INDEXED_COLUMNS, columns_sql, row_of
from hl_platform.adapters.postgres.errors import translated
from hl_platform.core.dead_letter_index import IndexedLetter
from hl_platform.core.errors import FencedError

# Under which the positions of the index are in hl.offsets, and shown to Kafka.
CONSUMER_GROUP = "hl-dead-letters"


Place = tuple[str, int]

CLAIM = """
-- claim_dead_letters: take over a partition of a dead-letter topic; who held it before can no longer commit
insert into hl.offsets as o (consumer_group, kafka_topic, kafka_partition, next_offset, epoch, service)
values (%(group)s, %(topic)s, %(partition)s, %(start)s, 1, %(service)s)
on conflict (consumer_group, kafka_topic, kafka_partition) do update
set epoch = o.epoch + 1, service = excluded.service, updated_at = now()
returning next_offset, epoch
"""

READ_CLAIMS = """
-- read_dead_letter_claims: where the index stands
select kafka_topic, kafka_partition, next_offset, epoch
from hl.offsets where consumer_group = %(group)s and kafka_topic = any(%(topics)s)
"""

ADVANCE = """
-- advance_dead_letters: move the positions of a batch; a row less than there are partitions: fenced off
update hl.offsets as o
set next_offset = n.next_offset, updated_at = now()
from unnest(%(topics)s::text[], %(partitions)s::int[], %(expected)s::bigint[], %(next)s::bigint[],
            %(epochs)s::bigint[]) as n (kafka_topic, kafka_partition, expected, next_offset, epoch)
where o.consumer_group = %(group)s and o.kafka_topic = n.kafka_topic
  and o.kafka_partition = n.kafka_partition and o.epoch = n.epoch and o.next_offset = n.expected
"""

# Where a topic was made anew, its offsets name other records than they did.
FORGET_OTHERS = """
-- forget_others: entries of an earlier topic whose places are taken by other records
delete from hl.dead_letters as d
using json_populate_recordset(null::hl.dead_letters, %(rows)s) as r
where d.dead_letter_topic = r.dead_letter_topic and d.dead_letter_partition = r.dead_letter_partition
  and d.dead_letter_offset = r.dead_letter_offset and d.dead_lettered_at <> r.dead_lettered_at
"""

# No conflict target: the same place read again, or the same record dead-lettered twice.
ADD = """
-- add_dead_letters: entries that are not there yet, in the order of the topic
insert into hl.dead_letters ({columns})
select {columns} from json_populate_recordset(null::hl.dead_letters, %(rows)s)
on conflict do nothing
"""

FAIL_AGAIN = """
-- fail_again: the entries whose replays were rejected; each replay counts once
with again as (
    select d.id, r.*, row_number() over (partition by d.id order by r.number desc) as nth,
           sum(r.attempts) over (partition by d.id) as n_attempts
    from json_to_recordset(%(rows)s) as r (
        number int, topic text, partition int, "offset" bigint, replay text, letter_offset bigint, attempts int,
        last_failed_at timestamptz, reason text, detail text, fingerprint text, sqlstate text,
        column_name text, version text, declaration text)
    join hl.dead_letters d on d.dead_letter_topic = r.topic and d.dead_letter_partition = r.partition
         and d.dead_letter_offset = r."offset"
    where d.failed_replay is distinct from r.replay
      and (d.failed_letter_offset is null or d.failed_letter_offset < r.letter_offset)
)
update hl.dead_letters as d
set state = 'failed_again', state_at = now(), attempts = d.attempts + a.n_attempts,
    last_failed_at = a.last_failed_at, reason = a.reason, detail = a.detail, fingerprint = a.fingerprint,
    sqlstate = a.sqlstate, column_name = a.column_name, version = a.version, declaration = a.declaration,
    failed_replay = a.replay, failed_letter_offset = a.letter_offset
from again a where d.id = a.id and a.nth = 1
"""

KNOWN = """
-- known_dead_letters: which of these places are in the index
select r.number
from json_to_recordset(%(rows)s) as r (number int, topic text, partition int, "offset" bigint)
join hl.dead_letters d on d.dead_letter_topic = r.topic and d.dead_letter_partition = r.partition
     and d.dead_letter_offset = r."offset"
"""


class LetterClaim(NamedTuple):
    """Our right to a partition of a dead-letter topic.

    Args:
        next_offset: where to go on.
        epoch: of the claim; a later one fences it off.
    """

    next_offset: int
    epoch: int


class FailedReplay(NamedTuple):
    """A replay that was rejected.

    Args:
        place: of the entry that it replayed.
        letter: of the replay's own dead letter.
    """

    place: tuple[str, int, int]
    letter: IndexedLetter


class DeadLetterStore:
    """The index's rows and positions, on one connection.

    Args:
        url: of the database.
        service: shown with the positions.

    Guarantee: after `write` returned, its rows and positions are committed; after it raised, none is, except
    when the line broke during the commit: then `claims` tells.
    """

    def __init__(self, url: str, service: str) -> None:
        self._url = url
        self._service = service
        self._conn: psycopg.Connection | None = None
        self._add = sql.SQL(ADD).format(columns=columns_sql(INDEXED_COLUMNS))

    def claims(self, kafka_topics: Iterable[str]) -> dict[Place, LetterClaim]:
        """Where the index stands, by Kafka topic and partition."""
        values = {"group": CONSUMER_GROUP, "topics": list(kafka_topics)}
        with translated():
            rows = self._connected().execute(READ_CLAIMS, values).fetchall()
        return {
            (topic, number): LetterClaim(next_offset, epoch) for topic, number, next_offset, epoch in rows
        }

    def claim(self, place: Place, low: int) -> LetterClaim:
        """Takes over a partition; begins at `low` if nobody has read it before."""
        values = {
            "group": CONSUMER_GROUP,
            "topic": place[0],
            "partition": place[1],
            "start": low,
            "service": self._service,
        }
        with translated():
            row = self._connected().execute(CLAIM, values).fetchone()
        assert row is not None  # noqa: S101 - an upsert returns its row
        return LetterClaim(*row)

    def write(
        self,
        letters: Sequence[IndexedLetter],
        failed: Sequence[FailedReplay],
        claims: Mapping[Place, LetterClaim],
        next_offsets: Mapping[Place, int],
    ) -> None:
        """Commits a batch.

        Args:
            letters: to add, in order of offset.
            failed: replays that were rejected, no two of the same record; where the index does not know the
                entry, the dead letter is added as one of its own.
            claims: of the partitions that the batch comes from, as they stand before it.
            next_offsets: where they stand after it.

        Raises:
            FencedError: somebody else has claimed one of the partitions; nothing was written.
            PoisonRecordError: the database rejects a row; nothing was written.
            TransientError: the database is away, or somebody replays these very entries now.
        """
        with translated(), self._connected().transaction():
            self._advance(claims, next_offsets)
            # First what is new: a replay may fail within the batch of its entry.
            self._add_letters(letters)
            if failed:
                self._fail_again(failed)

    def close(self) -> None:
        """Closes the connection."""
        if self._conn is not None:
            self._conn.close()
            self._conn = None

    def _connected(self) -> psycopg.Connection:
        if self._conn is None or self._conn.closed:
            name = f"hl-{self._service}-dead-letters"
            self._conn = connect(self._url, application_name=name, parameters=WRITER)
        return self._conn

    def _advance(self, claims: Mapping[Place, LetterClaim], next_offsets: Mapping[Place, int]) -> None:
        places = sorted(next_offsets)
        values = {
            "group": CONSUMER_GROUP,
            "topics": [topic for topic, _ in places],
            "partitions": [partition for _, partition in places],
            "expected": [claims[place].next_offset for place in places],
            "next": [next_offsets[place] for place in places],
            "epochs": [claims[place].epoch for place in places],
        }
        if self._connected().execute(ADVANCE, values).rowcount != len(places):
            raise FencedError(f"{CONSUMER_GROUP}: another process has claimed our partitions")

    def _add_letters(self, letters: Sequence[IndexedLetter]) -> None:
        if letters:
            rows = {"rows": msgspec.json.encode([row_of(letter) for letter in letters]).decode()}
            self._connected().execute(FORGET_OTHERS, rows)
            self._connected().execute(self._add, rows)

    def _fail_again(self, failed: Sequence[FailedReplay]) -> None:
        rows = [_failure_row(number, each) for number, each in enumerate(failed)]
        values = {"rows": msgspec.json.encode(rows).decode()}
        known = {number for (number,) in self._connected().execute(KNOWN, values)}
        self._add_letters([each.letter for number, each in enumerate(failed) if number not in known])
        self._connected().execute(FAIL_AGAIN, values)


def _failure_row(number: int, failed: FailedReplay) -> dict[str, object]:
    topic, partition, offset = failed.place
    letter = failed.letter
    # With its time, since offsets of a topic that was made anew begin again.
    replay = f"{letter.kafka_topic}/{letter.kafka_partition}/{letter.offset}@{letter.kafka_time}"
    row = row_of(letter)
    names = ("attempts", "last_failed_at", "reason", "detail", "fingerprint", "sqlstate", "column_name")
    return {
        "number": number,
        "topic": topic,
        "partition": partition,
        "offset": offset,
        "replay": replay,
        "letter_offset": letter.dead_letter_offset,
        **{name: row[name] for name in (*names, "version", "declaration")},
    }
