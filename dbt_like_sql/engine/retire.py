"""What becomes of models that are in the database and no longer in the project: their file is gone, or their kind.

Changes do not mark them any more, so that nobody may read what is materialized of them. Their views go, and with them
what they call. A table of materialized buckets goes as well, unless it holds rows below its floor: those cannot be
computed again, and wait for the model to come back. A model that does is deployed as a new one is, dirty all over.

Where somebody's own view reads one of ours, ours stays, and says why it answers no more.
"""

from collections.abc import Collection, Iterable
from typing import NamedTuple

from dbt_like_sql.engine.database import Database
from hl_platform.core.streams import Stream

# The code tells whether something depends on it. What does is not ours, and so not to be dropped with it.
DROP = """
-- drop: a thing, unless something depends on it
do $drop$
begin
    drop {kind} if exists {name};
exception when dependent_objects_still_exist then
    null;
end
$drop$
"""
VIEWS = """
-- views: those of some models
select c.relname from pg_class as c join unnest(%(names)s::text[]) with ordinality as n (name, position)
    on n.name = c.relname
where c.relnamespace = 'public'::regnamespace and c.relkind = 'v' order by n.position
"""
READERS = """
-- readers: what reads a view
select distinct r.ev_class::regclass::text from pg_depend as d join pg_rewrite as r on r.oid = d.objid
where d.classid = 'pg_rewrite'::regclass and d.refclassid = 'pg_class'::regclass
    and d.refobjid = to_regclass(%(view)s) and r.ev_class <> d.refobjid
order by 1
"""
NOT_KEPT = """
-- not_kept: for views that cannot go, since somebody's own ones read them
create or replace function hl.not_kept(model text) returns boolean language plpgsql stable as $not_kept$
begin
    raise exception 'The model % is not deployed any more, so that nothing keeps its rows right.', model
        using errcode = 'object_not_in_prerequisite_state',
            hint = 'Put its file back and run `hl sql run`, or drop the views that read it.';
end
$not_kept$
"""
# Asked once for the whole query, also where the table is empty.
SILENT_VIEW = """
-- silent_view: has the columns of a model's view, and answers nothing
create or replace view public.{model} as
select kept.* from materialized.{model} as kept where (select hl.not_kept('{model}'))
"""
SILENT_VIEWS = """
-- silent_views: those that were left, which may be able to go by now
select distinct c.relname from pg_depend as d
join pg_rewrite as r on r.oid = d.objid join pg_class as c on c.oid = r.ev_class
where d.classid = 'pg_rewrite'::regclass and d.refclassid = 'pg_proc'::regclass
    and d.refobjid = to_regproc('hl.not_kept') and c.relnamespace = 'public'::regnamespace
order by 1
"""
# The text of the model is not known any more; this view is ours, and names the floor.
FLOOR_OF_DEPLOYED = """
-- floor_of_deployed: where the rows begin that a deployed aggregate can be computed from
select coalesce((select floor from hl.floors where table_name = substring(
    pg_get_viewdef(to_regclass('hl.dirty_' || %(model)s)) from $name$table_name = '([a-z0-9_]+)'$name$)),
    '-infinity')::text
"""
# What changes from now on is not marked: when the model comes back these would be taken for rows that are right.
FORGET_COMPUTABLE = """
-- forget_computable: rows that can be computed again
delete from materialized.{model} where bucket >= %(floor)s
"""
FORGET = """
-- forget: a model
delete from hl.models where model = %(model)s
"""
# Who writes at this moment may still mark them, and is not waited for.
FORGET_MARKS = """
-- forget_marks: those of models that are no deployed aggregates
delete from hl.dirty as d using (
    select model, device_id, bucket from hl.dirty where model <> all(%(models)s::text[]) for update skip locked
) as orphan
where d.model = orphan.model and d.device_id = orphan.device_id and d.bucket = orphan.bucket
"""
# By what their mark functions are called.
MARKED_TABLES = """
-- marked_tables: tables whose changes are marked
select substring(proname from '^mark_truncated_(.*)$') from pg_proc
where pronamespace = 'hl'::regnamespace and proname ~ '^mark_truncated_'
"""
# The triggers stay: taking them away would wait for everybody who writes.
MARK_NOTHING = """
-- mark_nothing: changes of a table that no model reads
create or replace function hl.{function}() returns trigger language plpgsql as $mark$
begin
    return null;
end
$mark$
"""


