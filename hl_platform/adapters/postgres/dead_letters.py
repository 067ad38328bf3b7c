"""The index of the dead letters for those who look into it and change states: commands and reprocessing."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any, LiteralString, NamedTuple
from uuid import UUID

import msgspec
import psycopg
from psycopg import sql

from hl_platform.adapters.postgres.connection import connect
from hl_platform.adapters.postgres.dead_letter_rows import (
    COUNT,
    ENTRY_COLUMNS,
    GROUPS,
    LIST_ENTRIES,
    columns_sql,
    entry_of,
    group_of,
    values_of,
    where_sql,
)
from hl_platform.adapters.postgres.errors import translated
from hl_platform.core.dead_letter_index import Entry, EntryGroup, Selection

# Rows of one step of a statement that may concern a million of them.
STEP_ROWS = 10_000

NEXT_ENTRIES: LiteralString = """
-- next_entries: a page of a selection, in the order of the topics
select {columns} from hl.dead_letters
where {selected} and id > %(after)s
order by id limit %(limit)s {lock}
"""

MARK_REPLAYED = """
-- mark_replayed: Kafka has these records
update hl.dead_letters
set state = 'replayed', state_at = now(), state_by = %(by)s, state_reason = null, replay_id = %(replay_id)s
where id = any(%(ids)s)
"""

MARK_FAILED = """
-- mark_failed_again: these were judged and rejected before they went to Kafka
update hl.dead_letters as d
set state = 'failed_again', state_at = now(), state_by = %(by)s, state_reason = null, replay_id = %(replay_id)s,
    attempts = d.attempts + 1, last_failed_at = %(failed_at)s, reason = f.reason, detail = f.detail,
    fingerprint = f.fingerprint, sqlstate = null, column_name = null, version = %(version)s,
    declaration = f.declaration
from json_to_recordset(%(faults)s) as f (id bigint, reason text, detail text, fingerprint text, declaration text)
where d.id = f.id
"""

DISCARD: LiteralString = """
-- discard: what nobody wants back; what somebody replays at this moment is left to him
with chosen as (
    select id from hl.dead_letters
    where {selected} and id > %(after)s
    order by id limit %(limit)s for update skip locked
), discarded as (
    update hl.dead_letters as d
    set state = 'discarded', state_at = now(), state_by = %(by)s, state_reason = %(reason)s
    from chosen where d.id = chosen.id
    returning d.id
)
select count(*), max(id) from discarded
"""

OUTCOME = """
-- outcome_of_replay: what became of entries
select count(*) filter (where state = 'replayed'), count(*) filter (where state = 'failed_again')
from hl.dead_letters where id = any(%(ids)s)
"""

POSITIONS = """
-- positions_of_group: where a consumer group stands
select kafka_topic, kafka_partition, next_offset from hl.offsets where consumer_group = %(group)s
"""

FORGET = """
-- forget_dead_letters: entries whose bytes Kafka has let go of
delete from hl.dead_letters where id in (
    select id from hl.dead_letters where dead_lettered_at < now() - make_interval(days => %(days)s)
    limit %(limit)s)
