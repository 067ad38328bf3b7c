"""Queries over the tables of readings for the API: bounded, read only, and never blocking the event loop."""

import asyncio
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, LiteralString, NamedTuple

import psycopg
from psycopg import sql
from psycopg_pool import AsyncConnectionPool

from hl_platform.adapters.postgres.connection import connection_string
from hl_platform.adapters.postgres.dead_letter_rows import (
    ENTRY_COLUMNS,
    LIST_ENTRIES,
    columns_sql,
    entry_of,
    values_of,
    where_sql,
)
from hl_platform.adapters.postgres.errors import translated
from hl_platform.core.dead_letter_index import Entry, Selection
from hl_platform.core.readings import Reading
from hl_platform.core.streams import Stream

# A request that waited this long for a connection is better told that the database is away.
CONNECTION_WAIT_S = 2.0
STATEMENT_TIMEOUT_MS = 20_000
MAX_CONNECTIONS = 4
# Turning rows into objects holds the event loop; this many take about 2 ms.
ROWS_AT_A_TIME = 500

# Every query over devices starts here: a jump from one device to the next along the primary key, which costs
# a few index reads per device where DISTINCT would read the whole table.
DEVICES: LiteralString = """
with recursive every_device as (
    (select device_id from public.{table} order by device_id limit 1)
    union all
    select (select t.device_id from public.{table} t where t.device_id > d.device_id order by t.device_id limit 1)
    from every_device d where d.device_id is not null
), devices as (
    select device_id from every_device
    where device_id is not null and %(device_ids)s::text[] is null
    union all
    select distinct unnest(%(device_ids)s::text[])
)"""

LATEST: LiteralString = """
-- latest: each device's newest reading
select r.device_id, r.timestamp, r.received_at, r.extra::text, {fields}
from devices d cross join lateral (
    select * from public.{table} t where t.device_id = d.device_id order by t.timestamp desc limit 1
) r
order by r.device_id
"""

RAW: LiteralString = """
-- raw: the readings of a half-open range, oldest first
select r.device_id, r.timestamp, r.received_at, r.extra::text, {fields}
from devices d cross join lateral (
    select * from public.{table} t
    where t.device_id = d.device_id and t.timestamp >= %(start)s and t.timestamp < %(end)s
    order by t.timestamp limit %(limit)s
) r
order by r.timestamp, r.device_id
limit %(limit)s
"""

# The counter is taken as rising evenly from one reading to the next, so what a step moved is shared out to the
# buckets by time; a fall is a reset, after which the counter counts from zero. Mean power is the area under
# straight lines between readings, divided by the time that readings cover.
#
# One pass along the primary key, without sorting: of the steps that cross a border there is one for each bucket
# that they end in, which the aggregate carries along and the last part cuts.
CONSUMPTION: LiteralString = """
, ranges as (
    select d.device_id,
           coalesce((select max(timestamp) from public.{table} t
                     where t.device_id = d.device_id and timestamp < %(start)s
                       and {counter} is not null), %(start)s) as first,
           coalesce((select min(timestamp) from public.{table} t
                     where t.device_id = d.device_id and timestamp >= %(end)s
                       and {counter} is not null), %(end)s) as last
    from devices d
), points as (
    select r.device_id, s.*
    from ranges r cross join lateral (
        select timestamp, {counter} as counter, {power} as power,
               width_bucket(timestamp, %(edges)s::timestamptz[]) as bucket
        from public.{table} t
        where t.device_id = r.device_id and timestamp >= r.first and timestamp <= r.last
          and {counter} is not null
        order by timestamp
    ) s
), steps as (
    select device_id, bucket as b1, timestamp as t1, counter as c1, power as p1,
           lag(bucket) over step as b0, lag(timestamp) over step as t0,
           lag(counter) over step as c0, lag(power) over step as p0
    from points window step as (partition by device_id order by timestamp)
), measured as (
    select device_id, b0, b1, t0, t1, p0, p1, extract(epoch from t1 - t0)::float8 as length_s,
           case when c1 >= c0 then c1 - c0 else c1 end as delta
    from steps
), buckets as (
    select device_id, b1 as bucket, count(*) as n_readings,
           min(p1) as min_power, max(p1) as max_power, avg(p1) as sample_mean,
           sum(delta) filter (where b0 = b1) as delta,
           sum((p0 + p1) / 2 * length_s) filter (where b0 = b1) as power_s,
           sum(length_s) filter (where b0 = b1 and p0 + p1 is not null) as covered_s,
           min(b0) filter (where b0 < b1) as b0, min(t0) filter (where b0 < b1) as t0,
           min(p0) filter (where b0 < b1) as p0, min(p1) filter (where b0 < b1) as p1,
           min(delta) filter (where b0 < b1) as crossing, min(length_s) filter (where b0 < b1) as length_s
    from measured group by device_id, b1
), shares as (
    select device_id, bucket, delta, power_s, covered_s from buckets
    union all
    select device_id, part, crossing * (z - a), (p0 + (p1 - p0) * (a + z) / 2) * (z - a) * length_s,
           case when p0 + p1 is not null then (z - a) * length_s end
    from buckets
    cross join lateral generate_series(greatest(b0, 1), least(bucket, cardinality(%(edges)s::timestamptz[]) - 1)) part
    cross join lateral (
        select greatest(0, extract(epoch from (%(edges)s::timestamptz[])[part] - t0)::float8 / length_s) as a,
               least(1, extract(epoch from (%(edges)s::timestamptz[])[part + 1] - t0)::float8 / length_s) as z
    ) cut
    where b0 < bucket and z > a
), flows as (
    select device_id, bucket, sum(delta) as consumption, sum(power_s) / nullif(sum(covered_s), 0) as mean_power
    from shares group by device_id, bucket
)
-- consumption: what a counter moved in each bucket, and the power beside it
select device_id, bucket - 1, coalesce(f.consumption, 0)::float8,
       case when b.n_readings > 0 then coalesce(f.mean_power, b.sample_mean) end::float8,
       b.min_power::float8, b.max_power::float8, coalesce(b.n_readings, 0)
from flows f left join buckets b using (device_id, bucket)
where bucket between 1 and cardinality(%(edges)s::timestamptz[]) - 1
order by device_id, bucket
"""

