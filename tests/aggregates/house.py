"""A database with readings and their aggregates, written to as the sink writes and as a person with psql does."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import psycopg
from psycopg.rows import dict_row

from dbt_like_sql.engine.deploy import deploy
from dbt_like_sql.engine.project import Project, load_project
from dbt_like_sql.engine.refresh import Refresher
from hl_platform.adapters.postgres.connection import WRITER, connect
from hl_platform.adapters.postgres.database import BULK, SqlDatabase
from hl_platform.adapters.postgres.migrate import migrate
from hl_platform.adapters.postgres.reading_rows import ReadingRows
from hl_platform.adapters.postgres.rows import make_rows
from hl_platform.core.levels import ADVERBS, Grain
from hl_platform.core.readings import Reading
from hl_platform.core.streams import Stream
from tests.aggregates.oracle import Overrides, Readings, Row, buckets, differences

VERSION = "1.0"
DRAINED_AFTER = 200


class Writer:
    """A connection that writes readings of one stream as the sink does."""

    def __init__(self, url: str, stream: Stream) -> None:
        self.stream = stream
        self.conn = connect(url, application_name="test-writer", parameters=WRITER)
        self._rows = ReadingRows(stream)
        self._rows.make_stage(self.conn)

    def write(self, device: str, readings: Readings, *, partitions: bool = True) -> None:
        """Commits readings; without `partitions` days that have none go to the catch-all."""
        if partitions:
            for day in sorted({at.astimezone(UTC).date() for at in readings}):
                self.conn.execute("select hl.ensure_partition(%s, %s)", (self.stream.table, day))
        while True:
            try:
                with self.conn.transaction():
                    self.write_open(device, readings)
            except psycopg.errors.CheckViolation:
                # Somebody has made the partition meanwhile that we thought was not there; the sink tries again as well.
                continue
            return

    def write_open(self, device: str, readings: Readings) -> None:
        """Writes within the transaction that the connection is in."""
        now = datetime.now(UTC)
        rows = [
            Reading(device, at, tuple(values[field.name] for field in self.stream.fields), None, now)
            for at, values in readings.items()
        ]
        self._rows.stage(self.conn, make_rows(rows).rows)
        self._rows.write(self.conn, len(rows))


class House:
    """A household's database.

    Args:
        url: of an empty database.
        streams: declared ones.
        timezone: the household's.
    """

    def __init__(self, url: str, streams: Mapping[str, Stream], timezone: str = "Europe/Berlin") -> None:
        self.url = url
        self.streams = streams
        self.timezone = timezone
        self.project: Project = load_project(streams)
        migrate(url, None, streams.values())
        self.db = SqlDatabase(url, "test-refresher", BULK)
        self.conn = connect(url, application_name="test-reader")
        self.writers: dict[str, Writer] = {}
        self.deploy(timezone)

    def deploy(self, timezone: str, project: Project | None = None) -> list[str]:
        self.project = project or self.project
        self.timezone = timezone
        return deploy(self.db, self.project, timezone, VERSION).remade

    def writer(self, stream: str) -> Writer:
        if stream not in self.writers:
            self.writers[stream] = Writer(self.url, self.streams[stream])
        return self.writers[stream]

    def refresher(self) -> Refresher:
        return Refresher(self.db, self.project, VERSION)

    def refresh(self, model: str, limit: int = 100_000) -> int:
        return self.refresher().refresh(self.project.models[model], limit=limit).n_marks

    def drain(self, stream: str = "energy", limit: int = 100_000) -> None:
        """Refreshes the models of a stream until nothing is left to do."""
        refresher = self.refresher()
        for model in self.project.aggregates():
            if not model.name.startswith(f"{stream}_"):
                continue
            for _ in range(DRAINED_AFTER):
                if not refresher.refresh(model, limit=limit).n_marks:
                    break
            else:
                raise AssertionError(f"{model.name} is never done")

    def execute(self, statement: str, *values: Any) -> list[tuple[Any, ...]]:  # noqa: ANN401
        cursor = self.conn.execute(statement.encode(), values)
        return cursor.fetchall() if cursor.description is not None else []

    def readings(self, stream: str, device: str) -> Readings:
        return readings_of(self.conn, self.streams[stream], device)

    def level(self, stream: str, level: Grain, device: str) -> dict[datetime, Row]:
        return rows_of(self.conn, f"public.{stream}_{ADVERBS[level]}", device)

    def differences(
        self,
        stream: str,
        device: str,
        readings: Readings | None = None,
        *,
        overrides: Overrides | None = None,
        levels: Sequence[Grain] = ("hour", "day"),
    ) -> list[str]:
        """What the views say otherwise than the rules."""
        readings = self.readings(stream, device) if readings is None else readings
        told = []
        for level in levels:
            wanted = buckets(self.streams[stream], readings, level, self.timezone, overrides)
            found = self.level(stream, level, device)
            told += [f"{level}: {text}" for text in differences(found, wanted)]
        return told

    def marks(self, model: str = "%", device: str = "%") -> int:
        """How many there are, but for the year that is still going on."""
        query = (
            "select count(*) from hl.dirty where model like %s and device_id like %s "
            "and (model not like '%%_yearly' or bucket < now() - interval '366 days')"
        )
        return int(self.execute(query, model, device)[0][0])

    def close(self) -> None:
        self.db.close()
        self.conn.close()
        for writer in self.writers.values():
            writer.conn.close()


def readings_of(conn: psycopg.Connection, stream: Stream, device: str) -> Readings:
    """A device's stored readings."""
    names = [field.name for field in stream.fields]
    query = f"select timestamp, {', '.join(names)} from public.{stream.table} where device_id = %s"
    rows = conn.execute(query.encode(), (device,)).fetchall()
    return {row[0]: dict(zip(names, row[1:], strict=True)) for row in rows}


def rows_of(conn: psycopg.Connection, relation: str, device: str) -> dict[datetime, Row]:
    """A device's rows of a view, by bucket; two of the same bucket are an error."""
    with conn.cursor(row_factory=dict_row) as cursor:
        cursor.execute(f"select * from {relation} where device_id = %s".encode(), (device,))
        rows = cursor.fetchall()
    assert len({row["bucket"] for row in rows}) == len(rows), f"{relation}: a bucket has two rows"
    return {row["bucket"]: row for row in rows}


def meter(at: Iterable[tuple[datetime, float]], power_kw: float = 1.0) -> Readings:
    """Readings of an energy meter from times and what it shows."""
    return {
        when: {"total_energy_kwh": kwh, "power_kw": power_kw, "voltage": 230.0, "current": None}
        for when, kwh in at
    }


def at(text: str) -> datetime:
    """A moment from its UTC time, such as `2026-03-01 08:00`."""
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def evenly(times: Sequence[datetime], first: float = 100.0, per_hour: float = 2.0) -> Readings:
    """Readings of a meter that rises evenly."""
    return meter((time, first + per_hour * (time - times[0]).total_seconds() / 3600) for time in times)
