"""What Grafana and its PostgreSQL plugin make of a query: variables first, then macros."""

import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

VARIABLE = re.compile(r"\$\{(\w+)(?::(\w+))?\}")
MACRO = re.compile(r"\$(__[_a-zA-Z0-9]+)\(([^)]*)\)")
SECONDS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}
POINTS = 500
INTERVALS = ("1m", "2m", "5m", "10m", "30m", "1h", "2h", "6h", "12h", "1d", "7d")


class Range(NamedTuple):
    """A time range of a dashboard, both ends inclusive."""

    begin: datetime
    end: datetime

    @classmethod
    def last(cls, span: timedelta) -> "Range":
        """The range of that length until now, in whole milliseconds as Grafana's."""
        now = datetime.now(UTC)
        now = now.replace(microsecond=now.microsecond // 1000 * 1000)
        return cls(now - span, now)

    @property
    def interval(self) -> str:
        """`$__interval`: the least round one that gives a panel's number of points."""
        wanted = (self.end - self.begin).total_seconds() / POINTS
        return next((one for one in INTERVALS if seconds_of(one) >= wanted), INTERVALS[-1])


def seconds_of(interval: str) -> int:
    """An interval such as `5m`, in seconds."""
    return int(interval[:-1]) * SECONDS[interval[-1]]


def expand(sql: str, span: Range, values: Mapping[str, Sequence[str]]) -> str:
    """The SQL that reaches the server.

    Args:
        sql: of a panel or variable.
        span: the dashboard's time range.
        values: chosen ones of each variable.
    """
    built_in = {"__from": [_milliseconds(span.begin)], "__to": [_milliseconds(span.end)]}
    text = VARIABLE.sub(lambda found: _interpolated({**values, **built_in}[found[1]], found[2]), sql)
    text = text.replace("$__interval", span.interval)
    text = MACRO.sub(
        lambda found: _macro(found[1], [part.strip() for part in found[2].split(",")], span), text
    )
    assert "$" not in text, text
    return text


def _milliseconds(at: datetime) -> str:
    return str(round(at.timestamp() * 1000))


def _interpolated(values: Sequence[str], how: str | None) -> str:
    if how == "sqlstring":
        return ",".join("'" + value.replace("'", "''") + "'" for value in values)
    assert how in (None, "raw"), how
    assert len(values) == 1, "without a format the plugin quotes many values but not a single one"
    return values[0]


def _macro(name: str, arguments: list[str], span: Range) -> str:
    begin, end = (f"'{at.isoformat().replace('+00:00', 'Z')}'" for at in span)
    match name:
        case "__timeFrom":
            return begin
        case "__timeTo":
            return end
        case "__timeFilter":
            return f"{arguments[0]} BETWEEN {begin} AND {end}"
        case "__timeGroup" | "__timeGroupAlias":
            seconds = seconds_of(arguments[1].strip("'"))
            alias = ' AS "time"' if name == "__timeGroupAlias" else ""
            return f"floor(extract(epoch from {arguments[0]})/{seconds})*{seconds}{alias}"
    raise AssertionError(f"Grafana's plugin has no macro ${name}")


def queries_of(dashboard: Mapping[str, Any]) -> Iterator[tuple[str, str | None, str, str, str]]:
    """(title, variable that its row is repeated by, type, format, SQL) of each panel."""
    repeated = None
    for panel in dashboard["panels"]:
        if panel["type"] == "row":
            repeated = panel.get("repeat")
            continue
        for one in panel["targets"]:
            yield panel["title"], repeated, panel["type"], one["format"], one["rawSql"]
