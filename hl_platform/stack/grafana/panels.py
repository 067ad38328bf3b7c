"""The JSON of panels, variables and dashboards, as Grafana's dashboard schema has it.

Source: https://grafana.com/docs/grafana/latest/visualizations/dashboards/build-dashboards/view-dashboard-json-model/
"""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any, Literal

Json = dict[str, Any]

SCHEMA_VERSION = 39
# Of the data source in provisioning/datasources/hl.yaml.
DATA_SOURCE: Json = {"type": "grafana-postgresql-datasource", "uid": "hl"}
TAG = "hl"
MAX_UID = 40
COLUMNS = 24
HEIGHT = 8

# Units of declarations, by Grafana's ids. A unit that is not here is shown as it is declared.
UNITS: Mapping[str, str] = {
    "kWh": "kwatth",
    "Wh": "watth",
    "kW": "kwatt",
    "W": "watt",
    "VA": "voltamp",
    "V": "volt",
    "A": "amp",
    "mA": "mamp",
    "Hz": "hertz",
    "°C": "celsius",
    "°F": "fahrenheit",
    "K": "kelvin",
    "%": "percent",
    "ppm": "ppm",
    "hPa": "pressurehpa",
    "bar": "pressurebar",
    "lx": "lux",
    "s": "s",
    "min": "m",
    "h": "h",
    "m": "lengthm",
    "m/s": "velocityms",
    "km/h": "velocitykmh",
    "l": "litre",
    "L": "litre",
    "m³": "m3",
    "m3": "m3",
    "W/m²": "Wm2",
    "dBm": "dBm",
}


def unit_of(declared: str) -> str:
    """Grafana's id of a declared unit."""
    return UNITS.get(declared, f"suffix: {declared}") if declared else "none"


def target(title: str, sql: str, result: Literal["time_series", "table"]) -> Json:
    """A query of a panel. Its first line tells who asks, in pg_stat_activity too."""
    return {
        "refId": "A",
        "datasource": DATA_SOURCE,
        "editorMode": "code",
        "format": result,
        "rawQuery": True,
        "rawSql": f"-- {title}\n{sql}",
    }


def time_series(
    title: str, sql: str, unit: str, *, stacked: bool = False, limits: Json | None = None
) -> Json:
    """Lines, or bars that are stacked, of a query with a column `time`."""
    custom = {
        "drawStyle": "bars" if stacked else "line",
        "lineInterpolation": "linear",
        "lineWidth": 1,
        "fillOpacity": 70 if stacked else 0,
        # A bar stands on its bucket, whose time is its begin.
        "barAlignment": 1,
        "showPoints": "never" if stacked else "auto",
        "spanNulls": False,
        "stacking": {"mode": "normal" if stacked else "none", "group": "A"},
    }
    panel = _panel(
        "timeseries", title, sql, "time_series", {"unit": unit, "custom": custom, **(limits or {})}
    )
    panel["options"] = {
        "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True, "calcs": []},
        "tooltip": {"mode": "multi", "sort": "desc"},
    }
    return panel


def banded(title: str, sql: str, unit: str) -> Json:
    """A line `mean` within the band from `min` to `max`."""
    panel = time_series(title, sql, unit)
    panel["fieldConfig"]["overrides"] = [
        _override("min", {"custom.lineWidth": 0, "custom.showPoints": "never"}),
        _override(
            "max",
            {
                "custom.lineWidth": 0,
                "custom.showPoints": "never",
                "custom.fillOpacity": 15,
                "custom.fillBelowTo": "min",
            },
        ),
    ]
    return panel


def table(title: str, sql: str, units: Mapping[str, str] | None = None) -> Json:
    """Rows as they are, with the unit of each column that has one."""
    panel = _panel("table", title, sql, "table", {})
    panel["fieldConfig"]["overrides"] = [
        _override(column, {"unit": unit}) for column, unit in (units or {}).items()
    ]
    panel["options"] = {"showHeader": True, "cellHeight": "sm"}
    return panel


def pie(title: str, sql: str, unit: str) -> Json:
    """A slice for each row: a name and a number."""
    panel = _panel("piechart", title, sql, "table", {"unit": unit})
    panel["options"] = {
        "pieType": "donut",
        "displayLabels": ["name", "percent"],
        "reduceOptions": {"values": True, "calcs": ["lastNotNull"], "fields": ""},
        "legend": {
            "displayMode": "table",
            "placement": "right",
            "showLegend": True,
            "values": ["value", "percent"],
        },
    }
    return panel


