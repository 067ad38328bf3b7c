"""Queries over the tables of readings for the API: bounded, read only, and never blocking the event loop."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, LiteralString, NamedTuple, TypeVar

import psycopg
from psycopg import sql
from psycopg_pool import AsyncConnectionPool

from hl_platform.adapters.postgres.bucket_prints import (
    ORDERED,
    Prints,
    prints_of,
    prints_sql,
    prints_values,
)
from hl_platform.adapters.postgres.bucket_rows import BucketSelection, buckets_sql, costs_sql
from hl_platform.adapters.postgres.connection import REQUEST, connection_string
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
from hl_platform.adapters.postgres.replay_requests import NEWEST, ONE, request_of
from hl_platform.core.dead_letter_index import Entry, EntryGroup, Selection
from hl_platform.core.readings import Reading
from hl_platform.core.replay_requests import ReplayRequest
from hl_platform.core.streams import Stream

T = TypeVar("T")
Query = sql.SQL | sql.Composed | bytes

# A request that waited this long for a connection is better told that the database is away.
CONNECTION_WAIT_S = 2.0
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
      and (t.timestamp > %(start)s or %(after)s::text is null or t.device_id collate "C" > %(after)s::text)
    order by t.timestamp limit %(limit)s
) r
order by r.timestamp, r.device_id collate "C"
limit %(limit)s
"""

FLOOR: LiteralString = """
-- floor: where complete readings of a table begin
select floor from hl.floors where table_name = %(table_name)s
"""

NEXT_OFFSETS: LiteralString = """
-- next_offsets: how far a sink has come
select kafka_topic, kafka_partition, next_offset from hl.offsets where consumer_group = %(consumer_group)s
"""

LEASES: LiteralString = """
-- leases: who runs each service, and how long ago it last said so
select service, stage, extract(epoch from now() - beat_at)::float8, released_at is null from hl.leases order by service
"""


class LeaseRow(NamedTuple):
    """How a service was last heard of."""

    service: str
    stage: str
    beat_age_s: float
    held: bool


class Snapshot:
    """What several queries see of the database at one moment.

    Args:
        conn: in a transaction that sees one moment.
    """

    def __init__(self, conn: psycopg.AsyncConnection) -> None:
        self._conn = conn

    async def ordered(self, device_ids: Sequence[str], after: str | None) -> list[str]:
        """Devices in the order of an answer, each once; from `after` on, if that is given."""
        values = {"device_ids": list(device_ids), "after": after}
        return [row[0] for row in await _fetch(self._conn, sql.SQL(ORDERED), values)]

    async def prints(
        self,
        selection: BucketSelection,
        devices: Sequence[str],
        start: datetime,
        end: datetime,
        width: timedelta,
    ) -> Prints:
        """The prints of some devices' chunks of a model, between two borders of chunks."""
        query = prints_sql(selection.model, selection.grain, one=len(devices) == 1)
        return prints_of(await _fetch(self._conn, query, prints_values(devices, start, end, width)))

    async def buckets(self, selection: BucketSelection) -> list[tuple[Any, ...]]:
        """As `ReadingQueries.buckets`."""
        return await _fetch(self._conn, buckets_sql(selection.shape(), DEVICES), selection.values())


