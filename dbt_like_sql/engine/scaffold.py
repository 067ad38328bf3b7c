"""Writes the models of a stream from its fields' kinds: what every stream has, and where its own begin."""

from collections.abc import Callable, Sequence

from dbt_like_sql.engine.comments import WHAT, comments_of
from hl_platform.core.levels import ADVERBS, Grain
from hl_platform.core.streams import Field, Stream

# Finest first: each reads the one before it, and the first one reads the readings.
LEVELS: tuple[Grain, ...] = ("hour", "day", "month", "year")
RETENTION: dict[Grain, str] = {"hour": "2 years"}


def scaffold_models(stream: Stream) -> dict[str, str]:
    """The text of each model of a stream, by file name."""
    texts = {f"{stream.name}_minutely.sql": _text(stream, "minute", None)}
    below: Grain | None = None
    for grain in LEVELS:
        texts[f"{stream.name}_{ADVERBS[grain]}.sql"] = _text(stream, grain, below)
        below = grain
    return texts


def _text(stream: Stream, grain: Grain, below: Grain | None) -> str:
    title = stream.title or stream.name
    header = [
        "/*",
        f"name: {stream.name}_{ADVERBS[grain]}",
        f"description: {_quoted(f'{title} by {WHAT[grain]}.')}",
        f"materialization: {'function' if grain == 'minute' else 'continuous_aggregate'}",
        f"owner: {stream.owner}",
        "grain: [device_id, bucket]",
        "time_column: bucket",
        f"bucket: {grain}",
    ]
    if grain in RETENTION:
        header.append(f"retention: {RETENTION[grain]}")
    calls = ["{{ coverage() }}" if below is None else "{{ merged_coverage() }}"]
    calls += [call for field in stream.fields for call in _calls(field, merged=below is not None)]
    bucket = "bucket" if below is None else "{{ bucket() }}"
    rows = (
        f"{{{{ pieces(source('{stream.name}')) }}}}"
        if below is None
        else f"{{{{ ref('{stream.name}_{ADVERBS[below]}') }}}}"
    )
    columns = ["device_id", bucket if below is None else f"{bucket} as bucket", *calls]
    body = ["select", ",\n".join(f"    {column}" for column in columns), f"from {rows}"]
    return "\n".join((*header, "*/", *body, f"group by device_id, {bucket}")) + "\n"


def _calls(field: Field, *, merged: bool) -> Sequence[str]:
    prefix = "merged_" if merged else ""
    return [f"{{{{ {prefix}{call} }}}}" for call in CALLS[field.kind](field)]


def _counter(field: Field) -> list[str]:
    return [f"counter('{field.name}', moved='{moved_name(field)}', gap='{gap_name(field)}')"]


def _state(field: Field) -> list[str]:
    if field.type == "boolean":
        return [f"running('{field.name}', seconds='{field.name}_true_s', starts='{field.name}_starts')"]
    return [f"state('{field.name}')"]


CALLS: dict[str, Callable[[Field], list[str]]] = {
    "gauge": lambda field: [f"gauge('{field.name}')"],
    "counter": _counter,
    "state": _state,
    "label": lambda field: [f"label('{field.name}')"],
}


def moved_name(field: Field) -> str:
    """The column of what a counter moved: `consumption_kwh` of an energy counter, `<name>_moved` of others."""
    return "consumption_kwh" if field.name == "total_energy_kwh" else f"{field.name}_moved"


def gap_name(field: Field) -> str:
    """The column of what a counter moved in gaps."""
    return "gap_kwh" if field.name == "total_energy_kwh" else f"{field.name}_gap"


def describe_columns(stream: Stream, what: str) -> dict[str, str]:
    """The comment of each column of a stream's models, of whatever a bucket of theirs is called."""
    return comments_of(_text(stream, "hour", None), {field.name: field for field in stream.fields}, what)


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