def stat(title: str, sql: str, unit: str, steps: Sequence[tuple[str, float | None]]) -> Json:
    """Each number column of the only row, coloured from each step on."""
    thresholds = {"mode": "absolute", "steps": [{"color": color, "value": value} for color, value in steps]}
    panel = _panel(
        "stat",
        title,
        sql,
        "table",
        {"unit": unit, "color": {"mode": "thresholds"}, "thresholds": thresholds},
    )
    panel["options"] = {
        "reduceOptions": {"values": False, "calcs": ["lastNotNull"], "fields": ""},
        "colorMode": "value",
        "graphMode": "none",
        "textMode": "auto",
    }
    return panel


def row(title: str, repeat: str | None = None) -> Json:
    """A heading; repeated with all panels up to the next one, once for each value of a variable."""
    heading: Json = {
        "type": "row",
        "title": title,
        "collapsed": False,
        "panels": [],
        "gridPos": {"w": COLUMNS, "h": 1},
    }
    return heading if repeat is None else {**heading, "repeat": repeat}


def wide(panel: Json, width: int = COLUMNS, height: int = HEIGHT) -> Json:
    """The panel in another size; `width` of 24 columns."""
    return {**panel, "gridPos": {"w": width, "h": height}}


def query_variable(name: str, label: str, sql: str, *, multi: bool = False, hidden: bool = False) -> Json:
    """A variable whose values a query tells: many to choose from, or the one that fits the time range."""
    chosen: Json = {"selected": True, "text": ["All"], "value": ["$__all"]} if multi else {}
    return {
        "type": "query",
        "name": name,
        "label": label,
        "datasource": DATA_SOURCE,
        "definition": sql,
        "query": sql,
        "current": chosen,
        "options": [],
        "multi": multi,
        "includeAll": multi,
        "regex": "",
        "sort": 0,
        "hide": 2 if hidden else 0,
        # 1: when the dashboard is opened; 2: whenever its time range changes.
        "refresh": 1 if multi else 2,
        # What follows the time range must not be pinned by a link.
        "skipUrlSync": not multi,
    }


def uid_of(name: str) -> str:
    """The uid of a dashboard, within Grafana's 40 characters."""
    uid = f"hl-{name}"
    return (
        uid
        if len(uid) <= MAX_UID
        else f"{uid[: MAX_UID - 9]}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"
    )


def dashboard(
    name: str,
    title: str,
    panels: Sequence[Json],
    variables: Sequence[Json],
    *,
    span: str,
    refresh: str,
    timezone: str,
) -> Json:
    """A dashboard.

    Args:
        name: end of its uid, which links to it contain.
        title: for people.
        panels: in reading order, each with its size.
        variables: in the order in which they are shown.
        span: time range at first, such as `24h`.
        refresh: how often it asks again, such as `1m`.
        timezone: name of a time zone, or `browser`.
    """
    links = {
        "title": "hl",
        "type": "dashboards",
        "tags": [TAG],
        "asDropdown": True,
        "includeVars": False,
        "keepTime": True,
    }
    return {
        "id": None,
        "uid": uid_of(name),
        "title": title,
        "tags": [TAG],
        "schemaVersion": SCHEMA_VERSION,
        "version": 1,
        "editable": True,
        "graphTooltip": 1,
        "timezone": timezone,
        "time": {"from": f"now-{span}", "to": "now"},
        "refresh": refresh,
        "annotations": {"list": []},
        "links": [links],
        "templating": {"list": list(variables)},
        "panels": _laid_out(panels),
    }


def _panel(kind: str, title: str, sql: str, result: Literal["time_series", "table"], defaults: Json) -> Json:
    return {
        "type": kind,
        "title": title,
        "datasource": DATA_SOURCE,
        "fieldConfig": {"defaults": defaults, "overrides": []},
        "targets": [target(title, sql, result)],
        "gridPos": {"w": COLUMNS // 2, "h": HEIGHT},
    }


def _override(column: str, properties: Mapping[str, object]) -> Json:
    return {
        "matcher": {"id": "byName", "options": column},
        "properties": [{"id": name, "value": value} for name, value in properties.items()],
    }


def _laid_out(panels: Sequence[Json]) -> list[Json]:
    """The panels with an id and a place: from left to right, and down where one does not fit any more."""
    placed, x, y, height = [], 0, 0, 0
    for index, panel in enumerate(panels):
        size = panel["gridPos"]
        if x + size["w"] > COLUMNS:
            x, y, height = 0, y + height, 0
        placed.append({"id": index + 1, **panel, "gridPos": {"x": x, "y": y, **size}})
        x, height = x + size["w"], max(height, size["h"])
    return placed