class ReadingQueries:
    """The API's way to the database, over a small pool that mends itself.

    Raises from every query:
        TransientError: the database is away, or the query took too long.
        ConfigError: a table is missing, or the role may not read it.
    """

    def __init__(self, url: str, application_name: str) -> None:
        guards = {**REQUEST, "default_transaction_read_only": "on", "jit": "off"}
        self._pool = AsyncConnectionPool(
            connection_string(url, application_name=application_name, parameters=guards),
            # Prepared at once: planning a view over many table partitions takes longer than running it.
            kwargs={"autocommit": True, "prepare_threshold": 0},
            min_size=1,
            max_size=MAX_CONNECTIONS,
            timeout=CONNECTION_WAIT_S,
            # Within it the pool's waits double; after it the next request tries at once.
            reconnect_timeout=CONNECTION_WAIT_S,
            # A restart of the server costs no request: a dead connection is found before it is used.
            check=AsyncConnectionPool.check_connection,
            configure=_configure,
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
        after: str | None = None,
    ) -> list[Reading]:
        """The readings from `start` to before `end`, oldest first and by device, at most `limit`.

        Args:
            stream: whose they are.
            start: inclusive.
            end: exclusive.
            limit: of readings.
            device_ids: None for all.
            after: of the readings at `start`, only those of devices behind this one.
        """
        values: dict[str, Any] = {"start": start, "end": end, "limit": limit, "after": after}
        values["device_ids"] = _listed(device_ids)
        return await self._readings(stream, RAW, values)

    async def floor(self, stream: Stream) -> datetime | None:
        """Before which readings have been dropped from their table; None if none have."""
        rows = await self._rows(sql.SQL(FLOOR), {"table_name": stream.table})
        return rows[0][0] if rows else None

    async def buckets(self, selection: BucketSelection) -> list[tuple[Any, ...]]:
        """Buckets of a model by device and begin, at most `selection.limit`.

        Returns:
            (device_id, bucket, bucket_end, n_readings, coverage, provisional, *columns) of each.
        """
        return await self._rows(buckets_sql(selection.shape(), DEVICES), selection.values())

    async def in_snapshot(self, work: Callable[[Snapshot], Awaitable[T]]) -> T:
        """What `work` makes of one moment of the database. It may be called again, if the first time failed."""

        async def within(conn: psycopg.AsyncConnection) -> T:
            async with conn.transaction():
                return await work(Snapshot(conn))

        return await self._with_connection(within)

    async def costs(self, selection: BucketSelection) -> list[tuple[Any, ...]]:
        """Rows of a view of costs by device and begin: (device_id, bucket, bucket_end, provisional, *columns)."""
        return await self._rows(costs_sql(selection), selection.values())

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

    async def dead_letter_kinds(self, selection: Selection, limit: int) -> list[EntryGroup]:
        """Selected dead letters by fingerprint, those with the most recent failures first, at most `limit`."""
        query = sql.SQL(GROUPS).format(selected=where_sql(selection))
        return [group_of(row) for row in await self._rows(query, {**values_of(selection), "limit": limit})]

    async def count_dead_letters(self, selection: Selection) -> tuple[int, int]:
        """How many dead letters are selected, and the highest id among them; 0 where there is none."""
        query = sql.SQL(COUNT).format(selected=where_sql(selection))
        [(n, newest)] = await self._rows(query, values_of(selection))
        return n, newest or 0

    async def replay_requests(self, limit: int) -> list[ReplayRequest]:
        """The newest requests to replay first, at most `limit`."""
        return [request_of(row) for row in await self._rows(NEWEST.encode(), {"limit": limit})]

    async def replay_request(self, request_id: int) -> ReplayRequest | None:
        """One request to replay; None if there is none of this number."""
        rows = await self._rows(ONE.encode(), {"request_id": request_id})
        return request_of(rows[0]) if rows else None

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

    async def _rows(self, query: Query, values: Mapping[str, Any]) -> list[tuple[Any, ...]]:
        return await self._with_connection(lambda conn: _fetch(conn, query, values))

    async def _with_connection(self, work: Callable[[psycopg.AsyncConnection], Awaitable[T]]) -> T:
        with translated():
            for _ in range(MAX_CONNECTIONS):
                async with self._pool.connection() as conn:
                    try:
                        return await work(conn)
                    except psycopg.errors.FeatureNotSupported:
                        # The connection holds a plan from before a column was widened, and would refuse it for
                        # ever. Closed, it is replaced by the pool.
                        await conn.close()
            async with self._pool.connection() as conn:
                return await work(conn)


async def _configure(conn: psycopg.AsyncConnection) -> None:
    # Of transactions; a query by itself sees one moment anyway.
    await conn.set_isolation_level(psycopg.IsolationLevel.REPEATABLE_READ)


async def _fetch(
    conn: psycopg.AsyncConnection, query: Query, values: Mapping[str, Any]
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
