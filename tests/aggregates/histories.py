"""What can happen to the readings of a device, as hypothesis strategies."""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from hypothesis import strategies as st

from hl_platform.core.streams import Stream
from tests.aggregates.house import House

# Around the end of March, when Berlin's clocks change, and of a month.
BEGIN = datetime(2025, 3, 29, 20, 7, 30, tzinfo=UTC)
SECOND = timedelta(seconds=1)

Values = dict[str, Any]
SOME_VALUES: Mapping[str, st.SearchStrategy[Any]] = {
    "power_kw": st.floats(-5, 5, allow_subnormal=False).map(lambda value: round(value, 3)),
    "voltage": st.none() | st.floats(220, 240).map(lambda value: round(value, 2)),
    "current": st.none() | st.floats(-9, 9).map(lambda value: round(value, 2)),
    "mode": st.sampled_from(("heating", "cooling", "off", "a \"quoted\" 'mode'")),
    "target_temp": st.none() | st.sampled_from((20.0, 21.5)),
    "actual_temp": st.none() | st.floats(-9, 40).map(lambda value: round(value, 2)),
    "compressor_running": st.booleans(),
    "power_consumption_kw": st.floats(0, 5).map(lambda value: round(value, 3)),
    "heat_output_kw": st.none() | st.floats(-1, 15).map(lambda value: round(value, 3)),
    "room": st.none() | st.sampled_from(("bath", "cellar")),
    "temperature": st.floats(-9, 40).map(lambda value: round(value, 2)),
    "humidity": st.none() | st.floats(0, 99).map(lambda value: round(value, 1)),
    "step": st.none() | st.integers(0, 3),
    "open": st.none() | st.booleans(),
    "valve": st.none() | st.booleans(),
    "grade": st.integers(-9, 9),
    "level": st.none() | st.integers(-(2**40), 2**40),
}
# Seconds between readings: shorter than a gap, at its limit, hours.
GAPS = st.one_of(
    *[st.integers(1, 590)] * 3, *[st.sampled_from((600, 601, 3600, 5400)), st.integers(600, 9_000)] * 2
)
# One of a history: days, or more than 31 of them, which costs a thousand hours.
LONG_GAPS = st.one_of(*[st.integers(9_000, 200_000)] * 4, st.integers(2_600_000, 3_300_000))
# What a counter does from a reading to the next, beside rising: its own jitter, a reset, a jump.
MOVES = st.one_of(
    *[st.tuples(st.just("rise"), st.integers(0, 90).map(lambda value: value / 10))] * 5,
    st.tuples(st.just("jitter"), st.sampled_from((0.999, 0.995))),
    st.tuples(st.just("reset"), st.sampled_from((0.0, 0.4, 7.5, 49.0))),
    st.tuples(st.just("jump"), st.sampled_from((60.0, 5_000.0))),
)


class History(NamedTuple):
    """Readings as they were measured, and the batches in which they come.

    Args:
        readings: by time.
        batches: indexes of the readings of each batch; some come twice, and in any order.
        changes: after each batch, what a person does: kind, which reading, and a number.
        refreshes: after each batch, what is refreshed: nothing, some marks of some levels, everything.
    """

    readings: list[tuple[datetime, Values]]
    batches: list[list[int]]
    changes: list[list[tuple[str, int, int]]]
    refreshes: list[str]


def _counted(moves: list[tuple[str, float]], *, whole: bool) -> list[float]:
    shown, now = [], 800.0
    for kind, amount in moves:
        match kind:
            case "rise" | "jump":
                now += amount
            case "jitter":
                now *= amount
            case _:
                now = amount
        shown.append(int(now) if whole else round(now, 4))
    return shown


