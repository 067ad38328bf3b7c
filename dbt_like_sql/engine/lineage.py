"""Which column comes from which, found in the SQL that a model's macros make.

A column comes from those whose values go into it, and from those that a condition of it asks (`case`, `filter`). What
rows are joined, grouped, filtered or sorted by is not counted.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from dbt_like_sql.engine.model import Model
from dbt_like_sql.engine.objects import SCOPE
from dbt_like_sql.engine.project import Project
from dbt_like_sql.engine.render import Renderer
from dbt_like_sql.engine.syntax import parsed
from hl_platform.core.errors import ConfigError

Origins = frozenset[tuple[str, str]]
# Columns of a relation, in order; None: nobody declared them.
Columns = dict[str, Origins]

NOWHERE: Origins = frozenset()
# Columns of every table of readings, beside those of its stream.
OF_READINGS = ("extra", "received_at", "ingested_at", "corrections")
# Columns of every aggregate, beside those of its SELECT.
OF_AGGREGATES = ("bucket_end", "refresh_id")


class Node(NamedTuple):
    """A column, and those that it comes from."""

    relation: str
    column: str
    origins: tuple["Node", ...]


def column_lineage(project: Project, model: Model) -> dict[str, list[tuple[str, str]]]:
    """Where each column of a model comes from.

    Args:
        project: all models.
        model: which.

    Returns:
        By column, in the order of the SELECT: (model or table, column) pairs, sorted. A constant comes from nothing.

    Raises:
        ConfigError: the model's text is no SQL; the message names file and line.
    """
    found = _Resolver(project).columns_of(model)
    return {name: sorted(origins) for name, origins in found.items()}


def lineage_tree(project: Project, model: Model, column: str) -> Node:
    """A column with all that it comes from, down to the readings.

    Raises:
        ConfigError: the model has no such column.
    """
    resolver = _Resolver(project)

    def node(relation: str, name: str) -> Node:
        known = project.models.get(relation)
        origins = resolver.columns_of(known).get(name, NOWHERE) if known else NOWHERE
        return Node(relation, name, tuple(node(*origin) for origin in sorted(origins)))

    if column not in resolver.columns_of(model):
        raise ConfigError(
            f"{model.name} has no column {column!r}. It has {', '.join(resolver.columns_of(model))}."
        )
    return node(model.name, column)


class _Resolver:
    """Follows columns through the models of a project; each model is parsed once."""

    def __init__(self, project: Project) -> None:
        self._project = project
        self._renderer = Renderer(project.streams)
        self._tables = {stream.table: stream for stream in project.streams.values()}
        self._done: dict[str, Columns] = {}

    def columns_of(self, model: Model) -> Columns:
        """Columns of a model's SELECT with what they come from directly."""
        if model.name not in self._done:
            computed = model.materialization in ("continuous_aggregate", "function")
            stream = self._project.stream_of(model)
            # By another name than the deployed one, the readings are looked up in place and not by a function.
            scope = SCOPE._replace(relation=stream.table) if stream else SCOPE
            tree = parsed(model, self._renderer.render(model, scope if computed else None))
            # The device is handed to what computes a model; it is the one of the rows below.
            below = stream.table if stream else model.refs[0] if model.refs else ""
            outermost = _Scope(self.relation, {}, {}, None, frozenset({(below, "device_id")}))
            self._done[model.name] = outermost.query(tree)
        return self._done[model.name]

    def relation(self, name: str) -> Columns | None:
        """Columns of a table or view that stands in the SQL, each coming from itself."""
        names: Sequence[str]
        if name in self._project.models:
            model = self._project.models[name]
            names = (*self.columns_of(model), *(() if not model.bucket else OF_AGGREGATES))
        elif name in self._tables:
            names = (*self._tables[name].columns, *OF_READINGS)
        else:
            return None
        return {column: frozenset({(name, column)}) for column in names}


