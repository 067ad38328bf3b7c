"""Every branch of the keep-alive planner."""

from collections.abc import Sequence

import pytest

from hl_platform.adapters.postgres.lease_reader import DatabaseClock, LeaseRow
from hl_platform.core.sections import ServiceSettings
from hl_platform.pipeline.keep_alive import (
    ACTIVE,
    Action,
    AskToStop,
    EndRun,
    HandOver,
    Run,
    Situation,
    Start,
    StayStopped,
    Wait,
    plan_keep_alive,
    plan_next_look,
)

NOW = 1_000_000.0
RULES = ServiceSettings(max_age_s=3600.0, heartbeat_s=0.5, stale_after_s=3.0)
LONG_UP = DatabaseClock(NOW, NOW - 86_400)


def run(
    run_id: str = "a",
    status: str = "STARTED",
    *,
    age_s: float = 100.0,
    lived_s: float | None = None,
    gone: bool = False,
    switched_on_since: bool = False,
) -> Run:
    began_at = NOW - age_s
    ended_at = None if status in ACTIVE else began_at + (lived_s or 0.0)
    return Run(run_id, status, began_at, ended_at, gone, switched_on_since)


def lease(
    run_id: str = "a",
    *,
    held_s: float = 90.0,
    silent_s: float = 0.2,
    released_s: float | None = None,
    stop_requested: bool = False,
) -> LeaseRow:
    released_at = None if released_s is None else NOW - released_s
    return LeaseRow(run_id, "host", 123, NOW - held_s, NOW - silent_s, released_at, stop_requested)


def plan(runs: Sequence[Run], row: LeaseRow | None = None, *, clock: DatabaseClock = LONG_UP) -> Action:
    return plan_keep_alive(Situation(runs, row, clock), RULES)


def test_first_run_ever_is_started() -> None:
    assert plan([]) == Start()


@pytest.mark.parametrize("status", ACTIVE)
def test_nothing_is_started_while_a_run_is_active(status: str) -> None:
    assert isinstance(plan([run(status=status, age_s=2.0)]), Wait)


@pytest.mark.parametrize("status", ["SUCCESS", "FAILURE"])
def test_ended_run_is_replaced(status: str) -> None:
    assert plan([run(status=status, age_s=100.0, lived_s=90.0)], lease(silent_s=5.0)) == Start()


def test_run_that_beats_is_left_alone() -> None:
    assert isinstance(plan([run()], lease()), Wait)


def test_silent_run_is_declared_dead() -> None:
    action = plan([run()], lease(silent_s=3.2))
    assert action == EndRun("a", canceled=False, reason="its last heartbeat was 3.2 s ago")


def test_run_that_missed_two_heartbeats_is_left_alone() -> None:
    assert isinstance(plan([run()], lease(silent_s=2.9)), Wait)


def test_run_whose_process_is_gone_is_declared_dead_before_its_heartbeat_is_stale() -> None:
    action = plan([run(gone=True)], lease(silent_s=1.1))
    assert action == EndRun("a", canceled=False, reason="its process 123 is gone")


def test_fresh_heartbeat_outweighs_a_missing_process() -> None:
    assert isinstance(plan([run(gone=True)], lease(silent_s=0.9)), Wait)


def test_after_an_outage_of_the_database_services_get_time_to_beat_again() -> None:
    just_up = DatabaseClock(NOW, NOW - 12.9)
    assert isinstance(plan([run()], lease(silent_s=60.0), clock=just_up), Wait)


def test_time_after_an_outage_is_limited() -> None:
    up = DatabaseClock(NOW, NOW - 13.1)
    assert isinstance(plan([run()], lease(silent_s=60.0), clock=up), EndRun)


def test_after_a_power_cut_a_missing_process_is_declared_dead_at_once() -> None:
    just_up = DatabaseClock(NOW, NOW - 1.0)
    assert isinstance(plan([run(gone=True)], lease(silent_s=600.0), clock=just_up), EndRun)


