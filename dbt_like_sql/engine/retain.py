"""All of retention: late readings merged, old readings archived and dropped, old rows of models dropped."""

from typing import NamedTuple

import structlog

from dbt_like_sql.engine.absorb import Absorber
from dbt_like_sql.engine.archive import ArchiveFiles
from dbt_like_sql.engine.database import BulkDatabase
from dbt_like_sql.engine.model_retention import ModelRetention
from dbt_like_sql.engine.project import Project
from dbt_like_sql.engine.retention import Retention
from hl_platform.core.errors import DatabaseAwayError, HlError
from hl_platform.core.streams import Stream

log = structlog.get_logger()

WAITING = """
-- waiting: what has been marked below the floor of a table, and by the database's clock for how long
select count(*), coalesce(extract(epoch from clock_timestamp() - min(since)), 0)::float8, min(since)::text
from hl.dirty
where model = any(%(models)s)
  and bucket < coalesce((select floor from hl.floors where table_name = %(table_name)s), '-infinity')
"""


class Waiting(NamedTuple):
    """Marks below a floor: how many, the age of the oldest in seconds, and when that was made."""

    n_marks: int
    age_s: float
    since: str | None


class Retained(NamedTuple):
    """What became of one stream.

    Args:
        stream: its name.
        n_late: late readings that were merged into archive and aggregates.
        n_days: UTC days that were archived and dropped.
        n_rows: readings in them.
        n_model_rows: rows of models that were dropped.
    """

    stream: str
    n_late: int
    n_days: int
    n_rows: int
    n_model_rows: int


def waiting(db: BulkDatabase, project: Project, stream: Stream) -> Waiting:
    """What waits to be absorbed."""
    values = {"models": project.over_readings(stream), "table_name": stream.table}
    return Waiting(*db.rows(WAITING, values)[0])


def retain(
    db: BulkDatabase, project: Project, files: ArchiveFiles, version: str, *, raw_days: int
) -> list[Retained]:
    """Retention of all streams; one that fails holds none of the others up.

    Args:
        db: as the owner of the tables; nobody else uses it meanwhile.
        project: all models.
        files: the archive.
        version: of hl.
        raw_days: for which readings stay in their table, in local days.

    Raises:
        InvariantError, ConfigError, TransientError: the first that a stream had, after all had their turn.
    """
    done, first_error = [], None
    for stream in project.streams.values():
        try:
            done.append(_retain(db, project, files, version, stream, raw_days))
        except DatabaseAwayError:
            raise
        except HlError as exc:
            log.exception("retention_failed", stream=stream.name)
            first_error = first_error or exc
    if first_error is not None:
        raise first_error
    return done


def _retain(  # noqa: PLR0917 - as above
    db: BulkDatabase, project: Project, files: ArchiveFiles, version: str, stream: Stream, raw_days: int
) -> Retained:
    absorbed = Absorber(db, project, files, version).run(stream)
    retention = Retention(db, project, files, version)
    dropped = retention.run(stream, retention.cutoff(raw_days))
    n_model_rows = 0
    models = ModelRetention(db, project, version)
    for model in project.aggregates():
        if project.base_of(model) == stream:
            forgotten = models.run(model)
            n_model_rows += forgotten.n_rows if forgotten else 0
    return Retained(stream.name, absorbed.n_rows, dropped.n_days, dropped.n_rows, n_model_rows)
