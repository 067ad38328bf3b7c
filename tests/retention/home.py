"""A household with a small stream, its archive, and a second database that keeps everything and drops nothing."""

from collections.abc import Iterable, Sequence
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from dbt_like_sql.engine.absorb import Absorber
from dbt_like_sql.engine.deploy import deploy
from dbt_like_sql.engine.model import Model
from dbt_like_sql.engine.model_retention import ModelRetention
from dbt_like_sql.engine.project import Project, load_project
from dbt_like_sql.engine.refresh import Refresher
from dbt_like_sql.engine.retain import waiting
from dbt_like_sql.engine.retention import Retention
from hl_platform.adapters.archive import ArchiveDirectory
from hl_platform.adapters.postgres.connection import connect
from hl_platform.adapters.postgres.database import BULK, SqlDatabase
from hl_platform.adapters.postgres.migrate import migrate
from hl_platform.adapters.postgres.reading_rows import ReadingRows
from hl_platform.adapters.postgres.rows import make_rows
from hl_platform.core.readings import Reading
from hl_platform.core.streams import Stream, parse_stream

DECLARATION = """
name = "meter"
mqtt_filter = "home/meter/#"
kafka_topic = "home.meter"
table = "meter_readings"
max_gap_s = 3600.0
[fields.total]
type = "float"
kind = "counter"
unit = "kWh"
max_rate_per_hour = 1000.0
[fields.power]
type = "float"
kind = "gauge"
[fields.mode]
type = "text"
kind = "state"
[fields.on]
type = "boolean"
kind = "state"
[fields.level]
type = "smallint"
kind = "gauge"
"""
STREAM = parse_stream(DECLARATION.replace("fields.on]", "fields.running]"), "meter.toml")
# A day with nothing special about it; tests count from here.
DAY = datetime(2024, 5, 6, tzinfo=UTC)
LEVELS = ("hourly", "daily", "monthly", "yearly")


def meter(at: datetime, total: float, *, device: str = "m1", sent: int = 0, **values: Any) -> Reading:  # noqa: ANN401
    """A reading; `sent` orders readings of the same time."""
    fields = (
        total,
        values.get("power", total % 7),
        values.get("mode", "heat" if total % 2 < 1 else "cool"),
        values.get("running", total % 3 < 1),
        values.get("level", int(total) % 100),
    )
    return Reading(device, at, fields, values.get("extra"), DAY + timedelta(days=1000, seconds=sent))


class Keeper:
    """A database with the stream's table and models."""

    def __init__(self, url: str, *, hours: str | None = None) -> None:
        self.url = url
        self.db = SqlDatabase(url, "test", BULK)
        self.project = _project({STREAM.name: STREAM}, hours)
        self.refresher = Refresher(self.db, self.project, "test")
        self._rows = ReadingRows(STREAM)
        self._conn = connect(url, application_name="test-sink")
        self._rows.make_stage(self._conn)

    @property
    def models(self) -> list[Model]:
        return self.project.aggregates()

    def ingest(self, readings: Iterable[Reading], *, partitions: bool = True) -> None:
        """As the sink does: in batches without two readings of one key, in order."""
        batch: dict[tuple[str, datetime], Reading] = {}
        for reading in readings:
            key = (reading.device_id, reading.timestamp)
            if key in batch:
                self._write(list(batch.values()), partitions=partitions)
                batch.clear()
            batch[key] = reading
        self._write(list(batch.values()), partitions=partitions)

    def _write(self, readings: list[Reading], *, partitions: bool) -> None:
        for day in sorted({reading.timestamp.astimezone(UTC).date() for reading in readings if partitions}):
            self._conn.execute("select hl.ensure_partition(%s, %s)", (STREAM.table, day))
        if readings:
            with self._conn.transaction():
                self._rows.stage(self._conn, make_rows(readings).rows)
                self._rows.write(self._conn, len(readings))

    def refresh(self, limit: int = 100_000) -> None:
        for model in self.models:
            while self.refresher.refresh(model, limit=limit).n_marks:
                pass

    def query(self, statement: str, values: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        with connect(self.url, application_name="test") as conn:
            return conn.execute(statement, values or None).fetchall()  # type: ignore[call-overload,no-any-return]

    def level(self, level: str, since: datetime | None = None) -> list[tuple[Any, ...]]:
        """All rows of a view, without what tells where they come from."""
        rows = self.query(
            f"select to_jsonb(v) - 'refresh_id' from public.meter_{level} as v "  # noqa: S608
            f"where bucket >= '{since or '-infinity'}' order by device_id, bucket"
        )
        return [tuple((key, rounded(value)) for key, value in sorted(row[0].items())) for row in rows]

    def close(self) -> None:
        self._conn.close()
        self.db.close()


def prepare(url: str, timezone: str) -> None:
    """Makes the tables and models that keepers expect."""
    migrate(url, None, [STREAM])
    with closing(SqlDatabase(url, "test", BULK)) as db:
        deploy(db, _project({STREAM.name: STREAM}, None), timezone, "test")


class House(Keeper):
    """One that has an archive and drops."""

    def __init__(self, url: str, directory: Path, *, hours: str | None = None) -> None:
        super().__init__(url, hours=hours)
        self.directory = directory
        self.files = ArchiveDirectory(directory)
        self.retention = Retention(self.db, self.project, self.files, "test")
        self.absorber = Absorber(self.db, self.project, self.files, "test")
        self.model_retention = ModelRetention(self.db, self.project, "test")

    def drop_before(self, cutoff: datetime) -> int:
        return self.retention.run(STREAM, cutoff).n_rows

    def absorb(self) -> int:
        return self.absorber.run(STREAM).n_rows

    def waiting(self) -> int:
        """Marks that nobody has absorbed."""
        return waiting(self.db, self.project, STREAM).n_marks

    def raw(self) -> list[tuple[Any, ...]]:
        return self.query(f"select device_id, timestamp, total from {STREAM.table} order by 1, 2")  # noqa: S608

    def archived(self) -> list[tuple[Any, ...]]:
        return self.query("select day::text, part, n_rows from hl.archives order by 1, 2")


def rounded(value: Any) -> Any:  # noqa: ANN401
    """Sums of the same numbers in another order differ in their last digits."""
    if isinstance(value, float):
        return float(f"{value:.9g}")
    if isinstance(value, dict):
        return tuple(sorted((key, rounded(item)) for key, item in value.items()))
    return value


def assert_same(house: Keeper, oracle: Keeper, hours_since: datetime | None = None) -> None:
    """Every view says what it says where nothing was ever dropped."""
    oracle.refresh()
    house.refresh()
    for level in LEVELS:
        since = hours_since if level == "hourly" else None
        assert house.level(level, since) == oracle.level(level, since), level


def _project(streams: dict[str, Stream], hours: str | None) -> Project:
    project = load_project(streams)
    if hours is None:
        return project
    import msgspec  # noqa: PLC0415

    models = [
        msgspec.structs.replace(model, retention=hours) if model.name == "meter_hourly" else model
        for model in project.models.values()
    ]
    return Project(models, streams)
