"""The circuit breaker of a stream: when nearly everything is rejected, reading on helps nobody."""

from collections import deque
from typing import NamedTuple

# Rejections are looked at over this long, in seconds.
WINDOW_S = 60.0
# Fewer records than this say nothing about a stream: one bad device in a small home is no flood.
MIN_RECORDS = 1_000
# How often an open breaker lets a probe through, in seconds, and its size: what a flood can cost at most, behind what
# had been read ahead when the breaker opened.
PROBE_EVERY_S = 5.0
PROBE_RECORDS = 100


class Count(NamedTuple):
    """What became of the records of a batch."""

    at_s: float
    n_records: int
    n_rejected: int


class Breaker:
    """Says how much of a stream may be read now.

    Args:
        share: of records; when more are rejected the breaker opens. 1 never opens it.

    Guarantee: never lets a stream stand still: while open it lets a probe through every `PROBE_EVERY_S`, and
    closes at the first of which fewer than the share are rejected.
    """

    def __init__(self, share: float) -> None:
        self._share = share
        # The sums over the window are kept beside it: there may be thousands of batches in a minute.
        self._window: deque[Count] = deque()
        self._n_records = 0
        self._n_rejected = 0
        self._probe_at_s: float | None = None

    @property
    def is_open(self) -> bool:
        """Whether only probes pass."""
        return self._probe_at_s is not None

    def plan_read(self, now_s: float, max_records: int) -> int:
        """How many records may be read now: all that are wanted, a probe, or none.

        Args:
            now_s: the time by any clock that never goes back, in seconds.
            max_records: how many are wanted.
        """
        if self._probe_at_s is None:
            return max_records
        return min(PROBE_RECORDS, max_records) if now_s >= self._probe_at_s else 0

    def count(self, now_s: float, n_records: int, n_rejected: int) -> None:
        """Takes note of what became of a batch.

        Args:
            now_s: the time by the same clock.
            n_records: of the batch.
            n_rejected: of these.
        """
        if n_records == 0:
            return
        if self.is_open:
            recovered = n_rejected < self._share * n_records
            self._probe_at_s = None if recovered else now_s + PROBE_EVERY_S
            return
        self._add(Count(now_s, n_records, n_rejected))
        flooded = self._n_records >= MIN_RECORDS and self._n_rejected > self._share * self._n_records
        # A batch without rejections is no reason to stop, whatever came before it.
        if flooded and n_rejected:
            self._window.clear()
            self._n_records = self._n_rejected = 0
            self._probe_at_s = now_s + PROBE_EVERY_S

    def _add(self, count: Count) -> None:
        self._window.append(count)
        self._n_records += count.n_records
        self._n_rejected += count.n_rejected
        while self._window[0].at_s <= count.at_s - WINDOW_S:
            old = self._window.popleft()
            self._n_records -= old.n_records
            self._n_rejected -= old.n_rejected
