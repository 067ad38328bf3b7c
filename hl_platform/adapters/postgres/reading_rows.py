"""Readings into the table of their stream: through a stage, in the caller's transaction."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

import psycopg
from psycopg import sql

from hl_platform.adapters.postgres.errors import translated
from hl_platform.adapters.postgres.rows import Row, make_rows
from hl_platform.core.bisection import find_rejected
from hl_platform.core.errors import PoisonRecordError
from hl_platform.core.readings import Reading
from hl_platform.core.streams import Stream

# As wide as what the decoder lets through, whatever the table's columns are: a reading always reaches the
# stage, it is the table that rejects it, and a column that is widened needs no other stage.
STAGE_TYPES = {
    "float": "double precision",
    "integer": "bigint",
    "smallint": "bigint",
    "text": "text",
    "boolean": "boolean",
}

STAGE = """
-- stage: where a batch waits for its upsert, numbered from 0
create temp table {stage} (
    n integer, device_id text, timestamp timestamptz, {typed}, extra text, received_at timestamptz
) on commit delete rows
"""

# Binary: a reading costs a quarter of what its text costs, here and on the server.
COPY = """
-- copy: a batch into the stage
copy {stage} (n, device_id, timestamp, {columns}, extra, received_at) from stdin (format binary)
"""
# How the driver writes a column of the stage. A timestamp is sent as the integer that it is on the wire.
WIRE_TYPES = {
    "double precision": "float8",
    "bigint": "int8",
    "text": "text",
    "boolean": "bool",
}

# Half the cost of the upsert, which makes sure of each row before it writes it. One row that is there fails it.
INSERT = """
-- insert: new readings in
insert into public.{table} (device_id, timestamp, {columns}, extra, received_at)
select device_id, timestamp, {columns}, extra::jsonb, received_at from {stage}
"""
# Below this a batch costs more for the savepoint than the insert spares.
MIN_INSERT_ROWS = 100
# So many batches after one that held a reading that was there already, another is likely: a device sends again, or
# everything is read again. What an insert wrote before it failed is left for vacuum to clean up.
N_CAREFUL = 100

# The same reading again is left alone, so that a replay writes nothing. Other values win unless they are older
# than what is stored: the replay of an old reading must not undo a later correction.
UPSERT = """
-- upsert: new readings in, corrections over what was stored, repetitions nowhere
with written as (
    insert into public.{table} as t (device_id, timestamp, {columns}, extra, received_at)
    select device_id, timestamp, {columns}, extra::jsonb, received_at from {stage}
    where n >= %(start)s and n < %(end)s
    on conflict (device_id, timestamp) do update
    set ({columns}, extra, received_at, ingested_at, corrections) =
        row({excluded}, excluded.extra, excluded.received_at, clock_timestamp(), t.corrections + 1)
    where ({stored}, t.extra) is distinct from ({excluded}, excluded.extra)
      and excluded.received_at >= t.received_at
    returning corrections = 0 as is_new
)
select count(*) filter (where is_new), count(*) filter (where not is_new) from written
"""

# PostgreSQL does not say which column a number was too large for; these are the types that may be too narrow.
COLUMN_TYPES = """
-- column_types: the columns of a table that hold fewer numbers than the stage
select attname, atttypid::regtype::text
from pg_attribute
where attrelid = to_regclass(%(table)s) and atttypid = any(array['int2', 'int4']::regtype[]) and attnum > 0
"""
NUMERIC_VALUE_OUT_OF_RANGE = "22003"
LARGEST = {"smallint": 2**15 - 1, "integer": 2**31 - 1}

# The index makes the cost of a try depend on its own rows only; it goes with the rollback. What would be checked
# at commit is checked at once, or a trial could not see it.
BEGIN_TRIAL = """
-- begin_trial: what is done from here on can be undone try by try
create index on {stage} (n);
set constraints all immediate;
savepoint kept
"""
KEEP = "release savepoint kept; savepoint kept"
UNDO = "rollback to savepoint kept"


class Written(NamedTuple):
    """What a batch did to the table, in rows."""

    inserted: int
    corrected: int


class ReadingRows:
    """Writes the readings of one stream, no two of a batch with the same device and timestamp.

    Every method works in the transaction that the connection is in, and lets the driver's errors out.
    """

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        names = [sql.Identifier(field.name) for field in stream.fields]
        columns = sql.SQL(", ").join(names)
        stage = sql.Identifier(f"stage_{stream.table}")
        typed = [
            sql.SQL("{} {}").format(name, sql.SQL(STAGE_TYPES[field.type]))
            for name, field in zip(names, stream.fields, strict=True)
        ]
        self._stage = sql.SQL(STAGE).format(stage=stage, typed=sql.SQL(", ").join(typed))
        self._begin_trial = sql.SQL(BEGIN_TRIAL).format(stage=stage)
        self._copy = sql.SQL(COPY).format(stage=stage, columns=columns)
        fields = [WIRE_TYPES[STAGE_TYPES[field.type]] for field in stream.fields]
        self._wire_types = ["int4", "text", "int8", *fields, "text", "int8"]
        self._insert = sql.SQL(INSERT).format(
            table=sql.Identifier(stream.table), stage=stage, columns=columns
        )
        self._n_careful = 0
        self._upsert = sql.SQL(UPSERT).format(
            table=sql.Identifier(stream.table),
            stage=stage,
            columns=columns,
            stored=sql.SQL(", ").join(sql.SQL("t.{}").format(name) for name in names),
            excluded=sql.SQL(", ").join(sql.SQL("excluded.{}").format(name) for name in names),
        )

    def make_stage(self, conn: psycopg.Connection) -> None:
        """Prepares a connection for the other methods."""
        conn.execute(self._stage)

    def stage(self, conn: psycopg.Connection, rows: Iterable[Row]) -> None:
        """Brings a batch to the server. Locks nothing that others need."""
        with conn.cursor() as cursor, cursor.copy(self._copy) as copy:
            copy.set_types(self._wire_types)
            for row in rows:
                copy.write_row(row)

    def write(self, conn: psycopg.Connection, n_readings: int) -> Written:
        """Writes a batch of that size that was staged in the same transaction."""
        if self._n_careful or n_readings < MIN_INSERT_ROWS:
            self._n_careful = max(0, self._n_careful - 1)
        else:
            try:
                with conn.transaction():
                    conn.execute(self._insert)
            except psycopg.errors.UniqueViolation:
                self._n_careful = N_CAREFUL
            else:
                return Written(n_readings, 0)
        return self._move(conn, 0, n_readings)

    def find_rejected(
        self, conn: psycopg.Connection, readings: Sequence[Reading]
    ) -> list[tuple[int, PoisonRecordError]]:
        """Which readings the table rejects; those it accepts are written, for the caller to roll back."""
        rows = make_rows(readings).rows
        conn.execute(self._begin_trial)
        staged = _fault_of(conn, lambda: self.stage(conn, rows)) is None

        def attempt(start: int, end: int) -> PoisonRecordError | None:
            def write() -> None:
                # Staging all of them at once spares a statement per try, unless one cannot even be staged.
                if not staged:
                    self.stage(conn, rows[start:end])
                self._move(conn, start, end)

            return _fault_of(conn, write)

        rejected = find_rejected(len(rows), attempt)
        if not any(fault.sqlstate == NUMERIC_VALUE_OUT_OF_RANGE for _, fault in rejected):
            return rejected
        types: dict[str, str] = dict(
            conn.execute(COLUMN_TYPES, {"table": f"public.{self._stream.table}"}).fetchall()
        )
        return [(index, self._with_column(fault, readings[index], types)) for index, fault in rejected]

    def _with_column(
        self, fault: PoisonRecordError, reading: Reading, types: Mapping[str, str]
    ) -> PoisonRecordError:
        if fault.sqlstate != NUMERIC_VALUE_OUT_OF_RANGE:
            return fault
        for field, value in zip(self._stream.fields, reading.values, strict=True):
            largest = LARGEST.get(types.get(field.name, ""))
            if largest is not None and value is not None and not -largest - 1 <= value <= largest:
                return PoisonRecordError(
                    fault.reason, fault.detail, sqlstate=fault.sqlstate, column=field.name
                )
        return fault

    def _move(self, conn: psycopg.Connection, start: int, end: int) -> Written:
        row = conn.execute(self._upsert, {"start": start, "end": end}).fetchone()
        assert row is not None  # noqa: S101 - a count returns its row
        return Written(*row)


def _fault_of(conn: psycopg.Connection, write: Callable[[], object]) -> PoisonRecordError | None:
    """Keeps what `write` did and returns None, or undoes it and returns why it was rejected."""
    try:
        with translated():
            write()
    except PoisonRecordError as fault:
        conn.execute(UNDO)
        return fault
    conn.execute(KEEP)
    return None
