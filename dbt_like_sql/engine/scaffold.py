"""Writes the models of a stream from its fields' kinds: what every stream has, and where its own begin."""

from collections.abc import Callable, Sequence

from dbt_like_sql.engine.model import ADVERBS, Grain
from hl_platform.core.streams import Field, Stream

# Finest first: each reads the one before it, and the first one reads the readings.
LEVELS: tuple[Grain, ...] = ("hour", "day", "month", "year")
RETENTION: dict[Grain, str] = {"hour": "2 years"}
WHAT: dict[Grain, str] = {
    "minute": "minute",
    "hour": "hour",
    "day": "local day",
    "month": "local month",
    "year": "local year",
}


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
        f"description: '{title.replace(chr(39), chr(39) * 2)} by {WHAT[grain]}.'",
        f"materialization: {'function' if grain == 'minute' else 'continuous_aggregate'}",
        f"owner: {stream.owner}",
        "grain: [device_id, bucket]",
        "time_column: bucket",
        f"bucket: {grain}",
    ]
    if grain in RETENTION:
        header.append(f"retention: {RETENTION[grain]}")
    header.append("columns:")
    header += [f"  {name}: {_quoted(text)}" for name, text in describe_columns(stream, grain).items()]
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


def describe_columns(stream: Stream, grain: Grain) -> dict[str, str]:
    """The comment of each column of a stream's model."""
    what = WHAT[grain]
    comments = {
        "device_id": "Which device",
        "bucket": f"Begin of the {what}, inclusive",
        "n_readings": f"Readings in the {what}",
        "first_at": "Time of the first reading",
        "last_at": "Time of the last reading",
        "covered_s": "For how long readings tell the values (s)",
    }
    for field in stream.fields:
        comments |= _describe(field)
    comments["bucket_end"] = f"End of the {what}, exclusive"
    comments["refresh_id"] = "Which of hl.refreshes made the row; null: computed just now"
    return comments


def _describe(field: Field) -> dict[str, str]:
    name, unit = field.name, f" ({field.unit})" if field.unit else ""
    area = f" ({field.unit}·s)" if field.unit else " (s)"
    about = field.description or name
    match field.kind:
        case "gauge":
            return {
                f"{name}_mean": f"{about}: mean, weighted by time{unit}",
                f"{name}_sample_mean": f"{about}: plain mean of the readings{unit}",
                f"{name}_min": f"{about}: least{unit}",
                f"{name}_max": f"{about}: greatest{unit}",
                f"{name}_first": f"{about}: at the first reading{unit}",
                f"{name}_last": f"{about}: at the last reading{unit}",
                f"{name}_count": f"{about}: readings that have it",
                f"{name}_sum": f"{about}: sum over the readings{unit}",
                f"{name}_area": f"{about}: value times seconds, over the time it is known{area}",
                f"{name}_weight_s": f"{about}: for how long it is known (s)",
            }
        case "counter":
            return {
                moved_name(
                    field
                ): f"{about}: what it moved; a step across a border is shared out by time{unit}",
                gap_name(field): f"{about}: the part that moved while no reading came{unit}",
                f"{name}_first": f"{about}: at the first reading{unit}",
                f"{name}_last": f"{about}: at the last reading{unit}",
                f"{name}_events": f"{about}: resets and jumps, listed in hl.counter_events",
            }
        case "state" if field.type == "boolean":
            return {
                f"{name}_true_s": f"{about}: for how long it was so (s)",
                f"{name}_starts": f"{about}: how often it became so",
            }
        case "state":
            return {
                f"{name}_seconds": f"{about}: seconds in each state, as a JSON object",
                f"{name}_changes": f"{about}: how often it changed",
            }
        case _:
            return {name: f"{about}: as of the last reading"}


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
