"""What a keep-alive sensor remembers of its runs, so that every age is told by one clock. Pure.

Dagster notes times by the clocks of whichever machine asked for a run, ran it, or ended it. Leases go by the
database's. So the sensor notes itself, by the database's clock, when it saw a run begin and end, and keeps that in
its cursor. Of Dagster's times it uses only whether the one at which it was switched on is still the same.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import msgspec

from hl_platform.adapters.processes import ProcessId

# IN_PROGRESS_RUN_STATUSES of Dagster leaves out the first two; a filter on it starts things twice.
ACTIVE = ("NOT_STARTED", "QUEUED", "STARTING", "STARTED", "CANCELING")


class ListedRun(NamedTuple):
    """A run as Dagster lists it.

    Args:
        run_id: Dagster's.
        status: the name of Dagster's status.
        process: in which it works, once it does.
    """

    run_id: str
    status: str
    process: ProcessId | None = None


class SeenRun(msgspec.Struct, frozen=True):
    """What is remembered of a run. Unix seconds of the database's clock.

    Args:
        began_at: the first look that showed it; the look before, if it had ended by then: it began after that.
        ended_at: the first look that showed it ended; None while it is active.
        switched_on: Dagster's time of the sensor's switching on, when the run was last seen active.
    """

    began_at: float
    ended_at: float | None
    switched_on: float | None


class RunMemory(msgspec.Struct, frozen=True):
    """What is remembered from look to look.

    Args:
        looked_at: the last look; 0 before the first.
        runs: by id.
    """

    looked_at: float = 0.0
    runs: Mapping[str, SeenRun] = {}


def remember(
    memory: RunMemory, listed: Sequence[ListedRun], now: float, switched_on: float | None
) -> RunMemory:
    """The memory after a look; runs that are no longer listed are forgotten.

    Args:
        memory: after the look before.
        listed: what Dagster lists.
        now: Unix seconds of the database's clock.
        switched_on: when the sensor was last switched on, by whatever clock.
    """
    return RunMemory(now, {run.run_id: _seen(memory, run, now, switched_on) for run in listed})


def encode_memory(memory: RunMemory) -> str:
    """The memory as a sensor's cursor."""
    return msgspec.json.encode(memory).decode()


def decode_memory(cursor: str | None) -> RunMemory:
    """The memory of a cursor; an empty one if there is none that can be read."""
    try:
        return msgspec.json.decode(cursor or "", type=RunMemory)
    except msgspec.DecodeError:
        return RunMemory()


def _seen(memory: RunMemory, run: ListedRun, now: float, switched_on: float | None) -> SeenRun:
    before = memory.runs.get(run.run_id)
    if run.status in ACTIVE:
        return SeenRun(before.began_at if before else now, None, switched_on)
    if before is None:
        return SeenRun(memory.looked_at, now, switched_on)
    return before if before.ended_at is not None else SeenRun(before.began_at, now, before.switched_on)
