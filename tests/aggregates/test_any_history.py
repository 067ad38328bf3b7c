"""Whatever happens to readings, in whatever order, the views say at every moment what the rules say."""

import os
from collections.abc import Sequence
from itertools import count, pairwise

import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings

from hl_platform.core.levels import Grain
from tests.aggregates.histories import History, change, histories, refresh
from tests.aggregates.house import House
from tests.aggregates.oracle import Step, micros, moved

LEVELS: Sequence[Grain] = ("hour", "day", "month", "year")
number = count(1)
# A few seconds each. For many: EXAMPLES=500 make test ARGS="tests/aggregates/test_any_history.py --timeout 0"
few = settings(
    max_examples=int(os.environ.get("EXAMPLES", "6")),
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    # Without shrinking: an example takes a second on a busy machine.
    phases=[Phase.generate],
    print_blob=False,
)


def happens(house: House, stream_name: str, history: History, levels: Sequence[Grain] = LEVELS) -> None:
    """Lets a history happen to a new device, and compares all levels with the rules after each of its batches."""
    stream = house.streams[stream_name]
    writer, device = house.writer(stream_name), f"device-{next(number)}"
    for index, batch in enumerate(history.batches):
        if batch:
            # Half of the days have no partition of their own.
            writer.write(device, dict(history.readings[i] for i in batch), partitions=index == 0)
        for what in history.changes[index]:
            change(house, stream, device, what, history)
        refresh(house, stream_name, history.refreshes[index])
        assert house.differences(stream_name, device, levels=levels) == []
    house.drain(stream_name)
    assert house.marks(device=device) == 0
    assert house.differences(stream_name, device, levels=LEVELS) == []
    assert conserved(house, stream_name, device)


def conserved(house: House, stream_name: str, device: str) -> bool:
    """Whether the buckets of each level sum up to what the counters moved."""
    stream, readings = house.streams[stream_name], house.readings(stream_name, device)
    times = sorted(readings)
    steps = [Step(micros(a), micros(b), readings[a], readings[b]) for a, b in pairwise(times)]
    for field in stream.counters:
        total = sum(moved(field, step, {})[0] or 0 for step in steps)
        column = "consumption_kwh" if field.name == "total_energy_kwh" else f"{field.name}_moved"
        for level in ("hourly", "daily", "monthly", "yearly"):
            query = (
                f"select coalesce(sum({column}), 0) from public.{stream_name}_{level} where device_id = %s"
            )
            if abs(float(house.execute(query, device)[0][0]) - total) > 1e-6:
                return False
    return True


@pytest.mark.parametrize("stream_name", ["energy", "heatpump", "temperature", "workshop"])
def test_views_equal_the_rules_after_any_history(house: House, stream_name: str) -> None:
    @seed(1)
    @few
    @given(history=histories(house.streams[stream_name]))
    def check(history: History) -> None:
        happens(house, stream_name, history)

    check()
