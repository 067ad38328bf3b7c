"""Histograms that only ever grow, made from those that the services keep for each minute."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from hl_platform.adapters.postgres.metrics_reader import DelayRow
from hl_platform.core.histogram import N_BUCKETS, STEPS_PER_DOUBLING, upper_ms

# Bounds of the services' own buckets, so that no count is moved to another: 0.8 ms to 52 s, each twice the one before.
BOUNDS = tuple(range(3 * STEPS_PER_DOUBLING, 20 * STEPS_PER_DOUBLING, STEPS_PER_DOUBLING))
# The middle of a bucket, on the scale of its bounds.
MIDDLE = 2.0 ** (-0.5 / STEPS_PER_DOUBLING)

# Services write a minute's histogram until the minute is over, by the database's clock.
KEEP_S = 120


class Histogram(NamedTuple):
    """A histogram as Prometheus wants it.

    Args:
        buckets: how many delays were within each bound, in seconds; the last one is "+Inf".
        sum_s: of all delays in seconds, each taken as the middle of its bucket: at most 5 % off.
    """

    buckets: list[tuple[str, float]]
    sum_s: float


class DelayTotals:
    """Adds up what is new in each minute's histogram. Not for use by several threads at once.

    Guarantee: no count is added twice, and none ever taken away.
    """

    def __init__(self) -> None:
        self._totals: dict[tuple[str, str], list[int]] = {}
        self._known: dict[tuple[str, str, int], Sequence[int]] = {}
        self._newest_s = 0

    @property
    def since_s(self) -> int:
        """The first minute that may hold something new, in Unix seconds."""
        return max(0, self._newest_s - 60)

    def add(self, rows: Iterable[DelayRow]) -> None:
        """Takes what was read since `since_s`."""
        for row in rows:
            key = (row.service, row.measure)
            before = self._known.get((*key, row.minute_s), (0,) * N_BUCKETS)
            total = self._totals.setdefault(key, [0] * N_BUCKETS)
            for index, (now, then) in enumerate(zip(row.counts, before, strict=True)):
                total[index] += now - then
            self._known[(*key, row.minute_s)] = row.counts
            self._newest_s = max(self._newest_s, row.minute_s)
        self._known = {key: row for key, row in self._known.items() if key[2] >= self._newest_s - KEEP_S}

    def histograms(self) -> dict[tuple[str, str], Histogram]:
        """By service and measure."""
        return {key: histogram_of(counts) for key, counts in self._totals.items()}


def histogram_of(counts: Sequence[int]) -> Histogram:
    """The histogram of a service's counts."""
    buckets = [(str(round(upper_ms(bound) / 1000, 6)), float(sum(counts[: bound + 1]))) for bound in BOUNDS]
    sum_s = sum(count * upper_ms(index) * MIDDLE for index, count in enumerate(counts) if count) / 1000
    return Histogram([*buckets, ("+Inf", float(sum(counts)))], sum_s)
