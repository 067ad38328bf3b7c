"""Shows how far a plan has come: a bar on a terminal, a log line now and then elsewhere."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from time import monotonic
from typing import Protocol

import structlog
from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from hl_platform.simulator.home import SECOND_US, UNIX

log = structlog.get_logger()

# Seconds between two looks at the clock's hands: often enough for eyes, seldom enough for a log.
BAR_EVERY_S = 0.2
LOG_EVERY_S = 30.0


class Counts(Protocol):
    """What a publisher counts."""

    sent: int
    acknowledged: int


class Report:
    """Told of every reading; shows one now and then.

    Args:
        counts: of the publisher.
        bar: where to show it, or None for the log.
        total: (readings, microseconds of the plan) that will be the end, None where there is none.
        start_us: the plan's first moment.
    """

    def __init__(
        self, counts: Counts, bar: Progress | None, total: tuple[int | None, int | None], start_us: int
    ) -> None:
        self._counts = counts
        self._bar = bar
        self._n_total, self._us_total = total
        self._start_us = start_us
        self._every_s = LOG_EVERY_S if bar is None else BAR_EVERY_S
        self._next_s = monotonic() + self._every_s
        self._task = None if bar is None else bar.add_task("", total=1.0 if any(total) else None)

    def __call__(self, n: int, due_us: int) -> None:
        """Takes note of `n` readings so far, the last of them of that moment."""
        if monotonic() < self._next_s:
            return
        self._next_s = monotonic() + self._every_s
        share = 0.0
        if self._n_total:
            share = n / self._n_total
        if self._us_total:
            share = max(share, (due_us - self._start_us) / self._us_total)
        reached = (UNIX + timedelta(microseconds=due_us - due_us % SECOND_US)).isoformat()
        if self._bar is None or self._task is None:
            log.info(
                "simulator_progress",
                n_sent=self._counts.sent,
                n_acknowledged=self._counts.acknowledged,
                reached=reached,
                percent=round(100 * share) if share else None,
            )
        else:
            text = f"{self._counts.acknowledged:,} readings, at {reached[:19]}"
            self._bar.update(self._task, completed=share, description=text)


@contextmanager
def show_progress(counts: Counts, total: tuple[int | None, int | None], start_us: int) -> Iterator[Report]:
    """A report for the time of the block; arguments as in `Report`."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield Report(counts, None, total, start_us)
        return
    columns: list[ProgressColumn] = [SpinnerColumn(), TextColumn("{task.description}")]
    if any(total):
        columns += [BarColumn(), TimeElapsedColumn(), TimeRemainingColumn()]
    with Progress(*columns, console=console, transient=True) as bar:
        yield Report(counts, bar, total, start_us)