@pytest.mark.parametrize("status", ["NOT_STARTED", "STARTING", "STARTED"])
def test_run_without_a_lease_is_declared_dead_after_a_minute(status: str) -> None:
    action = plan([run(status=status, age_s=61.0)])
    assert action == EndRun("a", canceled=False, reason="it has had no lease for 61 s")


def test_run_without_a_lease_has_a_minute() -> None:
    assert isinstance(plan([run(status="STARTING", age_s=59.0)]), Wait)


def test_queued_run_may_wait_for_its_place() -> None:
    assert isinstance(plan([run(status="QUEUED", age_s=3600.0)]), Wait)


def test_run_without_a_lease_has_a_minute_after_an_outage_too() -> None:
    assert isinstance(plan([run(age_s=600.0)], clock=DatabaseClock(NOW, NOW - 50.0)), Wait)


def test_run_that_lost_its_lease_just_now_may_end_by_itself() -> None:
    runs = [run("b", age_s=8.0), run("a", age_s=600.0)]
    assert isinstance(plan(runs, lease("b", held_s=1.0)), Wait)


def test_run_that_lost_its_lease_long_ago_is_declared_dead() -> None:
    runs = [run("b", age_s=60.0), run("a", age_s=600.0)]
    action = plan(runs, lease("b", held_s=70.0))
    assert action == EndRun("a", canceled=False, reason="it has had no lease for 70 s")


def test_run_whose_process_is_gone_is_declared_dead_at_once_while_a_sibling_stands_in() -> None:
    action = plan([run(gone=True)], lease("", held_s=0.1))
    assert action == EndRun("a", canceled=False, reason="its process is gone")


def test_dead_service_is_started_again_while_a_sibling_stands_in() -> None:
    assert plan([run(status="FAILURE", lived_s=90.0)], lease("")) == Start()


def test_starting_run_is_given_time_to_get_the_lease_from_the_sibling_that_stands_in() -> None:
    assert isinstance(plan([run("b", "STARTED", age_s=5.0), run("a", "FAILURE")], lease("")), Wait)


def test_terminated_service_stays_stopped_while_a_sibling_stands_in() -> None:
    assert plan([run(status="CANCELED", lived_s=50.0)], lease("")) == StayStopped("a")


def test_run_that_released_its_lease_may_end() -> None:
    assert isinstance(plan([run()], lease(silent_s=5.0, released_s=5.0)), Wait)


def test_run_that_released_its_lease_and_never_ends_is_declared_dead() -> None:
    action = plan([run()], lease(silent_s=31.0, released_s=31.0))
    assert action == EndRun("a", canceled=False, reason="it ended 31 s ago and Dagster has not noticed")


def test_dead_run_that_a_person_was_terminating_counts_as_terminated() -> None:
    action = plan([run(status="CANCELING")], lease(silent_s=3.2))
    assert action == EndRun("a", canceled=True, reason="its last heartbeat was 3.2 s ago")


def test_terminated_service_stays_stopped() -> None:
    assert plan([run(status="CANCELED", lived_s=50.0)], lease(released_s=50.0)) == StayStopped("a")


def test_terminated_service_starts_when_the_sensor_is_switched_on_afterwards() -> None:
    assert plan([run(status="CANCELED", lived_s=50.0, switched_on_since=True)]) == Start()


def test_service_launched_by_hand_after_a_termination_is_kept_alive_again() -> None:
    runs = [run("b", "FAILURE", age_s=60.0, lived_s=50.0), run("a", "CANCELED", age_s=200.0, lived_s=50.0)]
    assert plan(runs) == Start()


def test_older_termination_does_not_stop_a_newer_run() -> None:
    runs = [run("b", age_s=60.0), run("a", "CANCELED", age_s=200.0, lived_s=50.0)]
    assert isinstance(plan(runs, lease("b")), Wait)


@pytest.mark.parametrize("status", ["CANCELING", "CANCELED"])
def test_terminated_run_that_still_works_is_asked_to_stop(status: str) -> None:
    assert plan([run(status=status, lived_s=50.0)], lease()) == AskToStop("a")


