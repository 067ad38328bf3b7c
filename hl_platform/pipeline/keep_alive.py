"""Decides what a keep-alive sensor does next. Pure: runs, lease and clock in, one action out.

The lease is the truth about who works, Dagster's runs are the truth about what people want:

| seen | action |
|---|---|
| a run that beats, or is still starting or ending | Wait |
| a run without a heartbeat, or that never took the lease | EndRun, then look again |
| no run | Start; after repeated quick failures with growing pauses (Wait) |
| a run older than its maximum age | HandOver: a second run asks it to stop and takes over |
| a newest run that a person terminated | StayStopped, until the sensor is switched on anew or the job launched |
| a terminated run whose process still works | AskToStop, through the lease |

All times are the database's: those of leases by themselves, those of runs from `run_memory`.
"""

from collections.abc import Container, Sequence
from typing import NamedTuple

from hl_platform.adapters.postgres.lease_reader import DatabaseClock, LeaseRow
from hl_platform.core.sections import ServiceSettings
from hl_platform.pipeline.run_memory import ACTIVE, ListedRun, RunMemory

TERMINATED = ("CANCELING", "CANCELED")

# A run takes 2 to 4 s to its lease, but half a minute on a machine with seven times the work it can do. Were this too
# short for a machine, it would never get anywhere; and a run whose process has ended is declared dead at once.
START_S = 60.0
# A flush and Dagster's last events take 1 to 2 s.
END_S = 30.0
# After an outage of the database every heartbeat looks old until its service has connected again.
OUTAGE_GRACE_S = 10.0
# A run that failed younger than this had no chance; two in a row may be chance, from then on we pause.
QUICK_FAILURE_S = 15.0
FREE_RETRIES = 2
# So many missed heartbeats, and its run and its process are looked at.
MISSED_BEATS = 2
# Reading one row takes a millisecond or two.
MIN_POLL_S = 0.25
# What else there is to see, such as the end of a run, is seen so late.
MAX_POLL_S = 1.0
FIRST_PAUSE_S = 5.0
LONGEST_PAUSE_S = 60.0


class Run(NamedTuple):
    """A run of the service's job. Times are Unix seconds of the database's clock.

    Args:
        run_id: Dagster's.
        status: the name of Dagster's status.
        began_at: when it was first seen.
        ended_at: when it was first seen ended; None while it is active.
        gone: its process certainly runs no longer.
        switched_on_since: the sensor was switched on after the run was last seen active.
    """

    run_id: str
    status: str
    began_at: float
    ended_at: float | None = None
    gone: bool = False
    switched_on_since: bool = False


class Situation(NamedTuple):
    """All that the decision depends on.

    Args:
        runs: newest first: every active one, and as many finished ones as there are to see.
        lease: of the service; None if nobody ever held it.
        clock: the database's.
    """

    runs: Sequence[Run]
    lease: LeaseRow | None
    clock: DatabaseClock


class Wait(NamedTuple):
    """All is well, or on its way."""

    reason: str


class Start(NamedTuple):
    """Launch a run."""


class HandOver(NamedTuple):
    """Launch a second run, which asks the first to stop and takes over."""

    run_id: str


class EndRun(NamedTuple):
    """Declare a run dead; `canceled` if a person wanted it to end. Then decide again."""

    run_id: str
    canceled: bool
    reason: str


class AskToStop(NamedTuple):
    """A terminated run still works, where Dagster cannot reach it. Then decide again."""

    run_id: str


class StayStopped(NamedTuple):
    """A person terminated the newest run; leave it at that."""

    run_id: str


Action = Wait | Start | HandOver | EndRun | AskToStop | StayStopped


def recall_runs(
    listed: Sequence[ListedRun], gone: Container[str], memory: RunMemory, switched_on: float | None
) -> list[Run]:
    """Runs as the planner wants them.

    Args:
        listed: by Dagster, newest first.
        gone: ids of those whose process certainly runs no longer.
        memory: after the look that listed them.
        switched_on: when the sensor was last switched on, as Dagster says it.
    """
    return [
        Run(
            run.run_id,
            run.status,
            seen.began_at,
            seen.ended_at,
            gone=run.run_id in gone,
            switched_on_since=seen.switched_on != switched_on,
        )
        for run in listed
        for seen in (memory.runs[run.run_id],)
    ]