@st.composite
def histories(draw: st.DrawFn, stream: Stream, *, most: int = 10) -> History:
    gaps = draw(st.lists(GAPS, min_size=1, max_size=most))
    gaps[draw(st.integers(0, len(gaps) - 1))] = draw(LONG_GAPS)
    times = [BEGIN]
    for gap in gaps:
        times.append(times[-1] + gap * SECOND)
    n = len(times)
    values: list[Values] = [{} for _ in times]
    for field in stream.fields:
        if field.kind == "counter":
            moves = draw(st.lists(MOVES, min_size=n, max_size=n))
            column = _counted(moves, whole=field.type == "integer")
        else:
            column = draw(st.lists(SOME_VALUES[field.name], min_size=n, max_size=n))
        for row, value in zip(values, column, strict=True):
            row[field.name] = value
    batch_of = draw(st.lists(st.integers(0, 2), min_size=n, max_size=n))
    again = draw(st.lists(st.integers(0, n - 1), max_size=3))
    batches = [[i for i in range(n) if batch_of[i] == batch] for batch in range(3)]
    batches[-1] += [i for i in again if i not in batches[-1]]
    kinds = st.sampled_from(
        ("delete", "delete_on_partition", "delete_run", "correct", "move", "insert_by_hand")
    )
    change = st.tuples(kinds, st.integers(0, n - 1), st.integers(-4_000, 4_000))
    changes = draw(st.lists(st.lists(change, max_size=2), min_size=3, max_size=3))
    refreshes = draw(st.lists(st.sampled_from(("none", "some", "upper", "all")), min_size=3, max_size=3))
    return History(list(zip(times, values, strict=True)), batches, changes, refreshes)


def change(house: House, stream: Stream, device: str, what: tuple[str, int, int], history: History) -> None:
    """What a person with psql does to a reading."""
    kind, index, number = what
    when, values = history.readings[index]
    table = stream.table
    match kind:
        case "delete":
            house.execute(f"delete from public.{table} where device_id = %s and timestamp = %s", device, when)
        case "delete_on_partition":
            found = house.execute(
                f"select tableoid::regclass::text from public.{table} where device_id = %s and timestamp = %s",
                device,
                when,
            )
            for (partition,) in found:
                house.execute(
                    f"delete from {partition} where device_id = %s and timestamp = %s", device, when
                )
        case "delete_run":
            house.execute(
                f"delete from public.{table} where device_id = %s and timestamp between %s and %s",
                device,
                when,
                when + abs(number) * 100 * SECOND,
            )
        case "correct":
            _correct(house, stream, device, when, number)
        case "move":
            moved = when + number * SECOND
            house.execute(
                f"update public.{table} set timestamp = %s where device_id = %s and timestamp = %s "
                f"and not exists (select from public.{table} where device_id = %s and timestamp = %s)",
                *(moved, device, when, device, moved),
            )
        case _:
            names = ["device_id", "timestamp", *values, "received_at"]
            marks = ", ".join("%s" for _ in names)
            house.execute(
                f"insert into public.{table} ({', '.join(names)}) values ({marks}) on conflict do nothing",
                *(device, when + number * SECOND, *values.values(), when),
            )


def _correct(house: House, stream: Stream, device: str, when: datetime, number: int) -> None:
    name = next(field.name for field in stream.fields if field.type in ("float", "integer"))
    house.execute(
        f"update public.{stream.table} set {name} = %s where device_id = %s and timestamp = %s",
        *(abs(number) / 10, device, when),
    )


def refresh(house: House, stream: str, how: str) -> None:
    """Refreshes nothing, a few marks of some levels in any order, all but the hours, or everything."""
    models: Mapping[str, Callable[[], list[tuple[str, int]]]] = {
        "none": list,
        "some": lambda: [(f"{stream}_hourly", 3), (f"{stream}_monthly", 1), (f"{stream}_daily", 1)],
        "upper": lambda: [
            (f"{stream}_hourly", 9),
            *((f"{stream}_{level}", 99) for level in ("daily", "monthly")),
        ],
        "all": list,
    }
    for model, limit in models[how]():
        house.refresh(model, limit)
    if how == "all":
        house.drain(stream)