class Retired(NamedTuple):
    """A model that was taken out of the database.

    Args:
        model: its name.
        n_rows_kept: rows that cannot be computed again, and stay in `materialized.<model>`.
        left: what stays of it since something depends on it.
        readers: views of somebody's own that read it. They answer with an error until it comes back.
    """

    model: str
    n_rows_kept: int
    left: list[str]
    readers: list[str]


def silent(db: Database) -> list[str]:
    """Names of models that went before, and whose views somebody's own ones have kept."""
    return [str(name) for (name,) in db.rows(SILENT_VIEWS)]


def withdraw(db: Database, names: Iterable[str]) -> None:
    """Drops the views of models, in whatever order they depend on each other.

    Args:
        db: as the owner of the tables, within a transaction.
        names: of models, those that read others first.

    Guarantee: what is not ours stays. An aggregate's view that something else reads stays with its columns, and
    answers with an error; it reads nothing but the table.
    """
    left = [str(name) for (name,) in db.rows(VIEWS, {"names": list(names)})]
    before: list[str] = []
    while left != before:
        before = left
        left = [name for name in before if not drop(db, "view", f"public.{name}")]
    for name in left:
        if is_there(db, f"hl.dirty_{name}"):
            db.rows(NOT_KEPT)
            db.rows(SILENT_VIEW.format(model=name))


def retire(db: Database, name: str) -> Retired:
    """Takes a model out of the database whose view was withdrawn; a `table` model stays as it is.

    Args:
        db: as the owner of the tables, within a transaction.
        name: of the model.

    Guarantee: rows that cannot be computed again stay in `materialized.<name>`.
    """
    table = f"materialized.{name}"
    n_kept = 0
    if is_there(db, f"hl.dirty_{name}"):
        floor = str(db.rows(FLOOR_OF_DEPLOYED, {"model": name})[0][0])
        db.rows(FORGET_COMPUTABLE.format(model=name), {"floor": floor})
    if is_there(db, table):
        n_kept = int(db.rows(f"select count(*) from {table}")[0][0])
    things = {f"hl.dirty_{name}": "view", f"hl.compute_{name}": "function", f"hl.events_{name}": "function"}
    if not n_kept:
        things[table] = "table"
    left = [thing for thing, kind in things.items() if not drop(db, kind, thing)]
    db.rows(FORGET, {"model": name})
    readers = [str(reader) for (reader,) in db.rows(READERS, {"view": f"public.{name}"})]
    return Retired(name, n_kept, left, readers)


def forget_marks(db: Database, aggregates: Iterable[str]) -> None:
    """Deletes the marks of everything but some models. It comes last: a writer who marks them waits for our end."""
    db.rows(FORGET_MARKS, {"models": list(aggregates)})


def silence(db: Database, streams: Collection[Stream]) -> None:
    """Lets changes of tables mark nothing whose streams are not declared any more: no model can read them."""
    declared = {stream.table for stream in streams}
    for (table,) in db.rows(MARKED_TABLES):
        if table not in declared:
            for function in (f"mark_{table}", f"mark_truncated_{table}"):
                db.rows(MARK_NOTHING.format(function=function))


def drop(db: Database, kind: str, name: str) -> bool:
    """Drops a view, function or table unless something depends on it; whether it is gone."""
    db.rows(DROP.format(kind=kind, name=name))
    return not is_there(db, name, is_function=kind == "function")


def is_there(db: Database, name: str, *, is_function: bool = False) -> bool:
    """Whether the database has a relation or function of a name."""
    look_up = "to_regproc" if is_function else "to_regclass"
    return bool(db.rows(f"select {look_up}(%(name)s) is not null", {"name": name})[0][0])