def plan_keep_alive(situation: Situation, rules: ServiceSettings) -> Action:
    """The next thing to do for a service.

    Args:
        situation: as seen now.
        rules: heartbeat, staleness and age.

    Guarantee: never starts a run while another is active, except one at a time to hand over to.
    """
    active = [run for run in situation.runs if run.status in ACTIVE]
    for run in active:
        if reason := _why_dead(run, situation, rules):
            return EndRun(run.run_id, run.status == "CANCELING", reason)
    if run_id := _terminated_holder(situation, rules):
        return AskToStop(run_id)
    if active:
        return _plan_with_runs(active, situation, rules)
    newest = situation.runs[0] if situation.runs else None
    if newest and newest.status == "CANCELED" and not newest.switched_on_since:
        return StayStopped(newest.run_id)
    return _pause(situation) or Start()


def plan_next_look(situation: Situation, rules: ServiceSettings) -> float:
    """Seconds until the next look, where all is well: a service that has just beaten cannot be missed before.

    Args:
        situation: as seen now.
        rules: heartbeat and staleness.
    """
    if situation.lease is None or not holder_lives(situation, rules):
        return MIN_POLL_S
    missed_in_s = situation.lease.beat_at + MISSED_BEATS * rules.heartbeat_s - situation.clock.now
    return min(max(missed_in_s, MIN_POLL_S), MAX_POLL_S)


def holder_lives(situation: Situation, rules: ServiceSettings) -> bool:
    """Whether the lease is held and its heartbeat fresh."""
    lease = situation.lease
    return (
        lease is not None
        and lease.released_at is None
        and situation.clock.now - lease.beat_at <= rules.stale_after_s
    )


def _plan_with_runs(active: Sequence[Run], situation: Situation, rules: ServiceSettings) -> Action:
    run, *others = active
    if others:
        return Wait(f"run {others[-1].run_id} hands over to run {run.run_id}")
    lease = situation.lease
    if lease is None or lease.run_id != run.run_id or not holder_lives(situation, rules):
        return Wait(f"run {run.run_id} is {run.status}")
    too_old = situation.clock.now - lease.acquired_at > rules.max_age_s
    if too_old and run.status == "STARTED" and not lease.stop_requested:
        return _pause(situation) or HandOver(run.run_id)
    return Wait(f"run {run.run_id} works")


def _why_dead(run: Run, situation: Situation, rules: ServiceSettings) -> str:
    lease, now = situation.lease, situation.clock.now
    if lease is None or lease.run_id != run.run_id:
        return _why_dead_without_lease(run, situation)
    if lease.released_at is not None:
        ending_s = now - max(lease.released_at, situation.clock.up_since)
        return f"it ended {ending_s:.0f} s ago and Dagster has not noticed" if ending_s > END_S else ""
    silent_s, up_s = now - lease.beat_at, now - situation.clock.up_since
    if run.gone and silent_s > MISSED_BEATS * rules.heartbeat_s:
        return f"its process {lease.pid} is gone"
    if silent_s > rules.stale_after_s and up_s > rules.stale_after_s + OUTAGE_GRACE_S:
        return f"its last heartbeat was {silent_s:.1f} s ago"
    return ""


def _why_dead_without_lease(run: Run, situation: Situation) -> str:
    if run.gone:
        return "its process is gone"
    # A run that was queued waits for a place, as long as that takes.
    if run.status == "QUEUED":
        return ""
    # Also where it has just lost the lease to a successor: it ends, give it time.
    acquired_at = situation.lease.acquired_at if situation.lease else 0.0
    without_s = situation.clock.now - max(run.began_at, situation.clock.up_since, acquired_at)
    return f"it has had no lease for {without_s:.0f} s" if without_s > START_S else ""


def _terminated_holder(situation: Situation, rules: ServiceSettings) -> str:
    lease = situation.lease
    if lease is None or lease.stop_requested or not holder_lives(situation, rules):
        return ""
    terminated = (run for run in situation.runs if run.status in TERMINATED)
    return next((run.run_id for run in terminated if run.run_id == lease.run_id), "")


def _pause(situation: Situation) -> Wait | None:
    """The wait that repeated quick failures call for, if it is not over yet."""
    finished = [run for run in situation.runs if run.status not in ACTIVE]
    n_quick = 0
    for run in finished:
        if run.status != "FAILURE" or (run.ended_at or 0.0) - run.began_at >= QUICK_FAILURE_S:
            break
        n_quick += 1
    if n_quick <= FREE_RETRIES:
        return None
    pause_s = min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2.0 ** (n_quick - FREE_RETRIES - 1))
    left_s = (finished[0].ended_at or 0.0) + pause_s - situation.clock.now
    if left_s <= 0:
        return None
    return Wait(
        f"{n_quick} runs in a row failed right after their start; the log of run {finished[0].run_id} says why. "
        f"Next try in {left_s:.0f} s"
    )
