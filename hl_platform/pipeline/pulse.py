"""Notices that this process stood still: stopped by a signal, swapped out, or asleep with its machine."""

import threading
import time
from collections.abc import Callable

BEAT_S = 0.25


def boot_time() -> float:
    """Seconds that only rise, and that go on while the machine sleeps."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Pulse:
    """Beats in a thread of its own; a beat that comes late gives a standstill away.

    Guarantee: once `missed` was asked after a standstill longer than the limit, it is True, in any thread and
    whether or not the beating thread has woken before, and it stays True.

    Args:
        limit_s: the longest time between two beats that is no standstill, in seconds.
        clock: seconds that rise while the process stands still.
    """

    def __init__(self, limit_s: float, clock: Callable[[], float] = boot_time) -> None:
        self._limit_s = limit_s
        self._clock = clock
        self._last = clock()
        self._missed = False
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="pulse", daemon=True)

    @property
    def missed(self) -> bool:
        """Whether the process has stood still."""
        return self._missed or self._clock() - self._last > self._limit_s

    def start(self) -> None:
        """Begins to beat."""
        self._last = self._clock()
        self._thread.start()

    def stop(self) -> None:
        """Beats no more. Any thread."""
        self._stop.set()

    def beat(self) -> None:
        """One beat."""
        # In this order: between the two, either tells.
        self._missed = self.missed
        self._last = self._clock()

    def _run(self) -> None:
        while not self._stop.wait(BEAT_S):
            self.beat()
