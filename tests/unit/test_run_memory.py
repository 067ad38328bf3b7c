"""Ages of runs go by the database's clock, whatever the clocks of Dagster's machines say."""

from collections.abc import Sequence
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hl_platform.adapters.postgres.lease_reader import DatabaseClock, LeaseRow
from hl_platform.core.sections import ServiceSettings
from hl_platform.pipeline.keep_alive import (
    Action,
    EndRun,
    Situation,
    Start,
    StayStopped,
    Wait,
    plan_keep_alive,
    recall_runs,
)
from hl_platform.pipeline.run_memory import (
    ListedRun,
    RunMemory,
    SeenRun,
    decode_memory,
    encode_memory,
    remember,
)

NOW = 1_000_000.0
RULES = ServiceSettings()


class Look(NamedTuple):
    """What one look of a sensor sees: seconds by the database's clock, and by Dagster's for the switching on."""

    at_s: float
    runs: Sequence[tuple[str, str]]
    switched_on_s: float = -3600.0
    lease: LeaseRow | None = None


def decide(
    looks: Sequence[Look], dagster_ahead_s: float = 0.0, database_ahead_s: float = 0.0
) -> list[Action]:
    """What a sensor decides, look by look, while clocks differ; its memory goes through its cursor."""
    memory, actions = RunMemory(), []
    zero = NOW + database_ahead_s
    for look in looks:
        listed = [ListedRun(*run) for run in look.runs]
        now, switched_on = zero + look.at_s, NOW + dagster_ahead_s + look.switched_on_s
        memory = decode_memory(encode_memory(remember(memory, listed, now, switched_on)))
        runs = recall_runs(listed, (), memory, switched_on)
        clock = DatabaseClock(now, zero - 86_400)
        actions.append(plan_keep_alive(Situation(runs, look.lease, clock), RULES))
    return actions


def failing(n: int, every_s: float) -> list[Look]:
    """Runs that fail right after their start."""
    looks = []
    for i in range(n):
        ended = [(f"r{k}", "FAILURE") for k in reversed(range(i))]
        looks.append(Look(i * every_s, [(f"r{i}", "STARTED"), *ended]))
        looks.append(Look(i * every_s + 2, [(f"r{i}", "FAILURE"), *ended]))
    return looks


STORIES = {
    "no lease for long": [Look(at_s, [("a", "STARTED")]) for at_s in (0, 59, 61)],
    "terminated": [Look(0, [("a", "STARTED")]), Look(5, [("a", "CANCELED")]), Look(900, [("a", "CANCELED")])],
    "terminated and switched on again": [
        Look(0, [("a", "STARTED")]),
        Look(5, [("a", "CANCELED")]),
        Look(9, [("a", "CANCELED")], switched_on_s=7),
    ],
    "switched off, terminated, switched on": [
        Look(0, [("a", "STARTED")]),
        Look(60, [("a", "CANCELED")], switched_on_s=59),
    ],
    "switched on, then terminated": [
        Look(0, [("a", "STARTED")]),
        Look(60, [("a", "STARTED")], switched_on_s=59),
        Look(65, [("a", "CANCELED")], switched_on_s=59),
    ],
    "quick failures": [
        *failing(5, 5.0),
        *(Look(at_s, [(f"r{k}", "FAILURE") for k in (4, 3, 2, 1, 0)]) for at_s in (41, 43)),
    ],
}

ENDS = {
    "no lease for long": EndRun("a", canceled=False, reason="it has had no lease for 61 s"),
    "terminated": StayStopped("a"),
    "terminated and switched on again": Start(),
    "switched off, terminated, switched on": Start(),
    "switched on, then terminated": StayStopped("a"),
    "quick failures": Start(),
}


@pytest.mark.parametrize("story", STORIES)
def test_story_ends_as_people_expect(story: str) -> None:
    assert decide(STORIES[story])[-1] == ENDS[story]


@pytest.mark.parametrize("story", STORIES)
@given(dagster=st.floats(-1e6, 1e6), database=st.floats(-1e5, 1e5))
def test_no_difference_between_clocks_changes_a_decision(story: str, dagster: float, database: float) -> None:
    # Whole seconds, so that rounding a sum does not look like a decision.
    assert decide(STORIES[story], round(dagster), round(database)) == decide(STORIES[story])


def test_quick_failures_make_the_sensor_pause() -> None:
    assert isinstance(decide(failing(5, 5.0))[-1], Wait)


def test_history_from_before_the_first_look_calls_for_no_pause() -> None:
    assert decide([Look(0, [(f"r{k}", "FAILURE") for k in range(10)])]) == [Start()]


def test_run_that_came_and_went_between_two_looks_counts_as_short() -> None:
    memory = remember(RunMemory(), [], NOW, None)
    memory = remember(memory, [ListedRun("a", "FAILURE")], NOW + 5, None)
    assert memory.runs == {"a": SeenRun(NOW, NOW + 5, None)}


def test_runs_that_are_listed_no_longer_are_forgotten() -> None:
    memory = remember(RunMemory(), [ListedRun("a", "STARTED")], NOW, None)
    assert remember(memory, [], NOW + 1, None).runs == {}


@pytest.mark.parametrize("cursor", [None, "", "something else", '{"runs": 1}'])
def test_unreadable_cursor_is_an_empty_memory(cursor: str | None) -> None:
    assert decode_memory(cursor) == RunMemory()
