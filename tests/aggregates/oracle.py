"""What the aggregates have to be, in plain Python: from the readings of one device, by the stated rules alone.

Times are whole microseconds since 1970, so that nothing is rounded before it is compared.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from itertools import pairwise
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

from hl_platform.core.streams import Field, Stream

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
HOUR = 3_600_000_000
SPREAD = 31 * 24 * HOUR

Row = dict[str, Any]
# Values of a reading by the names of fields.
Readings = Mapping[datetime, Mapping[str, Any]]
# What a person says a counter moved, by its name and the time of the reading after the event.
Overrides = Mapping[tuple[str, datetime], float]


class Span(NamedTuple):
    """A bucket, half-open."""

    start: int
    end: int


class Step(NamedTuple):
    """From one reading to the next."""

    start: int
    end: int
    before: Mapping[str, Any]
    after: Mapping[str, Any]


def micros(at: datetime) -> int:
    return (at - EPOCH) // timedelta(microseconds=1)


def moment(at: int) -> datetime:
    return EPOCH + timedelta(microseconds=at)


@lru_cache(maxsize=100_000)
def first_of(day: date, zone: str) -> int:
    """The first moment of a local day: where midnight comes twice the first, where it is missing what follows."""
    return micros(datetime(day.year, day.month, day.day, tzinfo=ZoneInfo(zone)).astimezone(UTC))


@lru_cache(maxsize=500_000)
def span_of(level: str, at: int, zone: str) -> Span:
    """The bucket that a moment lies in."""
    day = moment(at).astimezone(ZoneInfo(zone)).date()
    if level in ("hour", "day"):
        start, end = first_of(day, zone), first_of(day + timedelta(days=1), zone)
        # A day that a country skipped has no moments: it begins when the next one does.
        if level == "day":
            return Span(start, end)
        start += (at - start) // HOUR * HOUR
        return Span(start, min(start + HOUR, end))
    if level == "month":
        first = day.replace(day=1)
        return Span(first_of(first, zone), first_of((first + timedelta(days=32)).replace(day=1), zone))
    return Span(first_of(date(day.year, 1, 1), zone), first_of(date(day.year + 1, 1, 1), zone))


def spans_between(level: str, start: int, end: int, zone: str) -> Iterable[Span]:
    """The buckets that share time with [start, end)."""
    at = start
    while at < end:
        span = span_of(level, at, zone)
        yield span
        at = span.end


def moved(field: Field, step: Step, overrides: Overrides) -> tuple[float | None, bool]:
    """What a counter moved in a step, and whether a person should see it."""
    before, after = step.before[field.name], step.after[field.name]
    if before is None or after is None:
        return None, False
    most = None
    if field.max_rate_per_hour is not None:
        most = field.max_rate_per_hour * max((step.end - step.start) / HOUR, 1)
    is_reset = after < before * (1 - field.jitter_share)
    is_jump = most is not None and after - before > most
    said = overrides.get((field.name, moment(step.end)))
    if said is not None and (after < before or is_jump):
        return said, is_reset or is_jump
    if is_reset:
        return (after if most is None or after <= most else 0.0), True
    return (0.0 if is_jump else after - before), is_jump


def buckets(
    stream: Stream, readings: Readings, level: str, zone: str, overrides: Overrides | None = None
) -> dict[datetime, Row]:
    """The rows of one level, straight from the readings.

    Only what is first and last in a bucket is taken from the hours, since a level takes those from the level below.
    """
    rows = _from_readings(stream, readings, level, zone, overrides or {})
    if level != "hour":
        hours = _from_readings(stream, readings, "hour", zone, overrides or {})
        _first_and_last(stream, hours, rows, level, zone)
    return rows


def _from_readings(
    stream: Stream, readings: Readings, level: str, zone: str, overrides: Overrides
) -> dict[datetime, Row]:
    times = sorted(readings)
    max_gap = int(stream.max_gap_s * 1_000_000)
    within: dict[Span, list[datetime]] = defaultdict(list)
    parts: dict[Span, list[tuple[Step, float, float, bool]]] = defaultdict(list)
    for at in times:
        within[span_of(level, micros(at), zone)].append(at)
    for one, two in pairwise(times):
        step = Step(micros(one), micros(two), readings[one], readings[two])
        for span, part in _parts(stream, step, level, zone, max_gap):
            parts[span].append((step, *part))
    made = {}
    for span in within.keys() | parts.keys():
        own = [(at, readings[at]) for at in within[span]]
        made[moment(span.start)] = _row(stream, span, within=own, parts=parts[span], overrides=overrides)
    return made


def _parts(
    stream: Stream, step: Step, level: str, zone: str, max_gap: int
) -> Iterable[tuple[Span, tuple[float, float, bool]]]:
    """What each bucket holds of a step: seconds of its value, share of its movement, whether it ends there."""
    held_until = min(step.end, step.start + max_gap)
    rises_from = max(step.start, step.end - SPREAD)
    reached = set()
    windows = [(step.start, held_until)]
    if stream.counters:
        windows.append((rises_from, step.end))
    last = span_of(level, step.end, zone)
    spans = {span for window in windows for span in spans_between(level, *window, zone)} | {last}
    for span in sorted(spans):
        held = max(0, min(held_until, span.end) - max(step.start, span.start))
        rose = max(0, min(step.end, span.end) - max(rises_from, span.start))
        ends = span == last
        if held or ends or (stream.counters and rose):
            reached.add(span)
            yield span, (held / 1e6, rose / (step.end - rises_from), ends)


def _row(
    stream: Stream,
    span: Span,
    *,
    within: Sequence[tuple[datetime, Mapping[str, Any]]],
    parts: Sequence[tuple[Step, float, float, bool]],
    overrides: Overrides,
) -> Row:
    max_gap = int(stream.max_gap_s * 1_000_000)
    row: Row = {
        "bucket_end": moment(span.end),
        "n_readings": len(within),
        "first_at": within[0][0] if within else None,
        "last_at": within[-1][0] if within else None,
        "covered_s": sum(seconds for _, seconds, _, _ in parts),
    }
    for field in stream.fields:
        values = [values[field.name] for _, values in within]
        row |= COLUMNS[field.kind](field, values, parts, max_gap, overrides)
    return row


Parts = Sequence[tuple[Step, float, float, bool]]


def _counter(field: Field, values: list[Any], parts: Parts, max_gap: int, overrides: Overrides) -> Row:
    total = gap = 0.0
    events = 0
    for step, _, share, ends in parts:
        amount, is_event = moved(field, step, overrides)
        total += (amount or 0) * share
        gap += (amount or 0) * share if step.end - step.start > max_gap else 0
        events += ends and is_event
    is_energy = field.name == "total_energy_kwh"
    return {
        "consumption_kwh" if is_energy else f"{field.name}_moved": total,
        "gap_kwh" if is_energy else f"{field.name}_gap": gap,
        f"{field.name}_events": events,
        **_ends(field, values),
    }


def _gauge(field: Field, values: list[Any], parts: Parts, _gap: int, _overrides: Overrides) -> Row:
    known = [value for value in values if value is not None]
    held = [(step.before[field.name], s) for step, s, _, _ in parts if step.before[field.name] is not None]
    weight = sum(seconds for _, seconds in held)
    area = sum(value * seconds for value, seconds in held)
    plain = sum(known) / len(known) if known else None
    return {
        f"{field.name}_mean": area / weight if weight else plain,
        f"{field.name}_sample_mean": plain,
        f"{field.name}_min": min(known, default=None),
        f"{field.name}_max": max(known, default=None),
        f"{field.name}_count": len(known),
        f"{field.name}_sum": sum(known) if known else None,
        f"{field.name}_area": area if held else None,
        f"{field.name}_weight_s": weight,
        **_ends(field, values),
    }


def _state(field: Field, _values: list[Any], parts: Parts, _gap: int, _overrides: Overrides) -> Row:
    pairs = [(step.before[field.name], step.after[field.name], s, ends) for step, s, _, ends in parts]
    if field.type == "boolean":
        return {
            f"{field.name}_true_s": sum(s for before, _, s, _ in pairs if before),
            f"{field.name}_starts": sum(
                ends and bool(after) and before is False for before, after, _, ends in pairs
            ),
        }
    seconds: dict[str, float] = defaultdict(float)
    for before, _, s, _ in pairs:
        if before is not None and s:
            seconds[str(before)] += s
    changes = sum(
        ends and None not in (before, after) and before != after for before, after, _, ends in pairs
    )
    return {f"{field.name}_seconds": dict(seconds), f"{field.name}_changes": changes}


def _label(field: Field, values: list[Any], _parts: Parts, _gap: int, _overrides: Overrides) -> Row:
    return {field.name: values[-1] if values else None}


def _ends(field: Field, values: list[Any]) -> Row:
    return {
        f"{field.name}_first": values[0] if values else None,
        f"{field.name}_last": values[-1] if values else None,
    }


COLUMNS: dict[str, Callable[..., Row]] = {
    "counter": _counter,
    "gauge": _gauge,
    "state": _state,
    "label": _label,
}


def _first_and_last(
    stream: Stream, hours: Mapping[datetime, Row], rows: Mapping[datetime, Row], level: str, zone: str
) -> None:
    names = [(f"{f.name}_first", 0) for f in stream.fields if f.kind in ("gauge", "counter")]
    names += [(f"{f.name}_last", -1) for f in stream.fields if f.kind in ("gauge", "counter")]
    names += [(f.name, -1) for f in stream.fields if f.kind == "label"]
    within: dict[datetime, list[Row]] = defaultdict(list)
    for start in sorted(hours):
        within[moment(span_of(level, micros(start), zone).start)].append(hours[start])
    for start, row in rows.items():
        for name, index in names:
            known = [hour[name] for hour in within[start] if hour[name] is not None]
            row[name] = known[index] if known else None


def differences(found: Mapping[datetime, Row], wanted: Mapping[datetime, Row]) -> list[str]:
    """What is not as it should be, in words; nothing when all is equal, but for the last digits of sums."""
    told = [f"{start}: row missing: {wanted[start]}" for start in sorted(wanted.keys() - found.keys())]
    told += [f"{start}: row too many: {found[start]}" for start in sorted(found.keys() - wanted.keys())]
    for start in sorted(found.keys() & wanted.keys()):
        row = wanted[start]
        told += [
            f"{start}: {name} is {found[start].get(name)!r}, not {row[name]!r}"
            for name in row
            if not _alike(_plain(name, found[start].get(name)), _plain(name, row[name]))
        ]
    return told[:20]


def _plain(name: str, value: Any) -> Any:  # noqa: ANN401 - any column
    # No area and one of no time are the same.
    return value or 0.0 if name.endswith("_area") else value


def _alike(one: Any, two: Any) -> bool:  # noqa: ANN401 - any column
    if isinstance(one, dict) and isinstance(two, dict):
        return all(_alike(one.get(key, 0.0), two.get(key, 0.0)) for key in one.keys() | two.keys())
    if isinstance(two, bool | str | datetime) or one is None or two is None:
        return one == two
    return abs(float(one) - float(two)) <= 1e-6 + 1e-9 * abs(float(two))
