"""The dashboard of a stream, from the kinds of its fields and the models that there are."""

import re

from dbt_like_sql.engine.project import Project
from dbt_like_sql.engine.scaffold import describe_columns, gap_name, moved_name
from hl_platform.core.levels import ADVERBS
from hl_platform.core.streams import Field, Stream
from hl_platform.stack.grafana import queries
from hl_platform.stack.grafana.panels import (
    Json,
    banded,
    dashboard,
    pie,
    query_variable,
    row,
    table,
    time_series,
    unit_of,
    wide,
)

# The unit of power, and that of the energy of an hour of it.
ENERGY_OF = {"kW": "kWh", "W": "Wh"}
SHARE = {"min": 0, "max": 100}
# A comment that ends with a unit is that of a number.
NUMBER = re.compile(r"(?P<what>.*?)(, .*)? \((?P<unit>[^()]+)\)")


def stream_dashboard(stream: Stream, project: Project, timezone: str) -> Json:
    """All devices first, then a row for each."""
    has_cost = f"{stream.name}_cost_hourly" in project.models
    variables = [
        query_variable(
            "device", "Device", queries.device_query(stream, _aggregates(stream, project)), multi=True
        ),
        query_variable("bucket", "One point is a", queries.bucket_query()),
        query_variable("view", "View", queries.view_query(), hidden=True),
    ]
    panels = [_latest(stream), *_all_devices(stream, _own_columns(stream, project))]
    if has_cost:
        variables.append(query_variable("cost_view", "Cost view", queries.cost_view_query(), hidden=True))
        panels += _costs(stream)
    panels += [_totals(stream), row("$device", repeat="device"), *_one_device(stream)]
    return dashboard(
        f"stream-{stream.name}",
        stream.title or stream.name,
        panels,
        variables,
        span="24h",
        refresh="1m",
        timezone=timezone,
    )


def _aggregates(stream: Stream, project: Project) -> list[str]:
    """The continuous aggregates over a stream's readings, directly or not."""
    directly = set(project.over_readings(stream))
    return [model.name for model in project.aggregates() if directly & set(project.below(model))]


def about(field: Field) -> str:
    """What a field is, for a title."""
    return field.description or field.name


def _latest(stream: Stream) -> Json:
    units = {field.name: unit_of(field.unit) for field in stream.fields if field.unit}
    return wide(table("Latest reading", queries.latest(stream), units), height=6)


def _own_columns(stream: Stream, project: Project) -> dict[str, tuple[str, str]]:
    """What each number is, and its unit, that the models of all levels have beside those of the fields' kinds."""
    levels = [project.models[f"{stream.name}_{adverb}"].columns for adverb in ADVERBS.values()]
    usual = describe_columns(stream, "bucket")
    found = {name: NUMBER.fullmatch(text) for name, text in levels[0].items() if name not in usual}
    return {
        name: (match["what"], match["unit"])
        for name, match in found.items()
        if match and all(name in columns for columns in levels)
    }


def _all_devices(stream: Stream, own: dict[str, tuple[str, str]]) -> list[Json]:
    panels = []
    for field in stream.fields:
        panels += _of_all(stream, field)
        # Energy from power, where neither a counter nor a model tells it.
        energy = ENERGY_OF.get(field.unit) if field.kind == "gauge" else None
        told = {*(counter.unit for counter in stream.counters), *(unit for _, unit in own.values())}
        if energy is not None and not told & set(ENERGY_OF.values()):
            panels.append(_energy(stream, field, energy))
    for name, (what, unit) in own.items():
        panels.append(time_series(what, queries.by_device(stream, name), unit_of(unit), stacked=True))
    return panels


def _of_all(stream: Stream, field: Field) -> list[Json]:
    unit, label = unit_of(field.unit), queries.label_of(stream)
    match field.kind:
        case "counter":
            moved = queries.by_device(stream, moved_name(field))
            return [time_series(_moved_title(field), moved, unit, stacked=True)]
        case "gauge":
            means = (
                queries.by_label(stream, field, label)
                if label
                else queries.by_device(stream, f"{field.name}_mean")
            )
            return [time_series(f"{about(field)}: mean", means, unit)]
        case "state" if field.type == "boolean":
            name = field.name.replace("_", " ").capitalize()
            true_s = queries.by_device(stream, f"{field.name}_true_s")
            starts = queries.by_device(stream, f"{field.name}_starts")
            return [
                time_series(f"{name}: time", true_s, "s", stacked=True),
                time_series(f"{name}: starts", starts, "none", stacked=True),
            ]
        case "state":
            return [
                wide(pie(f"Time in each {field.name}", queries.share_of_states(stream, field), "s"), 8),
                wide(_states(stream, field), 16),
            ]
        case _:
            return []


def _states(stream: Stream, field: Field) -> Json:
    return time_series(
        f"Time in each {field.name}, by bucket", queries.seconds_in_states(stream, field), "s", stacked=True
    )


def _energy(stream: Stream, field: Field, unit: str) -> Json:
    column = f"{field.name}_area"
    sql = queries.by_device(stream, column, f"{column} / 3600")
    return time_series(f"{about(field)}: energy", sql, unit_of(unit), stacked=True)


def _moved_title(field: Field) -> str:
    return "Consumption" if moved_name(field) == "consumption_kwh" else f"{about(field)}: what it moved"


def _costs(stream: Stream) -> list[Json]:
    return [
        time_series("Cost", queries.cost(stream), "none", stacked=True),
        table("Cost of the whole range", queries.cost_totals(stream), {"consumption_kwh": unit_of("kWh")}),
    ]


def _totals(stream: Stream) -> Json:
    moved = [(moved_name(field), gap_name(field)) for field in stream.counters]
    units = {"covered": "s"}
    for field in stream.counters:
        units |= dict.fromkeys((moved_name(field), gap_name(field)), unit_of(field.unit))
    return wide(table("The whole range", queries.totals(stream, moved), units), height=6)


def _one_device(stream: Stream) -> list[Json]:
    panels = []
    for field in stream.fields:
        unit = unit_of(field.unit)
        if field.kind == "counter":
            sql = queries.moved_and_gap(stream, moved_name(field), gap_name(field))
            panels.append(time_series(f"{_moved_title(field)}, gaps apart", sql, unit, stacked=True))
        elif field.kind == "gauge":
            panels.append(banded(f"{about(field)}: mean, min, max", queries.band(stream, field), unit))
        elif field.kind == "state" and field.type != "boolean":
            panels.append(_states(stream, field))
    covered = time_series("Covered by readings", queries.coverage(stream), "percent", limits=SHARE)
    return [*panels, covered]