def test_terminated_run_is_asked_once() -> None:
    assert plan([run(status="CANCELED", lived_s=50.0)], lease(stop_requested=True)) == StayStopped("a")


def test_holder_outside_of_the_terminated_run_is_not_asked() -> None:
    assert plan([run(status="CANCELED", lived_s=50.0)], lease("other")) == StayStopped("a")


def test_old_run_hands_over() -> None:
    assert plan([run(age_s=4000.0)], lease(held_s=3601.0)) == HandOver("a")


def test_run_hands_over_by_the_age_of_its_lease() -> None:
    assert isinstance(plan([run(age_s=4000.0)], lease(held_s=3599.0)), Wait)


def test_one_handover_at_a_time() -> None:
    runs = [run("b", "STARTING", age_s=2.0), run("a", age_s=4000.0)]
    assert isinstance(plan(runs, lease(held_s=3990.0)), Wait)


def test_run_that_is_asked_to_stop_already_is_not_handed_over_again() -> None:
    assert isinstance(plan([run(age_s=4000.0)], lease(held_s=3990.0, stop_requested=True)), Wait)


def test_silent_run_is_declared_dead_rather_than_handed_over() -> None:
    assert isinstance(plan([run(age_s=4000.0)], lease(held_s=3990.0, silent_s=4.0)), EndRun)


def test_failing_handover_leaves_the_old_run_alone_for_a_while() -> None:
    failures = [run(f"f{n}", "FAILURE", age_s=2.0 + 5 * n, lived_s=1.0) for n in range(3)]
    assert isinstance(plan([*failures, run(age_s=4000.0)], lease(held_s=3990.0)), Wait)


def quick_failures(n: int, *, ended_s: float, apart_s: float = 10.0) -> list[Run]:
    return [run(f"f{i}", "FAILURE", age_s=ended_s + 1.0 + i * apart_s, lived_s=1.0) for i in range(n)]


@pytest.mark.parametrize("n", [1, 2])
def test_first_failures_are_retried_at_once(n: int) -> None:
    assert plan(quick_failures(n, ended_s=0.0)) == Start()


@pytest.mark.parametrize(("n", "pause_s"), [(3, 5.0), (4, 10.0), (5, 20.0), (6, 40.0), (7, 60.0), (10, 60.0)])
def test_quick_failures_in_a_row_make_growing_pauses(n: int, pause_s: float) -> None:
    before, after = quick_failures(n, ended_s=pause_s - 1.0), quick_failures(n, ended_s=pause_s + 1.0)
    assert isinstance(plan(before), Wait)
    assert plan(after) == Start()


def test_pause_says_why() -> None:
    action = plan(quick_failures(3, ended_s=1.0))
    assert action == Wait(
        "3 runs in a row failed right after their start; the log of run f0 says why. Next try in 4 s"
    )


def test_run_that_lived_ends_the_series_of_quick_failures() -> None:
    quick = quick_failures(9, ended_s=0.0)
    lived = run("l", "FAILURE", age_s=25.0, lived_s=20.0)
    assert plan([*quick[:2], lived, *quick[2:]]) == Start()


@pytest.mark.parametrize(
    ("silent_s", "next_look_s"), [(0.0, 1.0), (0.25, 0.75), (0.5, 0.5), (0.9, 0.25), (2.0, 0.25)]
)
def test_next_look_is_when_the_service_could_be_missed(silent_s: float, next_look_s: float) -> None:
    assert plan_next_look(Situation([run()], lease(silent_s=silent_s), LONG_UP), RULES) == next_look_s


@pytest.mark.parametrize("row", [None, lease(silent_s=4.0), lease(released_s=0.1)])
def test_next_look_comes_soon_while_nobody_works(row: LeaseRow | None) -> None:
    assert plan_next_look(Situation([run()], row, LONG_UP), RULES) == 0.25


def test_next_look_is_not_far_away_where_heartbeats_are_rare() -> None:
    rules = ServiceSettings(heartbeat_s=10.0, stale_after_s=30.0)
    assert plan_next_look(Situation([run()], lease(), LONG_UP), rules) == 1.0