class _Scope:
    """What names mean within one SELECT.

    Args:
        relation: columns of a table by its name.
        with_queries: columns of the queries of WITH.
        sources: columns of what FROM lists, by alias.
        outer: the SELECT around this one, whose columns a lateral join may name.
        device: where the first parameter comes from.
    """

    def __init__(
        self,
        relation: Any,  # noqa: ANN401 - a method of the resolver
        with_queries: Mapping[str, Columns],
        sources: dict[str, Columns | None],
        outer: "_Scope | None",
        device: Origins,
    ) -> None:
        self._relation = relation
        self._with = dict(with_queries)
        self._sources = sources
        self._outer = outer
        self._device = device

    def query(self, tree: Any) -> Columns:  # noqa: ANN401 - sqlglot is imported when it is needed
        """Columns of a SELECT, a union, or either in brackets."""
        from sqlglot import exp  # noqa: PLC0415 - takes a quarter of a second

        if isinstance(tree, exp.Subquery | exp.Paren):
            return self.query(tree.this)
        if isinstance(tree, exp.Values):
            columns = zip(*(row.expressions for row in tree.expressions), strict=True)
            return {f"column{n}": _joined(map(self.origins, column)) for n, column in enumerate(columns, 1)}
        inner = _Scope(self._relation, self._with, {}, self, self._device)
        for cte in tree.ctes:
            inner.add_with(cte)
        if isinstance(tree, exp.SetOperation):
            left, right = inner.query(tree.this), inner.query(tree.expression)
            return {
                name: origins | other
                for (name, origins), other in zip(left.items(), right.values(), strict=True)
            }
        return inner.select(tree)

    def add_with(self, cte: Any) -> None:  # noqa: ANN401
        """Takes in one query of WITH; those before it are known to it."""
        self._with[cte.alias] = _renamed(self.query(cte.this), cte)

    def select(self, tree: Any) -> Columns:  # noqa: ANN401
        """Columns of a SELECT whose names this scope is for."""
        from sqlglot import exp  # noqa: PLC0415

        if tree.args.get("from_"):
            self._add(tree.args["from_"].this)
        for joined in (*tree.args.get("joins", ()), *tree.args.get("laterals", ())):
            self._add(joined.this if isinstance(joined, exp.Join) else joined)
        columns: Columns = {}
        for index, item in enumerate(tree.expressions):
            if item.is_star:
                columns |= self._star(item.table if isinstance(item, exp.Column) else "")
            else:
                columns[item.alias_or_name or f"_{index}"] = self._origins_or_device(item)
        return columns

    def origins(self, tree: Any) -> Origins:  # noqa: ANN401
        """Where the value of an expression comes from."""
        from sqlglot import exp  # noqa: PLC0415

        if isinstance(tree, exp.Column):
            return self.column(tree.table, tree.name)
        if isinstance(tree, exp.Query):
            return _joined(self.query(tree).values())
        if isinstance(tree, exp.Order):
            return NOWHERE
        if isinstance(tree, exp.Window):
            return self.origins(tree.this)
        return _joined(self.origins(child) for child in tree.iter_expressions())

    def _origins_or_device(self, item: Any) -> Origins:  # noqa: ANN401
        from sqlglot import exp  # noqa: PLC0415

        value = item.unalias()
        while isinstance(value, exp.Cast):
            value = value.this
        return self._device if isinstance(value, exp.Parameter) and value.name == "1" else self.origins(item)

    def _add(self, source: Any) -> None:  # noqa: ANN401
        """Takes in one item of FROM; those before it are known to it, as LATERAL wants."""
        from sqlglot import exp  # noqa: PLC0415

        alias = source.alias_or_name
        body = source.this if isinstance(source, exp.Lateral) else source
        columns: Columns | None
        if isinstance(body, exp.Subquery | exp.Values):
            columns = self.query(body)
        elif isinstance(body, exp.Table) and isinstance(body.this, exp.Identifier):
            columns = self._with[body.name] if body.name in self._with else self._relation(body.name)
            if columns is None:
                self._sources[alias] = None
                return
        else:
            # A function: each of its columns may come from all that it is given.
            given = self.origins(body)
            names = _alias_columns(source) or [alias]
            self._sources[alias] = dict.fromkeys(names, given)
            return
        self._sources[alias] = _renamed(columns, source)

    def _star(self, alias: str) -> Columns:
        wanted = [alias] if alias else list(self._sources)
        columns: Columns = {}
        for name in wanted:
            columns |= self._sources.get(name) or {}
        return columns

    def column(self, alias: str, name: str) -> Origins:
        """Where a column comes from that stands in an expression of this SELECT, or of one within it."""
        for source, columns in self._sources.items():
            if alias not in ("", source):
                continue
            if columns is None and alias:
                return frozenset({(source, name)})
            if columns is not None and name in columns:
                return columns[name]
        unknown = [source for source, columns in self._sources.items() if columns is None]
        if not alias and len(unknown) == 1:
            return frozenset({(unknown[0], name)})
        return NOWHERE if self._outer is None else self._outer.column(alias, name)


def _alias_columns(source: Any) -> list[str]:  # noqa: ANN401
    alias = source.args.get("alias")
    return (
        [column.name for column in alias.columns] if alias is not None and alias.args.get("columns") else []
    )


def _renamed(columns: Columns, source: Any) -> Columns:  # noqa: ANN401
    names = _alias_columns(source)
    return dict(zip([*names, *list(columns)[len(names) :]], columns.values(), strict=True))


def _joined(found: Iterator[Origins] | Any) -> Origins:  # noqa: ANN401
    return NOWHERE.union(*found)
