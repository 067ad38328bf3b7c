"""Takes old rows out of models that say how long theirs are kept, such as hours after two years.

They go when what is above them is materialized from them. From then on a late reading below is absorbed: its hours are
computed from the archive, and so is what is above them.
"""

from datetime import datetime
from typing import NamedTuple

import structlog

from dbt_like_sql.engine.database import Database
from dbt_like_sql.engine.deploy import columns_of
from dbt_like_sql.engine.deployed import check_deployed
from dbt_like_sql.engine.floors import floor_below, hold_floors, raise_floor
from dbt_like_sql.engine.model import Model
from dbt_like_sql.engine.project import Project
from dbt_like_sql.engine.refresh import Refresher
from hl_platform.core.errors import InvariantError
from hl_platform.core.levels import GRAINS

log = structlog.get_logger()

MARKS_AT_A_TIME = 5_000

CUTOFF = """
-- cutoff: begin of the bucket that lies so long ago, or of that in which what is below begins
select hl.bucket_start(%(grain)s, least(now() - %(age)s::interval, %(below)s::timestamptz))::text
"""
MARKED = """
-- marked: whether anything before the cutoff is dirty, at a model or above
select exists (select from hl.dirty where model = any(%(models)s) and bucket < %(cutoff)s)
"""
UNLIKE = """
-- unlike: buckets above that do not hold what those below say
select a.device_id, a.bucket from materialized.{above} as a
where a.bucket < %(cutoff)s and a.bucket >= coalesce(
        (select floor from hl.floors where table_name = '{model}'), '-infinity'::timestamptz)
    and a.n_readings is distinct from (
        select sum(n_readings) from materialized.{model} as m
        where m.device_id = a.device_id and m.bucket >= a.bucket and m.bucket < a.bucket_end)
union all
select m.device_id, m.bucket from materialized.{model} as m
where m.bucket < %(cutoff)s and m.bucket >= coalesce(
        (select floor from hl.floors where table_name = '{model}'), '-infinity'::timestamptz)
    and not exists (
        select from materialized.{above} as a
        where a.device_id = m.device_id and a.bucket = hl.bucket_start('{grain}', m.bucket))
limit 1
"""
PARTITIONS = """
-- partitions: of a model, that end by a time
select c.relname from pg_inherits as i join pg_class as c on c.oid = i.inhrelid
where i.inhparent = to_regclass('materialized.{model}') and c.relname ~ '_p[0-9]{{6}}$'
    and to_date(right(c.relname, 6), 'YYYYMM') + interval '1 month' <= %(cutoff)s::timestamptz at time zone 'UTC'
"""
DELETE = """
-- delete: rows before the cutoff
with deleted as (delete from materialized.{model} where bucket < %(cutoff)s returning 1) select count(*) from deleted
"""


class Forgotten(NamedTuple):
    """What retention took out of a model."""

    model: str
    n_rows: int
    floor: str


class ModelRetention:
    """Retention of models' rows.

    Args:
        db: as the owner of the tables; nobody else uses it meanwhile.
        project: all models.
        version: of hl.
    """

    def __init__(self, db: Database, project: Project, version: str) -> None:
        self._db = db
        self._project = project
        self._refresher = Refresher(db, project, version)

    def run(self, model: Model) -> Forgotten | None:
        """Drops what is older than a model's header allows; None if it says nothing, or nothing can go yet.

        Raises:
            InvariantError: what is above does not hold what the rows say; nothing was dropped.
            TransientError: the database is away, or somebody refreshes all the time.

        Guarantee: a bucket above that was right stays right. Rows stay at least as long as those that they are
        computed from, and as long as a late reading below waits to be absorbed.
        """
        base = self._project.base_of(model)
        cutoff = self._cutoff(model)
        if base is None or cutoff is None or not model.is_aggregate:
            return None
        above = self._project.above(model.name)
        for higher in above:
            while self._refresher.refresh(higher, limit=MARKS_AT_A_TIME, end=cutoff).n_marks:
                pass
        models = [model.name, *(higher.name for higher in above)]
        with self._db.transaction():
            # A model that we do not know may still have to compute from these rows.
            check_deployed(self._db, self._project)
            hold_floors(self._db, base.table)
            marked = self._db.rows(MARKED, {"models": models, "cutoff": cutoff})[0][0]
            if marked:
                log.info("rows_kept", model=model.name, cutoff=cutoff)
                return None
            for higher in above:
                self._check(model, higher, cutoff)
            n_rows = int(self._db.rows(DELETE.format(model=model.name), {"cutoff": cutoff})[0][0])
            for (name,) in self._db.rows(PARTITIONS.format(model=model.name), {"cutoff": cutoff}):
                self._db.rows(f"drop table materialized.{name}")
            raise_floor(self._db, model.name, cutoff)
        log.info("rows_dropped", model=model.name, n_rows=n_rows, floor=cutoff)
        return Forgotten(model.name, n_rows, cutoff)

    def _cutoff(self, model: Model) -> str | None:
        if model.retention is None:
            return None
        above = [higher.bucket for higher in self._project.above(model.name)] or [model.bucket]
        # Whole buckets of whatever is computed from it.
        grain = max((bucket for bucket in above if bucket is not None), key=GRAINS.index)
        below = floor_below(self._db, self._project, model)
        if below == "-infinity":
            return None
        cutoff = self._db.rows(CUTOFF, {"grain": grain, "age": model.retention, "below": below})[0][0]
        return str(cutoff)

    def _check(self, model: Model, above: Model, cutoff: str) -> None:
        tables = [columns_of(self._db, f"materialized.{name}") for name in (model.name, above.name)]
        if not all("n_readings" in columns for columns in tables):
            return
        query = UNLIKE.format(model=model.name, above=above.name, grain=above.bucket)
        wrong: list[tuple[str, datetime]] = self._db.rows(query, {"cutoff": cutoff})
        if wrong:
            device, bucket = wrong[0]
            raise InvariantError(
                f"{above.name} of {device} at {bucket} does not hold what {model.name} says. Nothing was dropped; "
                "deploy the models anew to compute it again."
            )
