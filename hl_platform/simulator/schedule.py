"""When each device publishes. Pure, endless and in order of time; whoever runs it says when to stop."""

import heapq
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import count

from hl_platform.simulator.home import SECOND_US, Device

REPEAT_AFTER_US = 1_000


def plan_home(devices: Sequence[Device], start_us: int) -> Iterator[tuple[int, Device]]:
    """Each device once at the start, then at whole multiples of its own interval.

    The multiples count from 1970 and are shifted a little for each device, so that a simulator that restarts
    continues on the same moments.

    Args:
        devices: who publishes.
        start_us: the first moment, in Unix microseconds.
    """
    for device in devices:
        yield start_us, device
    # The index keeps devices that are due together in their order; devices cannot be compared.
    due = [(_next_due(start_us, device, index), index) for index, device in enumerate(devices)]
    heapq.heapify(due)
    while due:
        due_us, index = due[0]
        yield due_us, devices[index]
        heapq.heapreplace(due, (due_us + devices[index].interval_us, index))


def plan_load(devices: Sequence[Device], rate_per_s: int, start_us: int) -> Iterator[tuple[int, Device]]:
    """One device after the other, evenly, so many readings a second in total.

    Args:
        devices: who publishes.
        rate_per_s: readings a second, at most a million for each device.
        start_us: the first moment, in Unix microseconds.
    """
    for number in count():
        yield start_us + number * SECOND_US // rate_per_s, devices[number % len(devices)]


def repeat_when_heard(
    plan: Iterable[tuple[int, Device]],
    devices: Sequence[Device],
    counts: Callable[[], tuple[int, int]],
) -> Iterator[tuple[int, Device]]:
    """The plan, and each device once more when somebody begins to listen after the start.

    A home that starts before its bridge has ever subscribed speaks to nobody, and a room's next reading would
    come five minutes later.

    Args:
        plan: as `plan_home` returned it.
        devices: its devices.
        counts: readings that somebody heard and that nobody heard, so far.
    """
    waiting = True
    for due_us, device in plan:
        yield due_us, device
        n_heard, n_unheard = counts()
        if waiting and n_heard:
            waiting = False
            # A moment later: the same moment with other values would be a correction.
            yield from ((due_us + REPEAT_AFTER_US, each) for each in devices if n_unheard)


def _next_due(start_us: int, device: Device, index: int) -> int:
    # A few milliseconds apart, as no two real devices ever send in the same instant.
    shift_us = index * 37_000 % device.interval_us
    return start_us - (start_us - shift_us) % device.interval_us + device.interval_us
