"""Whether what a model renders to is SQL, said with the line of the model's file before anything is deployed."""

from typing import Any

from dbt_like_sql.engine.model import Model
from hl_platform.core.errors import ConfigError


def parsed(model: Model, sql: str) -> Any:  # noqa: ANN401 - sqlglot is imported when it is needed
    """The tree of a rendered model.

    Args:
        model: which.
        sql: what it renders to.

    Raises:
        ConfigError: it is no SQL; the message names file and line.
    """
    import sqlglot  # noqa: PLC0415 - takes a quarter of a second, and only people's commands need it
    from sqlglot.errors import SqlglotError  # noqa: PLC0415

    try:
        trees = [tree for tree in sqlglot.parse(sql, dialect="postgres") if tree is not None]
    except SqlglotError as exc:
        raise ConfigError(_explain(model, sql, exc)) from exc
    if len(trees) != 1 or not isinstance(trees[0], sqlglot.exp.Query):
        raise ConfigError(f"{model.name}.sql:{model.first_line}: write one SELECT behind the header.")
    return trees[0]


def pretty(model: Model, sql: str) -> str:
    """Rendered SQL with one style of breaks, so that it can be read."""
    return str(parsed(model, sql).sql(dialect="postgres", pretty=True))


def _explain(model: Model, sql: str, exc: Any) -> str:  # noqa: ANN401
    details = getattr(exc, "errors", [])
    if not details or not details[0].get("line"):
        return f"{model.name}.sql: this is no SQL: {str(exc).splitlines()[0]}"
    error = details[0]
    broken = sql.splitlines()[error["line"] - 1].strip()
    what = f"{error['description']} at {error['highlight']!r} in `{broken}`"
    lines = [
        number
        for number, line in enumerate(model.select.splitlines(), model.first_line)
        if line.strip() == broken
    ]
    if lines:
        return f"{model.name}.sql:{lines[0]}: this is no SQL: {what}."
    return f"{model.name}.sql: a macro makes no SQL of it: {what}. `hl sql compile {model.name} --raw` shows all."
