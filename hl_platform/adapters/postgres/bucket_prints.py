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
from functools import lru_cache
from typing import Any, LiteralString, NamedTuple

from psycopg import sql

from hl_platform.core.levels import Grain

# Chunks are numbered from here; any midnight before all readings would do.
ORIGIN: LiteralString = "timestamptz '0001-01-01 00:00Z'"
# A row for each device, and one without: of the chunk where the buckets begin that can still end in the future, and of
# the generation. Few and wide rows cost the reader less than one for each chunk.
PRINTS: LiteralString = """
-- prints: which chunks of materialized buckets there are in a range, and whether they are as they were
with prints as (
    select device_id, date_bin(%(width)s, bucket, {origin}) as chunk, count(*)::int as n_rows,
           (sum(hashint8extended(refresh_id, 0)) %% 9223372036854775807)::int8 as digest
    from materialized.{model}
    where bucket >= %(start)s and bucket < %(end)s and {chosen}
    group by 1, 2
), dirty as (
    select distinct device_id, date_bin(%(width)s, bucket, {origin}) as chunk
    from hl.{dirty}
    where bucket >= %(start)s and bucket < %(end)s and {chosen}
)
select device_id, array_agg(number), array_agg(coalesce(n_rows, 0)), array_agg(coalesce(digest, 0)),
       array_agg(number) filter (where is_dirty)
from (
    select device_id, n_rows, digest, dirty.chunk is not null as is_dirty,
           (date_part('epoch', chunk - {origin}) / date_part('epoch', %(width)s))::int as number
    from prints full join dirty using (device_id, chunk)
) as chunks
group by device_id
union all
select null, array[floor(
           date_part('epoch', hl.bucket_start({grain}, now()) - {origin}) / date_part('epoch', %(width)s))::int],
       null, array[to_regclass({table})::oid::int8, hashtextextended(concat_ws('/', pg_postmaster_start_time(),
           (select digest from hl.models where model = {name})), 0)], null
"""

ORDERED: LiteralString = """
-- ordered: devices in the database's order, from one of them on
select device_id from (select distinct unnest(%(device_ids)s::text[]) as device_id) as devices
where %(after)s::text is null or device_id >= %(after)s order by device_id
"""


# Rows and digest: where both are equal, so are the buckets of the same chunk in the same generation.
Print = tuple[int, int]
NOTHING: Print = (0, 0)


class Prints(NamedTuple):
    """What is known of the chunks of a range.

    Args:
        open_from: number of the first chunk in which a bucket can still end in the future.
        generation: of prints that can be compared.
        known: by device and number, each chunk that has a row or is dirty.
        dirty: device and number of the chunks that have a dirty bucket.
    """

    open_from: int
    generation: tuple[int, int]
    known: dict[str, dict[int, Print]]
    dirty: set[tuple[str, int]]

    def of(self, device_id: str, number: int) -> Print:
        """The print of a chunk, also of one without rows."""
        return self.known.get(device_id, {}).get(number, NOTHING)


@lru_cache(maxsize=256)
def prints_sql(model: str, grain: Grain, *, one: bool) -> bytes:
    """Reads the prints of a continuous aggregate's chunks, of one device or of several."""
    chosen = "device_id = (%(device_ids)s::text[])[1]" if one else "device_id = any(%(device_ids)s::text[])"
    composed = sql.SQL(PRINTS).format(
        origin=sql.SQL(ORIGIN),
        model=sql.Identifier(model),
        dirty=sql.Identifier(f"dirty_{model}"),
        chosen=sql.SQL(chosen),
        grain=sql.Literal(grain),
        table=sql.Literal(f'materialized."{model}"'),
        name=sql.Literal(model),
    )
    return composed.as_bytes()


def prints_values(
    devices: Sequence[str], start: datetime, end: datetime, width: timedelta
) -> dict[str, object]:
    """The parameters of `prints_sql`; `start` and `end` are borders of chunks."""
    return {"device_ids": list(devices), "start": start, "end": end, "width": width}


def prints_of(rows: Sequence[tuple[Any, ...]]) -> Prints:
    """What the rows of `prints_sql` say."""
    [(open_from, generation)] = [(row[1][0], tuple(row[3])) for row in rows if row[0] is None]
    known = {}
    dirty: set[tuple[str, int]] = set()
    for device_id, numbers, counts, digests, dirty_numbers in rows:
        if device_id is not None:
            known[device_id] = dict(sorted(zip(numbers, zip(counts, digests, strict=True), strict=True)))
            dirty.update((device_id, number) for number in dirty_numbers or ())
    return Prints(open_from, generation, known, dirty)