NEXT_OFFSETS: LiteralString = """
-- next_offsets: how far a sink has come
select kafka_topic, kafka_partition, next_offset from hl.offsets where consumer_group = %(consumer_group)s
"""

LEASES: LiteralString = """
-- leases: who runs each service, and how long ago it last said so
select service, stage, extract(epoch from now() - beat_at)::float8, released_at is null from hl.leases order by service
"""


class BucketRow(NamedTuple):
    """What one device's meter moved in one bucket.

    Args:
        bucket: its number, from 0.
        consumption: in the counter's unit.
        mean_power: weighted by time; None, like the next two, where no reading lies in the bucket.
    """

    device_id: str
    bucket: int
    consumption: float
    mean_power: float | None
    min_power: float | None
    max_power: float | None
    n_readings: int


class LeaseRow(NamedTuple):
    """How a service was last heard of."""

    service: str
    stage: str
    beat_age_s: float
    held: bool


class ReadingQueries:
    """The API's way to the database, over a small pool that mends itself.

    Raises from every query:
        TransientError: the database is away, or the query took too long.
        ConfigError: a table is missing, or the role may not read it.
    """

    def __init__(self, url: str, application_name: str) -> None:
        conninfo = connection_string(url, application_name=application_name)
        guards = f"-c default_transaction_read_only=on -c statement_timeout={STATEMENT_TIMEOUT_MS} -c jit=off"
        self._pool = AsyncConnectionPool(
            psycopg.conninfo.make_conninfo(
                conninfo, options=f"{psycopg.conninfo.conninfo_to_dict(conninfo).get('options', '')} {guards}"
            ),
            kwargs={"autocommit": True},
            min_size=1,
            max_size=MAX_CONNECTIONS,
            timeout=CONNECTION_WAIT_S,
            # Within it the pool's waits double; after it the next request tries at once.
            reconnect_timeout=CONNECTION_WAIT_S,
            # A restart of the server costs no request: a dead connection is found before it is used.
            check=AsyncConnectionPool.check_connection,
            open=False,
        )

    async def open(self) -> None:
        """Begins to connect; does not wait for it."""
        await self._pool.open(wait=False)

    async def close(self) -> None:
        """Closes all connections."""
        await self._pool.close(timeout=0.5)

    async def ping(self) -> None:
        """Returns when the database answers.

        Raises:
            TransientError: it does not.
        """
        await self._rows(sql.SQL("select 1"), {})

    async def latest(self, stream: Stream, device_ids: Sequence[str] | None = None) -> list[Reading]:
        """Each device's newest reading, by device."""
        return await self._readings(stream, LATEST, {"device_ids": _listed(device_ids)})

    async def raw(
        self,
        stream: Stream,
        start: datetime,
        end: datetime,
        *,
        limit: int,
        device_ids: Sequence[str] | None = None,
    ) -> list[Reading]:
        """The readings from `start` to before `end`, oldest first, at most `limit`."""
        values = {"device_ids": _listed(device_ids), "start": start, "end": end, "limit": limit}
        return await self._readings(stream, RAW, values)

    async def consumption(
        self,
        stream: Stream,
        counter: str,
        power: str,
        edges: Sequence[datetime],
        device_ids: Sequence[str] | None = None,
    ) -> list[BucketRow]:
        """What each meter moved between each edge and the next, by device and bucket.

        Args:
            stream: whose table is read.
            counter: field that counts.
            power: field whose mean, least and greatest value go beside it.
            edges: at least two, rising; bucket i is from edge i to before edge i + 1.
            device_ids: None for all.

        Guarantee: the sum over adjoining buckets is what one bucket over all of them gives.
        """
        query = sql.SQL(DEVICES + CONSUMPTION).format(
            table=sql.Identifier(stream.table), counter=sql.Identifier(counter), power=sql.Identifier(power)
        )
        values = {
            "device_ids": _listed(device_ids),
            "edges": list(edges),
            "start": edges[0],
            "end": edges[-1],
        }
        return [BucketRow(*row) for row in await self._rows(query, values)]

    async def next_offsets(self, consumer_group: str) -> dict[tuple[str, int], int]:
        """Where a sink continues, by Kafka topic and partition."""
        rows = await self._rows(sql.SQL(NEXT_OFFSETS), {"consumer_group": consumer_group})
        return {(kafka_topic, number): next_offset for kafka_topic, number, next_offset in rows}

    async def dead_letters(self, selection: Selection, *, limit: int, before: int | None) -> list[Entry]:
        """Selected dead letters with an id below `before`, newest first, at most `limit`."""
        values = {**values_of(selection), "limit": limit, "before": before}
        query = sql.SQL(LIST_ENTRIES).format(
            columns=columns_sql(ENTRY_COLUMNS), selected=where_sql(selection)
        )
        return [entry_of(row) for row in await self._rows(query, values)]

    async def leases(self) -> list[LeaseRow]:
        """All services that ever ran, by name."""
        return [LeaseRow(*row) for row in await self._rows(sql.SQL(LEASES), {})]

    async def _readings(
        self, stream: Stream, query: LiteralString, values: Mapping[str, Any]
    ) -> list[Reading]:
        fields = sql.SQL(", ").join(sql.Identifier("r", field.name) for field in stream.fields)
        composed = sql.SQL(DEVICES + query).format(table=sql.Identifier(stream.table), fields=fields)
        return [
            Reading(device_id, timestamp, tuple(fields), extra, received_at)
            for device_id, timestamp, received_at, extra, *fields in await self._rows(composed, values)
        ]

    async def _rows(self, query: sql.SQL | sql.Composed, values: Mapping[str, Any]) -> list[tuple[Any, ...]]:
        with translated():
            for _ in range(MAX_CONNECTIONS):
                async with self._pool.connection() as conn:
                    try:
                        return await _fetch(conn, query, values)
                    except psycopg.errors.FeatureNotSupported:
                        # The connection holds a plan from before a column was widened, and would refuse it for
                        # ever. Closed, it is replaced by the pool.
                        await conn.close()
            async with self._pool.connection() as conn:
                return await _fetch(conn, query, values)


async def _fetch(
    conn: psycopg.AsyncConnection, query: sql.SQL | sql.Composed, values: Mapping[str, Any]
) -> list[tuple[Any, ...]]:
    rows: list[tuple[Any, ...]] = []
    async with conn.cursor(binary=True) as cursor:
        await cursor.execute(query, values)
        while some := await cursor.fetchmany(ROWS_AT_A_TIME):
            rows += some
            await asyncio.sleep(0)
    return rows


def _listed(device_ids: Sequence[str] | None) -> list[str] | None:
    return None if device_ids is None else list(device_ids)
