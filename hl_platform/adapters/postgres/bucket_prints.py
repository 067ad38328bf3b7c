"""SQL that tells, without reading it, whether a chunk of materialized buckets is the one that was read before.

A chunk is what a device has of a model within a stretch of UTC time (hl_live.chunks). Of each, the query counts its
rows and sums up a hash of the refreshes that made them. That is exact, up to a collision of 63 bits: a refresh puts its
rows in place at one time, under an id that no other has, and afterwards they can only become fewer. So as many rows of
each refresh are the same rows, in whatever order refreshes commit. Of the table it is enough to read its key's index.

What could make ids return begins another generation: another server or one that was started anew (which may have lost
the last commits, or hold a restored backup), another table, another meaning of the model (its SQL, the time zone).
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import LiteralString, NamedTuple

from psycopg import sql

from hl_platform.core.levels import Grain

# Chunks are counted from here; any midnight before all readings would do.
ORIGIN: LiteralString = "'0001-01-01 00:00Z'"

# Besides the chunks one row without a device: where the buckets begin that can still end in the future, and the
# generation. Dirty buckets are those that the view computes anew.
PRINTS: LiteralString = """
-- prints: which chunks of materialized buckets there are in a range, and whether they are as they were
with prints as (
    select device_id, date_bin(%(width)s, bucket, {origin}) as chunk, count(*) as n_rows,
           (sum(hashint8extended(refresh_id, 0)) %% 9223372036854775807)::int8 as digest
    from materialized.{model}
    where bucket >= %(start)s and bucket < %(end)s and {chosen}
    group by 1, 2
), dirty as (
    select distinct device_id, date_bin(%(width)s, bucket, {origin}) as chunk
    from hl.{dirty}
    where bucket >= %(start)s and bucket < %(end)s and {chosen}
)
select device_id, chunk, coalesce(n_rows, 0), coalesce(digest, 0), dirty.chunk is not null
from prints full join dirty using (device_id, chunk)
union all
select null, hl.bucket_start({grain}, now()), to_regclass({table})::oid::int8,
       hashtextextended(concat_ws('/', pg_postmaster_start_time(),
           (select digest from hl.models where model = {name})), 0), false
"""

ORDERED: LiteralString = """
-- ordered: devices in the database's order, from one of them on
select device_id from (select distinct unnest(%(device_ids)s::text[]) as device_id) as devices
where %(after)s::text is null or device_id >= %(after)s order by device_id
"""


class Print(NamedTuple):
    """What tells the content of a chunk: where two are equal, so are the buckets."""

    generation: tuple[int, int]
    n_rows: int
    digest: int


class Prints(NamedTuple):
    """What is known of the chunks of a range.

    Args:
        open_from: buckets that begin from here on may end in the future.
        generation: of prints that can be compared.
        known: by device and begin, each chunk that has a row.
        dirty: chunks with a bucket that is dirty.
    """

    open_from: datetime
    generation: tuple[int, int]
    known: dict[tuple[str, datetime], Print]
    dirty: set[tuple[str, datetime]]

    def of(self, key: tuple[str, datetime]) -> Print:
        """The print of a chunk, also of one without rows."""
        return self.known.get(key) or Print(self.generation, 0, 0)


def prints_sql(model: str, grain: Grain, n_devices: int) -> sql.Composed:
    """Reads the prints of a continuous aggregate's chunks."""
    chosen = (
        "device_id = (%(device_ids)s::text[])[1]" if n_devices == 1 else "device_id = any(%(device_ids)s)"
    )
    return sql.SQL(PRINTS).format(
        origin=sql.SQL(ORIGIN),
        model=sql.Identifier(model),
        dirty=sql.Identifier(f"dirty_{model}"),
        chosen=sql.SQL(chosen),
        grain=sql.Literal(grain),
        table=sql.Literal(f'materialized."{model}"'),
        name=sql.Literal(model),
    )


def prints_values(
    devices: Sequence[str], start: datetime, end: datetime, width: timedelta
) -> dict[str, object]:
    """The parameters of `prints_sql`; `start` and `end` are borders of chunks."""
    return {"device_ids": list(devices), "start": start, "end": end, "width": width}


def prints_of(rows: Sequence[tuple[str | None, datetime, int, int, bool]]) -> Prints:
    """What the rows of `prints_sql` say."""
    [(open_from, generation)] = [(row[1], (row[2], row[3])) for row in rows if row[0] is None]
    known: dict[tuple[str, datetime], Print] = {}
    dirty = set()
    for device_id, chunk, n_rows, digest, is_dirty in rows:
        if device_id is not None:
            known[device_id, chunk] = Print(generation, n_rows, digest)
            if is_dirty:
                dirty.add((device_id, chunk))
    return Prints(open_from, generation, known, dirty)
