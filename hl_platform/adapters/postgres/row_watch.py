"""Which records have become rows, told by the sinks' offsets and looked up by key: no table is scanned."""

import time
from collections import deque
from collections.abc import Iterator, Mapping
from typing import Any

from psycopg import sql
from psycopg.rows import dict_row

from hl_platform.adapters.kafka.letters import LetterRecord
from hl_platform.adapters.postgres.connection import connect
from hl_platform.adapters.postgres.errors import translated
from hl_platform.adapters.postgres.status import read_next_offsets
from hl_platform.core.errors import PoisonRecordError
from hl_platform.core.readings import ReadingDecoder
from hl_platform.core.sections import ReadingSettings
from hl_platform.core.streams import Stream

LOOK_S = 0.2

FIND_ROW = """
-- find_row: a reading as it is stored
select * from public.{table} where device_id = %(device_id)s and timestamp = %(timestamp)s
"""


class RowWatch:
    """Looks for rows on a connection of its own.

    Args:
        url: of the database, as a reader.
        streams: by Kafka topic.
        rules: which readings are believed.

    Raises from every method:
        TransientError: the database is away.
        ConfigError: it is not one of hl.
    """

    def __init__(self, url: str, streams: Mapping[str, Stream], rules: ReadingSettings) -> None:
        self._streams = streams
        self._decoders = {topic: ReadingDecoder(stream, rules) for topic, stream in streams.items()}
        self._conn = connect(url, application_name="hl-tail")
        self._reached: dict[tuple[str, int], int] = {}
        self._looked_at = 0.0

    @property
    def is_due(self) -> bool:
        """Whether the last look is some time ago."""
        return time.monotonic() - self._looked_at > LOOK_S

    def next_offsets(self) -> dict[tuple[str, int], int]:
        """How far the streams' sinks are, by Kafka topic and partition."""
        groups = {stream.consumer_group for stream in self._streams.values()}
        self._reached = {
            (topic, partition): next_offset
            for (group, topic, partition), next_offset in read_next_offsets(self._conn).items()
            if group in groups and topic in self._streams
        }
        self._looked_at = time.monotonic()
        return self._reached

    def take_stored(self, waiting: deque[LetterRecord]) -> Iterator[tuple[LetterRecord, dict[str, Any]]]:
        """Takes out the records that the sinks have passed, with the row of each that has one.

        Args:
            waiting: in order of offset within each partition; those that stay are left in it.
        """
        if waiting and self.is_due:
            self.next_offsets()
        for _ in range(len(waiting)):
            record = waiting.popleft()
            if record.offset >= self._reached.get((record.kafka_topic, record.kafka_partition), 0):
                waiting.append(record)
            elif (row := self._row_of(record)) is not None:
                yield record, row

    def close(self) -> None:
        """Closes the connection."""
        self._conn.close()

    def _row_of(self, record: LetterRecord) -> dict[str, Any] | None:
        key = None if record.key is None else record.key.decode(errors="replace")
        try:
            reading = self._decoders[record.kafka_topic].decode_record(record.value, key, record.kafka_time)
        except PoisonRecordError:
            # The sink has written it to the dead letters.
            return None
        query = sql.SQL(FIND_ROW).format(table=sql.Identifier(self._streams[record.kafka_topic].table))
        with translated(), self._conn.cursor(row_factory=dict_row) as cursor:
            return cursor.execute(
                query, {"device_id": reading.device_id, "timestamp": reading.timestamp}
            ).fetchone()
