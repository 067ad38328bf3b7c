"""A model's text to SQL: ref(), source() and the macros of dbt_like_sql/macros."""

import difflib
import re
from collections.abc import Callable, Iterable, Mapping
from importlib import resources
from typing import Any, NamedTuple

import jinja2

from dbt_like_sql.engine.model import Model
from hl_platform.core.errors import ConfigError
from hl_platform.core.streams import Field, Stream

MACRO_FILES = ("columns", "merged", "pieces")
MACRO = re.compile(r"{% macro ([a-z]\w*)")
STEPS: Mapping[str, str] = {"minute": "interval '1 minute'", "hour": "interval '1 hour'"}
# Over no more than this is what a counter moved while it was silent spread out: 31 days. In hours, which are as long in
# every time zone: a session's days have 23 or 25 of them when its clocks change.
MAX_SPREAD = "interval '744 hours'"


class Scope(NamedTuple):
    """What a rendered SELECT reads: one device's rows from one time to before another.

    Args:
        device, start, end, step: SQL expressions; `start` and `end` are borders of buckets, `step` their length.
        relation: the table that source() stands for; None: the stream's own.
    """

    device: str
    start: str
    end: str
    step: str = ""
    relation: str | None = None


class _WrongCallError(Exception):
    """Something in a model's text names what is not there."""


class Renderer:
    """Renders models.

    Args:
        streams: what source() may name.
    """

    def __init__(self, streams: Mapping[str, Stream]) -> None:
        self._streams = streams
        folder = resources.files("dbt_like_sql") / "macros"
        macros = "".join((folder / f"{name}.sql").read_text("utf-8") for name in MACRO_FILES)
        self._env = jinja2.Environment(
            loader=jinja2.DictLoader({"macros": macros}),
            undefined=jinja2.StrictUndefined,
            autoescape=False,  # noqa: S701 - SQL, not HTML
            trim_blocks=True,
            lstrip_blocks=True,
        )
        # Before a model's first line, so that its lines keep their numbers.
        self._import = f"{{% from 'macros' import {', '.join(MACRO.findall(macros))} with context %}}"

    def render(self, model: Model, scope: Scope | None = None) -> str:
        """The SELECT of a model as PostgreSQL reads it.

        Args:
            model: which.
            scope: what an aggregate reads; None for a view or table, which reads everything.

        Raises:
            ConfigError: the text is not right; the message names the file and the line.
        """
        return self._rendered(model, model.select, scope)

    def render_events(self, model: Model, stream: Stream, scope: Scope) -> str:
        """A SELECT of what counters did within a scope that a person should see."""
        parts = [
            f"select '{field.name}' as field, next_at as at, step_at as before_at, "
            f"held_{field.name}::float8 as before, next_{field.name}::float8 as after, "
            # Of the whole step; the piece in the event's bucket may be a small part of it, or nothing.
            f"hl.moved('{stream.name}', '{field.name}', device_id, next_at, held_{field.name}, next_{field.name}, "
            f"date_part('epoch', next_at - step_at) / 3600, {field.max_rate_per_hour or 'null'}, "
            f"{field.jitter_share}) as moved\n"
            f"from {{{{ pieces(source('{stream.name}')) }}}}\n"
            f"where ends and {{{{ event(field('{field.name}')) }}}}"
            for field in stream.counters
        ]
        return self._rendered(model, "\nunion all\n".join(parts), scope)

    def _rendered(self, model: Model, text: str, scope: Scope | None) -> str:
        fields = self._fields_below(model)
        functions: dict[str, Callable[..., Any]] = {
            "ref": lambda name: self._ref(name, scope),
            "source": lambda name: self._source(name, scope),
            "field": lambda name: _field(fields, name),
            "is_boolean": lambda name: name in fields and fields[name].type == "boolean",
            "bucket": lambda: f"hl.bucket_start('{model.bucket}', bucket)",
        }
        values = {
            "scope": self._relation_filled(scope, model),
            "max_spread": MAX_SPREAD,
            **functions,
        }
        try:
            return self._env.from_string(self._import + text).render(values).strip()
        # A TypeError is a macro's, called with what it does not take.
        except (jinja2.TemplateError, _WrongCallError, TypeError) as exc:
            line = model.first_line + line_of(exc) - 1
            raise ConfigError(f"{model.name}.sql:{line}: {exc}") from exc

    def _ref(self, name: str, scope: Scope | None) -> str:
        if scope is None:
            return f"public.{name}"
        return (
            f"(\n    select * from public.{name}\n"
            f"    where device_id = {scope.device} and bucket >= {scope.start} and bucket < {scope.end}\n"
            f") as {name}"
        )

    def _source(self, name: str, scope: Scope | None) -> Any:  # noqa: ANN401 - what the macros take
        if name not in self._streams:
            raise _WrongCallError(f"source('{name}'): no such stream. {near(name, self._streams)}")
        stream = self._streams[name]
        return f"public.{stream.table}" if scope is None else stream

    def _fields_below(self, model: Model) -> dict[str, Field]:
        names = [name for name in model.sources if name in self._streams]
        return {field.name: field for name in names for field in self._streams[name].fields}

    def _relation_filled(self, scope: Scope | None, model: Model) -> Scope | None:
        if scope is None or not model.sources or model.sources[0] not in self._streams:
            return scope
        relation = scope.relation or f"public.{self._streams[model.sources[0]].table}"
        return scope._replace(relation=relation, step=STEPS[model.bucket or "hour"])


def near(name: str, there: Iterable[str]) -> str:
    """A sentence with what somebody may have meant, or with all there is."""
    names = list(there)
    alike = difflib.get_close_matches(name, names, n=3)
    return f"Did you mean {' or '.join(alike)}?" if alike else f"There are {', '.join(names)}."


def _field(fields: Mapping[str, Field], name: str) -> Field:
    if name not in fields:
        raise _WrongCallError(f"{name!r} is no field of its stream. {near(name, fields)}")
    return fields[name]


def line_of(exc: Exception) -> int:
    """The line of the template itself, not of a macro in it, where an error came up."""
    if isinstance(exc, jinja2.TemplateSyntaxError):
        return exc.lineno
    trace = exc.__traceback__
    while trace is not None:
        # Jinja puts its template's lines into the trace; what is outermost comes first.
        if trace.tb_frame.f_code.co_filename == "<template>":
            return trace.tb_lineno
        trace = trace.tb_next
    return 0
