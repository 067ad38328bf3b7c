"""Keeps the log of refreshes from growing for ever."""

from dbt_like_sql.engine.database import Database
from dbt_like_sql.engine.project import Project

DEPLOYED = """
-- deployed: models that have a table of materialized buckets
select model from hl.models where to_regclass('materialized.' || quote_ident(model)) is not null
"""
# The newest one stays, since the next one tells what is new from its offsets.
FORGET = """
-- forget_refreshes: old ones of a model that no materialized row names
delete from hl.refreshes where id in (
    select r.id from hl.refreshes as r
    where r.model = %(model)s and r.refreshed_at < now() - make_interval(days => %(days)s)
        and r.id < (select max(id) from hl.refreshes where model = %(model)s)
        and not exists (select from materialized.{model} as m where m.refresh_id = r.id)
    limit %(limit)s)
returning 1
"""
# Of models that there are no more, and that left no rows which may name them.
FORGET_ORPHANS = """
-- forget_orphans: old ones of models that are not deployed any more
delete from hl.refreshes
where refreshed_at < now() - make_interval(days => %(days)s) and model not in (select model from hl.models)
    and to_regclass('materialized.' || quote_ident(model)) is null
returning 1
"""
BATCH_ROWS = 20_000


def forget_refreshes(db: Database, project: Project, *, days: int) -> int:
    """Deletes refreshes that are older than some days and that no materialized row needs; returns how many.

    Args:
        db: as the owner of the tables.
        project: all models.
        days: age from which they go.

    Raises:
        TransientError: the database is away; what was deleted stays deleted.

    Guarantee: every materialized row keeps the refresh that it names, and every model its newest one.
    """
    there = {str(model) for (model,) in db.rows(DEPLOYED)}
    n_deleted = len(db.rows(FORGET_ORPHANS, {"days": days}))
    for model in project.aggregates():
        values = {"model": model.name, "days": days, "limit": BATCH_ROWS}
        n = BATCH_ROWS if model.name in there else 0
        while n == BATCH_ROWS:
            n = len(db.rows(FORGET.format(model=model.name), values))
            n_deleted += n
    return n_deleted