"""


class Rejected(msgspec.Struct, frozen=True):
    """An entry that was judged and rejected before it went to Kafka."""

    id: int
    reason: str
    detail: str
    fingerprint: str
    declaration: str


class ReplayOutcome(NamedTuple):
    """What became of the entries that a reprocessing took."""

    n_stored: int
    n_failed_again: int


class DeadLetterIndex:
    """Looks into the index and changes states, on one connection. Not for several threads at once.

    Args:
        url: of the database; that of a reader suffices for looking.
        application_name: shown in pg_stat_activity.

    Raises from every method:
        TransientError: the database is away.
    """

    def __init__(self, url: str, application_name: str) -> None:
        self._url = url
        self._name = application_name
        self._conn: psycopg.Connection | None = None

    def close(self) -> None:
        """Closes the connection."""
        if self._conn is not None:
            self._conn.close()
            self._conn = None

    def count(self, selection: Selection) -> tuple[int, int]:
        """How many entries are selected, and the highest id among them; 0 where there is none."""
        [(n, newest)] = self._rows(COUNT, selection)
        return n, newest or 0

    def groups(self, selection: Selection, limit: int) -> list[EntryGroup]:
        """Selected entries by fingerprint, those with the most recent failures first."""
        return [group_of(row) for row in self._rows(GROUPS, selection, limit=limit)]

    def entries(self, selection: Selection, limit: int, before: int | None = None) -> list[Entry]:
        """Selected entries with an id below `before`, newest first."""
        return [entry_of(row) for row in self._rows(LIST_ENTRIES, selection, limit=limit, before=before)]

    def next_entries(self, selection: Selection, limit: int, after: int) -> list[Entry]:
        """Selected entries with an id above `after`, in the order of the topics."""
        return [entry_of(row) for row in self._rows(NEXT_ENTRIES, selection, limit=limit, after=after)]

    @contextmanager
    def taking(self, selection: Selection, limit: int, after: int) -> Iterator[list[Entry]]:
        """The same, in a transaction that nobody else can take them in or change them.

        Guarantee: an entry is taken by one at a time; what somebody else has taken is left out. What is marked
        within the block is committed at its end, or not at all if it raises.
        """
        with translated(), self._connected().transaction():
            rows = self._rows(
                NEXT_ENTRIES, selection, lock="for update skip locked", limit=limit, after=after
            )
            yield [entry_of(row) for row in rows]

    def mark_replayed(self, ids: Sequence[int], by: str, replay_id: UUID) -> None:
        """Notes that Kafka has the records of these entries."""
        self._execute(MARK_REPLAYED, {"ids": list(ids), "by": by, "replay_id": replay_id})

    def mark_failed_again(
        self, rejected: Sequence[Rejected], by: str, replay_id: UUID, version: str, failed_at: datetime
    ) -> None:
        """Notes that these entries were judged and rejected again, by this version, at this time."""
        faults = msgspec.json.encode(rejected).decode().replace("\\u0000", "�")
        values = {"by": by, "replay_id": replay_id, "version": version, "failed_at": failed_at}
        self._execute(MARK_FAILED, {**values, "faults": faults})

    def discard(self, selection: Selection, by: str, reason: str) -> int:
        """Discards what is selected; returns how many entries that were."""
        n_discarded, after = 0, 0
        while True:
            [(n, highest)] = self._rows(
                DISCARD, selection, by=by, reason=reason, limit=STEP_ROWS, after=after
            )
            if n == 0:
                return n_discarded
            n_discarded, after = n_discarded + n, highest

    def outcome_of(self, ids: Sequence[int]) -> ReplayOutcome:
        """What became of entries that a reprocessing took; states that the indexer has not reached lag behind."""
        with translated():
            row = self._connected().execute(OUTCOME, {"ids": list(ids)}).fetchone()
        assert row is not None  # noqa: S101 - a count returns its row
        return ReplayOutcome(*row)

    def positions(self, consumer_group: str) -> dict[tuple[str, int], int]:
        """Next offset of a consumer group by Kafka topic and partition."""
        with translated():
            rows = self._connected().execute(POSITIONS, {"group": consumer_group}).fetchall()
        return {(topic, partition): next_offset for topic, partition, next_offset in rows}

    def _rows(
        self,
        query: LiteralString,
        selection: Selection,
        *,
        lock: LiteralString = "",
        **values: Any,  # noqa: ANN401 - parameters of the query
    ) -> list[tuple[Any, ...]]:
        composed = sql.SQL(query).format(
            columns=columns_sql(ENTRY_COLUMNS), selected=where_sql(selection), lock=sql.SQL(lock)
        )
        with translated():
            return self._connected().execute(composed, {**values_of(selection), **values}).fetchall()

    def _execute(self, query: LiteralString, values: Mapping[str, Any]) -> None:
        with translated():
            self._connected().execute(query, values)

    def _connected(self) -> psycopg.Connection:
        if self._conn is None or self._conn.closed:
            self._conn = connect(self._url, application_name=self._name)
        return self._conn


def forget_dead_letters(url: str, *, days: int) -> int:
    """Deletes entries whose dead letters are older than Kafka keeps them; returns how many."""
    n_deleted = 0
    with connect(url, application_name="hl-forget-dead-letters") as conn, translated():
        while True:
            deleted = conn.execute(FORGET, {"days": days, "limit": STEP_ROWS}).rowcount
            if deleted == 0:
                return n_deleted
            n_deleted += deleted
