"""Checks: a SELECT of rows that must not be, run on the models as they are deployed.

```sql
/*
name: no_negative_count
description: A bucket has no readings or some.
model: "*_hourly"
severity: error
*/
select device_id, bucket, n_readings from {{ ref(model) }} where {{ recent() }} and n_readings < 0
```

`model` is a name or a pattern; the SELECT is rendered for each continuous aggregate that it fits, with `ref()`,
`model`, `below` (the model that it is computed from, if any), `recent()`, `length` of a bucket, `field('name')`,
`gauges` and `moved` (columns of what counters moved). A SELECT that renders to nothing does not concern the model.
"""

from collections.abc import Iterator
from fnmatch import fnmatchcase
from typing import Any, Literal, NamedTuple

import jinja2
import msgspec

from dbt_like_sql.engine.database import Database
from dbt_like_sql.engine.model import Model, read_header, select_of
from dbt_like_sql.engine.project import Project
from dbt_like_sql.engine.render import line_of, near
from dbt_like_sql.engine.scaffold import moved_name
from dbt_like_sql.engine.texts import read_texts
from hl_platform.core.errors import ConfigError, InvariantError, PoisonRecordError
from hl_platform.core.streams import Field

# Rows that are looked at behind the last ones; more would make a check of years of hours a burden.
RECENT_DAYS = 35
SHOWN_ROWS = 5
# What a bucket is long at most, and some time to refresh it.
LENGTHS = {"minute": "1 minute", "hour": "2 hours", "day": "26 hours", "month": "32 days", "year": "367 days"}
COUNT = """
-- check: how many rows are not as they must be, and some of them
select n, row_to_json(bad)::jsonb from (select *, count(*) over () as n from (
{select}
) as found limit {limit}) as bad
"""


class Check(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What a check's header says, and the SELECT behind it."""

    name: str
    description: str
    model: str
    severity: Literal["warn", "error"] = "error"
    select: str = ""
    first_line: int = 1


class CheckResult(NamedTuple):
    """How a check of a model went.

    Args:
        check, model, description: which.
        severity: what it means when it fails: `warn` or `error`.
        n_bad: rows that are not as they must be.
        sample: some of them.
        error: why it could not be run.
    """

    check: str
    model: str
    description: str
    severity: str
    n_bad: int = 0
    sample: tuple[dict[str, Any], ...] = ()
    error: str = ""

    @property
    def passed(self) -> bool:
        """Whether no row is wrong."""
        return self.n_bad == 0 and not self.error


def load_checks(models_dir: str | None = None) -> list[Check]:
    """All checks of the package and of the household (`checks/*.sql` beside its models).

    Raises:
        ConfigError: a file is wrong; the message names it.
    """
    found = []
    for file, text in read_texts("checks", ".sql", models_dir).items():
        check: Check = msgspec.structs.replace(read_header(text, file, Check), **select_of(text))
        if file != f"{check.name}.sql":
            raise ConfigError(f"{file}: key `name` = {check.name!r}: must be the file's name.")
        found.append(check)
    return found


def checks_of(project: Project, checks: list[Check]) -> Iterator[tuple[Check, Model, str]]:
    """Each check with each model that it concerns, and its SQL.

    Raises:
        ConfigError: a check fits no model, or its text is not right; the message names file and line.
    """
    for check in checks:
        fitting = [model for model in project.aggregates() if fnmatchcase(model.name, check.model)]
        # Those of the package may be about a stream that a household has done without.
        if not fitting and "*" not in check.model:
            there = near(check.model, project.models)
            raise ConfigError(f"{check.name}.sql: key `model`: there is no {check.model}. {there}")
        for model in fitting:
            sql = _render(project, check, model)
            if sql:
                yield check, model, sql


def run_checks(
    db: Database, project: Project, checks: list[Check] | None = None, model: str | None = None
) -> list[CheckResult]:
    """Runs checks on the models as they are deployed.

    Args:
        db: may read the models.
        project: all models.
        checks: which; the package's unless told.
        model: only those of this one.

    Raises:
        TransientError: the database is away.
        ConfigError: a check's text is not right.
    """
    wanted = checks_of(project, load_checks() if checks is None else checks)
    return [_run(db, check, found, sql) for check, found, sql in wanted if model in (None, found.name)]


def _run(db: Database, check: Check, model: Model, sql: str) -> CheckResult:
    result = CheckResult(check.name, model.name, check.description, check.severity)
    try:
        rows = db.rows(COUNT.format(select=sql, limit=SHOWN_ROWS))
    except (ConfigError, PoisonRecordError, InvariantError) as exc:
        return result._replace(error=f"{check.name}.sql on {model.name}: {exc}")
    sample = tuple({key: value for key, value in row.items() if key != "n"} for _, row in rows)
    return result._replace(n_bad=int(rows[0][0]) if rows else 0, sample=sample)


def _render(project: Project, check: Check, model: Model) -> str:
    env = jinja2.Environment(
        undefined=jinja2.StrictUndefined,
        autoescape=False,  # noqa: S701 - SQL, not HTML
        trim_blocks=True,
        lstrip_blocks=True,
    )
    fields = {field.name: field for field in _fields_of(project, model)}
    below = model.refs[0] if model.refs else None
    length = LENGTHS[model.bucket or "hour"]
    values = {
        "model": model.name,
        "below": below if below in project.models and project.models[below].is_aggregate else None,
        "length": length,
        "gauges": [name for name in fields if f"{name}_sample_mean" in model.columns],
        "moved": [name for name in map(moved_name, fields.values()) if name in model.columns],
        "ref": lambda name: f"public.{_known(name, project)}",
        "field": lambda name: fields[name],
        # Of a bucket that ends within them, however long it is.
        "recent": lambda: f"bucket >= now() - interval '{RECENT_DAYS} days' - interval '{length}'",
    }
    try:
        return env.from_string(check.select).render(values).strip()
    except (jinja2.TemplateError, LookupError, TypeError) as exc:
        line = check.first_line + max(line_of(exc) - 1, 0)
        raise ConfigError(f"{check.name}.sql:{line}: {exc} (on {model.name})") from exc


def _known(name: str, project: Project) -> str:
    if name not in project.models:
        raise LookupError(f"ref('{name}'): there is no such model. {near(name, project.models)}")
    return name


def _fields_of(project: Project, model: Model) -> tuple[Field, ...]:
    below = model
    while below.refs:
        below = project.models[below.refs[0]]
    stream = project.stream_of(below)
    return stream.fields if stream else ()
