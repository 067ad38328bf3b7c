"""Floors: where complete rows begin. What is below is never computed from its table again.

One lock for each stream is around all of it: a refresh holds it together with other refreshes, and who raises a floor
or works below one holds it alone. Otherwise a refresh that read the old floor could take a mark that a late reading
made below the new one, and compute an aggregate from what was left. So everybody who takes marks has this lock, and who
writes many devices' readings sees by it that nobody does.
"""

from dbt_like_sql.engine.database import Database
from dbt_like_sql.engine.model import Model
from dbt_like_sql.engine.project import Project

# While we wait for a lock, everybody who comes after us waits, too: in short tries, then.
LOCK_TIMEOUT_MS = 500

SHARE = "select pg_advisory_xact_lock_shared(hashtextextended('hl.floors.' || %(name)s, 0))"
HOLD = "select pg_advisory_xact_lock(hashtextextended('hl.floors.' || %(name)s, 0))"
FLOOR = """
-- floor: where complete rows of a table begin
select coalesce((select floor from hl.floors where table_name = %(table_name)s), '-infinity'::timestamptz)::text
"""
RAISE_FLOOR = """
-- raise_floor: of a table; it never falls
insert into hl.floors (table_name, floor) values (%(table_name)s, %(floor)s)
on conflict (table_name) do update set floor = greatest(floors.floor, excluded.floor)
"""


def share_floors(db: Database, project: Project, model: Model) -> None:
    """From here to the end of the transaction the floors that a model stands on stay where they are."""
    db.rows(SHARE, {"name": base_name(project, model)})


def base_name(project: Project, model: Model) -> str:
    """What the lock of a model's floors is named after: the table of the readings that it is made from in the end."""
    base = project.base_of(model)
    return base.table if base else model.refs[0]


def hold_floors(db: Database, table_name: str) -> None:
    """From here to the end of the transaction nobody else computes from a stream's table, or moves its floors.

    Raises:
        TransientError: somebody did all the time; nothing was done.
    """
    db.rows(f"set local lock_timeout = {LOCK_TIMEOUT_MS}")
    db.rows(HOLD, {"name": table_name})


def floor_of(db: Database, table_name: str) -> str:
    """Where complete rows of a table or model begin, as PostgreSQL writes it."""
    return str(db.rows(FLOOR, {"table_name": table_name})[0][0])


def floor_below(db: Database, project: Project, model: Model) -> str:
    """Where the rows that a model is computed from begin."""
    stream = project.stream_of(model)
    return floor_of(db, stream.table if stream else model.refs[0])


def raise_floor(db: Database, table_name: str, floor: str) -> None:
    """Sets a floor, unless it is higher already."""
    db.rows(RAISE_FLOOR, {"table_name": table_name, "floor": floor})
