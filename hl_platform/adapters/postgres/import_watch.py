"""What an import looks up: how far the sink is, and what has become of the rows."""

from datetime import datetime, timedelta
from typing import Any, LiteralString, NamedTuple

import psycopg
from psycopg import sql

from hl_platform.adapters.postgres.connection import connect
from hl_platform.adapters.postgres.errors import translated
from hl_platform.core.streams import Stream

BEGIN: LiteralString = """
-- begin_import: the database's time, and what the sink has rejected of a stream until now
select clock_timestamp(), coalesce(sum(dead_lettered), 0)::bigint
from hl.accounts where stage = 'sink' and stream = %(stream)s
"""

POSITIONS: LiteralString = """
-- positions_of_topic: where the sink stands
select kafka_partition, next_offset from hl.offsets
where consumer_group = %(group)s and kafka_topic = %(topic)s
"""

# An import's rows are told by their received_at, which no bridge writes; see decision 13.
COUNT_WRITTEN: LiteralString = """
-- count_written: rows that an import has made, and those that it has changed
select count(*) filter (where corrections = 0), count(*) filter (where corrections > 0)
from public.{table}
where timestamp between %(first_at)s and %(last_at)s and ingested_at >= %(since)s and received_at = {received_at}
"""


class Begin(NamedTuple):
    """How things stood before the first row was sent.

    Args:
        at: by the database's clock.
        n_dead_lettered: by the sink of that stream.
    """

    at: datetime
    n_dead_lettered: int


class Written(NamedTuple):
    """What became of an import's rows: those that are new, and those that changed what was stored."""

    n_new: int
    n_corrected: int


class ImportWatch:
    """Looks at one stream, on one connection.

    Args:
        url: of the database; that of a reader suffices.
        stream: which.

    Raises from every method:
        TransientError: the database is away.
    """

    def __init__(self, url: str, stream: Stream) -> None:
        self._url = url
        self._stream = stream
        self._conn: psycopg.Connection | None = None

    def begin(self) -> Begin:
        """How things stand now."""
        [(at, n_dead_lettered)] = self._rows(sql.SQL(BEGIN), stream=self._stream.name)
        return Begin(at, n_dead_lettered)

    def next_offsets(self) -> dict[int, int]:
        """Where the sink stands, by Kafka partition."""
        group, topic = self._stream.consumer_group, self._stream.kafka_topic
        return dict(self._rows(sql.SQL(POSITIONS), group=group, topic=topic))

    def count_written(
        self, since: datetime, span: tuple[datetime, datetime], received: datetime | timedelta
    ) -> Written:
        """What the rows of an import have done to the table.

        Args:
            since: when it began, by the database's clock.
            span: first and last timestamp of its rows, both inclusive.
            received: their received_at, or how long before their timestamp it is.
        """
        after = isinstance(received, datetime)
        query = sql.SQL(COUNT_WRITTEN).format(
            table=sql.Identifier(self._stream.table),
            received_at=sql.SQL("%(received)s" if after else "timestamp - %(received)s"),
        )
        first_at, last_at = span
        rows = self._rows(query, since=since, first_at=first_at, last_at=last_at, received=received)
        return Written(*rows[0])

    def close(self) -> None:
        """Closes the connection."""
        if self._conn is not None:
            self._conn.close()
            self._conn = None

    def _rows(self, query: sql.SQL | sql.Composed, **values: Any) -> list[tuple[Any, ...]]:  # noqa: ANN401
        if self._conn is None or self._conn.closed:
            self._conn = connect(self._url, application_name="hl-import")
        with translated():
            return self._conn.execute(query, values).fetchall()
