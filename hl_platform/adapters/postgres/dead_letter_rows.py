"""Dead letters as rows of `hl.dead_letters`: columns, and what selects them."""

from collections.abc import Mapping
from typing import Any, LiteralString

import msgspec
from psycopg import sql

from hl_platform.core.dead_letter_index import Entry, EntryGroup, IndexedLetter, Selection

# Words of SQL, and the offset beside the dead letter's own.
COLUMN_OF: Mapping[str, LiteralString] = {"offset": "kafka_offset", "column": "column_name"}
FIELD_OF = {column: field for field, column in COLUMN_OF.items()}
INDEXED_COLUMNS = tuple(COLUMN_OF.get(name, name) for name in IndexedLetter.__struct_fields__)
ENTRY_COLUMNS = tuple(COLUMN_OF.get(name, name) for name in Entry.__struct_fields__)

CONDITIONS: Mapping[str, LiteralString] = {
    "stream": "stream = %(stream)s",
    "fingerprint": "fingerprint = %(fingerprint)s",
    "device_id": "device_id = %(device_id)s",
    "since": "last_failed_at >= %(since)s",
    "until": "last_failed_at < %(until)s",
    "ids": "id = any(%(ids)s)",
    "states": "state = any(%(states)s)",
    "replay_id": "replay_id = %(replay_id)s",
    "until_id": "id <= %(until_id)s",
}
UNLIKE: LiteralString = (
    "truncated_from_bytes is null and (version <> %(version)s or "
    "declaration is distinct from (%(digests)s::jsonb ->> stream)) and %(digests)s::jsonb ? stream"
)

LIST_ENTRIES: LiteralString = """
-- list_entries: a page of a selection, newest first
select {columns} from hl.dead_letters
where {selected} and (%(before)s::bigint is null or id < %(before)s)
order by id desc limit %(limit)s
"""

COUNT: LiteralString = """
-- count_entries: how many are selected, and the newest of them
select count(*), max(id) from hl.dead_letters where {selected}
"""

GROUPS: LiteralString = """
-- group_entries: selected entries by fingerprint, the most recent failures first
with grouped as (
    select fingerprint, count(*) as n, min(first_failed_at) as first_failed_at,
           max(last_failed_at) as last_failed_at, max(id) as example_id
    from hl.dead_letters where {selected}
    group by fingerprint order by max(last_failed_at) desc limit %(limit)s
)
select g.fingerprint, d.stream, d.stage, d.reason, g.n, g.first_failed_at, g.last_failed_at, g.example_id,
       d.detail, d.preview
from grouped g join hl.dead_letters d on d.id = g.example_id
order by g.last_failed_at desc, g.fingerprint
"""


def row_of(letter: IndexedLetter) -> dict[str, Any]:
    """The columns of a dead letter, ready for JSON."""
    fields = {name: getattr(letter, name) for name in IndexedLetter.__struct_fields__}
    return {COLUMN_OF.get(name, name): _storable(value) for name, value in fields.items()}


def entry_of(row: tuple[Any, ...]) -> Entry:
    """The entry of a row of ENTRY_COLUMNS."""
    return Entry(
        **{FIELD_OF.get(column, column): value for column, value in zip(ENTRY_COLUMNS, row, strict=True)}
    )


def group_of(row: tuple[Any, ...]) -> EntryGroup:
    """The kind of failure of a row of GROUPS."""
    return EntryGroup(**dict(zip(EntryGroup.__struct_fields__, row, strict=True)))


def columns_sql(columns: tuple[str, ...]) -> sql.Composed:
    """The columns, for a list in a query."""
    return sql.SQL(", ").join(sql.Identifier(column) for column in columns)


def where_sql(selection: Selection) -> sql.Composed:
    """The condition that a selection is, with named parameters as `values_of` gives them."""
    given = [
        sql.SQL(condition) for name, condition in CONDITIONS.items() if getattr(selection, name) is not None
    ]
    if selection.rejected_unlike is not None:
        given.append(sql.SQL(UNLIKE))
    return sql.SQL(" and ").join([sql.SQL("true"), *given])


def values_of(selection: Selection) -> dict[str, Any]:
    """The parameters of `where_sql`."""
    values = {name: getattr(selection, name) for name in CONDITIONS}
    values["ids"] = None if selection.ids is None else list(selection.ids)
    values["states"] = None if selection.states is None else list(selection.states)
    if selection.rejected_unlike is not None:
        version, digests = selection.rejected_unlike
        values.update(version=version, digests=msgspec.json.encode(dict(digests)).decode())
    return values


def _storable(value: object) -> object:
    # PostgreSQL's text cannot hold U+0000, and headers may.
    return value.replace("\x00", "�") if isinstance(value, str) else value
