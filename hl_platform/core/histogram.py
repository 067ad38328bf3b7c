"""A mergeable histogram of delays, small enough to ride along with a heartbeat."""

import math
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

# Eight buckets a doubling keep a percentile within 9 %; 0.1 ms times 2^(200/8) is 56 minutes.
STEPS_PER_DOUBLING = 8
SMALLEST_MS = 0.1
N_BUCKETS = 200


def upper_ms(index: int) -> float:
    """Upper bound of a bucket, in milliseconds."""
    return float(SMALLEST_MS * 2.0 ** (index / STEPS_PER_DOUBLING))


# Of all buckets but the last, which has none.
UPPER_BOUNDS = [upper_ms(index) for index in range(N_BUCKETS - 1)]


@dataclass(slots=True)
class DelayHistogram:
    """Counts of delays in exponential buckets, with the exact maximum.

    Args:
        counts: one count per bucket; bucket i holds delays up to `upper_ms(i)`.
        max_ms: the largest delay seen, in milliseconds.
    """

    counts: list[int] = field(default_factory=lambda: [0] * N_BUCKETS)
    max_ms: float = 0.0

    def add(self, delay_ms: float, n: int = 1) -> None:
        """Counts a delay `n` times. A negative one, from a device's clock, counts as none."""
        self.counts[bisect_left(UPPER_BOUNDS, delay_ms)] += n
        self.max_ms = max(self.max_ms, delay_ms)

    def add_all(self, delays_ms: Sequence[float]) -> None:
        """Counts each of many delays once."""
        if not delays_ms:
            return
        # Sorted, a search for each bucket does what took one for each delay.
        in_order = sorted(delays_ms)
        index, n_counted = bisect_left(UPPER_BOUNDS, in_order[0]), 0
        while n_counted < len(in_order):
            last = index == N_BUCKETS - 1
            n_within = len(in_order) if last else bisect_right(in_order, UPPER_BOUNDS[index], n_counted)
            self.counts[index] += n_within - n_counted
            index, n_counted = index + 1, n_within
        self.max_ms = max(self.max_ms, in_order[-1])

    def merge(self, counts: Iterable[int], max_ms: float) -> None:
        """Adds another histogram to this one."""
        self.counts = [mine + theirs for mine, theirs in zip(self.counts, counts, strict=True)]
        self.max_ms = max(self.max_ms, max_ms)

    @property
    def n(self) -> int:
        """How many delays were counted."""
        return sum(self.counts)

    def percentile(self, share: float) -> float | None:
        """The delay that `share` of all stayed within, in ms; at most 9 % too high; None when empty.

        Args:
            share: between 0 and 1.
        """
        n = self.n
        if n == 0:
            return None
        rank, seen = max(1, math.ceil(share * n)), 0
        # The last bucket has no upper bound but the maximum.
        for index, count in enumerate(self.counts[:-1]):
            seen += count
            if seen >= rank:
                return min(upper_ms(index), self.max_ms)
        return self.max_ms
